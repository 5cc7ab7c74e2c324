//! Pause: requests in flight continue and no new ones are taken from the ring; and the one request
//! that no driver made, a sync before a save.

use super::BlockQueue;
use crate::slots::{Kind, Slot};
use crate::virtio::{Ring, RingFront};
use crate::wire::S_OK;
use vm_memory::{GuestAddress, GuestMemory};

/// The progress of the sync that was requested to save the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnSync {
    /// None was requested since the pause began.
    None,
    /// It starts at the next step.
    Wanted,
    /// It waits in the flush group, or the disk runs it.
    Runs,
    /// It has ended.
    Ended {
        /// Whether all data that completed before it is stable.
        made_stable: bool,
    },
}

impl BlockQueue {
    /// Stops taking requests from the ring, except for those that a dead backend had taken.
    pub fn pause(&mut self) {
        self.paused = true;
        self.own_sync = OwnSync::None;
    }

    /// Takes requests from the ring again; the caller must step the queue.
    pub fn resume(&mut self) {
        self.paused = false;
        self.own_sync = OwnSync::None;
    }

    /// Whether it was paused and not resumed.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether every request taken from the ring has ended: nothing is in flight, nothing is in the
    /// host's hands, and every head that a dead backend had taken was resubmitted.
    pub fn is_drained(&self) -> bool {
        self.in_flight() == 0 && self.resubmit.is_empty() && self.is_idle()
    }

    /// Requests a sync for the device itself.
    pub(crate) fn sync(&mut self) {
        assert!(self.paused && self.is_drained(), "a paused queue syncs when it is drained");
        self.own_sync = OwnSync::Wanted;
    }

    /// The progress of that sync.
    pub(crate) fn own_sync(&self) -> OwnSync {
        self.own_sync
    }

    /// Makes a fresh queue continue for a saved one, which may have owed its driver a signal.
    pub(crate) fn go_on(&mut self, broken: bool, signal: bool) {
        assert!(self.in_flight() == 0 && !self.stopped, "a fresh queue");
        self.front = RingFront::resumed(broken, signal);
    }

    /// Takes the next step of a paused queue; `false` iff there is none.
    #[cold]
    pub(super) fn poll_paused<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) -> bool {
        assert!(self.paused && !self.stopped, "a paused queue that is not being reset");
        if self.own_sync == OwnSync::Wanted {
            self.own_sync = OwnSync::Runs;
            let slot = self.slots.open(0, GuestAddress(0), Kind::InternalFlush);
            self.join_flush_group(ring, memory, slot);
            return true;
        }
        // Also on a ring that has become invalid: these heads were taken before, and end like the
        // requests in flight.
        self.slots.live() < usize::from(ring.size()) && self.resubmit_next(ring, memory)
    }

    /// Ends the sync, which has no chain to return. It may have been given up meanwhile.
    #[cold]
    pub(super) fn end_own_sync(&mut self, slot: Slot, status: u8) {
        self.slots.answered(slot);
        if self.own_sync == OwnSync::Runs {
            self.own_sync = OwnSync::Ended { made_stable: status == S_OK };
        }
    }
}
