//! `powerfail replay`: replay of a trace or a seed, and its story.

use std::path::Path;

use powerfail_device::host::Shown;

use super::target::{Targets, Visit, with_power_cuts};
use super::until::Stop;
use super::{BISECT_SKIP, NOT_REACHED, PASSED, ReplayArgs, Subject, VIOLATED, judged_by, say};
use crate::base::files::{read_text, write_whole};
use crate::dut::DeviceUnderTest;
use crate::report::{Provenance, Style, recount, tell};
use crate::run::certainty::certainty;
use crate::run::{Judged, Replayed, judge, reproduced};
use crate::run::{Plan, run_seed, world};
use crate::trace::{MOST_BYTES, Trace, read, with_remarks_of};
use crate::world::World;

/// How often the replay of a device is repeated that need not do the same again.
pub(super) const TIMES: u32 = 10;

pub(super) fn replay(
    targets: &impl Targets,
    args: &ReplayArgs,
    style: Style,
) -> Result<u8, String> {
    let Some(path) = &args.trace else {
        let seed = args.seed.expect("clap asks for one of the two");
        let plan = args.subject.plan();
        let (device, disk) = names(targets, &args.subject, None);
        return targets.find(&device, &disk, Seed { plan, seed, style });
    };
    let outcome = replay_trace(targets, args, path, style);
    if !args.bisect {
        return outcome;
    }
    Ok(match outcome {
        Ok(code @ (PASSED | VIOLATED)) => code,
        Ok(_) => BISECT_SKIP,
        Err(what) => {
            say::note(what);
            BISECT_SKIP
        }
    })
}

fn replay_trace(
    targets: &impl Targets,
    args: &ReplayArgs,
    path: &Path,
    style: Style,
) -> Result<u8, String> {
    let trace = args.subject.judging(read(path)?);
    let (device, disk) = names(targets, &args.subject, Some(&trace));
    let name = Shown(path).to_string();
    if let Some(before) = args.until {
        return targets.find(&device, &disk, Stop { trace: &trace, name, before, style })?;
    }
    targets.find(&device, &disk, Traced { trace: &trace, name, args, style })?
}

pub(super) fn hash(targets: &impl Targets, args: &ReplayArgs) -> Result<u8, String> {
    let seed = args.seed.ok_or("give a seed")?;
    let plan = args.subject.plan();
    let (device, disk) = names(targets, &args.subject, None);
    targets.find(&device, &disk, Hash { plan, seed })
}

/// The device and the disk: from the options, else from the trace, else the defaults.
pub(super) fn names(
    targets: &impl Targets,
    asked: &Subject,
    trace: Option<&Trace>,
) -> (String, String) {
    if asked.device.is_some() || asked.disk.is_some() || asked.power_cuts {
        let device = asked.device.clone().unwrap_or_else(|| targets.default_device().to_owned());
        let disk = asked.disk.clone().unwrap_or_else(|| "sim".to_owned());
        return (device, if asked.power_cuts { with_power_cuts(&disk) } else { disk });
    }
    match trace {
        Some(trace) if !targets.only_one() => (trace.device.clone(), trace.disk.clone()),
        _ => (targets.default_device().to_owned(), "sim".to_owned()),
    }
}

struct Hash {
    plan: Plan,
    seed: u64,
}

impl Visit for Hash {
    type Out = u8;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> u8 {
        let mut world = world::<D>(&setup, self.plan, self.seed);
        let verdict = run_seed(&mut world, self.plan, self.seed, |_| {});
        say::line(format_args!("{:016x}", verdict.hash));
        PASSED
    }
}

struct Seed {
    plan: Plan,
    seed: u64,
    style: Style,
}

impl Visit for Seed {
    type Out = u8;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> u8 {
        let Seed { plan, seed, style } = self;
        let mut world = world::<D>(&setup, plan, seed);
        world.keep_journal();
        let mut actions = 0;
        let verdict = run_seed(&mut world, plan, seed, |_| actions += 1);
        match verdict.failure {
            Some(failure) => {
                let provenance =
                    Provenance { from: format!("seed {seed}"), ..Provenance::default() };
                say::out(tell(&world, &failure, &provenance, style));
                VIOLATED
            }
            None => {
                let hash = verdict.hash;
                if style.all {
                    say::line(recount(&world, &format!("seed {seed}"), style));
                }
                let what = format_args!("{actions} actions, events {hash:016x}");
                let contract = judged_by(world.shape().contract);
                say::line(format_args!("seed {seed} passes: {what} ({contract})"));
                PASSED
            }
        }
    }
}

struct Traced<'a> {
    trace: &'a Trace,
    name: String,
    args: &'a ReplayArgs,
    style: Style,
}

impl Visit for Traced<'_> {
    type Out = Result<u8, String>;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> Result<u8, String> {
        let Traced { trace, name, args, style } = &self;
        let mut world = World::<D>::new(setup, trace.shape, trace.run);
        let mut judged = judge(&mut world, trace);
        // One that passes now may fail next time.
        let tries = if D::REPEATABLE { 1 } else { TIMES };
        for _ in 1..tries {
            if judged.replayed == Replayed::Fails {
                break;
            }
            world.renew();
            judged = judge(&mut world, trace);
        }
        if let Some(failure) = &judged.failure {
            // A bisection needs only the exit code, so it skips hundreds of continuations.
            let certainty = if args.bisect { None } else { certainty(&world) };
            // The trace's clause holds for this run only if the two are the same.
            let same = judged.replayed == Replayed::Fails && judged.moved == 0;
            let only_if = Some(trace.only_if.clone()).filter(|clause| same && !clause.is_empty());
            let provenance =
                Provenance { from: name.clone(), only_if, certainty, ..Provenance::default() };
            say::line(tell(&world, failure, &provenance, *style));
        } else if style.all && !judged.actions.is_empty() {
            say::line(recount(&world, name, *style));
        }
        if !D::REPEATABLE && judged.replayed == Replayed::Fails {
            let count = reproduced(&mut world, trace, &judged.actions, TIMES);
            say::line(format_args!("{name} reproduced {count} of {TIMES} times"));
        }
        let lines = trace.actions.len();
        if judged.moved > 0 {
            say::line(format_args!("{name} rebased: {} of {lines} lines moved", judged.moved));
        }
        let code = match &judged.replayed {
            Replayed::Fails => {
                say::line(format_args!("{name} fails: {}", trace.broke));
                VIOLATED
            }
            Replayed::FailsOtherwise(signature) => {
                let recorded = format_args!("it was recorded for {}", trace.broke);
                say::line(format_args!("{name} fails with {signature}; {recorded}"));
                if args.bisect { BISECT_SKIP } else { VIOLATED }
            }
            Replayed::Passes => {
                let promise = trace.broke.rule.promise();
                let what =
                    format_args!("the situation was reached and the promise held: {promise}");
                let contract = judged_by(trace.shape.contract);
                say::line(format_args!("{name} passes: {what} ({contract})"));
                PASSED
            }
            Replayed::NotReached(what) => {
                say::line(format_args!("{name} did not reach its situation: {what}"));
                NOT_REACHED
            }
        };
        if args.rewrite {
            self.rewrite(&judged)?;
        }
        Ok(code)
    }
}

impl Traced<'_> {
    /// Writes the trace as it was replayed, in the current format.
    fn rewrite(&self, judged: &Judged) -> Result<(), String> {
        let Traced { trace, name, args, .. } = self;
        if judged.replayed != Replayed::Fails {
            let why = "only a trace that still fails can be rewritten";
            say::line(format_args!("{name} is unchanged: {why}"));
            return Ok(());
        }
        let actions = judged.actions.clone();
        let now = Trace { actions, events: judged.hash, ..(*trace).clone() };
        let path = args.trace.as_deref().unwrap_or(Path::new(name));
        let before = read_text(path, MOST_BYTES, "trace")?;
        let text = with_remarks_of(&before, trace, &now);
        if before == text {
            say::line(format_args!("{name} is up to date"));
            return Ok(());
        }
        write_whole(path, text.as_bytes())?;
        say::line(format_args!("{name} is rewritten"));
        Ok(())
    }
}
