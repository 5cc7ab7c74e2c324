//! The two places where a request waits for other requests, perhaps of other queues: the range
//! locks and the flush group.
//!
//! Each change there returns the queues that must look again; this queue looks at once, the others
//! are owed a wake.

use super::BlockQueue;
use super::progress::MAX_RETRIES;
use crate::errno::Errno;
use crate::locks::Holder;
use crate::plan::Move;
use crate::slots::{Kind, Place, Slot, SyncPart};
use crate::virtio::Ring;
use crate::wire::{S_IOERR, S_OK};
use vm_memory::GuestMemory;

impl BlockQueue {
    /// Whether the request in `slot` may change its extent now. If not, it waits until woken.
    pub(super) fn has_lock(&mut self, slot: Slot) -> bool {
        let request = self.slots.get(slot);
        if request.locked || request.kind == Kind::In || !self.shared.has_partial_granules() {
            return true;
        }
        let extent = &request.extents[request.at];
        let bytes = extent.start..extent.end();
        let granted = self.shared.locks().acquire(self.holder(slot), bytes);
        self.slots.get_mut(slot).locked = true;
        if !granted {
            self.slots.get_mut(slot).place = Place::Lock;
            self.waiters.for_lock.push(slot);
        }
        granted
    }

    /// Releases the range lock of `slot`, or its place in the queue for one, if it has any.
    pub(super) fn unlock(&mut self, slot: Slot) {
        if !std::mem::take(&mut self.slots.get_mut(slot).locked) {
            return;
        }
        let woken = self.shared.locks().release(self.holder(slot));
        if self.waiters.owe(woken, self.index) && !self.stopped {
            self.look_at_locks();
        }
    }

    /// Continues the requests whose locks have been granted.
    pub(super) fn look_at_locks(&mut self) {
        let mut at = 0;
        while let Some(&slot) = self.waiters.for_lock.get(at) {
            assert_eq!(self.slots.get(slot).place, Place::Lock, "slot {slot} waits for a lock");
            if self.shared.locks().is_granted(self.holder(slot)) {
                self.waiters.for_lock.remove(at);
                self.plan(slot);
            } else {
                at += 1;
            }
        }
    }

    /// Makes the request in `slot` wait until a sync that starts from now on has ended.
    pub(super) fn join_flush_group<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        slot: Slot,
    ) {
        let number = self.shared.flush_group().admit(self.index);
        let request = self.slots.get_mut(slot);
        assert_eq!(request.sync, SyncPart::None, "slot {slot} joins one sync at a time");
        assert!(!request.locked, "a request that waits for a sync holds no range");
        request.place = Place::Sync(number);
        self.waiters.for_sync.push_back(slot);
        self.look_at_flush_group(ring, memory);
    }

    /// Answers the waiting requests that have their verdict, and takes the lead for the others if
    /// no queue has it.
    pub(super) fn look_at_flush_group<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) {
        if self.waiters.for_sync.is_empty() {
            return;
        }
        let number = |slot: &Slot| match self.slots.get(*slot).place {
            Place::Sync(number) => number,
            other => unreachable!("a request that waits for a sync is not at {other:?}"),
        };
        let look =
            self.shared.flush_group().look(self.index, self.waiters.for_sync.iter().map(number));
        let status = if look.failed { S_IOERR } else { S_OK };
        for _ in 0..look.settled {
            let slot = self.waiters.for_sync.pop_front().expect("that many were settled");
            self.slots.get_mut(slot).place = Place::Ready;
            self.answer(ring, memory, slot, status);
        }
        if look.leads {
            let slot = self.waiters.for_sync.pop_front().expect("the leader waits");
            let request = self.slots.get_mut(slot);
            assert_eq!(request.sync, SyncPart::None, "slot {slot} leads one sync at a time");
            request.doing = Move::Sync;
            request.sync = SyncPart::Leads;
            request.retries = 0;
            self.make_ready(slot);
        }
    }

    /// Records that the sync led by `slot` is handed to the disk: later requests need the next one.
    pub(super) fn start_sync(&mut self, slot: Slot) {
        let request = self.slots.get_mut(slot);
        if request.sync == SyncPart::Leads {
            request.sync = SyncPart::Runs;
            self.shared.flush_group().start(self.index);
        }
    }

    /// Handles the completion of the sync led by `slot`.
    pub(super) fn sync_came_back<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        slot: Slot,
        result: Result<u32, Errno>,
    ) {
        let request = self.slots.get_mut(slot);
        assert_eq!(request.sync, SyncPart::Runs, "slot {slot} runs the sync that came back");
        if result.is_err_and(Errno::is_transient) && request.retries < MAX_RETRIES {
            request.retries += 1;
            return self.make_ready(slot);
        }
        request.sync = SyncPart::None;
        let woken = self.shared.end_sync(self.index, &result);
        let stable = result.is_ok() && !self.shared.sync_failed();
        self.answer(ring, memory, slot, if stable { S_OK } else { S_IOERR });
        self.waiters.owe(woken, self.index);
        self.look_at_flush_group(ring, memory);
    }

    pub(super) fn holder(&self, slot: Slot) -> Holder {
        Holder { queue: self.index, slot }
    }
}
