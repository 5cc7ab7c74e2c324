//! Reset: the end of a request without an answer.
//!
//! From [`stop`](BlockQueue::stop) on, nothing is taken from the ring, handed to the disk, or
//! written to guest memory by the device itself. Requests that are not in the host's hands are
//! abandoned at once. For the others the host may still write, so the reset ends only when their
//! operations have come back (ST-04, AMB-21). Until then the queue is stepped as before, also to
//! wake the queues that wait for something it releases.

use super::{BlockQueue, OwnSync};
use crate::errno::Errno;
use crate::slots::{Place, Slot, SyncPart};
use crate::virtio::RingFront;

impl BlockQueue {
    /// Begins a reset: abandons the requests that wait and lets the operations in the host's hands
    /// come back.
    ///
    /// The reset ends when the queue [is idle](BlockQueue::is_idle).
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

    /// Stops like [`stop`](BlockQueue::stop) and leaves the record as it is: it lists every request
    /// that was taken and not answered, for the backend that serves the driver next. No record is
    /// kept from here on.
    ///
    /// # Spec
    /// vhost-user, "Inflight I/O tracking": a head leaves the record when it is used, or when a
    /// reset ends it.
    pub fn leave(&mut self) {
        *self.record = None;
        self.stop();
    }

    /// Makes a stopped queue ready for its next life. Its record, if any, becomes empty, because
    /// the reset has ended the requests in flight.
    ///
    /// # Panics
    /// If something is still in the host's hands.
    pub fn restart(&mut self) {
        assert!(self.is_idle(), "a reset is over when the queue is idle");
        assert_eq!(self.in_flight(), 0, "a reset ends every request");
        assert!(self.resubmit.is_empty(), "a reset ends resubmission");
        self.stopped = false;
        self.front = RingFront::new();
        self.slots.shrink();
        if let Some(record) = self.record.as_mut() {
            record.clear();
        }
    }

    /// Handles the completion of an operation whose request belongs to the life before the reset.
    pub(super) fn on_completion_after_stop(&mut self, slot: Slot, result: &Result<u32, Errno>) {
        assert!(self.stopped, "a live queue continues its requests");
        let request = self.slots.get_mut(slot);
        request.place = Place::Ready;
        if request.sync == SyncPart::Runs {
            // The flush group is not reset: a failure counts in the next life too, and other queues
            // may wait for this sync.
            request.sync = SyncPart::None;
            let woken = self.shared.end_sync(self.index, result);
            self.waiters.owe(woken, self.index);
        }
        self.abandon(slot);
    }

    /// Ends a request without an answer and releases all it holds.
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
