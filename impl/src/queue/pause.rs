//! Pause: what was taken from the ring goes on and nothing more is taken; and the one request that
//! no driver made, a sync before a save.

use super::BlockQueue;
use crate::slots::{Kind, Slot};
use crate::virtio::{Ring, RingFront};
use crate::wire::S_OK;
use vm_memory::{GuestAddress, GuestMemory};

/// How far the sync is that was asked for to save the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OwnSync {
    /// None was asked for since the pause began.
    None,
    /// To be started at the next step.
    Wanted,
    /// At the flush gate, or with the disk.
    Runs,
    /// Over.
    Ended {
        /// Whether everything that had completed before it is stable.
        made_stable: bool,
    },
}

impl BlockQueue {
    /// Takes nothing from the ring from now on, but for what a dead backend had taken.
    pub fn pause(&mut self) {
        self.paused = true;
        self.own_sync = OwnSync::None;
    }

    /// Takes from the ring again; the queue is to be stepped.
    pub fn resume(&mut self) {
        self.paused = false;
        self.own_sync = OwnSync::None;
    }

    /// Whether it was paused and not resumed.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether nothing that was taken from the ring is left to do: nothing is in flight, nothing in
    /// the host's hands, and everything that a dead backend had taken was taken again.
    pub fn is_drained(&self) -> bool {
        self.in_flight() == 0 && self.resubmit.is_empty() && self.is_idle()
    }

    /// Asks for a sync, for nobody's sake but the device's.
    pub(crate) fn sync(&mut self) {
        assert!(self.paused && self.is_drained(), "a paused queue syncs when it is drained");
        self.own_sync = OwnSync::Wanted;
    }

    /// How far that sync is.
    pub(crate) fn own_sync(&self) -> OwnSync {
        self.own_sync
    }

    /// A fresh queue goes on for one that was saved, which may have owed its driver a signal.
    pub(crate) fn go_on(&mut self, broken: bool, signal: bool) {
        self.front = RingFront::resumed(broken, signal);
    }

    /// The next step of a paused queue; `false` iff there is none.
    #[cold]
    pub(super) fn poll_paused<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) -> bool {
        if self.own_sync == OwnSync::Wanted {
            self.own_sync = OwnSync::Runs;
            let slot = self.slots.open(0, GuestAddress(0), Kind::InternalFlush);
            self.join_flush_group(ring, memory, slot);
            return true;
        }
        // Also on a ring that makes no sense any more: these were taken before it broke, and end as
        // what is in flight does.
        self.slots.live() < usize::from(ring.size()) && self.resubmit_next(ring, memory)
    }

    /// The sync was answered; there is no ring to say so on. It may have been given up meanwhile.
    #[cold]
    pub(super) fn end_own_sync(&mut self, slot: Slot, status: u8) {
        self.slots.answered(slot);
        if self.own_sync == OwnSync::Runs {
            self.own_sync = OwnSync::Ended { made_stable: status == S_OK };
        }
    }
}
