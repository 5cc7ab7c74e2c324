//! The flush gate as the queues of a device find it: behind one lock, and beside the lock whether
//! it has failed, so that who only wants to know that does not take it.
//!
//! What the gate decides is in [`group`](crate::group). Here is how the two are kept in step: a
//! failure is told outside while the lock is held.

use crate::errno::{Errno, Harm, OpKind};
use crate::flush_group::FlushGroup;
use crate::queue_set::{QueueIndex, QueueSet};
use crate::sync::{AtomicBool, DeepCopy, Mutex, MutexGuard, Ordering, lock};

/// The gate of one device.
#[derive(Clone, Debug)]
pub(crate) struct SharedFlushGroup {
    /// True iff the gate has failed.
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

    /// The sync that ran in `queue`'s lane has ended, or is not tried any more; returns who has to
    /// look at the gate again.
    pub(crate) fn end_sync<T>(&self, queue: QueueIndex, result: &Result<T, Errno>) -> QueueSet {
        let mut group = self.lock();
        match result {
            Ok(_) => group.finish(queue, true),
            Err(errno) if errno.harm(OpKind::Sync) == Harm::Unsynced => {
                self.failed.store(true, Ordering::Release);
                group.finish(queue, false)
            }
            // It was put off, and nothing is lost: it stands for nobody, and others may try.
            Err(_) => group.give_up(queue),
        }
    }

    /// A sync had failed before: what is opened here is what a saved device had open.
    pub(crate) fn adopt_failure(&self) {
        let mut group = self.lock();
        self.failed.store(true, Ordering::Release);
        group.adopt_failure();
    }

    /// What is below was opened afresh and synced without error.
    ///
    /// # Panics
    /// If requests are at the gate.
    pub(crate) fn reopened(&self) {
        self.lock().reopen();
        self.failed.store(false, Ordering::Release);
    }
}
