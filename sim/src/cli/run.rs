//! `powerfail run`: a campaign of seeds.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use powerfail_device::host::Shown;

use super::found::Folder;
use super::interrupt::Stopped;
use super::output::{self, Made};
use super::replay::{TIMES, names};
use super::target::{Targets, Visit, without_power_cuts};
use super::{NOT_MEASURED, NOT_REPRODUCIBLE, PASSED, RunArgs, VIOLATED, judged_by, say, word_of};
use crate::base::files::read_text;
use crate::base::shell::word;
use crate::base::threads;
use crate::dut::DeviceUnderTest;
use crate::report::{Provenance, Style, tell};
use crate::run::campaign::{Finding, Orders, Progress, Report, campaign_beyond};
use crate::run::certainty::certainty;
use crate::run::known::Known;
use crate::run::{Plan, record, replay, reproduced, run_number, run_seed, world};
use crate::schedule::Schedule;
use crate::schedule::options::Preset;
use crate::shrink::{Effort, PLENTY, shrink, unshrunk};
use crate::trace::{Signature, Trace};
use crate::world::action::Action;
use crate::world::coverage::Situation;
use crate::world::{Reach, World, WorldShape};

/// A number of swarm runs that reach every situation, unless the generator is wrong.
const ENOUGH: u64 = 100_000;

/// The maximum size of a file of known findings, in bytes.
const MOST_KNOWN: u64 = 4 << 20;

/// The maximum time for shrinking one kind of failure; `powerfail shrink` continues.
const SHRINK_BUDGET: Duration = Duration::from_secs(10);

/// The same for a device whose runs take long.
const SLOW_BUDGET: Duration = Duration::from_secs(3);

pub(super) fn run(
    targets: &impl Targets,
    args: &RunArgs,
    style: Style,
    stopped: &Stopped,
) -> Result<u8, String> {
    let (device, disk) = names(targets, &args.subject, None);
    if args.seeds == 0 {
        return Err("--seeds 0 runs nothing; give at least 1".to_owned());
    }
    if args.jobs == Some(0) {
        return Err("--jobs 0 runs nothing; give at least 1".to_owned());
    }
    if args.from.checked_add(args.seeds - 1).is_none() {
        let (from, seeds) = (args.from, args.seeds);
        let room = u64::MAX - from;
        return Err(format!(
            "--from {from} --seeds {seeds} exceeds the last seed, {}: give at most --seeds {}",
            u64::MAX,
            room.saturating_add(1)
        ));
    }
    let (device, disk) = (&*device, &*disk);
    let running = Running::new(args, device, disk, style, stopped)?;
    let must_reach_all = targets.must_reach_all();
    targets.find(device, disk, Running { must_reach_all, ..running })?
}

pub(super) struct Running<'a> {
    args: &'a RunArgs,
    device: &'a str,
    disk: &'a str,
    style: Style,
    known: Known,
    stopped: &'a Stopped,
    /// Findings of a device that need not do the same again, and did not.
    unseen: Mutex<BTreeSet<Signature>>,
    /// Whether enough runs that miss a situation have measured nothing.
    must_reach_all: bool,
}

impl Visit for Running<'_> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        let args = self.args;
        let jobs = self.jobs();
        let folder = Folder::open(&args.out)?;
        let plan = args.subject.plan();
        let (from, seeds) = (args.from, args.seeds);
        let orders = Orders {
            plan,
            from,
            seeds,
            jobs,
            limit: args.limit,
            keep_going: args.keep_going,
            cells: args.cells,
        };
        let begun = Instant::now();
        let report = self.watched::<D>(&setup, orders, &folder);
        let elapsed = begun.elapsed();

        let made = Made {
            device: self.device,
            disk: self.disk,
            profile: plan.preset.to_string(),
            schedule: plan.schedule.to_string(),
            contract: plan.contract_of::<D>(),
            from: args.from,
            known: &self.known,
        };
        // Before shrinking and printing, which may take long.
        let summary = output::write_summary(&args.out, &made, &report);
        for (signature, finding) in self.news(&report) {
            say::line(self.explain::<D>(&setup, plan, signature, finding, &folder));
        }
        for (signature, path) in folder.kept() {
            if !report.findings.contains_key(&signature) {
                let shown = Shown(&path);
                say::line(format_args!("  also found, not shrunk: {signature} in {shown}"));
            }
        }
        let reach = Reach::of::<D>(&report.stats);
        say::out(output::table(&report, elapsed, jobs, D::KINDS, &reach));
        if let Some(cells) = &report.cells {
            let ((all, often), (least, rarest)) = (cells.with_at_least(50), cells.rarest());
            say::line(cells);
            say::line(format_args!(
                "  {often} of {all} cells have 50 and more; the rarest has {least}: {rarest}"
            ));
        }
        say::line(format_args!("  {}", judged_by(plan.contract_of::<D>())));
        self.list_known(&report);
        let code = self.verdict::<D>(&setup, plan, &report);
        match summary {
            Ok(()) => Ok(code),
            Err(what) if matches!(code, VIOLATED | NOT_REPRODUCIBLE) => {
                say::note(what);
                Ok(code)
            }
            Err(what) => Err(what),
        }
    }
}

impl<'a> Running<'a> {
    /// Runs of the device with this name on this disk.
    ///
    /// # Errors
    /// One line: the threads or the file of known findings are missing.
    pub(super) fn new(
        args: &'a RunArgs,
        device: &'a str,
        disk: &'a str,
        style: Style,
        stopped: &'a Stopped,
    ) -> Result<Running<'a>, String> {
        give_threads(args.jobs)?;
        let known = args.known.as_deref().map(read_known).transpose()?.unwrap_or_default();
        Ok(Running {
            args,
            device,
            disk,
            style,
            known,
            stopped,
            unseen: Mutex::default(),
            must_reach_all: false,
        })
    }
}

impl Running<'_> {
    /// The exit code of the campaign. Prints its reason.
    fn verdict<D: DeviceUnderTest>(&self, setup: &D::Setup, plan: Plan, report: &Report) -> u8 {
        if let Some(divergence) = &report.divergence {
            say::note(divergence);
            return NOT_REPRODUCIBLE;
        }
        if D::REPEATABLE
            && let Some(seed) = self.differs_elsewhere::<D>(setup, plan, report)
        {
            let what = "is not reproducible: its events differ in another process";
            say::note(format_args!("seed {seed} {what}"));
            return NOT_REPRODUCIBLE;
        }
        if self.news(report).any(|(signature, _)| !self.unseen().contains(signature)) {
            return VIOLATED;
        }
        if self.news(report).next().is_some() {
            say::line("  what was found once was not seen again, so it is no finding");
        }
        if self.is_stopped() {
            let (runs, seeds) =
                (output::grouped(report.stats.runs), output::grouped(self.args.seeds));
            say::line(format_args!("  stopped by a signal after {runs} of {seeds} runs"));
        }
        if report.failures > 0 {
            say::line("  nothing new: every finding is known");
        }
        if !D::MEDIUM.loses_power() {
            say::line("  no power was lost in these runs: durability was not measured");
            return PASSED;
        }
        if report.stats.volatile_losses == 0 {
            say::line("  NOT MEASURED: no power loss hit volatile data");
            return NOT_MEASURED;
        }
        let all = plan.preset == Preset::Swarm && plan.schedule != Schedule::Naive;
        let reach = Reach::of::<D>(&report.stats);
        // A device of this repository that has lost an ability would hide the gap.
        let counts = |situation: &Situation| self.must_reach_all || !reach.lacks(*situation);
        let missing = report.coverage.missing(D::KINDS).filter(counts);
        let missing: Vec<&str> = missing.map(Situation::name).collect();
        let enough = D::MEDIUM.is_simulated() && all && report.stats.runs >= ENOUGH;
        if missing.is_empty() || !enough {
            return PASSED;
        }
        let missing = missing.join("; ");
        if !self.must_reach_all {
            // Only its author knows whether the device does all that a device may do.
            say::line(format_args!("  never reached: {missing}"));
            return PASSED;
        }
        say::line(format_args!("  NOT MEASURED: never reached: {missing}"));
        NOT_MEASURED
    }

    fn unseen(&self) -> MutexGuard<'_, BTreeSet<Signature>> {
        self.unseen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a signal has asked the command to stop.
    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Runs with a progress bar, and stops cleanly at a signal. Findings are reported and saved at
    /// once.
    fn watched<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        orders: Orders,
        folder: &Folder<'_>,
    ) -> Report {
        let progress = Progress { stop: Arc::clone(self.stopped), ..Progress::default() };
        let bar = ProgressBar::new(orders.seeds);
        let style = "{wide_bar} {human_pos}/{human_len} runs  {per_sec}  {msg}  eta {eta}";
        bar.set_style(ProgressStyle::with_template(style).expect("the template is fixed"));
        let found = |signature: &Signature, finding: &Finding| {
            let seed = finding.seed;
            let recorded = record::<D>(setup, orders.plan, seed);
            let kept =
                folder.keep(&self.unshrunk::<D>(setup, orders.plan, seed, signature, recorded));
            let told = match kept {
                Ok(path) => format!("seed {seed} breaks {signature}: {}", Shown(&path)),
                Err(what) => format!("seed {seed} breaks {signature}; {what}"),
            };
            bar.suspend(|| say::note(told));
        };
        let known = self.known.signatures();
        let report = campaign_beyond::<D>(setup, orders, &known, &progress, &found, |progress| {
            bar.set_position(progress.runs.load(Ordering::Relaxed));
            let failures = progress.failures.load(Ordering::Relaxed);
            let reached = progress.situations.load(Ordering::Relaxed).count_ones();
            let all = Situation::of(D::KINDS).count();
            bar.set_message(format!("{failures} violations  {reached}/{all} situations"));
        });
        bar.finish_and_clear();
        report
    }

    /// The trace of a seed before shrinking.
    fn unshrunk<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        plan: Plan,
        seed: u64,
        signature: &Signature,
        (shape, actions): (WorldShape, Vec<Action>),
    ) -> Trace {
        let names = (self.device, self.disk);
        let run = run_number(seed);
        let trace = unshrunk::<D>(setup, shape, run, actions, signature, names);
        Trace { seed: format!("{seed} {} {}", plan.preset, plan.schedule), ..trace }
    }

    /// The number of threads.
    fn jobs(&self) -> usize {
        self.args.jobs.unwrap_or_else(cores)
    }

    /// The findings that are not known.
    fn news<'a>(
        &'a self,
        report: &'a Report,
    ) -> impl Iterator<Item = (&'a Signature, &'a Finding)> {
        report.findings.iter().filter(|(signature, _)| self.known.get(signature).is_none())
    }

    /// Prints a line for each known finding, seen or not.
    fn list_known(&self, report: &Report) {
        for (signature, note) in self.known.iter() {
            match report.findings.get(signature) {
                Some(finding) => {
                    let runs = runs(finding.count);
                    let seed = finding.seed;
                    let what = format_args!("in {runs}, first in seed {seed} ({note})");
                    say::line(format_args!("  known: {signature} {what}"));
                }
                None => say::line(format_args!("  known, not seen: {signature} ({note})")),
            }
        }
    }

    /// Shrinks one failure, saves its trace and tells its story. After a signal it is not shrunk.
    fn explain<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        plan: Plan,
        signature: &Signature,
        finding: &Finding,
        folder: &Folder<'_>,
    ) -> String {
        let seed = finding.seed;
        let recorded = record::<D>(setup, plan, seed);
        let begun = Instant::now();
        let budget = if D::REPEATABLE { SHRINK_BUDGET } else { SLOW_BUDGET };
        let stop = |_| begun.elapsed() > budget || self.is_stopped();
        let effort = Effort { replays: PLENTY, jobs: self.jobs(), stop: &stop };
        let (shape, actions) = &recorded;
        let run = run_number(seed);
        let short = match self.is_stopped() {
            true => None,
            false => match shrink::<D>(setup, *shape, run, actions, signature, &effort) {
                Some(short) => Some(short),
                None => {
                    if !D::REPEATABLE {
                        self.unseen().insert(signature.clone());
                    }
                    let kept = folder.kept().remove(signature);
                    let kept = kept.map(|path| format!(": {}", Shown(&path))).unwrap_or_default();
                    let violation = &finding.failure.violation;
                    return format!("seed {seed}: {violation} (does not replay){kept}");
                }
            },
        };
        let from = actions.len();
        let trace = match &short {
            Some(short) => Trace {
                seed: format!("{seed} {} {}", plan.preset, plan.schedule),
                ..short.trace(self.device, self.disk)
            },
            None => self.unshrunk::<D>(setup, plan, seed, signature, recorded),
        };
        let kept = folder.keep(&trace);
        let mut world = World::<D>::new(setup.clone(), trace.shape, trace.run);
        world.keep_journal();
        let verdict = replay(&mut world, trace.shape, trace.run, &trace.actions, |_| {});
        let failure = match &short {
            Some(short) => &short.failure,
            None => verdict.failure.as_ref().unwrap_or(&finding.failure),
        };
        let provenance = Provenance {
            from: format!("seed {seed} ({})", runs(finding.count)),
            shrunk: short.as_ref().map(|short| (from, short.actions.len())),
            replay: Some(match &kept {
                Ok(path) => format!("powerfail replay {}", word(path)),
                Err(_) => self.again(plan, seed),
            }),
            only_if: short.as_ref().and_then(|short| short.only_if.clone()),
            certainty: if short.is_some() { certainty(&world) } else { None },
        };
        if let Err(what) = &kept {
            say::note(format_args!("seed {seed}: {what}"));
        }
        let mut story = tell(&world, failure, &provenance, self.style);
        if !D::REPEATABLE {
            let count = reproduced(&mut world, &trace, &trace.actions, TIMES);
            story += &format!("  reproduced {count} of {TIMES} times\n");
        }
        if let (None, Ok(path)) = (&short, &kept) {
            story += &format!("  not shrunk: `powerfail shrink {}` does that\n", word(path));
        }
        story
    }

    /// The command that repeats a run for which there is no trace.
    fn again(&self, plan: Plan, seed: u64) -> String {
        let Running { device, disk, .. } = self;
        let Plan { preset, schedule, contract } = plan;
        let judged = contract.map(|contract| format!(" --contract {}", word_of(contract)));
        let judged = judged.unwrap_or_default();
        let (disk, cuts) = without_power_cuts(disk);
        let cuts = if cuts { " --power-cuts" } else { "" };
        let disk = word(Path::new(disk));
        format!(
            "powerfail replay --seed {seed} --device {device} --disk {disk}{cuts} \
             --profile {preset} --schedule {schedule}{judged}"
        )
    }

    /// Repeats a few seeds, and one of each of the first kinds of failure, in another process.
    /// Returns the first whose events differ there.
    fn differs_elsewhere<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        plan: Plan,
        report: &Report,
    ) -> Option<u64> {
        if self.is_stopped() {
            return None;
        }
        let program = std::env::current_exe().ok()?;
        // Two processes must not share a file.
        let on_file = ["file:", "uring:", "map:"].iter().any(|kind| self.disk.contains(kind));
        let disk = match on_file {
            true => format!("{}-{}", self.disk, std::process::id()),
            false => self.disk.to_owned(),
        };
        let samples = [0, report.stats.runs / 2].map(|nth| self.args.from.wrapping_add(nth));
        let failing = report.findings.values().map(|finding| finding.seed);
        samples.into_iter().chain(failing.take(8)).find(|&seed| {
            let here = run_seed(&mut world::<D>(setup, plan, seed), plan, seed, |_| {}).hash;
            let output = Command::new(&program)
                .args(["hash", "--seed", &seed.to_string()])
                .args(["--device", self.device, "--disk", &disk])
                .args(["--profile", &plan.preset.to_string()])
                .args(["--schedule", &plan.schedule.to_string()])
                .args(["--contract", word_of(plan.contract_of::<D>())])
                .stdin(Stdio::null())
                .output();
            let said = match output {
                Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
                Err(error) => {
                    say::note(format_args!("seed {seed} was not run in another process: {error}"));
                    return false;
                }
            };
            // Ctrl-C ends the other process as well.
            said.trim() != format!("{here:016x}") && !self.is_stopped()
        })
    }
}

fn runs(count: u64) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{} runs", output::grouped(count)) }
}

/// Reads a file of known findings. One that has expired is an error.
fn read_known(path: &Path) -> Result<Known, String> {
    let text = read_text(path, MOST_KNOWN, "list of findings")?;
    Known::read(&text, &today()).map_err(|e| format!("{}: {e}", Shown(path)))
}

/// Today's date, such as `2027-03-01`. Known findings expire by it; no run depends on it.
#[expect(clippy::disallowed_types, reason = "whether a finding has expired is no part of a run")]
fn today() -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    now.split_once('T').map_or(now.clone(), |(date, _)| date.to_owned())
}

/// Checks that the host can start the requested number of threads.
///
/// # Errors
/// One line: it cannot.
pub(super) fn give_threads(jobs: Option<usize>) -> Result<(), String> {
    let jobs = jobs.unwrap_or_else(cores);
    threads::give(jobs).map_err(|(given, error)| {
        format!("cannot start {jobs} threads, only {given}: {error}; give fewer --jobs")
    })
}

/// The number of threads that the machine runs in parallel.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}
