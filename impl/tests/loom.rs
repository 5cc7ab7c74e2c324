//! The flush gate between two queues on two threads, under every interleaving:
//! `RUSTFLAGS="--cfg loom" cargo test -p powerfail-device --test loom --release`.
#![cfg(loom)]

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use powerfail_device::wire::{F_CONFIG_WCE, F_FLUSH, F_VERSION_1, S_IOERR, S_OK, T_FLUSH};
use powerfail_device::{
    BlockQueue, Completion, Config, Disk, Errno, Limits, Op, Queue, QueueIndex, QueueT, Shared,
    Step, Submission, step,
};
use std::collections::VecDeque;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

const STATUS: u64 = 0x5000;

/// The order in which things happened, as one clock sees it.
#[derive(Default)]
struct Clock {
    now: u64,
    /// When each sync was submitted.
    syncs: Vec<u64>,
    running: u32,
}

struct Lane {
    clock: Arc<Mutex<Clock>>,
    result: Result<u32, Errno>,
    done: VecDeque<Completion>,
}

impl<M: GuestMemory> Disk<M> for Lane {
    fn limits(&self) -> Limits {
        Limits::plain(1 << 16)
    }

    fn room(&self) -> u32 {
        1 - self.done.len() as u32
    }

    fn submit(&mut self, _: &M, submission: Submission) {
        assert_eq!(submission.op, Op::Sync);
        let mut clock = self.clock.lock().unwrap();
        assert_eq!(clock.running, 0, "one sync at a time");
        clock.running += 1;
        clock.now += 1;
        let now = clock.now;
        clock.syncs.push(now);
        let token = submission.token;
        self.done.push_back(Completion { token, result: self.result, buffer: None });
    }

    fn complete(&mut self, _: &M) -> Option<Completion> {
        let done = self.done.pop_front()?;
        self.clock.lock().unwrap().running -= 1;
        Some(done)
    }
}

/// Where a queue's thread sleeps until it is woken.
struct Bed {
    woken: Mutex<bool>,
    bell: Condvar,
}

impl Bed {
    fn new() -> Bed {
        Bed { woken: Mutex::new(false), bell: Condvar::new() }
    }

    fn wake(&self) {
        *self.woken.lock().unwrap() = true;
        self.bell.notify_one();
    }

    fn sleep(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !std::mem::take(&mut *woken) {
            woken = self.bell.wait(woken).unwrap();
        }
    }
}

/// A ring with one FLUSH on it.
fn flush_on_a_ring() -> (GuestMemoryMmap<()>, Queue) {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000)]).unwrap();
    let put = |at, bytes: &[u8]| memory.write_slice(bytes, GuestAddress(at)).unwrap();
    put(0x4000, &T_FLUSH.to_le_bytes());
    put(STATUS, &[0xee]);
    for (index, addr, len, flags, next) in [(0, 0x4000, 16, 1, 1), (1, STATUS, 1, 2, 0_u16)] {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&u64::to_le_bytes(addr));
        raw[8..12].copy_from_slice(&u32::to_le_bytes(len));
        raw[12..14].copy_from_slice(&u16::to_le_bytes(flags));
        raw[14..].copy_from_slice(&next.to_le_bytes());
        put(0x1000 + 16 * index, &raw);
    }
    put(0x2002, &1_u16.to_le_bytes());
    let mut ring = Queue::new(2).unwrap();
    ring.set_desc_table_address(Some(0x1000), None);
    ring.set_avail_ring_address(Some(0x2000), None);
    ring.set_used_ring_address(Some(0x3000), None);
    ring.set_ready(true);
    (memory, ring)
}

/// Serves one FLUSH on queue `index` to its end; returns its status.
fn serve(
    index: u16,
    shared: Arc<Shared>,
    clock: Arc<Mutex<Clock>>,
    beds: Arc<[Bed; 2]>,
    result: Result<u32, Errno>,
) -> u8 {
    let (memory, mut ring) = flush_on_a_ring();
    let mut queue = BlockQueue::new(QueueIndex(index), shared, 2);
    let mut lane = Lane { clock: Arc::clone(&clock), result, done: VecDeque::new() };
    let sent = {
        let mut clock = clock.lock().unwrap();
        clock.now += 1;
        clock.now
    };
    loop {
        match step(&mut queue, &mut ring, &mut lane, &memory) {
            Step::Wake(other) => beds[usize::from(other.0)].wake(),
            Step::Idle if ring.next_used() == 1 => break,
            Step::Idle => {
                // If nobody ever wakes it, loom reports the deadlock.
                beds[usize::from(index)].sleep();
                queue.handle_wake(&mut ring, &memory);
            }
            Step::Completed | Step::Signal | Step::Submitted | Step::Ring => {}
        }
    }
    let status = memory.read_obj(GuestAddress(STATUS)).unwrap();
    let clock = clock.lock().unwrap();
    let covered = clock.syncs.iter().any(|submitted| *submitted > sent);
    assert!(covered || status != S_OK, "a flush is answered by a sync that began after it");
    status
}

fn two_flushes(results: [Result<u32, Errno>; 2]) -> [u8; 2] {
    let shared = Shared::new(Config { queues: 2, ..Config::default() }, Limits::plain(1 << 16));
    let shared = Arc::new(shared.unwrap());
    shared.negotiate(F_VERSION_1 | F_FLUSH | F_CONFIG_WCE).unwrap();
    let clock = Arc::new(Mutex::new(Clock::default()));
    let beds = Arc::new([Bed::new(), Bed::new()]);
    let other = {
        let (shared, clock, beds) = (shared.clone(), clock.clone(), beds.clone());
        thread::spawn(move || serve(1, shared, clock, beds, results[1]))
    };
    let mine = serve(0, shared, clock, beds, results[0]);
    [mine, other.join().unwrap()]
}

#[test]
fn every_flush_ends_and_is_covered() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| assert_eq!(two_flushes([Ok(0), Ok(0)]), [S_OK, S_OK]));
}

#[test]
fn every_flush_ends_when_syncs_fail() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let statuses = two_flushes([Err(Errno::EIO), Err(Errno::EIO)]);
        assert_eq!(statuses, [S_IOERR, S_IOERR]);
    });
}
