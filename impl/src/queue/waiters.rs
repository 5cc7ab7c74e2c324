//! The requests of one queue that wait for other requests, perhaps of other queues, and the queues
//! that must be woken in turn.

use crate::queue_set::{QueueIndex, QueueSet};
use crate::slots::{Place, Slot, Slots};
use std::collections::VecDeque;

/// Requests that wait for a sync or for a range lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Waiters {
    /// The slots that wait in the flush group for a sync, oldest first.
    pub(super) for_sync: VecDeque<Slot>,
    /// The slots that wait for their range lock, oldest first.
    pub(super) for_lock: Vec<Slot>,
    /// The queues that are owed a wake.
    owed: QueueSet,
}

impl Waiters {
    /// Adds these queues to those that are owed a wake, except `own`; returns whether `own` is in
    /// the set.
    pub(super) fn owe(&mut self, mut woken: QueueSet, own: QueueIndex) -> bool {
        let ours = woken.contains(own);
        woken.remove(own);
        self.owed.extend(woken);
        ours
    }

    /// A queue that must be woken, removed from the set of those.
    pub(super) fn poll_wake(&mut self) -> Option<QueueIndex> {
        self.owed.pop()
    }

    /// Whether no queue is owed a wake.
    pub(super) fn owes_nothing(&self) -> bool {
        self.owed.is_empty()
    }

    /// Begins a reset: no request of this queue waits any longer. Returns whether one waited for a
    /// sync.
    pub(super) fn stop(&mut self) -> bool {
        self.for_lock.clear();
        !std::mem::take(&mut self.for_sync).is_empty()
    }

    /// Asserts that a slot waits iff it is in the list for its place, once, and that the syncs
    /// waited for are in order.
    pub(super) fn check(&self, slots: &Slots, own: QueueIndex) {
        let mut last = None;
        for slot in &self.for_sync {
            let Place::Sync(number) = slots.get(*slot).place else {
                panic!("slot {slot} waits for a sync, not at {:?}", slots.get(*slot).place);
            };
            assert!(last <= Some(number), "syncs are waited for in order");
            last = Some(number);
        }
        for slot in &self.for_lock {
            let request = slots.get(*slot);
            assert!(request.place == Place::Lock && request.locked, "slot {slot} waits for a lock");
        }
        let waiting = |slot: &Slot| matches!(slots.get(*slot).place, Place::Sync(_) | Place::Lock);
        let listed = self.for_sync.len() + self.for_lock.len();
        assert_eq!(listed, slots.iter_live().filter(waiting).count(), "slots that wait");
        assert!(!self.owed.contains(own), "a queue does not wake itself");
    }
}
