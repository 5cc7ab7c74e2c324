//! `powerfail shrink`: a shorter trace of the same failure.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use powerfail_device::host::Shown;

use super::found::Folder;
use super::interrupt::Stopped;
use super::output;
use super::replay::names;
use super::run::{cores, give_threads};
use super::target::{Targets, Visit};
use super::{NOT_REACHED, PASSED, ShrinkArgs, VIOLATED, say};
use crate::base::files::{Part, write_new, write_whole};
use crate::base::shell::word;
use crate::dut::DeviceUnderTest;
use crate::report::{Provenance, Style, tell};
use crate::run::certainty::certainty;
use crate::run::{replay, run_number, run_seed, world};
use crate::shrink::{Effort, PLENTY, Standing, shrink, unshrunk};
use crate::trace::{Signature, Trace, read};
use crate::world::World;
use crate::world::WorldShape;
use crate::world::action::Action;

pub(super) fn run(
    targets: &impl Targets,
    args: &ShrinkArgs,
    style: Style,
    stopped: &Stopped,
) -> Result<u8, String> {
    if args.jobs == Some(0) {
        return Err("--jobs 0 does nothing; give at least 1".to_owned());
    }
    give_threads(args.jobs)?;
    let trace = args.trace.as_deref().map(read).transpose()?;
    let trace = trace.map(|trace| args.subject.judging(trace));
    let (device, disk) = names(targets, &args.subject, trace.as_ref());
    let (device, disk) = (&*device, &*disk);
    targets.find(device, disk, Shrinking { args, trace, device, disk, style, stopped })?
}

struct Shrinking<'a> {
    args: &'a ShrinkArgs,
    trace: Option<Trace>,
    device: &'a str,
    disk: &'a str,
    style: Style,
    stopped: &'a Stopped,
}

/// The failure to shrink.
struct Found {
    shape: WorldShape,
    run: u32,
    actions: Vec<Action>,
    signature: Signature,
    /// The origin, as in the trace's `seed` header.
    seed: String,
    name: String,
}

impl Visit for Shrinking<'_> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        // Before the work, so that it is not wasted.
        let place = self.place()?;
        let Some(found) = self.found::<D>(&setup) else { return Ok(PASSED) };
        let longer = self.keep_as_found::<D>(&setup, &found, &place);
        if let Err(what) = &longer {
            say::note(format_args!("{} fails with {}; {what}", found.name, found.signature));
        }
        let begun = Instant::now();
        let stopped = self.stopped;
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
        let Found { shape, run, actions, signature, seed, name } = found;
        let short = shrink::<D>(&setup, shape, run, &actions, &signature, &effort);
        bar.finish_and_clear();
        let Some(short) = short else {
            let what = "here: there is nothing to shrink";
            say::line(format_args!("{name} does not fail with {signature} {what}"));
            return Ok(NOT_REACHED);
        };
        let trace = Trace { seed, ..short.trace(self.device, self.disk) };
        let written = place.write(&trace);
        let mut world = World::<D>::new(setup, trace.shape, trace.run);
        world.keep_journal();
        replay(&mut world, trace.shape, trace.run, &trace.actions, |_| {});
        let shown = written.as_ref().map(|path| word(path));
        let provenance = Provenance {
            from: name,
            shrunk: Some((short.from, short.actions.len())),
            replay: shown.clone().ok().map(|shown| format!("powerfail replay {shown}")),
            only_if: short.only_if.clone(),
            certainty: certainty(&world),
        };
        say::out(tell(&world, &short.failure, &provenance, self.style));
        let replays = output::grouped(short.replays.into());
        say::line(format_args!("  {replays} replays in {}", told(begun.elapsed())));
        match shown {
            Ok(shown) if !short.complete => {
                let on =
                    format!("`powerfail shrink {shown} --force -o {shown}` continues from here");
                say::line(format_args!("  stopped early: {on}"));
            }
            Ok(_) => {}
            Err(what) => {
                say::note(what);
                return Ok(VIOLATED);
            }
        }
        Ok(PASSED)
    }
}

impl Shrinking<'_> {
    /// The failure of the trace or of the seed; `None` if the seed passes.
    fn found<D: DeviceUnderTest>(&self, setup: &D::Setup) -> Option<Found> {
        if let Some(trace) = &self.trace {
            return Some(Found {
                shape: trace.shape,
                run: trace.run,
                actions: trace.actions.clone(),
                signature: trace.broke.clone(),
                seed: trace.seed.clone(),
                name: self.args.trace.as_ref().map_or(String::new(), |p| Shown(p).to_string()),
            });
        }
        let seed = self.args.seed.expect("clap asks for one of the two");
        let plan = self.args.subject.plan();
        let mut world = world::<D>(setup, plan, seed);
        let shape = *world.shape();
        let mut actions = Vec::new();
        let verdict = run_seed(&mut world, plan, seed, |action| actions.push(*action));
        let Some(failure) = verdict.failure else {
            say::line(format_args!("seed {seed} passes: there is nothing to shrink"));
            return None;
        };
        Some(Found {
            shape,
            run: run_number(seed),
            actions,
            signature: Signature::of(&failure.violation),
            seed: format!("{seed} {} {}", plan.preset, plan.schedule),
            name: format!("seed {seed}"),
        })
    }

    /// The place of the shorter trace: the given file, else a file next to the longer trace, else a
    /// numbered file in `out/`.
    fn place(&self) -> Result<Place<'_>, String> {
        let path = match (&self.args.output, &self.args.trace) {
            (Some(path), _) => path.clone(),
            (None, Some(longer)) => beside(longer),
            (None, None) => return Ok(Place::Numbered(Folder::open(Path::new("out"))?)),
        };
        let shown = Shown(&path);
        let is_there = path.symlink_metadata().is_ok();
        if is_there && !self.args.force {
            return Err(format!("{shown} exists: give --force to replace it, or -o another file"));
        }
        if path.is_dir() {
            return Err(format!("{shown} is a folder: give -o a file"));
        }
        Part::beside(&path).map_err(|e| format!("cannot write {shown}: {e}"))?;
        Ok(Place::At { path, replace: Cell::new(is_there) })
    }

    /// Saves the failure of a seed before it is shrunk. A trace is saved already.
    fn keep_as_found<D: DeviceUnderTest>(
        &self,
        setup: &D::Setup,
        found: &Found,
        place: &Place<'_>,
    ) -> Result<(), String> {
        if self.trace.is_some() {
            return Ok(());
        }
        let Found { shape, run, actions, signature, seed, .. } = found;
        let names = (self.device, self.disk);
        let trace = unshrunk::<D>(setup, *shape, *run, actions.clone(), signature, names);
        let path = place.write(&Trace { seed: seed.clone(), ..trace })?;
        say::note(format_args!("{} fails with {signature}: {}", found.name, Shown(&path)));
        Ok(())
    }
}

/// The place of the shorter trace.
enum Place<'a> {
    Numbered(Folder<'a>),
    At {
        path: PathBuf,
        /// Whether to replace the file: `--force` was given, or this process wrote it.
        replace: Cell<bool>,
    },
}

impl Place<'_> {
    /// Writes a trace there, replacing a longer one that was written before.
    fn write(&self, trace: &Trace) -> Result<PathBuf, String> {
        match self {
            Place::Numbered(folder) => folder.keep(trace),
            Place::At { path, replace } => {
                let bytes = trace.to_string().into_bytes();
                match replace.get() {
                    true => write_whole(path, &bytes)?,
                    false => write_new(path, &bytes)?,
                }
                replace.set(true);
                Ok(path.clone())
            }
        }
    }
}

/// `a.short.trace` for `a.trace` and for `a.short.trace`.
fn beside(longer: &Path) -> PathBuf {
    let stem = longer.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let stem = stem.unwrap_or_default();
    let stem = stem.strip_suffix(".short").unwrap_or(&stem);
    longer.with_file_name(format!("{stem}.short.trace"))
}

fn told(elapsed: Duration) -> String {
    humantime::format_duration(Duration::from_millis(elapsed.as_millis() as u64)).to_string()
}
