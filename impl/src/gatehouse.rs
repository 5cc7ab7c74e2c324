//! The flush gate as the queues of a device find it: behind one lock, and beside the lock whether it has failed, so that who only wants to
//! know that does not take it.
//!
//! What the gate decides is in [`gate`](crate::gate). Here is how the two are kept in step: a failure is told outside while the lock is held.

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

    /// Whether a sync, or a write that had to be stable, has failed since it was opened.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// The sync that ran in `queue`'s lane has ended; returns who has to look at the gate again.
    pub(crate) fn end_sync(&self, queue: QueueIndex, made_stable: bool) -> QueueSet {
        let mut gate = self.gate();
        if !made_stable {
            self.failed.store(true, Ordering::Release);
        }
        gate.finish(queue, made_stable)
    }

    /// A write that had to be stable failed: nothing can be promised any more. Returns who has to look at the gate again.
    pub(crate) fn fail(&self) -> QueueSet {
        let mut gate = self.gate();
        self.failed.store(true, Ordering::Release);
        gate.fail()
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
