//! The flush group of a device: [`FlushGroup`] behind one lock, and beside it a failure flag that
//! can be read without the lock.
//!
//! The decisions are in [`flush_group`](crate::flush_group). This file keeps the flag and the group
//! consistent: the flag is set while the lock is held.

use crate::errno::{Errno, Harm, OpKind};
use crate::flush_group::FlushGroup;
use crate::queue_set::{QueueIndex, QueueSet};
use crate::sync::{AtomicBool, DeepCopy, Mutex, MutexGuard, Ordering, lock};

/// The flush group of one device.
#[derive(Clone, Debug)]
pub(crate) struct SharedFlushGroup {
    /// `true` iff the group has failed.
    failed: DeepCopy<AtomicBool>,
    group: DeepCopy<Mutex<FlushGroup>>,
}

impl SharedFlushGroup {
    pub(crate) fn new() -> SharedFlushGroup {
        SharedFlushGroup {
            failed: DeepCopy(AtomicBool::new(false)),
            group: DeepCopy(Mutex::new(FlushGroup::default())),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, FlushGroup> {
        lock(&self.group)
    }

    /// Whether a sync has failed since it was opened.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Records that the sync in `queue`'s lane has ended, or is not tried again; returns the queues
    /// that must look again.
    pub(crate) fn end_sync<T>(&self, queue: QueueIndex, result: &Result<T, Errno>) -> QueueSet {
        let mut group = self.lock();
        match result {
            Ok(_) => group.finish(queue, true),
            Err(errno) if errno.harm(OpKind::Sync) == Harm::Unsynced => {
                self.failed.store(true, Ordering::Release);
                group.finish(queue, false)
            }
            // It was put off and nothing is lost: it covers no request, and another queue may try.
            Err(_) => group.give_up(queue),
        }
    }

    /// Records that a sync failed earlier: this disk continues that of a saved device.
    pub(crate) fn adopt_failure(&self) {
        let mut group = self.lock();
        self.failed.store(true, Ordering::Release);
        group.adopt_failure();
    }

    /// Clears the failure: the disk was reopened and synced without error.
    ///
    /// # Panics
    /// If a sync runs or a request waits.
    pub(crate) fn reopened(&self) {
        self.lock().reopen();
        self.failed.store(false, Ordering::Release);
    }
}
