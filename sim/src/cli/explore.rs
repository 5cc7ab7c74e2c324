//! `powerfail explore`: an exhaustive search of every schedule within a scope, and its statement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use powerfail_device::host::Shown;

use super::found::Folder;
use super::interrupt::Stopped;
use super::output::grouped;
use super::run::{cores, give_threads};
use super::statement::Statement;
use super::target::{Targets, Visit};
use super::{NOT_COMPLETE, PASSED, VIOLATED, say};
use crate::base::shell::word;
use crate::dut::{DeviceUnderTest, Profile};
use crate::explore::{
    Checkpoint, Counterexample, Effort, Progress, Reduction, RequestKind, Row, Scope, Tally, go_on,
    short,
};
use crate::guest::Kind;
use crate::report::{Provenance, Style, tell};
use crate::run::certainty::certainty;
use crate::run::replay;
use crate::shrink::{Effort as Work, PLENTY, Shrunk, shrink, unshrunk};
use crate::trace::{Signature, Trace, parse_features};
use crate::world::World;

/// The maximum time for shrinking counterexamples.
const SHRINK_BUDGET: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExploreArgs {
    /// Maximum number of requests, over all lives of the guest.
    #[arg(long, default_value_t = 3, value_name = "K")]
    requests: u8,
    /// Number of sectors of the disk, or of words of the memory.
    #[arg(long, default_value_t = 2, value_name = "N")]
    sectors: u8,
    /// Number of request queues.
    #[arg(long, default_value_t = 1, value_name = "Q")]
    queues: u8,
    /// Maximum number of requests in flight at a time.
    #[arg(long, default_value_t = 2, value_name = "D")]
    in_flight: u8,
    /// Maximum number of power losses.
    #[arg(long, default_value_t = 1, value_name = "C")]
    crashes: u8,
    /// Maximum number of operations that the host fails.
    #[arg(long, default_value_t = 0, value_name = "F")]
    faults: u8,
    /// Maximum number of device resets.
    #[arg(long, default_value_t = 0, value_name = "R")]
    resets: u8,
    /// Kinds of requests: out, flush, write-zeroes, discard, unmap, in, id.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "out,flush,write-zeroes,discard",
        value_name = "KINDS"
    )]
    kinds: Vec<RequestKind>,
    /// Rows of the stability table, A to H, that a guest may negotiate.
    #[arg(long, value_delimiter = ',', default_value = "A,B,C,D,E,F,G,H", value_name = "ROWS")]
    rows: Vec<Row>,
    /// Additional features to offer and accept, such as `event-idx`.
    #[arg(long, value_parser = parse_features, default_value = "none", value_name = "FEATURES")]
    features: u64,
    /// The contract to judge by: strict or literal; by default that of the device.
    #[arg(long, value_name = "NAME", value_parser = super::contract)]
    contract: Option<Profile>,
    /// Reductions of the search: lazy, sleep, mirror, alike, all or none.
    #[arg(long, default_value_t = Reduction::ALL, value_name = "NAMES")]
    reduce: Reduction,
    /// The device: `blk`, `pmem` or `wrong:NAME`.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// Number of threads; all cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Stop after this time, such as `90s` or `8h`; the same command resumes the search.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    limit: Option<Duration>,
    /// Number of states that each part of the search remembers, at about 80 bytes each.
    #[arg(long, default_value_t = Effort::STATES, value_name = "N")]
    states: usize,
    /// Folder for counterexamples and the checkpoint.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(
    targets: &impl Targets,
    args: &ExploreArgs,
    style: Style,
    stopped: &Stopped,
) -> Result<u8, String> {
    if args.jobs == Some(0) {
        return Err("--jobs 0 searches nothing; give at least 1".to_owned());
    }
    give_threads(args.jobs)?;
    let scope = args.scope();
    let device = args.device.clone().unwrap_or_else(|| targets.default_device().to_owned());
    if device == "blk+pmem" {
        return Err("a search has one device: give --device blk or --device pmem".to_owned());
    }
    targets.find(&device, "sim", Exploring { args, scope, device: &device, style, stopped })?
}

impl ExploreArgs {
    fn scope(&self) -> Scope {
        let mut rows = self.rows.clone();
        rows.sort_unstable();
        rows.dedup();
        let mut kinds = self.kinds.clone();
        kinds.sort_unstable();
        kinds.dedup();
        Scope {
            requests: self.requests,
            sectors: self.sectors,
            queues: self.queues,
            in_flight: self.in_flight,
            crashes: self.crashes,
            faults: self.faults,
            resets: self.resets,
            kinds,
            rows,
            features: self.features,
            contract: self.contract,
            reduction: self.reduce,
        }
    }
}

struct Exploring<'a> {
    args: &'a ExploreArgs,
    scope: Scope,
    device: &'a str,
    style: Style,
    stopped: &'a Stopped,
}

impl Visit for Exploring<'_> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        if !D::MEDIUM.is_simulated() {
            return Err(format!(
                "{} is not on the simulated disk, and a search needs control of every host operation",
                self.device
            ));
        }
        if D::CHOOSES || D::BACKGROUND {
            let what = if D::CHOOSES { "choices" } else { "background work" };
            return Err(format!(
                "{} has {what} of its own, which a search does not enumerate: use run",
                self.device
            ));
        }
        if !D::PLAIN_MEDIUM {
            return Err(format!(
                "{} has a medium of its own form, and a search names the contents of sectors by the \
                 requests that wrote them: use run",
                self.device
            ));
        }
        self.scope.check(D::KINDS[0])?;
        let args = self.args;
        let folder = Folder::open(&args.out)?;
        let search = format!("--device {} {}", self.device, self.scope);
        let checkpoint = Checkpoint::open(&args.out, &program(), &search)?;
        if checkpoint.finished() > 0 {
            let finished = checkpoint.finished();
            say::line(format_args!("resumes after {finished} finished parts"));
        }
        let jobs = args.jobs.unwrap_or_else(cores);
        let effort = Effort { states: args.states, ..Effort::on(jobs) };
        let begun = Instant::now();
        let progress = Progress { stop: Arc::clone(self.stopped), ..Progress::default() };
        // Fewer requests first, so that a search cut short has covered those completely.
        let mut smaller = None;
        let mut work = Tally::default();
        let found = |signature: &Signature, found: &Counterexample| {
            let broken = format!("row {}: {signature} after {} steps", found.row, found.steps);
            let kept = folder.keep(&self.unshrunk::<D>(&setup, signature, found));
            match kept {
                Ok(path) => say::note(format_args!("{broken}: {}", Shown(&path))),
                Err(what) => say::note(format_args!("{broken}; {what}")),
            }
        };
        let report = self.watched(&progress, begun, || {
            let mut requests = 1;
            loop {
                let scope = Scope { requests, ..self.scope.clone() };
                let report = go_on::<D>(&setup, &scope, effort, &progress, &checkpoint, &found);
                work.add(&report.tally);
                let ends = !report.broken.is_empty() || !report.is_complete();
                if ends || requests == self.scope.requests {
                    return report;
                }
                smaller = Some(report);
                requests += 1;
            }
        });
        let elapsed = begun.elapsed();
        let settled = checkpoint.settle();
        if !report.broken.is_empty() {
            let mut found = self
                .watched(&progress, begun, || short::<D>(&setup, &self.scope, effort, &progress));
            found.extend(report.broken.into_iter().map(|(_, found)| found));
            say::line(self.explain::<D>(&setup, &found, &folder)?);
            checkpoint.remove();
            return Ok(VIOLATED);
        }
        let statement = Statement {
            device: self.device,
            kind: D::KINDS[0],
            scope: &self.scope,
            contract: self.scope.contract_of::<D>(),
            report: &report,
            smaller: smaller.as_ref(),
            work: &work,
            elapsed,
            jobs,
        };
        say::out(statement);
        if !report.is_complete() {
            let shown = Shown(checkpoint.path());
            match settled {
                Ok(()) => say::line(format_args!("  the same command resumes from here ({shown})")),
                Err(what) => say::note(format_args!("{what}: the search cannot be resumed")),
            }
            return Ok(NOT_COMPLETE);
        }
        checkpoint.remove();
        Ok(PASSED)
    }
}

impl Exploring<'_> {
    /// Runs `long` on a thread, with a progress line.
    fn watched<T: Send>(
        &self,
        progress: &Progress,
        begun: Instant,
        long: impl FnOnce() -> T + Send,
    ) -> T {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {elapsed}  {msg}");
        bar.set_style(style.expect("the template is fixed"));
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new();
            let work = thread.spawn_scoped(scope, long).expect("as many threads were given before");
            while !work.is_finished() {
                std::thread::park_timeout(Duration::from_millis(50));
                let (states, done) = (&progress.states, &progress.done);
                bar.set_message(format!(
                    "{} states  {} of {} parts so far",
                    grouped(states.load(Ordering::Relaxed)),
                    done.load(Ordering::Relaxed),
                    progress.known.load(Ordering::Relaxed)
                ));
                bar.tick();
                if self.args.limit.is_some_and(|limit| begun.elapsed() > limit) {
                    progress.stop.store(true, Ordering::Relaxed);
                }
            }
            bar.finish_and_clear();
            work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// The trace of a counterexample before shrinking.
    fn unshrunk<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        signature: &Signature,
        found: &Counterexample,
    ) -> Trace {
        let Counterexample { shape, run, actions, .. } = found;
        let names = (self.device, "sim");
        let trace = unshrunk::<D>(setup, *shape, *run, actions.clone(), signature, names);
        Trace { seed: seed(found), ..trace }
    }

    /// Shrinks counterexamples, saves the shortest of each kind and tells the story of the shortest
    /// one.
    fn explain<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        found: &[Counterexample],
        folder: &Folder<'_>,
    ) -> Result<String, String> {
        let begun = Instant::now();
        let stopped = || self.stopped.load(Ordering::Relaxed);
        let stop = |_| begun.elapsed() > SHRINK_BUDGET || stopped();
        let jobs = self.args.jobs.unwrap_or_else(cores);
        let work = Work { replays: PLENTY, jobs, stop: &stop };
        let mut of_each: BTreeMap<Signature, (&Counterexample, Shrunk)> = BTreeMap::new();
        for found in found {
            let Counterexample { shape, run, actions, failure, row, steps } = found;
            let signature = Signature::of(&failure.violation);
            let Some(short) = shrink::<D>(setup, *shape, *run, actions, &signature, &work) else {
                return Err(format!(
                    "{signature} in row {row} after {steps} steps, which a replay does not reproduce: \
                     the search is wrong"
                ));
            };
            let shorter =
                |(_, known): &(&Counterexample, Shrunk)| short.actions.len() < known.actions.len();
            if of_each.get(&signature).is_none_or(shorter) {
                of_each.insert(signature, (found, short));
            }
        }
        let mut kept = BTreeMap::new();
        for (signature, (found, short)) in &of_each {
            let trace = Trace { seed: seed(found), ..short.trace(self.device, "sim") };
            let path = folder.keep(&trace);
            if let Err(what) = &path {
                say::note(what);
            }
            kept.insert(signature.clone(), path);
        }
        // Among equally short ones, the first that was found.
        let place = |one: &Counterexample| found.iter().position(|other| std::ptr::eq(one, other));
        let shortest =
            of_each.iter().min_by_key(|(_, (found, short))| (short.actions.len(), place(found)));
        let (signature, (found, short)) =
            shortest.ok_or("a promise was broken, but no counterexample is known")?;
        let path = kept.remove(signature).and_then(Result::ok);
        let besides: String = kept
            .iter()
            .filter_map(|(signature, path)| Some((signature, path.as_ref().ok()?)))
            .map(|(signature, path)| format!("  also found: {signature} in {}\n", Shown(path)))
            .collect();
        let mut world = World::<D>::new(setup.clone(), short.shape, short.run);
        world.keep_journal();
        replay(&mut world, short.shape, short.run, &short.actions, |_| {});
        let provenance = Provenance {
            from: match D::KINDS[0] {
                Kind::Disk => format!("row {}", found.row),
                Kind::Memory => "explored".to_owned(),
            },
            shrunk: Some((short.from, short.actions.len())),
            replay: path.map(|path| format!("powerfail replay {}", word(&path))),
            only_if: short.only_if.clone(),
            certainty: certainty(&world),
        };
        Ok(tell(&world, &short.failure, &provenance, self.style) + &besides)
    }
}

/// The origin of a counterexample, as in the trace's `seed` header.
fn seed(found: &Counterexample) -> String {
    format!("explore row {} {} steps", found.row, found.steps)
}

/// An identity of this program binary: another binary may take other steps.
fn program() -> String {
    let bytes = std::env::current_exe().and_then(|path: PathBuf| std::fs::read::<&Path>(&path));
    let hash = bytes.unwrap_or_default().chunks(8).fold(0u64, |hash, chunk| {
        let word = chunk.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        crate::base::prng::mix(hash ^ word)
    });
    format!("{} {hash:016x}", env!("CARGO_PKG_VERSION"))
}
