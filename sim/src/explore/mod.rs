//! Exhaustive search of all schedules within a scope.
//!
//! Random runs find bugs; they cannot show that there are none. A search of a small scope can, for
//! the shipped device and not for a model of it. It tries every workload of up to so many requests,
//! every order in which the host executes and completes operations, every moment of a power loss,
//! and every image that a power loss may leave.
//!
//! # Coverage
//!
//! One device on the simulated disk, with the [fault model](crate::host::disk) of random runs:
//!
//! * The guest sends requests of the scope's kinds on any queue, up to a limit of requests in
//!   flight.
//! * A thread of the device runs until it is idle; the guest takes used buffers as soon as a thread
//!   has paused.
//! * The host lands operations sector by sector and completes them in any order, writes back at any
//!   time and, if the scope allows, fails them with EIO. A failed write has landed in any part of
//!   its range; a failed sync forgets all dirty sectors or none.
//! * The power goes at any moment, including between any two of the reads that follow a power loss.
//!   The host is fault-free during those reads.
//! * After a power loss the guest reads every sector before it continues. When it has no more
//!   requests to send it reads every sector once more.
//! * If the scope allows, the guest resets the device and waits until the reset completes.
//!
//! Not covered: threads that stop between two of their steps (loom covers that), chains with
//! unusual descriptor layouts, broken rings, short transfers, killed backends, resizing. Random
//! runs have all of them.
//!
//! # Reductions
//!
//! * *Alike*: states that the rest of a run cannot tell apart are visited once; `state_key.rs`
//!   defines them.
//! * *Lazy*: an operation lands when it completes, unless another one is in flight on the same
//!   sector; the content of a sector after a power loss is decided when the sector is read
//!   (`cells.rs`). Both postpone only unobservable decisions.
//! * *Sleep*: of two independent steps only one order is tried; `step.rs` defines independence and
//!   claims nothing more.
//! * *Mirror*: a disk has no preferred end and no preferred queue, so of two workloads that are
//!   mirror images, or that differ only in the numbers of queues, only one is tried. This reduction
//!   assumes that the device does not distinguish them.
//! * *Lives*: after a power loss, once everything was read back, the way to this state does not
//!   matter (`tasks.rs`).
//!
//! Every reduction but the last can be switched off. Tests compare the results with and without
//! each, for the shipped device and for every mutant in scope.

mod cells;
mod checkpoint;
mod enabled;
mod fingerprint;
mod history;
mod kinds;
mod log;
mod node;
mod path;
mod plan;
mod reduction;
mod row;
mod scope;
mod search;
mod state_key;
mod step;
mod tally;
mod tasks;
mod visited;

pub use checkpoint::Checkpoint;
pub use kinds::RequestKind;
pub use reduction::Reduction;
pub use row::Row;
pub use scope::Scope;
pub use search::Progress;
pub use tally::Tally;

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::dut::DeviceUnderTest;
use crate::trace::Signature;
use crate::world::Failure;
use crate::world::WorldShape;
use crate::world::action::Action;
use plan::Plan;
use tasks::{Limits, Outcome, Outcomes, Task, TaskStore};

/// Limits of a search.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Threads. The result is the same for any number of them.
    pub jobs: usize,
    /// States that each part of the search remembers.
    pub states: usize,
    /// Whether to continue after a broken promise.
    pub keep_going: bool,
    /// Whether to keep the images that power losses may leave.
    pub keep_images: bool,
}

impl Effort {
    /// The default number of states; they take about 1 GiB.
    pub const STATES: usize = 1 << 24;

    /// The limits of a search on so many threads, up to the first broken promise.
    #[must_use]
    pub fn on(jobs: usize) -> Effort {
        Effort { jobs, states: Effort::STATES, keep_going: false, keep_images: false }
    }
}

/// The result of a search.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests of the scope.
    pub requests: u8,
    /// Counts of the search.
    pub tally: Tally,
    /// Lives that were searched.
    pub lives: u64,
    /// Parts of the search that were finished.
    pub done: u64,
    /// All parts that are known.
    pub parts: u64,
    /// Lives that were found and not searched, so that their parts are not known.
    pub unsearched: u64,
    /// The images that power losses may leave, each as its row and a fingerprint of the image and
    /// of the guest's knowledge: the requests that were sent and those that were returned. Empty
    /// unless [`Effort::keep_images`] is set.
    pub images: BTreeSet<(usize, u128)>,
    /// One counterexample for each kind of failure, the shortest that was found.
    pub broken: Vec<(Signature, Counterexample)>,
}

impl Report {
    /// Whether every life was searched, every part was finished and none was stopped early.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done == self.parts && self.tally.stopped == 0 && self.unsearched == 0
    }
}

/// A run that breaks a promise.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The row of the stability table.
    pub row: Row,
    /// The shape of the world.
    pub shape: WorldShape,
    /// The number of the run.
    pub run: u32,
    /// The actions of the run.
    pub actions: Vec<Action>,
    /// Steps of the search.
    pub steps: usize,
    /// The promise that is broken.
    pub failure: Box<Failure>,
}

/// A store that keeps nothing from one search to the next.
struct Nothing;

impl TaskStore for Nothing {
    fn recall(&self, _task: &Task) -> Option<Outcome> {
        None
    }

    fn keep(&self, _task: &Task, _outcome: &Outcome) {}

    fn found(&self, _row: usize, _signature: &Signature, _found: &search::Found) {}
}

/// A store in a checkpoint file that reports the first failure of each kind.
struct Telling<'a, D: DeviceUnderTest> {
    checkpoint: &'a Checkpoint,
    setup: &'a D::Setup,
    plans: &'a [Plan],
    told: Mutex<BTreeSet<Signature>>,
    tell: &'a (dyn Fn(&Signature, &Counterexample) + Sync),
}

impl<D: DeviceUnderTest> TaskStore for Telling<'_, D> {
    fn recall(&self, task: &Task) -> Option<Outcome> {
        self.checkpoint.recall(task)
    }

    fn keep(&self, task: &Task, outcome: &Outcome) {
        self.checkpoint.keep(task, outcome);
    }

    fn found(&self, row: usize, signature: &Signature, found: &search::Found) {
        if self.told.lock().is_ok_and(|mut told| told.insert(signature.clone())) {
            let found = counterexample::<D>(self.setup, &self.plans[row], found);
            (self.tell)(signature, &found);
        }
    }
}

fn plans<D: DeviceUnderTest>(scope: &Scope) -> Vec<Plan> {
    let rows = scope.rows_of(D::KINDS[0]);
    rows.into_iter().map(|row| Plan::new::<D>(scope, row)).collect()
}

/// Searches everything within a scope.
pub fn explore<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
    effort: Effort,
    progress: &Progress,
) -> Report {
    remembering::<D>(setup, scope, effort, progress, &plans::<D>(scope), &Nothing)
}

/// Continues a stopped [`explore`] from a checkpoint. Calls `found` at once for the first failure
/// of each kind, on the thread that found it.
pub fn go_on<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
    effort: Effort,
    progress: &Progress,
    checkpoint: &Checkpoint,
    found: &(dyn Fn(&Signature, &Counterexample) + Sync),
) -> Report {
    let plans = plans::<D>(scope);
    let told = Mutex::default();
    let memory = Telling::<D> { checkpoint, setup, plans: &plans, told, tell: found };
    remembering::<D>(setup, scope, effort, progress, &plans, &memory)
}

fn remembering<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
    effort: Effort,
    progress: &Progress,
    plans: &[Plan],
    memory: &impl TaskStore,
) -> Report {
    let limits = Limits::of(effort);
    let lives = tasks::search::<D>(setup, plans, limits, progress, memory);
    let Outcomes { tally, found, images, roots, unsearched, done, tasks } = lives;
    let broken = found.into_iter().map(|(signature, (row, found))| {
        (signature, counterexample::<D>(setup, &plans[row], &found))
    });
    let broken = broken.collect();
    let (requests, parts) = (scope.requests, tasks);
    Report { requests, tally, lives: roots, done, parts, unsearched, images, broken }
}

/// The shortest run within a scope that breaks a promise: with the fewest requests, then the fewest
/// power losses, then the fewest host failures and resets, then the fewest steps. `None` if no run
/// does, or if the search was stopped.
pub fn shortest<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
    effort: Effort,
    progress: &Progress,
) -> Option<Counterexample> {
    short::<D>(setup, scope, effort, progress).into_iter().next()
}

/// The [`shortest`] run that breaks a promise, followed by one of each kind of failure in the
/// smallest scope that has it.
pub fn short<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
    effort: Effort,
    progress: &Progress,
) -> Vec<Counterexample> {
    let limits = Limits::of(Effort { keep_going: false, keep_images: false, ..effort });
    for requests in 1..=scope.requests {
        for (crashes, faults, resets) in troubles(scope) {
            let smaller = Scope { requests, crashes, faults, resets, ..scope.clone() };
            let found = short_within::<D>(setup, &smaller, limits, progress);
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}

/// Power losses, host failures and resets of the scopes within a scope, in ascending order.
fn troubles(scope: &Scope) -> impl Iterator<Item = (u8, u8, u8)> + '_ {
    (0..=scope.crashes).flat_map(move |crashes| {
        (0..=scope.faults)
            .flat_map(move |faults| (0..=scope.resets).map(move |resets| (crashes, faults, resets)))
    })
}

/// The run with the fewest steps within a scope that breaks a promise, followed by one of each
/// kind.
fn short_within<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
    limits: Limits,
    progress: &Progress,
) -> Vec<Counterexample> {
    let mut plans = plans::<D>(scope);
    plans.iter_mut().for_each(|plan| plan.look_often = true);
    let lives = tasks::search::<D>(setup, &plans, limits, progress, &Nothing);
    let order = |one: &(usize, search::Found), two: &(usize, search::Found)| {
        (one.1.order(), one.0).cmp(&(two.1.order(), two.0))
    };
    let mut all: Vec<(usize, search::Found)> = lives.found.into_values().collect();
    all.sort_by(order);
    let Some(mut best) = all.first().cloned() else { return Vec::new() };
    // The reductions may have left out the shortest run, though not all of them.
    while best.1.path.len() > 1
        && let Some(better) =
            tasks::shorter::<D>(setup, &plans, best.1.path.len(), limits, progress)
    {
        best = better;
    }
    all.insert(0, best);
    all.iter().map(|(row, found)| counterexample::<D>(setup, &plans[*row], found)).collect()
}

fn counterexample<D: DeviceUnderTest>(
    setup: &D::Setup,
    plan: &Plan,
    found: &search::Found,
) -> Counterexample {
    Counterexample {
        row: plan.row,
        shape: plan.shape,
        run: node::RUN,
        actions: path::run::<D>(setup, plan, &found.path),
        steps: found.path.len(),
        failure: found.failure.clone(),
    }
}
