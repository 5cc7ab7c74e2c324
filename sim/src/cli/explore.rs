//! `powerfail explore`: every schedule up to a scope, and what that came to.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt::stop_at_interrupt;
use super::output::{self, grouped};
use super::run::cores;
use super::target::{Targets, Visit};
use super::{NOT_COMPLETE, PASSED, VIOLATED};
use crate::dut::DeviceUnderTest;
use crate::explore::{
    AskKind, Checkpoint, Counterexample, Effort, Gauge, Reduction, Report, Row, Scope, go_on,
    shortest,
};
use crate::inevitable::certainty;
use crate::run::replay;
use crate::shrink::{Effort as Work, PLENTY, shrink};
use crate::spec::Kind;
use crate::story::{Look, Provenance, tell};
use crate::trace::{Signature, Trace, parse_features};
use crate::world::World;

/// The longest that shrinking a counterexample may take.
const SHRINK_BUDGET: Duration = Duration::from_secs(10);

#[derive(Clone, Debug, clap::Args)]
pub(super) struct ExploreArgs {
    /// The most requests of the guest, over all its lives.
    #[arg(long, default_value_t = 3, value_name = "K")]
    requests: u8,
    /// Sectors of the disk, or words of the memory.
    #[arg(long, default_value_t = 2, value_name = "N")]
    sectors: u8,
    /// Request queues.
    #[arg(long, default_value_t = 1, value_name = "Q")]
    queues: u8,
    /// The most requests in flight at a time.
    #[arg(long, default_value_t = 2, value_name = "D")]
    in_flight: u8,
    /// The most power losses.
    #[arg(long, default_value_t = 1, value_name = "C")]
    crashes: u8,
    /// The most operations that the host fails.
    #[arg(long, default_value_t = 0, value_name = "F")]
    faults: u8,
    /// The most resets of the device.
    #[arg(long, default_value_t = 0, value_name = "R")]
    resets: u8,
    /// What the guest asks for: out, flush, write-zeroes, discard, unmap, in, id.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "out,flush,write-zeroes,discard",
        value_name = "KINDS"
    )]
    kinds: Vec<AskKind>,
    /// The rows of the stability table, A to H, that a guest may negotiate.
    #[arg(long, value_delimiter = ',', default_value = "A,B,C,D,E,F,G,H", value_name = "ROWS")]
    rows: Vec<Row>,
    /// Features that are offered and accepted besides, as `event-idx`.
    #[arg(long, value_parser = parse_features, default_value = "none", value_name = "FEATURES")]
    features: u64,
    /// What makes the search smaller: lazy, sleep, mirror, alike, all or none.
    #[arg(long, default_value_t = Reduction::ALL, value_name = "NAMES")]
    reduce: Reduction,
    /// The device: `blk`, `pmem` or `wrong:NAME`.
    #[arg(long, value_name = "NAME")]
    device: Option<String>,
    /// How many threads; all cores if not given.
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Stop after this long, as `90s` or `8h`; the same command goes on from there.
    #[arg(long = "for", value_name = "DURATION", value_parser = humantime::parse_duration)]
    limit: Option<Duration>,
    /// States that each part of the search remembers, of 80 bytes or so.
    #[arg(long, default_value_t = Effort::STATES, value_name = "N")]
    states: usize,
    /// Where counterexamples and the checkpoint go.
    #[arg(long, default_value = "out", value_name = "DIR")]
    out: PathBuf,
}

pub(super) fn run(targets: &impl Targets, args: &ExploreArgs, look: Look) -> Result<u8, String> {
    if args.jobs == Some(0) {
        return Err("--jobs 0 searches nothing; give at least 1".to_owned());
    }
    let scope = args.scope();
    scope.check()?;
    let device = args.device.clone().unwrap_or_else(|| targets.default_device().to_owned());
    if device == "blk+pmem" {
        return Err("a search has one device: give --device blk or --device pmem".to_owned());
    }
    targets.find(&device, "sim", Exploring { args, scope, device: &device, look })?
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
            reduction: self.reduce,
        }
    }
}

struct Exploring<'a> {
    args: &'a ExploreArgs,
    scope: Scope,
    device: &'a str,
    look: Look,
}

impl Visit for Exploring<'_> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        if !D::ON_SIM_DISK {
            return Err(format!(
                "{} is not on the simulated disk, and only there a search decides what happens",
                self.device
            ));
        }
        let args = self.args;
        output::make_dir(&args.out)?;
        let name =
            format!("powerfail explore {} --device {} {}", program(), self.device, self.scope);
        let checkpoint = Checkpoint::open(&args.out, &name)?;
        if checkpoint.finished() > 0 {
            println!("goes on behind {} parts that were finished before", checkpoint.finished());
        }
        let jobs = args.jobs.unwrap_or_else(cores);
        let effort = Effort { states: args.states, ..Effort::on(jobs) };
        let begun = Instant::now();
        let gauge = Gauge { stop: stop_at_interrupt(), ..Gauge::default() };
        let report = self.watched(&gauge, begun, || {
            go_on::<D>(&setup, &self.scope, effort, &gauge, &checkpoint)
        });
        let elapsed = begun.elapsed();
        if let Some(trouble) = checkpoint.trouble() {
            eprintln!("powerfail: {trouble}: the search cannot go on from here");
        }
        if !report.broken.is_empty() {
            let found =
                self.watched(&gauge, begun, || shortest::<D>(&setup, &self.scope, effort, &gauge));
            let least = report.broken.iter().map(|(_, found)| found);
            let found = found.or_else(|| least.min_by_key(|found| found.steps).cloned());
            println!("{}", self.explain::<D>(&setup, &found.expect("something was broken"))?);
            checkpoint.remove();
            return Ok(VIOLATED);
        }
        let kind = D::kinds(&setup)[0];
        print!("{}", self.statement(&report, kind, elapsed, jobs));
        if !report.is_complete() {
            let shown = checkpoint.path().display();
            println!("  the same command goes on from here ({shown})");
            return Ok(NOT_COMPLETE);
        }
        checkpoint.remove();
        Ok(PASSED)
    }
}

impl Exploring<'_> {
    /// Does something long, with a line that says how far it has come.
    fn watched<T: Send>(
        &self,
        gauge: &Gauge,
        begun: Instant,
        long: impl FnOnce() -> T + Send,
    ) -> T {
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {elapsed}  {msg}");
        bar.set_style(style.expect("the template is fixed"));
        std::thread::scope(|scope| {
            let work = scope.spawn(long);
            while !work.is_finished() {
                std::thread::sleep(Duration::from_millis(50));
                let (states, done) = (&gauge.states, &gauge.done);
                bar.set_message(format!(
                    "{} states  {} of {} parts so far",
                    grouped(states.load(Ordering::Relaxed)),
                    done.load(Ordering::Relaxed),
                    gauge.known.load(Ordering::Relaxed)
                ));
                bar.tick();
                if self.args.limit.is_some_and(|limit| begun.elapsed() > limit) {
                    gauge.stop.store(true, Ordering::Relaxed);
                }
            }
            bar.finish_and_clear();
            work.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// What was covered, and what came of it.
    fn statement(&self, report: &Report, kind: Kind, elapsed: Duration, jobs: usize) -> String {
        let Scope { requests, sectors, queues, in_flight, crashes, faults, .. } = self.scope;
        let kinds: Vec<String> = self.scope.kinds.iter().map(AskKind::to_string).collect();
        let rows: Vec<String> = self.scope.rows.iter().map(Row::to_string).collect();
        let (unit, rows) = match kind {
            Kind::Disk => ("sector", format!(", rows {}", rows.join(" "))),
            Kind::Memory => ("word", String::new()),
        };
        let many = |count: u8, what: &str| match count {
            0 => format!("no {what}"),
            1 => format!("1 {what}"),
            _ => format!("{count} {what}s"),
        };
        let losses = if crashes == 1 {
            "1 power loss".to_owned()
        } else {
            format!("{crashes} power losses")
        };
        let mut out = format!(
            "{}: every workload of up to {} ({}) over {} on {}, up to {in_flight} in flight,\n\
             {losses}, {}{rows}; every order of effects and completions, every moment of a power loss,\n\
             every surviving subset of 512-byte atoms\n\n",
            self.device,
            many(requests, "request"),
            kinds.join(", "),
            many(sectors, unit),
            many(queues, "queue"),
            many(faults, "host failure"),
        );
        let tally = &report.tally;
        let verdict = if report.is_complete() {
            "complete: no promise is broken".to_owned()
        } else {
            let (done, parts) = (grouped(report.done), grouped(report.parts));
            format!(
                "NOT COMPLETE: no promise is broken in {done} of {parts} parts known so far, and was stopped"
            )
        };
        out += &format!("  {verdict}\n\n");
        let mut row = |name: &str, figure: u64, more: String| {
            out += format!("  {name:<36}{:>22}  {more}", grouped(figure)).trim_end();
            out.push('\n');
        };
        let micros = elapsed.as_micros().max(1);
        let rate = |count: u64| grouped((u128::from(count) * 1_000_000 / micros) as u64);
        let bits = 129 - 2 * u64::from(u64::BITS - tally.states.leading_zeros());
        let saturated = if tally.schedules == u64::MAX { " or more" } else { "" };
        row(
            "classes of schedules",
            tally.schedules,
            format!("in {} lives{saturated}", grouped(report.lives)),
        );
        row(
            "states",
            tally.states,
            format!("by 128-bit fingerprints; a collision is less likely than 1 in 2^{bits}"),
        );
        row("  come upon again", tally.again, String::new());
        row(
            "steps",
            tally.steps,
            format!(
                "{}/s on {jobs} threads; the deepest is {} steps from power-on",
                rate(tally.steps),
                tally.deepest
            ),
        );
        row(
            "  fewer than class by class",
            tally.schedule_steps / tally.steps.max(1),
            "times".to_owned(),
        );
        row(
            "steps of the device's threads",
            tally.device_steps,
            format!("{}/s", rate(tally.device_steps)),
        );
        row(
            "crash images represented",
            tally.images,
            format!("at {} moments", grouped(tally.cuts.max(tally.images.min(1)))),
        );
        row(
            "  contents read back",
            tally.recalls,
            format!("of single {unit}s; what they leave open does not matter"),
        );
        row("states at rest, read back", tally.looks, String::new());
        if tally.turned_away > 0 {
            row(
                "states not remembered",
                tally.turned_away,
                "and maybe visited again: --states was too small".to_owned(),
            );
        }
        out += &format!(
            "  {}.{} s, {}\n",
            elapsed.as_secs(),
            elapsed.subsec_millis() / 100,
            self.scope
        );
        out
    }

    /// Shrinks a counterexample, keeps its trace and tells its story.
    fn explain<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        found: &Counterexample,
    ) -> Result<String, String> {
        let begun = Instant::now();
        let stop = |_| begun.elapsed() > SHRINK_BUDGET;
        let jobs = self.args.jobs.unwrap_or_else(cores);
        let work = Work { replays: PLENTY, jobs, stop: &stop };
        let Counterexample { options, run, actions, failure, .. } = found;
        let signature = Signature::of(&failure.violation);
        let Some(short) = shrink::<D>(setup, *options, *run, actions, &signature, &work) else {
            return Err(format!(
                "{signature} in row {} after {} steps, which does not happen when it is replayed: the search is wrong",
                found.row, found.steps
            ));
        };
        let seed = format!("explore row {} {} steps", found.row, found.steps);
        let trace = Trace { seed, ..short.trace(self.device, "sim") };
        let path = output::write_trace(&self.args.out, &trace)?;
        let mut world = World::<D>::new(setup.clone(), short.options, short.run);
        world.keep_journal();
        replay(&mut world, short.options, short.run, &short.actions, |_| {});
        let provenance = Provenance {
            from: format!("row {}", found.row),
            shrunk: Some((short.from, short.actions.len())),
            replay: Some(format!("powerfail replay {}", path.display())),
            only_if: short.only_if.clone(),
            certainty: certainty(&world),
        };
        Ok(tell(&world, &short.failure, &provenance, self.look))
    }
}

/// A number for the program itself: another one may take other steps.
fn program() -> String {
    let bytes = std::env::current_exe().and_then(|path: PathBuf| std::fs::read::<&Path>(&path));
    let hash = bytes.unwrap_or_default().chunks(8).fold(0u64, |hash, chunk| {
        let word = chunk.iter().fold(0, |word, &byte| word << 8 | u64::from(byte));
        crate::prng::mix(hash ^ word)
    });
    format!("{} {hash:016x}", env!("CARGO_PKG_VERSION"))
}
