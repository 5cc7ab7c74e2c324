//! Every schedule, up to a scope.
//!
//! Random runs find bugs; they never say that there are none up to here. For a small scope a search
//! can say that, of the device that ships and not of a model of it: every workload of up to so many
//! requests, every order in which the host does things and completes them, every moment at which
//! the power goes and every image it may leave were tried, and no promise was broken.
//!
//! # What is covered
//!
//! One device on the simulated disk, whose [fault model](crate::host::disk) is the one of random
//! runs. The guest sends requests of the scope's kinds on any queue, and at most so many at a time;
//! a thread of the device, once it runs, runs until it has nothing to do; the guest takes back what
//! was used as soon as a thread has paused. The host lands and completes operations in any order, a
//! sector at a time, writes back whenever it likes and, if the scope allows, fails them with EIO: a
//! write that fails has landed in any part, and a failed sync forgets all that was dirty or
//! nothing. The power goes at any moment, and between any two of the reads that follow a power
//! loss; those are done by a kind host. When the power comes on the guest reads every sector before
//! it goes on, and where it has nothing left to do it reads every sector once more.
//!
//! If the scope allows, the guest resets the device, too, and waits for that to show.
//!
//! Not covered: threads that stop between two of their steps (loom does that), chains that are cut
//! in odd ways, broken rings, short transfers, killed backends, resizing. Random runs have all of
//! them.
//!
//! # What makes it small
//!
//! * *Alike*: states that the rest of a run cannot tell apart are visited once; `history.rs` says
//!   which those are.
//! * *Lazy*: an operation lands when it completes, unless another one is in flight on the same
//!   sector; what a power loss leaves of a sector is decided when the sector is read (`cells.rs`).
//!   Both only put off what nobody can see.
//! * *Sleep*: of two independent steps one order is enough; `step.rs` says which are, and claims
//!   nothing more.
//! * *Mirror*: a disk has no preferred end and no preferred queue, so of two workloads that are
//!   mirror images, or differ in which queue is which, one is enough. This one believes that the
//!   device tells neither apart.
//! * *Lives*: after a power loss and with everything read back it does not matter how one got there
//!   (`lives.rs`).
//!
//! All but the last can be switched off. Tests hold what is found with and without them against
//! each other, for our device and for every wrong one in scope.

mod cells;
mod checkpoint;
mod fingerprint;
mod history;
mod kinds;
mod node;
mod plan;
mod reduction;
mod row;
mod scope;
mod search;
mod step;
mod tally;
mod tasks;
mod visited;
mod write_down;

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
use crate::schedule::options::Options;
use crate::trace::Signature;
use crate::world::Failure;
use crate::world::action::Action;
use plan::Plan;
use tasks::{Limits, Outcome, Outcomes, Task, TaskStore};

/// How much a search may take.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Threads. What comes out is the same for any number of them.
    pub jobs: usize,
    /// States that each of the searches that a scope is cut into remembers.
    pub states: usize,
    /// Whether to go on after a broken promise.
    pub keep_going: bool,
    /// Whether to keep the images that power losses may leave.
    pub keep_images: bool,
}

impl Effort {
    /// States that take 1 GiB or so.
    pub const STATES: usize = 1 << 24;

    /// On so many threads, up to the first broken promise.
    #[must_use]
    pub fn on(jobs: usize) -> Effort {
        Effort { jobs, states: Effort::STATES, keep_going: false, keep_images: false }
    }
}

/// What a search came to.
#[derive(Clone, Debug)]
pub struct Report {
    /// Requests of the scope.
    pub requests: u8,
    /// What was counted.
    pub tally: Tally,
    /// Lives that were searched.
    pub lives: u64,
    /// Parts of the search that were finished, and all that are known.
    pub done: u64,
    /// See above.
    pub parts: u64,
    /// The images that power losses may leave, each by its row and a fingerprint with what the
    /// guest knew: which requests it had sent, and which had come back. Empty unless they were
    /// asked for.
    pub images: BTreeSet<(usize, u128)>,
    /// What was broken, by kind; each by the shortest run that was come upon.
    pub broken: Vec<(Signature, Counterexample)>,
}

impl Report {
    /// Whether every part was finished, and nothing was broken.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.done == self.parts && self.tally.stopped == 0
    }
}

/// A run that breaks a promise.
#[derive(Clone, Debug)]
pub struct Counterexample {
    /// The row of the stability table.
    pub row: Row,
    /// The options of its world.
    pub options: Options,
    /// The number of the run.
    pub run: u32,
    /// What happens.
    pub actions: Vec<Action>,
    /// Steps of the search.
    pub steps: usize,
    /// What is broken.
    pub failure: Box<Failure>,
}

/// Nothing is remembered from one search to the next.
struct Nothing;

impl TaskStore for Nothing {
    fn recall(&self, _task: &Task) -> Option<Outcome> {
        None
    }

    fn keep(&self, _task: &Task, _outcome: &Outcome) {}

    fn found(&self, _row: usize, _signature: &Signature, _found: &search::Found) {}
}

/// What is kept in a file, and somebody who hears of the first failure of each kind.
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

/// Tries everything within a scope.
pub fn explore<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
    effort: Effort,
    progress: &Progress,
) -> Report {
    remembering::<D>(setup, scope, effort, progress, &plans::<D>(scope), &Nothing)
}

/// As [`explore`], going on where the search was stopped before. `found` hears of the first failure
/// of each kind at once, on the thread that came upon it.
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
    let Outcomes { tally, found, images, roots, done, tasks } = lives;
    let broken = found.into_iter().map(|(signature, (row, found))| {
        (signature, counterexample::<D>(setup, &plans[row], &found))
    });
    let broken = broken.collect();
    Report { requests: scope.requests, tally, lives: roots, done, parts: tasks, broken, images }
}

/// The shortest run within a scope that breaks a promise: with the fewest requests, then the fewest
/// power losses, then the fewest failures of the host and resets, then the fewest steps. Nothing if
/// none does, or the search was stopped.
pub fn shortest<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
    effort: Effort,
    progress: &Progress,
) -> Option<Counterexample> {
    short::<D>(setup, scope, effort, progress).into_iter().next()
}

/// The [`shortest`] run that breaks a promise, and behind it one of each kind of failure in the
/// least scope that has it.
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

/// Power losses, host failures and resets of the scopes within a scope, fewer of each first.
fn troubles(scope: &Scope) -> impl Iterator<Item = (u8, u8, u8)> + '_ {
    (0..=scope.crashes).flat_map(move |crashes| {
        (0..=scope.faults)
            .flat_map(move |faults| (0..=scope.resets).map(move |resets| (crashes, faults, resets)))
    })
}

/// The run with the fewest steps within a scope that breaks a promise, and one of each kind.
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
    // What makes a search smaller may have left the shortest run out, though not all of them.
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
        options: plan.options,
        run: node::RUN,
        actions: write_down::run::<D>(setup, plan, &found.path),
        steps: found.path.len(),
        failure: found.failure.clone(),
    }
}
