//! A search, cut into tasks life by life.
//!
//! A life that begins with everything read back is the root of a separate search. Each root is
//! searched once, however many crashes lead to it. Roots with the same number of power losses left
//! make a *generation*. Within a generation each step out of each root is a task, so tasks are many
//! and small, and their results are the same for any number of threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::Effort;
use super::enabled::enabled;
use super::node::Node;
use super::path::{self, Path};
use super::plan::Plan;
use super::search::{Found, Mode, Progress, Search};
use super::state_key::StateKey;
use super::step::Step;
use super::tally::Tally;
use crate::base::threads::on_threads;
use crate::dut::DeviceUnderTest;
use crate::trace::Signature;

/// A root: its row, and the first path to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Root {
    pub(super) row: usize,
    pub(super) path: Path,
}

/// One step out of a root, and all that follows up to the next life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Task {
    /// Requests of the scope.
    pub(super) requests: u8,
    pub(super) root: Root,
    pub(super) first: u16,
}

/// The result of a task.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    pub(super) found: BTreeMap<Signature, Found>,
    pub(super) fresh: BTreeMap<(u8, u128), Path>,
    pub(super) images: BTreeSet<u128>,
}

/// The results of all tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcomes {
    pub(super) tally: Tally,
    /// By kind of failure: the row and the counterexample.
    pub(super) found: BTreeMap<Signature, (usize, Found)>,
    /// The images of all power losses, each with its row; empty unless they are kept.
    pub(super) images: BTreeSet<(usize, u128)>,
    /// Roots that were searched.
    pub(super) roots: u64,
    /// Roots that are known and were not searched.
    pub(super) unsearched: u64,
    /// Tasks that were finished, and all tasks.
    pub(super) done: u64,
    pub(super) tasks: u64,
}

/// A store of finished tasks, which is also notified of failures.
pub(super) trait TaskStore: Sync {
    /// The outcome of this task, if it is known.
    fn recall(&self, task: &Task) -> Option<Outcome>;

    /// Keeps the outcome of a task.
    fn keep(&self, task: &Task, outcome: &Outcome);

    /// Reports a broken promise in a row, with a first path to it.
    fn found(&self, row: usize, signature: &Signature, found: &Found);
}

/// Searches every life of every row. Stops at the first broken promise unless `keep_going` is set.
pub(super) fn search<D: DeviceUnderTest>(
    setup: &D::Setup,
    plans: &[Plan],
    limits: Limits,
    progress: &Progress,
    memory: &impl TaskStore,
) -> Outcomes {
    let mut lives = Outcomes::default();
    // Roots to be searched, by the power losses they have left; and the states of all roots found
    // so far.
    let mut waiting: BTreeMap<u8, Vec<Root>> = BTreeMap::new();
    let mut known: BTreeSet<(usize, u128)> = BTreeSet::new();
    for (row, plan) in plans.iter().enumerate() {
        match Node::<D>::new(setup, plan, None) {
            Ok(node) => {
                known.insert((row, StateKey::of(&node).value()));
                waiting.entry(node.left.crashes).or_default().push(Root { row, path: Path::new() });
            }
            Err(failure) => {
                lives.tally.failures += 1;
                let signature = Signature::of(&failure.violation);
                let found = Found { path: Path::new(), failure };
                memory.found(row, &signature, &found);
                lives.found.entry(signature).or_insert((row, found));
            }
        }
    }
    while let Some((_, roots)) = waiting.pop_last() {
        let mut tasks = Vec::new();
        for root in roots {
            lives.roots += 1;
            let Some(node) = path::state::<D>(setup, &plans[root.row], &root.path) else {
                // A device that does not repeat its steps.
                lives.unsearched += 1;
                continue;
            };
            let mut steps: Vec<Step> = Vec::new();
            enabled(&node, &plans[root.row], &mut steps);
            let firsts = 0..u16::try_from(steps.len()).expect("a state has not so many steps");
            let requests = plans[root.row].scope.requests;
            tasks.extend(firsts.map(|first| Task { requests, root: root.clone(), first }));
        }
        lives.tasks += tasks.len() as u64;
        progress.known.fetch_add(tasks.len() as u64, Ordering::Relaxed);
        let outcomes = all::<D>(setup, plans, &tasks, limits, progress, memory);
        for (task, outcome) in tasks.iter().zip(outcomes) {
            let Some(outcome) = outcome else { continue };
            lives.add(task, outcome, &mut known, &mut waiting);
        }
        if progress.stop.load(Ordering::Relaxed) || (!lives.found.is_empty() && !limits.keep_going)
        {
            break;
        }
    }
    lives.unsearched += waiting.values().map(|roots| roots.len() as u64).sum::<u64>();
    lives
}

/// Limits of a search.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Threads.
    pub(super) jobs: usize,
    /// States that one task remembers.
    pub(super) states: usize,
    /// Whether to continue after a broken promise.
    pub(super) keep_going: bool,
    /// Whether to keep the images that power losses may leave.
    pub(super) keep_images: bool,
}

impl Limits {
    pub(super) fn of(effort: Effort) -> Limits {
        let Effort { jobs, states, keep_going, keep_images } = effort;
        Limits { jobs, states, keep_going, keep_images }
    }
}

impl Outcomes {
    fn add(
        &mut self,
        task: &Task,
        outcome: Outcome,
        known: &mut BTreeSet<(usize, u128)>,
        waiting: &mut BTreeMap<u8, Vec<Root>>,
    ) {
        self.done += u64::from(outcome.tally.stopped == 0);
        self.tally.add(&outcome.tally);
        let row = task.root.row;
        self.images.extend(outcome.images.into_iter().map(|image| (row, image)));
        for (signature, found) in outcome.found {
            let shorter = |(_, known): &(usize, Found)| found.path.len() < known.path.len();
            if self.found.get(&signature).is_none_or(shorter) {
                self.found.insert(signature, (row, found));
            }
        }
        for ((crashes, state), path) in outcome.fresh {
            if known.insert((row, state)) {
                waiting.entry(crashes).or_default().push(Root { row, path });
            }
        }
    }
}

/// Runs tasks on several threads. Tasks that were not begun before a stop are missing.
fn all<D: DeviceUnderTest>(
    setup: &D::Setup,
    plans: &[Plan],
    tasks: &[Task],
    limits: Limits,
    progress: &Progress,
    memory: &impl TaskStore,
) -> Vec<Option<Outcome>> {
    let next = Mutex::new(0..tasks.len());
    let results = Mutex::new(vec![None; tasks.len()]);
    let work = || {
        loop {
            let taken = next.lock().expect("no thread panics while it holds this").next();
            let Some(nth) = taken else { break };
            if progress.stop.load(Ordering::Relaxed) {
                break;
            }
            let task = &tasks[nth];
            let outcome = match memory.recall(task) {
                Some(outcome) => outcome,
                None => one::<D>(setup, &plans[task.root.row], task, limits, progress),
            };
            for (signature, found) in &outcome.found {
                memory.found(task.root.row, signature, found);
            }
            if outcome.tally.stopped == 0 {
                memory.keep(task, &outcome);
                progress.done.fetch_add(1, Ordering::Relaxed);
            }
            results.lock().expect("no thread panics while it holds this")[nth] = Some(outcome);
        }
    };
    on_threads(limits.jobs, &work, |_| {});
    results.into_inner().expect("all threads are through")
}

fn one<D: DeviceUnderTest>(
    setup: &D::Setup,
    plan: &Plan,
    task: &Task,
    limits: Limits,
    progress: &Progress,
) -> Outcome {
    let node = path::state::<D>(setup, plan, &task.root.path).expect("it was there before");
    let mut search = Search::<D>::new(plan, Mode::Whole, limits.states, progress);
    search.images = limits.keep_images.then(BTreeSet::new);
    search.from(&node, &task.root.path, task.first);
    let Search { tally, found, fresh, images, .. } = search;
    Outcome { tally, found, fresh, images: images.unwrap_or_default() }
}

/// The shortest path to a broken promise among those shorter than `than`; of equally short ones,
/// the one in the first row.
///
/// Every row is searched completely, so the result is the same for any number of threads.
pub(super) fn shorter<D: DeviceUnderTest>(
    setup: &D::Setup,
    plans: &[Plan],
    than: usize,
    limits: Limits,
    progress: &Progress,
) -> Option<(usize, Found)> {
    let next = Mutex::new(0..plans.len());
    let best: Mutex<BTreeMap<(usize, usize), Found>> = Mutex::default();
    let take = || next.lock().expect("no thread panics while it holds this").next();
    let work = || {
        while let Some(row) = take() {
            let found = within::<D>(setup, &plans[row], than - 1, limits, progress);
            if let Some(found) = found {
                let mut best = best.lock().expect("no thread panics while it holds this");
                best.insert((found.path.len(), row), found);
            }
        }
    };
    on_threads(limits.jobs, &work, |_| {});
    let best = best.into_inner().expect("all threads are through").pop_first();
    best.map(|((_, row), found)| (row, found))
}

fn within<D: DeviceUnderTest>(
    setup: &D::Setup,
    plan: &Plan,
    bound: usize,
    limits: Limits,
    progress: &Progress,
) -> Option<Found> {
    let node = match Node::<D>::new(setup, plan, None) {
        Ok(node) => node,
        Err(failure) => return Some(Found { path: Path::new(), failure }),
    };
    let mut search = Search::<D>::new(plan, Mode::Hunt(bound), limits.states, progress);
    search.through(node, &Path::new());
    search.found.into_values().min_by(|one, two| one.order().cmp(&two.order()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::blk::Blk;
    use crate::explore::{Row, Scope, remembering};

    /// A store that stops the search once all tasks that are known so far are finished.
    struct Stopping<'a>(&'a Progress);

    impl TaskStore for Stopping<'_> {
        fn recall(&self, _task: &Task) -> Option<Outcome> {
            None
        }

        fn keep(&self, _task: &Task, _outcome: &Outcome) {
            let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
            if load(&self.0.done) + 1 == load(&self.0.known) {
                self.0.stop.store(true, Ordering::Relaxed);
            }
        }

        fn found(&self, _row: usize, _signature: &Signature, _found: &Found) {}
    }

    #[test]
    fn a_search_that_stops_between_two_generations_is_not_complete() {
        let scope = Scope { requests: 2, rows: vec![Row::C], ..Scope::default() };
        let plans = [Plan::new::<Blk>(&scope, Row::C)];
        let progress = Progress::default();
        let store = Stopping(&progress);
        let report = remembering::<Blk>(&(), &scope, Effort::on(1), &progress, &plans, &store);
        assert_eq!((report.done, report.tally.stopped), (report.parts, 0), "no part was stopped");
        assert!(report.unsearched > 0 && !report.is_complete(), "{report:?}");
    }
}
