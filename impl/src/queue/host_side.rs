//! The operations of one queue on their way to the host and in its hands.

use crate::slots::{Place, Slot, Slots};
use std::collections::VecDeque;

/// Operations that are to be handed over, and how many the host has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct HostSide {
    /// The slots whose operation is to be handed over, oldest first.
    ready: VecDeque<Slot>,
    /// Number of operations in the host's hands.
    in_host: usize,
    /// Operations were handed over since the doorbell last rang.
    doorbell: bool,
}

impl HostSide {
    /// Nothing is to be handed over; `room` operations can be without another allocation.
    pub(super) fn with_room(room: usize) -> HostSide {
        HostSide { ready: VecDeque::with_capacity(room), ..HostSide::default() }
    }

    /// The operation of `slot` is to be handed over.
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

    /// One operation came back.
    pub(super) fn completed(&mut self) {
        assert!(self.in_host > 0, "an operation that completes was handed over");
        self.in_host -= 1;
    }

    /// Whether the host has no operation.
    pub(super) fn is_idle(&self) -> bool {
        self.in_host == 0
    }

    /// Whether the doorbell is due; asking takes it.
    pub(super) fn poll_doorbell(&mut self) -> bool {
        std::mem::take(&mut self.doorbell)
    }

    /// Hands over nothing more of what is ready.
    pub(super) fn stop(&mut self) {
        self.ready.clear();
    }

    /// Asserts that a slot is ready iff it is in the list, once, and that as many are in the host's
    /// hands as are counted.
    pub(super) fn check(&self, slots: &Slots) {
        let at = |place| slots.iter_live().filter(move |slot| slots.get(*slot).place == place);
        assert_eq!(self.in_host, at(Place::Host).count(), "operations in the host's hands");
        assert_eq!(self.ready.len(), at(Place::Ready).count(), "slots that are ready");
        for slot in &self.ready {
            assert_eq!(slots.get(*slot).place, Place::Ready, "slot {slot}");
        }
    }
}
