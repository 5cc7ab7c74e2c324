//! The operations of one queue that are to be handed to the host or are in its hands.

use crate::slots::{Place, Slot, Slots};
use std::collections::VecDeque;

/// Operations to be handed over, and the number in the host's hands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostSide {
    /// The slots whose operation is to be handed over, oldest first.
    ready: VecDeque<Slot>,
    /// Number of operations in the host's hands.
    in_host: usize,
    /// True iff operations were handed over since the doorbell last rang.
    doorbell: bool,
}

impl HostSide {
    /// No operations, with capacity for `room` of them.
    pub(super) fn with_room(room: usize) -> HostSide {
        HostSide { ready: VecDeque::with_capacity(room), ..HostSide::default() }
    }

    /// Queues the operation of `slot` to be handed over.
    pub(super) fn push(&mut self, slot: Slot) {
        self.ready.push_back(slot);
    }

    /// Hands over the oldest operation, if there is one.
    pub(super) fn hand_over(&mut self) -> Option<Slot> {
        let slot = self.ready.pop_front()?;
        self.in_host += 1;
        self.doorbell = true;
        Some(slot)
    }

    /// Records that one operation came back.
    pub(super) fn completed(&mut self) {
        assert!(self.in_host > 0, "an operation that completes was handed over");
        self.in_host -= 1;
    }

    /// Whether no operation is in the host's hands.
    pub(super) fn is_idle(&self) -> bool {
        self.in_host == 0
    }

    /// Whether the doorbell is due; clears the flag.
    pub(super) fn poll_doorbell(&mut self) -> bool {
        std::mem::take(&mut self.doorbell)
    }

    /// Drops every operation that was not handed over.
    pub(super) fn stop(&mut self) {
        self.ready.clear();
    }

    /// Asserts that a slot is ready iff it is in the list, once, and that the number of operations
    /// in the host's hands is right.
    pub(super) fn check(&self, slots: &Slots) {
        let at = |place| slots.iter_live().filter(move |slot| slots.get(*slot).place == place);
        assert_eq!(self.in_host, at(Place::Host).count(), "operations in the host's hands");
        assert_eq!(self.ready.len(), at(Place::Ready).count(), "slots that are ready");
        for slot in &self.ready {
            assert_eq!(slots.get(*slot).place, Place::Ready, "slot {slot}");
        }
    }
}
