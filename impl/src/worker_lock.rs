//! The helm of a queue that has a thread of its own: who steps it, and how they hand it to each
//! other.
//!
//! A queue, its ring, its lane of the disk and its view of guest memory are stepped by whoever
//! holds the lock around them. That is the queue's own thread, which sleeps until a kick, a
//! completion or its *bell* and then has its *turn*: it steps until nothing moves. Others say to it
//! only one thing, that it has to look again, by a mark and the bell. Whoever must swap its memory,
//! drain it, reset it or copy its state *takes* the helm: it says so by a number that the thread
//! sees between any two steps, and rings the bell when it is done.
//!
//! Each sleeper quiets its bell before it looks, each waker moves things before it rings, so no
//! move falls between a look and a sleep. What a sleeper sleeps on besides its bell, and what a
//! step is, is the caller's.

use crate::sync::{AtomicBool, AtomicU32, Mutex, MutexGuard, Ordering, lock};
use std::ops::{Deref, DerefMut};

/// What a thread that sleeps can be woken with. Once it was rung it rings until it is quieted,
/// however often.
pub trait Wakeup {
    /// Wakes whoever sleeps on it, or whoever would next.
    fn signal(&self);

    /// Has it ring no more. Rings that came before are one with those that were heard.
    fn clear(&self);
}

/// Something that is stepped, and who may step it.
#[derive(Debug)]
pub struct WorkerLock<S, B> {
    wakeup: B,
    /// Another queue moved what this one waits for, and it has not looked since.
    woken: AtomicBool,
    /// How many wait to take the helm, or have it.
    wanted: AtomicU32,
    state: Mutex<S>,
}

impl<S, B: Wakeup> WorkerLock<S, B> {
    /// The helm of `state`, whose thread sleeps on `wakeup`.
    pub fn new(state: S, wakeup: B) -> WorkerLock<S, B> {
        WorkerLock {
            wakeup,
            woken: AtomicBool::new(false),
            wanted: AtomicU32::new(0),
            state: Mutex::new(state),
        }
    }

    /// What the thread sleeps on, and whoever drains in its place.
    pub fn wakeup(&self) -> &B {
        &self.wakeup
    }

    /// Another queue moved what this one waits for: it looks again.
    pub fn wake(&self) {
        // Pairs with the swap in `poll_woken`: who takes the mark sees what was moved, also by one
        // whose mark lay there already, for a swap goes on where that one's left off and a store
        // would not. Marked before it rings: who hears it finds the mark.
        self.woken.swap(true, Ordering::Release);
        self.wakeup.signal();
    }

    /// The turn of the thread of its own, which was woken by the bell iff `signaled`. It waits
    /// while somebody else has the helm.
    pub fn lock_worker(&self, signaled: bool) -> WorkerGuard<'_, S, B> {
        let state = lock(&self.state);
        if signaled {
            // Before the look: what rings from now on is heard after the turn.
            self.wakeup.clear();
        }
        WorkerGuard { lock: self, state }
    }

    /// Takes the helm from the thread of its own, between two steps.
    pub fn take(&self) -> Exclusive<'_, S, B> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        Exclusive { lock: self, state: lock(&self.state) }
    }

    /// Whether another queue has asked for a look; asking takes the mark. Only whoever holds the
    /// lock asks.
    fn poll_woken(&self) -> bool {
        // The mark is looked at before every step and is seldom there. A look that comes too early
        // is made up for: the bell still rings.
        self.woken.load(Ordering::Relaxed) && self.woken.swap(false, Ordering::Acquire)
    }
}

/// The turn of a thread at its own queue.
#[derive(Debug)]
pub struct WorkerGuard<'a, S, B> {
    lock: &'a WorkerLock<S, B>,
    state: MutexGuard<'a, S>,
}

impl<S, B: Wakeup> WorkerGuard<'_, S, B> {
    /// Steps until nothing moves or somebody wants the helm. `step` is told whether it has to look
    /// at what it waits for, and says whether anything moved.
    pub fn run(&mut self, mut step: impl FnMut(&mut S, bool) -> bool) {
        while self.lock.wanted.load(Ordering::Acquire) == 0 {
            let woken = self.lock.poll_woken();
            if !step(&mut self.state, woken) {
                return;
            }
        }
        // Whoever wants it rings when it is done.
    }
}

/// A helm that was taken from its thread, until this is dropped.
#[derive(Debug)]
pub struct Exclusive<'a, S, B: Wakeup> {
    lock: &'a WorkerLock<S, B>,
    state: MutexGuard<'a, S>,
}

impl<S, B: Wakeup> Exclusive<'_, S, B> {
    /// What whoever drains it sleeps on.
    pub fn wakeup(&self) -> &B {
        &self.lock.wakeup
    }
}

/// Steps what was taken until `is_done` holds of all of it, and sleeps when nothing moves. Others
/// go on by themselves, for these may wait for them. `sleep` returns when a bell of `taken` rings,
/// or something else came for one of them.
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
        // One that was looked at may have been woken by one that was looked at after it; then its
        // bell rings and this is no sleep.
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
        // Its thread stopped in the middle of things, or its bell was heard by another; it waits
        // for the lock if it comes too early.
        self.lock.wakeup.signal();
    }
}
