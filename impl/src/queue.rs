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
mod host_side;
mod intake;
mod outcome;
mod pause;
mod pool;
mod progress;
mod reset;
mod resubmit;
mod taking;
mod waiters;
mod waiting;

use crate::chain::Parts;
use crate::disk::{Completion, Submission};
use crate::inflight::InflightRecord;
use crate::queue_set::QueueIndex;
use crate::shared::Shared;
use crate::slots::{Place, Slots};
use crate::sync::{Arc, NotCopied};
use crate::virtio::{Ring, RingFront};
use host_side::HostSide;
pub(crate) use pause::OwnSync;
use pool::Pool;
use std::collections::VecDeque;
use vm_memory::GuestMemory;
use waiters::Waiters;

/// A request queue: the requests in flight, and the next steps of the ring, the disk and the other
/// queues.
#[derive(Clone, Debug)]
pub struct BlockQueue {
    index: QueueIndex,
    shared: Arc<Shared>,
    front: RingFront,
    /// The requests taken from the ring and not answered.
    slots: Slots,
    host: HostSide,
    waiters: Waiters,
    /// True from the start of a reset to its end: nothing is taken from the ring, handed over or
    /// answered.
    stopped: bool,
    /// Nothing is taken from the ring; requests in flight go on.
    paused: bool,
    own_sync: OwnSync,
    /// The heads to take before any new one: a backend that died had taken them.
    resubmit: VecDeque<u16>,
    /// The requests in flight, where the record outlives the process. It is the original's: a copy
    /// keeps none.
    record: NotCopied<Option<InflightRecord>>,
    parts: NotCopied<Parts>,
    pool: NotCopied<Pool>,
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
            front: RingFront::new(),
            slots: Slots::default(),
            host: HostSide::with_room(usize::from(queue_size.min(64))),
            waiters: Waiters::default(),
            stopped: false,
            paused: false,
            own_sync: OwnSync::None,
            resubmit: VecDeque::new(),
            record: NotCopied::default(),
            parts: NotCopied::default(),
            pool: NotCopied::default(),
        }
    }

    /// A deep copy over `shared`, a deep copy of the original's.
    pub(crate) fn fork(&self, shared: Arc<Shared>) -> BlockQueue {
        BlockQueue { shared, ..self.clone() }
    }

    /// Asserts what holds between any two steps.
    ///
    /// # Panics
    /// If a request in flight is in no list or in two, a list is out of order, or a stopped queue
    /// still holds what a reset ends.
    pub fn check(&self) {
        self.front.check(self.stopped);
        self.host.check(&self.slots);
        self.waiters.check(&self.slots, self.index);
        for slot in self.slots.iter_live() {
            let request = self.slots.get(slot);
            let in_host = request.place == Place::Host;
            assert!(!self.stopped || in_host, "a reset ends all that the host does not hold");
            assert!(request.at <= request.extents.len(), "slot {slot} is past its last extent");
        }
        assert!(
            !self.stopped || self.resubmit.is_empty(),
            "a reset ends what was to be resubmitted"
        );
        assert!(self.paused || self.own_sync == OwnSync::None, "only a paused device is saved");
    }

    /// Which queue this is.
    pub fn index(&self) -> QueueIndex {
        self.index
    }

    /// The driver kicked: there may be something on the ring.
    pub fn handle_kick(&mut self) {
        self.front.handle_kick();
    }

    /// Takes one step on the ring: disable notifications, take one chain, find that there is none,
    /// re-arm, or look again. Returns `false` iff there is nothing to do there until a kick, or
    /// until a request ends.
    ///
    /// # Spec
    /// VS-17, VS-10, ST-02.
    pub fn poll_ring<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) -> bool {
        if self.stopped {
            return false;
        }
        if self.paused {
            return self.poll_paused(ring, memory);
        }
        !self.front.is_broken() && ring.is_ready() && self.step_ring(ring, memory)
    }

    /// An operation handed over by [`poll_submission`](BlockQueue::poll_submission) has completed.
    ///
    /// # Panics
    /// If the disk broke its promises: an operation completed twice or never submitted, more bytes
    /// moved than asked for, a bounce kept.
    pub fn handle_completion<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        completion: Completion,
    ) {
        let slot = self.slots.completed(completion.token);
        self.host.completed();
        if self.stopped {
            self.on_completion_after_stop(slot, &completion.result);
            self.keep_buffer(completion.buffer);
        } else {
            self.on_completion(ring, memory, slot, completion.result, completion.buffer);
        }
    }

    /// Another queue moved what this one waits for: a sync ended, or a range became free.
    pub fn handle_wake<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) {
        if self.stopped {
            return;
        }
        self.look_at_flush_group(ring, memory);
        self.look_at_locks();
    }

    /// The next operation for the disk, which must have room for it.
    pub fn poll_submission(&mut self) -> Option<Submission> {
        let slot = self.host.hand_over()?;
        Some(self.submission(slot))
    }

    /// Whether the driver is owed a used notification; asking takes it.
    pub fn poll_signal(&mut self) -> bool {
        self.front.poll_signal()
    }

    /// A queue that has to be woken; asking takes it.
    pub fn poll_wake(&mut self) -> Option<QueueIndex> {
        self.waiters.poll_wake()
    }

    /// Whether the disk's doorbell is due; asking takes it.
    pub fn poll_doorbell(&mut self) -> bool {
        self.host.poll_doorbell()
    }

    /// Whether nothing is in the host's hands.
    pub fn is_idle(&self) -> bool {
        self.host.is_idle()
    }

    /// Whether nothing is in flight, and nobody waits for a wake.
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight() == 0 && self.waiters.owes_nothing()
    }

    /// Whether the ring made no sense and only a reset helps (NEEDS_RESET).
    pub fn is_broken(&self) -> bool {
        self.front.is_broken()
    }

    /// Number of requests taken from the ring and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.slots.live()
    }
}
