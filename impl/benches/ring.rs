//! Cost of one request: the bare ring, and a whole 512-byte write or read through a [`BlockQueue`],
//! over the cheapest possible guest memory and a disk that only copies. `cargo bench -p
//! powerfail-device`.

use divan::Bencher;
use powerfail_device::wire::{F_EVENT_IDX, F_FLUSH, F_VERSION_1, T_FLUSH, T_IN, T_OUT};
use powerfail_device::{
    BlockQueue, Completion, Config, Disk, Limits, Op, QueueIndex, QueueLayout, Ring, Shared, Step,
    Submission, step,
};
use std::collections::VecDeque;
use std::iter::FusedIterator;
use std::sync::Arc;
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap, Permissions, VolatileSlice,
};

fn main() {
    divan::main();
}

/// One region from address 0 on.
struct Flat(Box<[u8]>);

/// The one slice of an access, or none.
struct One<'a>(Option<VolatileSlice<'a, ()>>);

impl<'a> Iterator for One<'a> {
    type Item = Result<VolatileSlice<'a, ()>, GuestMemoryError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl FusedIterator for One<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for One<'a> {
    #[inline(always)]
    fn stop_on_error(
        self,
    ) -> Result<impl Iterator<Item = VolatileSlice<'a, ()>>, GuestMemoryError> {
        Ok(self.0.into_iter())
    }
}

impl GuestMemory for Flat {
    type PhysicalMemory = GuestMemoryMmap<()>;
    type Bitmap = ();

    #[inline(always)]
    fn check_range(&self, addr: GuestAddress, count: usize, _: Permissions) -> bool {
        (addr.0 as usize).checked_add(count).is_some_and(|end| end <= self.0.len())
    }

    #[inline(always)]
    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>, GuestMemoryError> {
        if count == 0 {
            return Ok(One(None));
        }
        if !self.check_range(addr, count, access) {
            return Err(GuestMemoryError::InvalidGuestAddress(addr));
        }
        // SAFETY: `check_range` found the end of the access inside the allocation, so its start is
        // too.
        let start = unsafe { self.0.as_ptr().add(addr.0 as usize) };
        // SAFETY: all bytes are inside the allocation, which outlives the slice; no reference to
        // them exists meanwhile.
        Ok(One(Some(unsafe { VolatileSlice::new(start.cast_mut(), count) })))
    }
}

const SIZE: u16 = 16;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const HEADER: u64 = 0x4000;
const DATA: u64 = 0x5000;
const STATUS: u64 = 0x7000;

/// A driver that sends one request at a time.
struct Driver {
    memory: Flat,
    published: u16,
}

impl Driver {
    fn new() -> Driver {
        Driver { memory: Flat(vec![0; 1 << 16].into()), published: 0 }
    }

    fn ring(&self, event_idx: bool) -> Ring {
        let layout =
            QueueLayout { size: SIZE, descriptors: DESCRIPTORS, available: AVAILABLE, used: USED };
        let mut ring = Ring::at(layout).expect("a right layout");
        ring.set_event_idx(event_idx);
        ring
    }

    fn send(&mut self, kind: u32, sector: u64, data: u32) {
        let put = |at, value: &[u8]| self.memory.write_slice(value, GuestAddress(at)).expect("in");
        let mut header = [0; 16];
        header[..4].copy_from_slice(&kind.to_le_bytes());
        header[8..].copy_from_slice(&sector.to_le_bytes());
        put(HEADER, &header);
        let descriptor = |index: u64, addr: u64, len: u32, flags: u16, next: u16| {
            let mut raw = [0; 16];
            raw[..8].copy_from_slice(&addr.to_le_bytes());
            raw[8..12].copy_from_slice(&len.to_le_bytes());
            raw[12..14].copy_from_slice(&flags.to_le_bytes());
            raw[14..].copy_from_slice(&next.to_le_bytes());
            put(DESCRIPTORS + 16 * index, &raw);
        };
        let write = if kind == T_IN { 2 } else { 0 };
        if data > 0 {
            descriptor(0, HEADER, 16, 1, 1);
            descriptor(1, DATA, data, 1 | write, 2);
        } else {
            descriptor(0, HEADER, 16, 1, 2);
        }
        descriptor(2, STATUS, 1, 2, 0);
        put(AVAILABLE + 4 + 2 * u64::from(self.published % SIZE), &0_u16.to_le_bytes());
        self.published = self.published.wrapping_add(1);
        put(AVAILABLE + 2, &self.published.to_le_bytes());
    }
}

/// A disk in memory that completes in order.
struct Copier {
    bytes: Vec<u8>,
    done: VecDeque<Completion>,
}

impl<M: GuestMemory> Disk<M> for Copier {
    fn limits(&self) -> Limits {
        Limits::plain(self.bytes.len() as u64)
    }

    fn room(&self) -> u32 {
        64 - self.done.len() as u32
    }

    fn submit(&mut self, memory: &M, submission: Submission) {
        let (moved, buffer) = match submission.op {
            Op::Read { offset, mut into } => {
                let (from, len) = (offset as usize, into.len());
                into.write_at(memory, 0, &self.bytes[from..from + len as usize]).expect("in");
                (len, Some(into))
            }
            Op::Write { offset, from, .. } => {
                let (to, len) = (offset as usize, from.len());
                from.read_at(memory, 0, &mut self.bytes[to..to + len as usize]).expect("in");
                (len, Some(from))
            }
            Op::Sync | Op::Discard { .. } | Op::WriteZeroes { .. } => (0, None),
        };
        let token = submission.token;
        self.done.push_back(Completion { token, result: Ok(moved), buffer });
    }

    fn complete(&mut self, _: &M) -> Option<Completion> {
        self.done.pop_front()
    }
}

/// Publish three descriptors, pop them, copy 512 bytes, return them.
#[divan::bench]
fn bare_ring(bencher: Bencher<'_, '_>) {
    let mut driver = Driver::new();
    let mut ring = driver.ring(false);
    let mut disk = vec![0; 1 << 16];
    bencher.bench_local(|| {
        driver.send(T_OUT, 5, 512);
        let chain = ring.take(&driver.memory).expect("a ring in memory");
        let (head, mut chain) = chain.expect("published");
        let header = chain.next().expect("header");
        let data = chain.next().expect("data");
        let status = chain.next().expect("status");
        let at = GuestAddress(header.addr().0 + 8);
        let sector: u64 = driver.memory.read_obj(at).expect("in");
        let at = sector as usize * 512;
        driver.memory.read_slice(&mut disk[at..at + 512], data.addr()).expect("in");
        driver.memory.write_obj(0_u8, status.addr()).expect("in");
        ring.put(&driver.memory, head, 1).expect("in");
    });
}

/// One request at a time, from publication to used element.
fn whole(bencher: Bencher<'_, '_>, kind: u32, len: u32, event_idx: bool) {
    let features = F_VERSION_1 | F_FLUSH | F_EVENT_IDX;
    let limits = Limits::plain(1 << 16);
    let shared = Shared::new(Config::default(), limits).expect("right");
    shared.negotiate(features).expect("offered");
    let mut queue = BlockQueue::new(QueueIndex(0), Arc::new(shared), SIZE);
    let mut disk = Copier { bytes: vec![0; 1 << 16], done: VecDeque::new() };
    let mut driver = Driver::new();
    let mut ring = driver.ring(event_idx);
    bencher.bench_local(|| {
        driver.send(kind, 5, len);
        queue.handle_kick();
        while step(&mut queue, &mut ring, &mut disk, &driver.memory) != Step::Idle {}
    });
    assert_eq!(ring.position().1, driver.published);
}

#[divan::bench(args = [512, 4096])]
fn write(bencher: Bencher<'_, '_>, len: u32) {
    whole(bencher, T_OUT, len, true);
}

#[divan::bench(args = [512, 4096])]
fn read(bencher: Bencher<'_, '_>, len: u32) {
    whole(bencher, T_IN, len, true);
}

#[divan::bench]
fn write_without_event_idx(bencher: Bencher<'_, '_>) {
    whole(bencher, T_OUT, 512, false);
}

#[divan::bench]
fn flush(bencher: Bencher<'_, '_>) {
    whole(bencher, T_FLUSH, 0, true);
}

/// The driver alone: the part of the figures above that is not the device's.
#[divan::bench]
fn driver_alone(bencher: Bencher<'_, '_>) {
    let mut driver = Driver::new();
    bencher.bench_local(|| driver.send(T_OUT, 5, 512));
}
