//! One request queue of a virtio block device, as a state machine.
//!
//! A [`BlockQueue`] owns its requests in flight and nothing else: ring, memory and disk are lent
//! per call, because in production all of them can change under a live queue. The caller fetches
//! actions through `poll_*` and reports events through `handle_*`. After any `handle_*`, poll until
//! nothing comes; [`step`](crate::step) does that in a fixed order.
//!
//! A request is taken from the ring (`taking`), checked (`intake`), and runs its operations one by
//! one (`progress`, planned in `plan`). It waits for a range lock or a sync where it must
//! (`waiting`), and ends in the used ring (`answer`). A reset ends it earlier (`reset`), a pause
//! takes no new requests (`pause`), and the requests of a dead backend are resubmitted
//! (`resubmit`).

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

/// A request queue: the requests in flight, and the next actions for the ring, the disk and the
/// other queues.
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
    /// True iff no new requests are taken from the ring; requests in flight continue.
    paused: bool,
    own_sync: OwnSync,
    /// The heads to take before any new one, because a dead backend had taken them.
    resubmit: VecDeque<u16>,
    /// The in-flight record, in memory that outlives the process. It belongs to the original; a
    /// copy has none.
    record: NotCopied<Option<InflightRecord>>,
    parts: NotCopied<Parts>,
    pool: NotCopied<Pool>,
}

impl BlockQueue {
    /// Queue `index` of the device with `shared`; `queue_size` is the maximum number of requests in
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

    /// Asserts the invariants that hold between any two steps.
    ///
    /// # Panics
    /// If a request in flight is in no list or in two, a list is out of order, or a stopped queue
    /// holds anything that a reset ends.
    pub fn check(&self) {
        self.front.check(self.stopped);
        self.host.check(&self.slots);
        self.waiters.check(&self.slots, self.index);
        for slot in self.slots.iter_live() {
            let request = self.slots.get(slot);
            let in_host = request.place == Place::Host;
            assert!(!self.stopped || in_host, "a reset ends all but the host's requests");
            assert!(request.at <= request.extents.len(), "slot {slot} is past its last extent");
        }
        assert!(!self.stopped || self.resubmit.is_empty(), "a reset ends resubmission");
        assert!(self.paused || self.own_sync == OwnSync::None, "only a paused device is saved");
    }

    /// The index of this queue.
    pub fn index(&self) -> QueueIndex {
        self.index
    }

    /// Records a kick: the ring may hold new chains.
    pub fn handle_kick(&mut self) {
        self.front.handle_kick();
    }

    /// Takes one step on the ring: disables kicks, takes one chain, finds that there is none,
    /// enables kicks, or rechecks. Returns `false` iff there is nothing to do until a kick, or
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

    /// Handles the completion of an operation from
    /// [`poll_submission`](BlockQueue::poll_submission).
    ///
    /// # Panics
    /// If the disk broke its promises: it completed an operation twice or one never submitted,
    /// moved more bytes than requested, or kept a bounce buffer.
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

    /// Handles a wake by another queue: a sync ended, or a range became free.
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

    /// Whether the driver is owed a used buffer notification; clears the flag.
    pub fn poll_signal(&mut self) -> bool {
        self.front.poll_signal()
    }

    /// A queue that must be woken, removed from the set of those.
    pub fn poll_wake(&mut self) -> Option<QueueIndex> {
        self.waiters.poll_wake()
    }

    /// Whether the disk's doorbell is due; clears the flag.
    pub fn poll_doorbell(&mut self) -> bool {
        self.host.poll_doorbell()
    }

    /// Whether nothing is in the host's hands.
    pub fn is_idle(&self) -> bool {
        self.host.is_idle()
    }

    /// Whether nothing is in flight and no other queue is owed a wake.
    pub(crate) fn is_settled(&self) -> bool {
        self.in_flight() == 0 && self.waiters.owes_nothing()
    }

    /// Whether the ring is invalid and only a reset helps (NEEDS_RESET).
    pub fn is_broken(&self) -> bool {
        self.front.is_broken()
    }

    /// Number of requests taken from the ring and not yet answered.
    pub fn in_flight(&self) -> usize {
        self.slots.live()
    }
}
