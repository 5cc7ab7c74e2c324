//! Reset: what ends a request that nobody will be told of.
//!
//! From [`stop`](BlockQueue::stop) on nothing is taken from the ring, handed to the disk, or
//! written to guest memory by the device itself. Requests that are not in the host's hands are
//! abandoned at once. The others cannot be: the host may still write, so the reset is not over
//! before their operations have come back (ST-04, AMB-21). Until then the queue is stepped as
//! before, also to wake the queues that waited for what it gives up.

use super::{BlockQueue, OwnSync};
use crate::errno::Errno;
use crate::slots::{Place, Slot, SyncPart};
use crate::virtio::RingFront;

impl BlockQueue {
    /// Begins to end this queue's life: abandons what waits and lets what the host has in hand come
    /// back.
    ///
    /// It is over when the queue [is idle](BlockQueue::is_idle).
    pub fn stop(&mut self) {
        if std::mem::replace(&mut self.stopped, true) {
            return;
        }
        self.front.stop();
        self.own_sync = OwnSync::None;
        self.host.stop();
        self.resubmit.clear();
        if self.waiters.stop() {
            self.shared.flush_group().leave(self.index);
        }
        let live: Vec<Slot> = self.slots.iter_live().collect();
        for slot in live {
            if self.slots.get(slot).place != Place::Host {
                self.abandon(slot);
            }
        }
    }

    /// Stops as [`stop`](BlockQueue::stop) does and keeps the record as it is: every request that
    /// was taken and not answered stays in it, for the backend that the driver is handed to. No
    /// record is kept from here on.
    ///
    /// # Spec
    /// vhost-user, "Inflight I/O tracking": a head leaves the record when it is used, or when a
    /// reset ends it.
    pub fn leave(&mut self) {
        *self.record = None;
        self.stop();
    }

    /// Makes a stopped queue ready for its next life. Its record, if it keeps one, becomes empty:
    /// the reset has ended what was in flight.
    ///
    /// # Panics
    /// If something is still in the host's hands.
    pub fn restart(&mut self) {
        assert!(self.is_idle(), "a reset is over when the queue is idle");
        assert_eq!(self.in_flight(), 0, "a reset ends every request");
        assert!(self.resubmit.is_empty(), "what was to be taken again ended with the rest");
        self.stopped = false;
        self.front = RingFront::new();
        self.slots.shrink();
        if let Some(record) = self.record.as_mut() {
            record.clear();
        }
    }

    /// An operation came back after the life its request belonged to.
    pub(super) fn on_completion_after_stop(&mut self, slot: Slot, result: &Result<u32, Errno>) {
        let request = self.slots.get_mut(slot);
        request.place = Place::Ready;
        if request.sync == SyncPart::Runs {
            // The gate is not reset: a failure counts in the next life too, and other queues may
            // wait for this very sync.
            request.sync = SyncPart::None;
            let woken = self.shared.end_sync(self.index, result);
            self.waiters.owe(woken, self.index);
        }
        self.abandon(slot);
    }

    /// Ends a request without a word, and lets go of all it held.
    fn abandon(&mut self, slot: Slot) {
        let request = self.slots.get_mut(slot);
        request.patch = None;
        if std::mem::replace(&mut request.sync, SyncPart::None) != SyncPart::None {
            let woken = self.shared.flush_group().give_up(self.index);
            self.waiters.owe(woken, self.index);
        }
        self.unlock(slot);
        self.slots.abandoned(slot);
    }
}
