//! Work shared by several threads.
//!
//! The result of the work does not depend on the number of threads. So if the host starts fewer
//! threads than requested, those do the work, and if it starts none, the calling thread does. A
//! number that a user requested is checked [beforehand](give), so that a shortage is reported.

use std::io;
use std::sync::Mutex;
use std::thread::{Builder, ScopedJoinHandle, scope};

/// Calls `work` on `jobs` threads, while the calling thread runs `meanwhile` with a function that
/// returns whether all of them have finished.
///
/// # Panics
/// If `work` panics, with the same payload.
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

/// Checks that the host can run `jobs` threads at the same time.
///
/// # Errors
/// The number of threads that it started, and the error for the next one.
pub(crate) fn give(jobs: usize) -> Result<(), (usize, io::Error)> {
    // They exist at the same time, because each waits until the last one was requested.
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
