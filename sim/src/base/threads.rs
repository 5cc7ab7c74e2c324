//! Work that several threads share.
//!
//! What the work comes to does not depend on how many threads do it. So if the host gives fewer
//! than were asked for, those do it, and without any the calling thread does. A number that a
//! person asked for is tried out [beforehand](give), to say so.

use std::io;
use std::sync::Mutex;
use std::thread::{Builder, ScopedJoinHandle, scope};

/// Calls `work` on so many threads, while the calling one does `meanwhile`, which is lent a way to
/// ask whether all are through.
///
/// # Panics
/// If `work` does, with what it said.
pub(crate) fn on_threads(
    jobs: usize,
    work: &(dyn Fn() + Sync),
    meanwhile: impl FnOnce(&dyn Fn() -> bool),
) {
    scope(|scope| {
        let start = |_| Builder::new().spawn_scoped(scope, work).ok();
        let started: Vec<ScopedJoinHandle<'_, ()>> = (0..jobs.max(1)).map_while(start).collect();
        if started.is_empty() {
            work();
        }
        meanwhile(&|| started.iter().all(ScopedJoinHandle::is_finished));
        for thread in started {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Whether the host gives so many threads.
///
/// # Errors
/// How many it gave, and what it said.
pub(crate) fn give(jobs: usize) -> Result<(), (usize, io::Error)> {
    // They are there at the same time: each waits until the last one was asked for.
    let gate = Mutex::new(());
    let wait = || drop(gate.lock());
    scope(|scope| {
        let closed = gate.lock();
        let given = (0..jobs).try_fold(0, |given, _| {
            let thread = Builder::new().spawn_scoped(scope, wait);
            thread.map(|_| given + 1).map_err(|error| (given, error))
        });
        drop(closed);
        given.map(drop)
    })
}
