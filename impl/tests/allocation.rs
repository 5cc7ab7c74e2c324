//! In the steady state the device allocates nothing, for any request.
#![allow(
    unreachable_pub,
    dead_code,
    reason = "a test program exports nothing and shares its language"
)]

#[path = "device/support/mod.rs"]
mod support;

use powerfail_device::{Completion, Device, Disk, Limits, Op, Step, Submission, step};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use support::guest::{self, Cuts};
use support::{ALL, Rig};
use vm_memory::GuestMemory;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts the allocations of this thread.
struct Counting;

// SAFETY: every request is passed on unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: `ptr` came from `alloc` above, hence from `System`, with this layout.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// A disk that keeps no data and returns buffers.
struct Null(Limits, VecDeque<Completion>);

impl<M: GuestMemory> Disk<M> for Null {
    fn limits(&self) -> Limits {
        self.0
    }

    fn room(&self) -> u32 {
        8 - self.1.len() as u32
    }

    fn submit(&mut self, _: &M, Submission { token, op }: Submission) {
        let (moved, buffer) = match op {
            Op::Read { into: buffer, .. } | Op::Write { from: buffer, .. } => {
                (buffer.len(), Some(buffer))
            }
            Op::Sync | Op::Discard { .. } | Op::WriteZeroes { .. } => (0, None),
        };
        self.1.push_back(Completion { token, result: Ok(moved), buffer });
    }

    fn complete(&mut self, _: &M) -> Option<Completion> {
        self.1.pop_front()
    }
}

/// Serves `request` with the layout `cuts` on queue 0. Returns the number of the device's
/// allocations.
fn serve(rig: &mut Rig, disk: &mut Null, request: &guest::Request, cuts: &Cuts) -> u64 {
    let sent = rig.guests[0].send_cut(&rig.memory, request, cuts, true);
    let device: &mut Device = &mut rig.device;
    let (queue, ring) = device.queue_mut(0).expect("live");
    let before = ALLOCATIONS.with(Cell::get);
    queue.handle_kick();
    while step(queue, ring, disk, &rig.memory) != Step::Idle {}
    let allocated = ALLOCATIONS.with(Cell::get) - before;
    assert_eq!(sent.status(&rig.memory), 0);
    allocated
}

#[test]
fn nothing_is_allocated_in_the_steady_state() {
    let whole = Cuts { header: vec![16], data: vec![u32::MAX], glued: false };
    let crumbs = Cuts { header: vec![8; 2], data: vec![400; 6], glued: true };
    for granule in [512, 4096] {
        let limits = Limits {
            granule,
            discard_granularity: granule,
            write_zeroes_granularity: granule,
            ..Limits::plain(64 * 512)
        };
        let mut rig = support::rig_with(1, limits, ALL);
        let mut disk = Null(limits, VecDeque::new());
        let requests = [
            guest::write(3, 1, 4),
            guest::read(3, 4),
            guest::flush(),
            guest::zeroes(1, 30),
            guest::discard(1, 30),
            guest::get_id(20),
            guest::segments(13, &[(1, 2, 0), (5, 2, 0), (9, 2, 0)]),
        ];
        for round in 0..20 {
            for request in &requests {
                for cuts in [&whole, &crumbs] {
                    let allocated = serve(&mut rig, &mut disk, request, cuts);
                    assert!(round < 4 || allocated == 0, "{granule}: {request:?} {allocated}");
                }
            }
        }
    }
}
