//! Runs a claim under loom, or under shuttle with more threads than loom can finish, and prints the
//! number of executions and the time.
#![expect(clippy::disallowed_types, reason = "seconds are printed, nothing depends on them")]

#[cfg(loom)]
pub(crate) use loom::{sync, thread};
#[cfg(shuttle)]
pub(crate) use shuttle::{sync, thread};

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The executions of a claim that are tried.
#[derive(Clone, Copy)]
pub(crate) enum Reach {
    /// All of them.
    #[cfg(loom)]
    All,
    /// Those in which threads are preempted at most this often; `LOOM_MAX_PREEMPTIONS` replaces it.
    #[cfg(loom)]
    Preemptions(usize),
    /// This many, drawn at random; `SHUTTLE_SCHEDULES` replaces it.
    #[cfg(shuttle)]
    Schedules(usize),
}

/// Runs `claim` repeatedly and prints the number of executions.
pub(crate) fn explore(claim: &str, reach: Reach, run: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicU64::new(0));
    let counted = {
        let executions = Arc::clone(&executions);
        move || {
            executions.fetch_add(1, Ordering::Relaxed);
            run();
        }
    };
    let begun = Instant::now();
    let bound = check(reach, counted);
    let executions = executions.load(Ordering::Relaxed);
    assert!(executions > 1, "a claim about threads has more than one execution");
    println!("{claim}: {bound}, {executions} executions, {:.1} s", begun.elapsed().as_secs_f32());
}

#[cfg(loom)]
fn check(reach: Reach, run: impl Fn() + Send + Sync + 'static) -> String {
    let mut model = loom::model::Builder::new();
    let replaced = model.preemption_bound;
    model.preemption_bound = match reach {
        Reach::All => None,
        Reach::Preemptions(most) => replaced.or(Some(most)),
    };
    model.check(run);
    match model.preemption_bound {
        None => "unbounded".into(),
        Some(most) => format!("{most} preemptions"),
    }
}

#[cfg(shuttle)]
fn check(reach: Reach, run: impl Fn() + Send + Sync + 'static) -> String {
    let Reach::Schedules(most) = reach;
    let replaced = std::env::var("SHUTTLE_SCHEDULES").ok();
    let most = replaced.map_or(most, |text| text.parse().expect("a number of schedules"));
    shuttle::check_random(run, most);
    "random".into()
}
