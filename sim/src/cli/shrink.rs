//! `powerfail shrink`: a shorter trace of the same failure.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::interrupt::stop_at_interrupt;
use super::output;
use super::replay::names;
use super::run::cores;
use super::target::{Targets, Visit};
use super::{NOT_REACHED, PASSED, ShrinkArgs};
use crate::action::Action;
use crate::dut::DeviceUnderTest;
use crate::inevitable::certainty;
use crate::run::{Plan, replay, run_number, run_seed, world};
use crate::shrink::{Effort, PLENTY, Standing, shrink};
use crate::spec::Options;
use crate::story::{Look, Provenance, tell};
use crate::trace::{Signature, Trace, read};
use crate::world::World;

pub(super) fn run(targets: &impl Targets, args: &ShrinkArgs, look: Look) -> Result<u8, String> {
    if args.jobs == Some(0) {
        return Err("--jobs 0 does nothing; give at least 1".to_owned());
    }
    let trace = args.trace.as_deref().map(read).transpose()?;
    let (device, disk) = names(targets, &args.subject, trace.as_ref());
    targets.find(&device, &disk, Shrinking { args, trace, device: &device, disk: &disk, look })?
}

struct Shrinking<'a> {
    args: &'a ShrinkArgs,
    trace: Option<Trace>,
    device: &'a str,
    disk: &'a str,
    look: Look,
}

/// What is to be shrunk.
struct Found {
    options: Options,
    run: u32,
    actions: Vec<Action>,
    signature: Signature,
    /// As the trace says where it came from.
    seed: String,
    name: String,
}

impl Visit for Shrinking<'_> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        let Some(found) = self.found::<D>(&setup) else { return Ok(PASSED) };
        let begun = Instant::now();
        let stopped = stop_at_interrupt();
        let bar = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {msg}");
        bar.set_style(style.expect("the template is fixed"));
        let stop = |standing: Standing| {
            bar.set_message(format!(
                "{} actions left, {} replays",
                standing.actions,
                output::grouped(u64::from(standing.replays))
            ));
            bar.tick();
            begun.elapsed() > self.args.budget || stopped.load(Ordering::Relaxed)
        };
        let jobs = self.args.jobs.unwrap_or_else(cores);
        let effort = Effort { replays: PLENTY, jobs, stop: &stop };
        let Found { options, run, actions, signature, seed, name } = found;
        let short = shrink::<D>(&setup, options, run, &actions, &signature, &effort);
        bar.finish_and_clear();
        let Some(short) = short else {
            println!("{name} does not fail with {signature} here: there is nothing to shrink");
            return Ok(NOT_REACHED);
        };
        let trace = Trace { seed, ..short.trace(self.device, self.disk) };
        let path = self.write(&trace)?;
        let mut world = World::<D>::new(setup, trace.options, trace.run);
        world.keep_journal();
        replay(&mut world, trace.options, trace.run, &trace.actions, |_| {});
        let shown = path.display();
        let provenance = Provenance {
            from: name,
            shrunk: Some((short.from, short.actions.len())),
            replay: Some(format!("powerfail replay {shown}")),
            only_if: short.only_if.clone(),
            certainty: certainty(&world),
        };
        print!("{}", tell(&world, &short.failure, &provenance, self.look));
        println!(
            "  {} replays in {}",
            output::grouped(short.replays.into()),
            told(begun.elapsed())
        );
        if !short.complete {
            println!("  not as short as can be: `powerfail shrink {shown}` goes on from here");
        }
        Ok(PASSED)
    }
}

impl Shrinking<'_> {
    /// The failure of the trace, or of the seed; nothing if the seed passes.
    fn found<D: DeviceUnderTest>(&self, setup: &D::Setup) -> Option<Found> {
        if let Some(trace) = &self.trace {
            return Some(Found {
                options: trace.options,
                run: trace.run,
                actions: trace.actions.clone(),
                signature: trace.broke.clone(),
                seed: trace.seed.clone(),
                name: self.args.trace.as_ref().map_or(String::new(), |p| p.display().to_string()),
            });
        }
        let seed = self.args.seed.expect("clap asks for one of the two");
        let plan = Plan { preset: self.args.subject.profile, schedule: self.args.subject.schedule };
        let mut world = world::<D>(setup, plan, seed);
        let options = *world.options();
        let mut actions = Vec::new();
        let verdict = run_seed(&mut world, plan, seed, |action| actions.push(*action));
        let Some(failure) = verdict.failure else {
            println!("seed {seed} passes: there is nothing to shrink");
            return None;
        };
        Some(Found {
            options,
            run: run_number(seed),
            actions,
            signature: Signature::of(&failure.violation),
            seed: format!("{seed} {} {}", plan.preset, plan.schedule),
            name: format!("seed {seed}"),
        })
    }

    /// Writes the shorter trace: where it was asked for, else beside the longer one, else among the
    /// others.
    fn write(&self, trace: &Trace) -> Result<PathBuf, String> {
        let path = match (&self.args.output, &self.args.trace) {
            (Some(path), _) => path.clone(),
            (None, Some(longer)) => beside(longer),
            (None, None) => {
                let dir = Path::new("out");
                output::make_dir(dir)?;
                return output::write_trace(dir, trace);
            }
        };
        output::write_whole(&path, trace.to_string().as_bytes())?;
        Ok(path)
    }
}

/// `a.short.trace` for `a.trace`, and for itself.
fn beside(longer: &Path) -> PathBuf {
    let stem = longer.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let stem = stem.unwrap_or_default();
    let stem = stem.strip_suffix(".short").unwrap_or(&stem);
    longer.with_file_name(format!("{stem}.short.trace"))
}

fn told(elapsed: Duration) -> String {
    humantime::format_duration(Duration::from_millis(elapsed.as_millis() as u64)).to_string()
}
