//! A campaign: runs of many seeds on several threads, and their sums.
//!
//! Threads take seeds in blocks of [`BLOCK`], or of a few for a device that cannot repeat a run.
//! Every count is a sum over whole blocks, and a campaign ends with a whole block, so the result
//! does not depend on the number of threads. One seed of each block, and every failing one, is run
//! again in a fresh world: a difference is a third kind of result, neither pass nor fail.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::base::threads::on_threads;
use crate::dut::DeviceUnderTest;
use crate::run::{Plan, Verdict, run_seed, world};
use crate::trace::Signature;
use crate::world::action::Action;
use crate::world::coverage::Coverage;
use crate::world::{Cells, Failure, Stats, World};

/// The number of seeds in a block, the unit of work of a thread.
pub const BLOCK: u64 = 256;

/// The number of seeds in a block of runs that take long.
const FEW: u64 = 4;

/// The number of seeds in a block of runs of this device.
const fn block_of<D: DeviceUnderTest>() -> u64 {
    if D::REPEATABLE { BLOCK } else { FEW }
}

/// The parameters of a campaign.
#[derive(Clone, Copy, Debug)]
pub struct Orders {
    /// The way runs are drawn.
    pub plan: Plan,
    /// The first seed.
    pub from: u64,
    /// The number of seeds.
    pub seeds: u64,
    /// The number of threads.
    pub jobs: usize,
    /// The maximum duration.
    pub limit: Option<Duration>,
    /// Whether to continue after a failure.
    pub keep_going: bool,
    /// Whether to count what is in flight at each crash.
    pub cells: bool,
}

impl Orders {
    /// Runs of `seeds` seeds on one thread, up to the first failure.
    #[must_use]
    pub fn new(plan: Plan, seeds: u64) -> Orders {
        let (jobs, limit) = (1, None);
        Orders { plan, from: 0, seeds, jobs, limit, keep_going: false, cells: false }
    }
}

/// Failures with one signature.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The smallest seed with this signature.
    pub seed: u64,
    /// That seed's failure.
    pub failure: Box<Failure>,
    /// The number of seeds with this signature.
    pub count: u64,
}

/// A seed whose two runs differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// The seed.
    pub seed: u64,
    /// The index of the first action that differs.
    pub at: usize,
    /// That action in the first run, unless the run is shorter.
    pub first: Option<Action>,
    /// That action in the second run, unless the run is shorter.
    pub second: Option<Action>,
}

/// Where the two runs differ, and that this is neither pass nor fail.
impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Divergence { seed, at, first, second } = self;
        if first == second {
            return write!(
                f,
                "seed {seed} is not reproducible: it ends differently in a world that has done \
                 other runs\nneither pass nor fail: state is carried over from one run to the next"
            );
        }
        let show = |action: &Option<Action>| match action {
            Some(action) => action.to_string(),
            None => "(no further action)".to_owned(),
        };
        write!(
            f,
            "seed {seed} is not reproducible: action {} was `{}` and then `{}`\n\
             neither pass nor fail: the device depends on more than its inputs",
            at + 1,
            show(first),
            show(second)
        )
    }
}

/// The result of a campaign.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Sums.
    pub stats: Stats,
    /// Sums by situation.
    pub coverage: Coverage,
    /// Sums by what was in flight at a crash, if [`Orders::cells`] is set.
    pub cells: Option<Cells>,
    /// A chain over the event hashes of all runs, in the order of their seeds within blocks, summed
    /// over blocks.
    pub hash: u64,
    /// Failing runs by signature.
    pub findings: BTreeMap<Signature, Finding>,
    /// The number of seeds that failed.
    pub failures: u64,
    /// The first run that was not reproducible.
    pub divergence: Option<Divergence>,
}

impl Report {
    fn add(&mut self, other: Report) {
        self.stats.add(&other.stats);
        self.coverage.add(&other.coverage);
        if let Some(cells) = &other.cells {
            self.cells.get_or_insert_with(Cells::default).add(cells);
        }
        self.hash = self.hash.wrapping_add(other.hash);
        self.failures += other.failures;
        for (signature, finding) in other.findings {
            match self.findings.get_mut(&signature) {
                Some(known) => {
                    known.count += finding.count;
                    if finding.seed < known.seed {
                        (known.seed, known.failure) = (finding.seed, finding.failure);
                    }
                }
                None => {
                    self.findings.insert(signature, finding);
                }
            }
        }
        let earlier = match (&self.divergence, &other.divergence) {
            (Some(mine), Some(theirs)) => theirs.seed < mine.seed,
            (None, Some(_)) => true,
            _ => false,
        };
        if earlier {
            self.divergence = other.divergence;
        }
    }
}

/// The progress of a campaign, shared with an observer, and its stop flag.
#[derive(Debug, Default)]
pub struct Progress {
    /// The number of runs done.
    pub runs: AtomicU64,
    /// The number of runs that failed.
    pub failures: AtomicU64,
    /// A bit for each situation that was reached.
    pub situations: AtomicU64,
    /// Set to stop after the runs in progress.
    pub stop: Arc<AtomicBool>,
}

/// Runs seeds on several threads. Calls `watch` every 50 ms on the calling thread.
pub fn campaign<D: DeviceUnderTest>(
    setup: &D::Setup,
    orders: Orders,
    progress: &Progress,
    watch: impl FnMut(&Progress),
) -> Report {
    campaign_beyond::<D>(setup, orders, &BTreeSet::new(), progress, &|_, _| {}, watch)
}

/// As [`campaign`], where `known` failures are counted but do not stop it.
///
/// `found` is called at once, on the worker thread, with the first failure of every other kind.
/// That failure need not be the one with the smallest seed, and need not be in the report, which
/// ends with a whole block.
pub(crate) fn campaign_beyond<D: DeviceUnderTest>(
    setup: &D::Setup,
    orders: Orders,
    known: &BTreeSet<Signature>,
    progress: &Progress,
    found: &(dyn Fn(&Signature, &Finding) + Sync),
    watch: impl FnMut(&Progress),
) -> Report {
    let shared = Shared {
        next: AtomicU64::new(0),
        last: AtomicU64::new(u64::MAX),
        done: Mutex::new(BTreeMap::new()),
        told: Mutex::new(known.clone()),
        found,
        begun: Instant::now(),
    };
    let work = || work::<D>(setup, &orders, known, progress, &shared);
    on_threads(orders.jobs, &work, |over| watch_until(progress, watch, over));
    let last = shared.last.into_inner();
    let mut report = Report::default();
    for (block, part) in shared.done.into_inner().expect("no worker panics") {
        if block <= last {
            report.add(part);
        }
    }
    report
}

fn watch_until(progress: &Progress, mut watch: impl FnMut(&Progress), done: impl Fn() -> bool) {
    while !done() {
        watch(progress);
        std::thread::park_timeout(Duration::from_millis(50));
    }
    watch(progress);
}

struct Shared<'a> {
    next: AtomicU64,
    /// The last block that counts: the first block with a new finding.
    last: AtomicU64,
    done: Mutex<BTreeMap<u64, Report>>,
    /// The signatures that are known or were passed to `found`.
    told: Mutex<BTreeSet<Signature>>,
    found: &'a (dyn Fn(&Signature, &Finding) + Sync),
    begun: Instant,
}

impl Shared<'_> {
    fn tell(&self, signature: &Signature, finding: &Finding) {
        let is_first = self.told.lock().expect("no worker panics").insert(signature.clone());
        if is_first {
            (self.found)(signature, finding);
        }
    }
}

fn work<D: DeviceUnderTest>(
    setup: &D::Setup,
    orders: &Orders,
    known: &BTreeSet<Signature>,
    progress: &Progress,
    shared: &Shared<'_>,
) {
    let mut world = world::<D>(setup, orders.plan, orders.from);
    if orders.cells {
        world.count_cells();
    }
    loop {
        let block = shared.next.fetch_add(1, Ordering::Relaxed);
        let late = orders.limit.is_some_and(|limit| shared.begun.elapsed() >= limit);
        let over = block.saturating_mul(block_of::<D>()) >= orders.seeds
            || block > shared.last.load(Ordering::Relaxed);
        if over || late || progress.stop.load(Ordering::Relaxed) {
            return;
        }
        let report = run_block(setup, &mut world, orders, block, progress, shared);
        let news = report.findings.keys().any(|signature| !known.contains(signature));
        let found = news || report.divergence.is_some();
        if found && !orders.keep_going {
            shared.last.fetch_min(block, Ordering::Relaxed);
        }
        shared.done.lock().expect("no worker panics").insert(block, report);
    }
}

fn run_block<D: DeviceUnderTest>(
    setup: &D::Setup,
    world: &mut World<D>,
    orders: &Orders,
    block: u64,
    progress: &Progress,
    shared: &Shared<'_>,
) -> Report {
    let mut report = Report::default();
    world.forget_counts();
    let first = block * block_of::<D>();
    for nth in first..first.saturating_add(block_of::<D>()).min(orders.seeds) {
        if progress.stop.load(Ordering::Relaxed) {
            break;
        }
        let seed = orders.from.wrapping_add(nth);
        let verdict = run_seed(world, orders.plan, seed, |_| {});
        report.hash = report.hash.wrapping_mul(0x100_0000_01b3).wrapping_add(verdict.hash);
        progress.runs.fetch_add(1, Ordering::Relaxed);
        if D::REPEATABLE && (nth == first || verdict.failure.is_some()) {
            let again = again::<D>(setup, orders.plan, seed, &verdict);
            if report.divergence.is_none() {
                report.divergence = again;
            }
        }
        let Some(failure) = verdict.failure else { continue };
        if failure.violation.rule == powerfail_model::Rule::DevicePanicked {
            world.renew();
        }
        report.failures += 1;
        progress.failures.fetch_add(1, Ordering::Relaxed);
        let signature = Signature::of(&failure.violation);
        let entry = report.findings.entry(signature.clone());
        let finding = entry.or_insert(Finding { seed, failure, count: 0 });
        finding.count += 1;
        if finding.count == 1 {
            shared.tell(&signature, finding);
        }
    }
    report.stats = *world.stats();
    report.coverage = *world.coverage();
    report.cells = world.cells().cloned();
    progress.situations.fetch_or(report.coverage.bits(), Ordering::Relaxed);
    report
}

/// Runs a seed again in a fresh world and compares.
fn again<D: DeviceUnderTest>(
    setup: &D::Setup,
    plan: Plan,
    seed: u64,
    before: &Verdict,
) -> Option<Divergence> {
    let verdict = run_seed(&mut world::<D>(setup, plan, seed), plan, seed, |_| {});
    if verdict.hash == before.hash && verdict.failure == before.failure {
        return None;
    }
    Some(diverge::<D>(setup, plan, seed))
}

/// The first difference between two runs of a seed.
fn diverge<D: DeviceUnderTest>(setup: &D::Setup, plan: Plan, seed: u64) -> Divergence {
    let record = || {
        let mut actions = Vec::new();
        run_seed(&mut world::<D>(setup, plan, seed), plan, seed, |action| actions.push(*action));
        actions
    };
    let (first, second) = (record(), record());
    let at = first.iter().zip(&second).take_while(|(a, b)| a == b).count();
    let action = |actions: &[Action]| actions.get(at).copied();
    Divergence { seed, at, first: action(&first), second: action(&second) }
}
