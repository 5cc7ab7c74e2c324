//! A whole queue as in production: a `BlockQueue` on a separate ring behind a worker lock, with its
//! lane of a small disk.
//!
//! Guest memory and rings are ordinary memory, and only the thread that steps the queue accesses
//! them; the threads share the device's `Shared`, the worker lock and the disk.

use crate::explore::sync::{Arc, Mutex};
use crate::wakeup::Bedside;
use powerfail_device::wire::{F_CONFIG_WCE, F_FLUSH, F_VERSION_1, T_FLUSH, T_OUT};
use powerfail_device::worker_lock::WorkerLock;
use powerfail_device::{
    BlockQueue, Buffer, Completion, Config, Disk, Errno, Limits, Op, QueueIndex, QueueLayout, Ring,
    Shared, Step, Submission, settle, step,
};
use std::collections::VecDeque;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

/// Descriptors, available ring, used ring, headers, data, statuses.
const PARTS: [u64; 6] = [0x1000, 0x2000, 0x3000, 0x4000, 0x5000, 0x6000];

/// A request: a FLUSH, or a write of one sector filled with a byte.
#[derive(Clone, Copy)]
pub(crate) enum Request {
    Flush,
    Out { sector: u64, fill: u8 },
}

/// The disk, which all lanes share, and the order of events.
pub(crate) struct Medium {
    pub(crate) now: u64,
    /// The time of submission of each sync.
    pub(crate) syncs: Vec<u64>,
    running: u32,
    /// The time at which a failure was first reported to a guest.
    pub(crate) failed: Option<u64>,
    pub(crate) bytes: [u8; 1024],
    /// The number of operations done.
    pub(crate) done: u32,
}

impl Medium {
    pub(crate) fn new() -> Arc<Mutex<Medium>> {
        let medium =
            Medium { now: 0, syncs: vec![], running: 0, failed: None, bytes: [0; 1024], done: 0 };
        Arc::new(Mutex::new(medium))
    }

    pub(crate) fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    fn perform(
        &mut self,
        op: Op,
        sync: Result<u32, Errno>,
    ) -> (Result<u32, Errno>, Option<Buffer>) {
        self.done += 1;
        match op {
            Op::Sync => {
                self.running -= 1;
                (sync, None)
            }
            Op::Read { offset, into: Buffer::Bounce(mut bounce) } => {
                let slice = bounce.as_mut_slice();
                slice.copy_from_slice(&self.bytes[offset as usize..][..slice.len()]);
                (Ok(slice.len() as u32), Some(Buffer::Bounce(bounce)))
            }
            Op::Write { offset, from: Buffer::Bounce(bounce), .. } => {
                let slice = bounce.as_slice();
                self.bytes[offset as usize..][..slice.len()].copy_from_slice(slice);
                (Ok(slice.len() as u32), Some(Buffer::Bounce(bounce)))
            }
            Op::Write { from, .. } => (Ok(512), Some(from)),
            other => unreachable!("no test sends {other:?}"),
        }
    }
}

/// One queue's lane. It has room for one operation, which it completes when it is polled, or only
/// after a host thread has allowed it.
pub(crate) struct Lane {
    medium: Arc<Mutex<Medium>>,
    limits: Limits,
    sync: Result<u32, Errno>,
    held: VecDeque<Submission>,
    /// Set to `true` by the host's thread before an operation completes; `None` if operations
    /// complete at once.
    host: Option<Arc<Mutex<bool>>>,
}

impl<M: GuestMemory> Disk<M> for Lane {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn room(&self) -> u32 {
        1 - self.held.len() as u32
    }

    fn submit(&mut self, _: &M, submission: Submission) {
        if submission.op == Op::Sync {
            let mut medium = self.medium.lock().unwrap();
            assert_eq!(medium.running, 0, "one sync at a time");
            medium.running += 1;
            let now = medium.tick();
            medium.syncs.push(now);
        }
        self.held.push_back(submission);
    }

    fn complete(&mut self, _: &M) -> Option<Completion> {
        if self.held.is_empty() {
            return None;
        }
        if let Some(host) = &self.host
            && !*host.lock().unwrap()
        {
            return None;
        }
        let Submission { token, op } = self.held.pop_front()?;
        let (result, buffer) = self.medium.lock().unwrap().perform(op, self.sync);
        Some(Completion { token, result, buffer })
    }
}

/// The data behind the worker lock of a queue.
pub(crate) struct Served {
    pub(crate) block: BlockQueue,
    /// `None` once the ring was taken away.
    pub(crate) ring: Option<Ring>,
    pub(crate) lane: Lane,
    pub(crate) memory: Arc<GuestMemoryMmap<()>>,
}

pub(crate) type Seat = WorkerLock<Served, Bedside>;

impl Served {
    pub(crate) fn new(
        index: u16,
        shared: &Arc<Shared>,
        medium: &Arc<Mutex<Medium>>,
        sync: Result<u32, Errno>,
        requests: &[Request],
    ) -> Served {
        let lane = Lane {
            medium: Arc::clone(medium),
            limits: *shared.limits(),
            sync,
            held: VecDeque::new(),
            host: None,
        };
        let memory = driver(requests);
        let block = BlockQueue::new(QueueIndex(index), Arc::clone(shared), 4);
        Served { block, ring: Some(ring()), lane, memory: Arc::new(memory) }
    }

    /// Lets its operations complete once `host` holds `true`.
    pub(crate) fn behind(mut self, host: &Arc<Mutex<bool>>) -> Served {
        self.lane.host = Some(Arc::clone(host));
        self
    }

    pub(crate) fn seat(self) -> Seat {
        WorkerLock::new(self, Bedside::new())
    }

    /// Takes one step; takes requests from the ring only if `take` is set. Returns whether it made
    /// progress.
    pub(crate) fn step(&mut self, take: bool, woken: bool, wake: impl Fn(QueueIndex)) -> bool {
        let Served { block, ring, lane, memory } = self;
        let Some(ring) = ring else { return false };
        let memory = &**memory;
        if woken {
            block.handle_wake(ring, memory);
        }
        match if take { step } else { settle }(block, ring, lane, memory) {
            Step::Wake(other) => wake(other),
            Step::Idle => return false,
            Step::Completed | Step::Signal | Step::Submitted | Step::Ring => {}
        }
        true
    }

    /// The heads in the used ring.
    pub(crate) fn used(&self) -> Vec<u32> {
        used(&self.memory)
    }

    pub(crate) fn status(&self, request: u64) -> u8 {
        self.memory.read_obj(GuestAddress(PARTS[5] + request)).unwrap()
    }
}

/// Main loop of a queue's worker, until `is_over`; `wake` reaches the other queues.
pub(crate) fn live(seat: &Seat, wake: impl Fn(QueueIndex), is_over: impl Fn(&Served) -> bool) {
    let mut signaled = false;
    loop {
        let mut worker = seat.lock_worker(signaled);
        worker.run(|served, woken| served.step(true, woken, &wake));
        if is_over(&worker) {
            return;
        }
        drop(worker);
        seat.wakeup().sleep();
        signaled = true;
    }
}

pub(crate) fn used(memory: &GuestMemoryMmap<()>) -> Vec<u32> {
    let used: u16 = memory.read_obj(GuestAddress(PARTS[2] + 2)).unwrap();
    let head = |n| memory.read_obj(GuestAddress(PARTS[2] + 4 + 8 * u64::from(n % 8))).unwrap();
    (0..used).map(head).collect()
}

/// The shared state of a guest's queues over disks of `granule` bytes.
pub(crate) fn shared(queues: u16, granule: u32) -> Arc<Shared> {
    let mut limits = Limits::plain(1 << 16);
    limits.granule = granule;
    limits.discard_granularity = granule;
    limits.write_zeroes_granularity = granule;
    let shared = Shared::new(Config { queues, ..Config::default() }, limits).unwrap();
    shared.negotiate(F_VERSION_1 | F_FLUSH | F_CONFIG_WCE).unwrap();
    Arc::new(shared)
}

/// Guest memory with `requests` on the ring: one chain of three descriptors each, of which a FLUSH
/// uses two.
fn driver(requests: &[Request]) -> GuestMemoryMmap<()> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x8000)]).unwrap();
    let put = |at, bytes: &[u8]| memory.write_slice(bytes, GuestAddress(at)).unwrap();
    let descriptor = |index: u64, addr: u64, len: u32, flags: u16, next: u64| {
        put(PARTS[0] + 16 * index, &addr.to_le_bytes());
        put(PARTS[0] + 16 * index + 8, &len.to_le_bytes());
        put(PARTS[0] + 16 * index + 12, &flags.to_le_bytes());
        put(PARTS[0] + 16 * index + 14, &(next as u16).to_le_bytes());
    };
    for (n, request) in (0..).zip(requests) {
        let (header, data, status) = (PARTS[3] + 16 * n, PARTS[4] + 512 * n, PARTS[5] + n);
        let head = 3 * n;
        put(status, &[0xee]);
        put(PARTS[1] + 4 + 2 * n, &(head as u16).to_le_bytes());
        match *request {
            Request::Flush => {
                put(header, &T_FLUSH.to_le_bytes());
                descriptor(head, header, 16, 1, head + 2);
            }
            Request::Out { sector, fill } => {
                put(header, &T_OUT.to_le_bytes());
                put(header + 8, &sector.to_le_bytes());
                put(data, &[fill; 512]);
                descriptor(head, header, 16, 1, head + 1);
                descriptor(head + 1, data, 512, 1, head + 2);
            }
        }
        descriptor(head + 2, status, 1, 2, 0);
    }
    put(PARTS[1] + 2, &(requests.len() as u16).to_le_bytes());
    memory
}

pub(crate) fn ring() -> Ring {
    let [descriptors, available, used, ..] = PARTS;
    Ring::at(QueueLayout { size: 8, descriptors, available, used }).unwrap()
}
