//! One request queue of a virtio block device, as a state machine.
//!
//! A [`BlockQueue`] owns its requests in flight and nothing else: ring, memory and disk are lent
//! per call, for in production all of them can change hands under a live queue. What it wants done
//! it says through `poll_*`; what has happened it is told through `handle_*`. After any `handle_*`,
//! poll until nothing comes; [`step`](crate::step) does that in a fixed order.
//!
//! A request goes from the ring (`ring`) through judgement (`intake`) to its operations one by one
//! (`progress`, planned in `plan`), waits for a range lock or at the flush gate where it must
//! (`waiting`), and ends in the used ring (`answer`). A reset ends it earlier (`drain`), a pause
//! lets nothing more in (`pause`), and a dead backend's is taken once more (`again`).

mod answer;
mod intake;
mod outcome;
mod pause;
mod pool;
mod progress;
mod reset;
mod resubmit;
mod ring;
mod waiting;

use crate::chain::Parts;
use crate::disk::{Completion, Submission};
use crate::inflight::InflightRecord;
use crate::notification::RingPoll;
use crate::queue_set::{QueueIndex, QueueSet};
use crate::shared::Shared;
use crate::slots::{Slot, Slots};
use crate::sync::Arc;
pub(crate) use answer::wants_signal;
pub(crate) use pause::OwnSync;
use pool::Pool;
use std::collections::VecDeque;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemory;

/// A request queue: the requests in flight, and what is to be asked of ring, disk and the other
/// queues next.
#[derive(Debug)]
pub struct BlockQueue {
    index: QueueIndex,
    shared: Arc<Shared>,
    /// The requests taken from the ring and not answered.
    slots: Slots,
    /// The slots whose operation is to be handed over, oldest first.
    ready: VecDeque<Slot>,
    /// The slots that wait at the flush gate for somebody's sync, oldest first.
    in_flush_group: VecDeque<Slot>,
    /// The slots that wait for their range lock, oldest first.
    at_locks: Vec<Slot>,
    /// Number of operations in the host's hands.
    in_host: usize,
    ring_poll: RingPoll,
    /// A kick came since notifications were last disabled.
    kicked: bool,
    /// The driver is owed a signal.
    signal: bool,
    /// The queues that are owed a wake.
    wakes: QueueSet,
    /// Submissions were handed over since the doorbell last rang.
    doorbell: bool,
    /// From the start of a reset to its end: nothing is taken from the ring, handed over or
    /// answered.
    stopped: bool,
    /// Nothing is taken from the ring; what is in flight goes on.
    paused: bool,
    own_sync: OwnSync,
    /// The ring makes no sense any more; only a reset helps. What is in flight still ends properly.
    broken: bool,
    /// What is in flight, where it outlives the process.
    record: Option<InflightRecord>,
    /// The heads to take before any new one: a backend that died had taken them.
    again: VecDeque<u16>,
    parts: Parts,
    pool: Pool,
}

impl BlockQueue {
    /// Queue `index` of the device with `shared`; `queue_size` is the most requests that can be in
    /// flight.
    ///
    /// # Panics
    /// If `index` is not below [`MAX_QUEUES`](crate::MAX_QUEUES).
    pub fn new(index: QueueIndex, shared: Arc<Shared>, queue_size: u16) -> BlockQueue {
        assert!(
            index.0 < crate::queue_set::MAX_QUEUES,
            "{index:?} is above what a device may have"
        );
        BlockQueue {
            index,
            shared,
            slots: Slots::default(),
            ready: VecDeque::with_capacity(usize::from(queue_size.min(64))),
            in_flush_group: VecDeque::new(),
            at_locks: Vec::new(),
            in_host: 0,
            ring_poll: RingPoll::Idle,
            // A driver may have published before anybody listened, and it will not kick again.
            kicked: true,
            signal: false,
            wakes: QueueSet::default(),
            doorbell: false,
            stopped: false,
            paused: false,
            own_sync: OwnSync::None,
            broken: false,
            record: None,
            again: VecDeque::new(),
            parts: Parts::default(),
            pool: Pool::default(),
        }
    }

    /// A deep copy over a deep copy of what it shared. It keeps no record: that is the original's.
    pub(crate) fn fork(&self, shared: Arc<Shared>) -> BlockQueue {
        BlockQueue {
            index: self.index,
            shared,
            slots: self.slots.clone(),
            ready: self.ready.clone(),
            in_flush_group: self.in_flush_group.clone(),
            at_locks: self.at_locks.clone(),
            in_host: self.in_host,
            ring_poll: self.ring_poll,
            kicked: self.kicked,
            signal: self.signal,
            wakes: self.wakes,
            doorbell: self.doorbell,
            stopped: self.stopped,
            paused: self.paused,
            own_sync: self.own_sync,
            broken: self.broken,
            record: None,
            again: self.again.clone(),
            parts: Parts::default(),
            pool: Pool::default(),
        }
    }

    /// Which queue this is.
    pub fn index(&self) -> QueueIndex {
        self.index
    }

    /// The driver kicked: there may be something on the ring.
    pub fn handle_kick(&mut self) {
        self.kicked = true;
    }

    /// Takes one step on the ring: disable notifications, take one chain, find that there is none,
    /// re-arm, or look again. Returns `false` iff there is nothing to do there until a kick, or
    /// until a request ends.
    ///
    /// # Spec
    /// VS-17, VS-10, ST-02.
    pub fn poll_ring<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M) -> bool {
        if self.stopped {
            return false;
        }
        if self.paused {
            return self.poll_paused(ring, memory);
        }
        !self.broken && ring.ready() && self.ring_poll(ring, memory)
    }

    /// An operation handed over by [`poll_submission`](BlockQueue::poll_submission) has completed.
    ///
    /// # Panics
    /// If the disk broke its promises: an operation completed twice or never submitted, more bytes
    /// moved than asked for, a bounce kept.
    pub fn handle_completion<M: GuestMemory>(
        &mut self,
        ring: &mut Queue,
        memory: &M,
        completion: Completion,
    ) {
        let slot = self.slots.completed(completion.token);
        self.in_host -= 1;
        if self.stopped {
            self.on_completion_after_stop(slot, &completion.result);
            self.keep_buffer(completion.buffer);
        } else {
            self.on_completion(ring, memory, slot, completion.result, completion.buffer);
        }
    }

    /// Another queue moved what this one waits for: a sync ended, or a range became free.
    pub fn handle_wake<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M) {
        if self.stopped {
            return;
        }
        self.look_at_gate(ring, memory);
        self.look_at_locks();
    }

    /// The next operation for the disk, which must have room for it.
    pub fn poll_submission(&mut self) -> Option<Submission> {
        let slot = self.ready.pop_front()?;
        self.in_host += 1;
        self.doorbell = true;
        Some(self.submission(slot))
    }

    /// Whether the driver is owed a used notification; asking takes it.
    pub fn poll_signal(&mut self) -> bool {
        std::mem::take(&mut self.signal)
    }

    /// A queue that has to be woken; asking takes it.
    pub fn poll_wake(&mut self) -> Option<QueueIndex> {
        self.wakes.pop()
    }

    /// Whether the disk's doorbell is due; asking takes it.
    pub fn poll_doorbell(&mut self) -> bool {
        std::mem::take(&mut self.doorbell)
    }

    /// Whether nothing is in the host's hands.
    pub fn is_idle(&self) -> bool {
        self.in_host == 0
    }

    /// Whether nothing is in flight, and nobody waits for a wake.
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight() == 0 && self.wakes.is_empty()
    }

    /// Whether the ring made no sense and only a reset helps (NEEDS_RESET).
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// Number of requests taken from the ring and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.slots.live()
    }
}
