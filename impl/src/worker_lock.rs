//! The lock around a queue that has a worker thread: a worker yields it between steps on request.
//!
//! The lock protects a queue, its ring, its disk lane and its view of guest memory; only the holder
//! steps them. Normally that is the worker: it sleeps until a kick, a completion or its *wakeup*,
//! takes the lock, and steps until nothing moves. Other queues only set the `woken` mark and signal
//! the wakeup. A caller that must swap memory, drain or reset the queue, or copy its state
//! increments `wanted`, takes the lock, and signals the wakeup when it drops the guard. The worker
//! reads `wanted` between any two steps.
//!
//! A worker clears its wakeup before it looks for work, and a waker changes state before it
//! signals, so no change falls between a look and a sleep. The caller supplies the other sources of
//! a wakeup and the meaning of a step.

use crate::sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering, lock};
use std::ops::{Deref, DerefMut};

/// A signal that a sleeping thread can be woken with. It stays pending from the first `signal`
/// until `clear`; repeated signals are merged.
pub trait Wakeup {
    /// Wakes the thread that sleeps on it, or makes the next sleep return at once.
    fn signal(&self);

    /// Clears the pending signal, if any.
    fn clear(&self);
}

/// A state that is stepped by its worker or by the holder of an [`Exclusive`].
#[derive(Debug)]
pub struct WorkerLock<S, B> {
    wakeup: B,
    /// Set by another queue after it made progress possible here; cleared when this queue looks
    /// again.
    woken: AtomicBool,
    /// Number of callers that wait for exclusive access or have it.
    wanted: AtomicU32,
    state: Mutex<S>,
}

impl<S, B: Wakeup> WorkerLock<S, B> {
    /// A lock around `state`, whose worker sleeps on `wakeup`.
    pub fn new(state: S, wakeup: B) -> WorkerLock<S, B> {
        WorkerLock {
            wakeup,
            woken: AtomicBool::new(false),
            wanted: AtomicU32::new(0),
            state: Mutex::new(state),
        }
    }

    /// The wakeup that the worker sleeps on, or a drain in its place.
    pub fn wakeup(&self) -> &B {
        &self.wakeup
    }

    /// Makes this queue look again, after another queue changed the state it waits for.
    pub fn wake(&self) {
        // Pairs with the swap in `poll_woken`: a holder that takes the mark sees the changes before
        // it. That includes the changes of a waker whose mark was already set, because a swap
        // continues the release sequence of the earlier one and a store would not. Set before the
        // signal, so that a thread that sees the signal finds the mark.
        self.woken.swap(true, Ordering::Release);
        self.wakeup.signal();
    }

    /// Locks the state for the worker; `signaled` iff its wakeup woke it. Blocks while another
    /// caller has exclusive access.
    pub fn lock_worker(&self, signaled: bool) -> WorkerGuard<'_, S, B> {
        let state = lock(&self.state);
        if signaled {
            // Before the look: a signal from now on is seen after this guard is dropped.
            self.wakeup.clear();
        }
        WorkerGuard { lock: self, state }
    }

    /// Takes exclusive access from the worker, between two of its steps.
    pub fn take(&self) -> Exclusive<'_, S, B> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        Exclusive { lock: self, state: lock(&self.state) }
    }

    /// Whether another queue has requested a look; clears the mark. Called only by the holder of
    /// the lock.
    fn poll_woken(&self) -> bool {
        // The mark is read before every step and is seldom set. A read that comes too early does no
        // harm: the wakeup is still pending.
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::Acquire)
    }
}

/// The lock, held by the worker.
#[derive(Debug)]
pub struct WorkerGuard<'a, S, B> {
    lock: &'a WorkerLock<S, B>,
    state: MutexGuard<'a, S>,
}

impl<S, B: Wakeup> WorkerGuard<'_, S, B> {
    /// Steps until nothing moves or a caller wants exclusive access. `step` receives whether
    /// another queue has requested a look, and returns whether anything moved.
    pub fn run(&mut self, mut step: impl FnMut(&mut S, bool) -> bool) {
        while self.lock.wanted.load(Ordering::Acquire) == 0 {
            let woken = self.lock.poll_woken();
            if !step(&mut self.state, woken) {
                return;
            }
        }
        // The caller that wants the lock signals the wakeup when it is done.
    }
}

/// The lock, held by another thread than the worker until this is dropped.
#[derive(Debug)]
pub struct Exclusive<'a, S, B: Wakeup> {
    lock: &'a WorkerLock<S, B>,
    state: MutexGuard<'a, S>,
}

impl<S, B: Wakeup> Exclusive<'_, S, B> {
    /// The wakeup that a drain sleeps on.
    pub fn wakeup(&self) -> &B {
        &self.lock.wakeup
    }
}

/// Steps the `taken` states until `is_done` holds for all of them, and sleeps when nothing moves.
/// The others keep running, because the taken ones may wait for them. `sleep` must return when a
/// wakeup of `taken` is signalled or another event arrives for one of them.
pub fn drain<S, B: Wakeup>(
    taken: &mut [Exclusive<'_, S, B>],
    mut step: impl FnMut(&mut S, bool) -> bool,
    is_done: impl Fn(&S) -> bool,
    mut sleep: impl FnMut(&[Exclusive<'_, S, B>]),
) {
    loop {
        for one in taken.iter_mut() {
            while step(&mut one.state, one.lock.poll_woken()) {}
        }
        if taken.iter().all(|one| is_done(one)) {
            return;
        }
        // A queue stepped later in this loop may have woken one stepped earlier; its wakeup is then
        // already pending and `sleep` returns at once.
        sleep(taken);
        for one in taken.iter() {
            one.lock.wakeup.clear();
        }
    }
}

impl<S, B> Deref for WorkerGuard<'_, S, B> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

impl<S, B> DerefMut for WorkerGuard<'_, S, B> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.state
    }
}

impl<S, B: Wakeup> Deref for Exclusive<'_, S, B> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.state
    }
}

impl<S, B: Wakeup> DerefMut for Exclusive<'_, S, B> {
    fn deref_mut(&mut self) -> &mut S {
        &mut self.state
    }
}

impl<S, B: Wakeup> Drop for Exclusive<'_, S, B> {
    fn drop(&mut self) {
        self.lock.wanted.fetch_sub(1, Ordering::AcqRel);
        // The worker may have stopped before it ran out of work, or a drain may have cleared its
        // wakeup. If it wakes too early, it waits for the lock.
        self.lock.wakeup.signal();
    }
}
