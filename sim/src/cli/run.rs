//! `powerfail run`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt::stop_at_interrupt;
use super::output::{self, Made};
use super::replay::names;
use super::target::{Targets, Visit};
use super::{NOT_MEASURED, NOT_REPRODUCIBLE, PASSED, RunArgs, VIOLATED};
use crate::action::Action;
use crate::campaign::{Divergence, Finding, Gauge, Orders, Report, campaign_beyond};
use crate::coverage::Situation;
use crate::dut::DeviceUnderTest;
use crate::inevitable::certainty;
use crate::known::Known;
use crate::pilot::Schedule;
use crate::run::{Plan, replay, run_number, run_seed, world};
use crate::shrink::{Effort, PLENTY, shrink};
use crate::spec::Preset;
use crate::story::{Look, Provenance, tell};
use crate::trace::{Signature, Trace};

/// So many runs of the swarm reach every situation, or something is wrong with the generator.
const ENOUGH: u64 = 100_000;

/// The longest that shrinking one kind of failure may take; `powerfail shrink` goes on.
const SHRINK_BUDGET: Duration = Duration::from_secs(10);

pub(super) fn run(targets: &impl Targets, args: &RunArgs, look: Look) -> Result<u8, String> {
    let (device, disk) = names(targets, &args.subject, None);
    if args.seeds == 0 {
        return Err("--seeds 0 runs nothing; give at least 1".to_owned());
    }
    if args.jobs == Some(0) {
        return Err("--jobs 0 runs nothing; give at least 1".to_owned());
    }
    let known = args.known.as_deref().map(read_known).transpose()?.unwrap_or_default();
    targets.find(&device, &disk, Running { args, device: &device, disk: &disk, look, known })?
}

struct Running<'a> {
    args: &'a RunArgs,
    device: &'a str,
    disk: &'a str,
    look: Look,
    known: Known,
}

impl Visit for Running<'_> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        let args = self.args;
        let jobs = self.jobs();
        output::make_dir(&args.out)?;
        let plan = Plan { preset: args.subject.profile, schedule: args.subject.schedule };
        let (from, seeds) = (args.from, args.seeds);
        let orders =
            Orders { plan, from, seeds, jobs, limit: args.limit, keep_going: args.keep_going };
        let begun = Instant::now();
        let report = watched::<D>(&setup, orders, &self.known);
        let elapsed = begun.elapsed();

        for (signature, finding) in self.news(&report) {
            println!("{}", self.explain::<D>(&setup, plan, signature, finding)?);
        }
        print!("{}", output::table(&report, elapsed, jobs, D::kinds(&setup)));
        self.list_known(&report);
        let made = Made {
            device: self.device,
            disk: self.disk,
            profile: plan.preset.to_string(),
            schedule: plan.schedule.to_string(),
            from: args.from,
            known: &self.known,
        };
        output::write_summary(&args.out, &made, &report)?;
        if let Some(divergence) = &report.divergence {
            eprintln!("{}", diverged(divergence));
            return Ok(NOT_REPRODUCIBLE);
        }
        if let Some(seed) = self.differs_elsewhere::<D>(&setup, plan, &report) {
            eprintln!("seed {seed} is not reproducible: another process saw other events");
            return Ok(NOT_REPRODUCIBLE);
        }
        if self.news(&report).next().is_some() {
            return Ok(VIOLATED);
        }
        if report.failures > 0 {
            println!("  nothing new: all that was broken is known");
        }
        if !D::SURVIVES_POWER_LOSS {
            println!("  no power was lost in these runs: durability was not measured");
            return Ok(PASSED);
        }
        if report.stats.volatile_losses == 0 {
            println!("  NOT MEASURED: nothing volatile was ever cut");
            return Ok(NOT_MEASURED);
        }
        let all = plan.preset == Preset::Swarm && plan.schedule != Schedule::Naive;
        if D::ON_SIM_DISK && all && report.stats.runs >= ENOUGH {
            let missing = report.coverage.missing(D::kinds(&setup));
            let missing: Vec<&str> = missing.map(Situation::name).collect();
            if !missing.is_empty() {
                println!("  NOT MEASURED: never reached: {}", missing.join("; "));
                return Ok(NOT_MEASURED);
            }
        }
        Ok(PASSED)
    }
}

impl Running<'_> {
    /// How many threads.
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

    /// A line for each known finding, seen or not.
    fn list_known(&self, report: &Report) {
        for (signature, note) in self.known.iter() {
            match report.findings.get(signature) {
                Some(finding) => {
                    let runs = runs(finding.count);
                    println!(
                        "  known: {signature} in {runs}, first in seed {} ({note})",
                        finding.seed
                    );
                }
                None => println!("  known, not seen: {signature} ({note})"),
            }
        }
    }

    /// Shrinks one failure, keeps its trace and tells its story.
    fn explain<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        plan: Plan,
        signature: &Signature,
        finding: &Finding,
    ) -> Result<String, String> {
        let seed = finding.seed;
        let run = run_number(seed);
        let mut world = world::<D>(setup, plan, seed);
        let options = *world.options();
        let mut actions: Vec<Action> = Vec::new();
        run_seed(&mut world, plan, seed, |action| actions.push(*action));
        let begun = Instant::now();
        let stop = |_| begun.elapsed() > SHRINK_BUDGET;
        let effort = Effort { replays: PLENTY, jobs: self.jobs(), stop: &stop };
        let Some(short) = shrink::<D>(setup, options, run, &actions, signature, &effort) else {
            return Ok(format!("seed {seed}: {} (does not replay)", finding.failure.violation));
        };
        let trace = Trace {
            seed: format!("{seed} {} {}", plan.preset, plan.schedule),
            ..short.trace(self.device, self.disk)
        };
        let path = output::write_trace(&self.args.out, &trace)?;
        world.keep_journal();
        replay(&mut world, short.options, short.run, &short.actions, |_| {});
        let runs = runs(finding.count);
        let provenance = Provenance {
            from: format!("seed {seed} ({runs})"),
            shrunk: Some((short.from, short.actions.len())),
            replay: Some(format!("powerfail replay {}", path.display())),
            only_if: short.only_if.clone(),
            certainty: certainty(&world),
        };
        Ok(tell(&world, &short.failure, &provenance, self.look))
    }

    /// Runs a few seeds, and every kind of failure, in a process of its own, and returns the first
    /// whose events differ there.
    fn differs_elsewhere<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        plan: Plan,
        report: &Report,
    ) -> Option<u64> {
        let program = std::env::current_exe().ok()?;
        // Two processes do not share a file.
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
                .output();
            let said = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
            !said.is_ok_and(|said| said.trim() == format!("{here:016x}"))
        })
    }
}

fn runs(count: u64) -> String {
    if count == 1 { "1 run".to_owned() } else { format!("{} runs", output::grouped(count)) }
}

/// Reads a file of known findings; one that has expired by now is an error.
fn read_known(path: &Path) -> Result<Known, String> {
    let shown = path.display();
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {shown}: {e}"))?;
    Known::read(&text, &today()).map_err(|e| format!("{shown}: {e}"))
}

/// The date, as `2027-03-01`. What is known may expire; no run depends on it.
#[expect(clippy::disallowed_types, reason = "whether a finding has expired is no part of a run")]
fn today() -> String {
    let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
    now.split_once('T').map_or(now.clone(), |(date, _)| date.to_owned())
}

/// How many threads a machine is good for.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn diverged(divergence: &Divergence) -> String {
    if divergence.first == divergence.second {
        return format!(
            "seed {} is not reproducible: it ends otherwise in a world that has seen other runs\n\
             neither pass nor fail: something is carried over from one run to the next",
            divergence.seed
        );
    }
    let show = |action: &Option<Action>| match action {
        Some(action) => action.to_string(),
        None => "(nothing more)".to_owned(),
    };
    format!(
        "seed {} is not reproducible: action {} was `{}` and then `{}`\n\
         neither pass nor fail: something in the device depends on more than its inputs",
        divergence.seed,
        divergence.at + 1,
        show(&divergence.first),
        show(&divergence.second)
    )
}

/// Runs with a progress bar, and stops cleanly at Ctrl-C.
fn watched<D: DeviceUnderTest>(setup: &D::Setup, orders: Orders, known: &Known) -> Report {
    let gauge = Gauge { stop: stop_at_interrupt(), ..Gauge::default() };
    let bar = ProgressBar::new(orders.seeds);
    let style = "{wide_bar} {human_pos}/{human_len} runs  {per_sec}  {msg}  eta {eta}";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is fixed"));
    let report = campaign_beyond::<D>(setup, orders, &known.signatures(), &gauge, |gauge| {
        bar.set_position(gauge.runs.load(Ordering::Relaxed));
        let failures = gauge.failures.load(Ordering::Relaxed);
        let reached = gauge.situations.load(Ordering::Relaxed).count_ones();
        let all = Situation::of(D::kinds(setup)).count();
        bar.set_message(format!("{failures} violations  {reached}/{all} situations"));
    });
    bar.finish_and_clear();
    report
}
