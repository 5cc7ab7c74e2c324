//! The flush gate as the queues of a device find it: behind one lock, and beside the lock whether it has failed, so that who only wants to
//! know that does not take it.
//!
//! What the gate decides is in [`gate`](crate::gate). Here is how the two are kept in step: a failure is told outside while the lock is held.

use crate::errno::{Errno, Harm, OpKind};
use crate::gate::Gate;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering, lock};
use crate::wakes::{QueueIndex, QueueSet};

/// The gate of one device.
#[derive(Debug)]
pub(crate) struct Gatehouse {
    /// True iff the gate has failed.
    failed: AtomicBool,
    gate: Mutex<Gate>,
}

impl Gatehouse {
    pub(crate) fn new() -> Gatehouse {
        Gatehouse { failed: AtomicBool::new(false), gate: Mutex::new(Gate::default()) }
    }

    /// A deep copy. Nobody else may use the original meanwhile.
    pub(crate) fn fork(&self) -> Gatehouse {
        Gatehouse {
            failed: AtomicBool::new(self.has_failed()),
            gate: Mutex::new(self.gate().clone()),
        }
    }

    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        lock(&self.gate)
    }

    /// Whether a sync has failed since it was opened.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The sync that ran in `queue`'s lane has ended, or is not tried any more; returns who has to look at the gate again.
    pub(crate) fn end_sync<T>(&self, queue: QueueIndex, result: &Result<T, Errno>) -> QueueSet {
        let mut gate = self.gate();
        match result {
            Ok(_) => gate.finish(queue, true),
            Err(errno) if errno.harm(OpKind::Sync) == Harm::Unsynced => {
                self.failed.store(true, Ordering::Release);
                gate.finish(queue, false)
            }
            // It was put off, and nothing is lost: it stands for nobody, and others may try.
            Err(_) => gate.give_up(queue),
        }
    }

    /// A sync had failed before: what is opened here is what a saved device had open.
    pub(crate) fn adopt_failure(&self) {
        let mut gate = self.gate();
        self.failed.store(true, Ordering::Release);
        gate.adopt_failure();
    }

    /// What is below was opened afresh and synced without error.
    ///
    /// # Panics
    /// If requests are at the gate.
    pub(crate) fn reopened(&self) {
        self.gate().reopen();
        self.failed.store(false, Ordering::Release);
    }
}
