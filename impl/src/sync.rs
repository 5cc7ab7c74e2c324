//! The types of state shared by queues on different threads: the standard library's; or loom's,
//! which try every interleaving; or shuttle's, which sample interleavings where there are too many.

use std::ops::{Deref, DerefMut};

#[cfg(loom)]
pub(crate) use loom::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
};
#[cfg(shuttle)]
pub(crate) use shuttle::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
};
// Shuttle executes all accesses in one order, so it has no fence.
#[cfg(shuttle)]
pub(crate) use std::sync::atomic::fence;
#[cfg(not(any(loom, shuttle)))]
pub(crate) use std::sync::{
    Arc, Mutex, MutexGuard,
    atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering, fence},
};

/// Locks `mutex`. A thread that panicked while it held the lock has broken an invariant, so this
/// one must not continue.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread panicked while it held this lock")
}

/// A cell that threads share, in a structure that derives a deep copy.
///
/// A copy has the content of the original. No other thread may use the original while it is copied.
#[derive(Debug)]
pub(crate) struct DeepCopy<T>(pub(crate) T);

/// Shared state that can be copied as a whole.
pub(crate) trait Snapshot {
    /// A separate cell with the same content.
    fn snapshot(&self) -> Self;
}

impl<T: Snapshot> Clone for DeepCopy<T> {
    fn clone(&self) -> DeepCopy<T> {
        DeepCopy(self.0.snapshot())
    }
}

impl<T> Deref for DeepCopy<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl Snapshot for AtomicBool {
    fn snapshot(&self) -> AtomicBool {
        AtomicBool::new(self.load(Ordering::Acquire))
    }
}

impl Snapshot for AtomicU8 {
    fn snapshot(&self) -> AtomicU8 {
        AtomicU8::new(self.load(Ordering::Acquire))
    }
}

impl Snapshot for AtomicU32 {
    fn snapshot(&self) -> AtomicU32 {
        AtomicU32::new(self.load(Ordering::Acquire))
    }
}

impl Snapshot for AtomicU64 {
    fn snapshot(&self) -> AtomicU64 {
        AtomicU64::new(self.load(Ordering::Acquire))
    }
}

impl<T: Clone> Snapshot for Mutex<T> {
    fn snapshot(&self) -> Mutex<T> {
        Mutex::new(lock(self).clone())
    }
}

/// A field that is empty in a copy: scratch memory, or a value that belongs to the original alone.
#[derive(Debug, Default)]
pub(crate) struct NotCopied<T>(pub(crate) T);

impl<T: Default> Clone for NotCopied<T> {
    fn clone(&self) -> NotCopied<T> {
        NotCopied::default()
    }
}

impl<T> Deref for NotCopied<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for NotCopied<T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}
