//! `powerfail replay`: a trace or a seed, and its story.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::target::{Targets, Visit};
use super::{NOT_REACHED, PASSED, ReplayArgs, VIOLATED};
use crate::dut::DeviceUnderTest;
use crate::run::{Plan, run_seed, world};
use crate::story::{Provenance, tell};
use crate::trace::{Judged, Replayed, Trace, judge};
use crate::world::World;

/// No trace file is larger than this; a larger one is something else.
const MOST_BYTES: u64 = 64 << 20;

pub(super) fn replay(targets: &impl Targets, args: &ReplayArgs) -> Result<u8, String> {
    let Some(path) = &args.trace else {
        let seed = args.seed.expect("clap asks for one of the two");
        let plan = Plan { preset: args.subject.profile, schedule: args.subject.schedule };
        let (device, disk) = names(targets, args, None);
        return targets.find(&device, &disk, Seed { plan, seed });
    };
    let trace = read(path)?;
    let (device, disk) = names(targets, args, Some(&trace));
    let name = path.display().to_string();
    targets.find(&device, &disk, Traced { trace: &trace, name })
}

pub(super) fn hash(targets: &impl Targets, args: &ReplayArgs) -> Result<u8, String> {
    let seed = args.seed.ok_or("give a seed")?;
    let plan = Plan { preset: args.subject.profile, schedule: args.subject.schedule };
    let (device, disk) = names(targets, args, None);
    targets.find(&device, &disk, Hash { plan, seed })
}

/// The device and the disk: as asked for, else as in the trace, else the usual ones.
fn names(targets: &impl Targets, args: &ReplayArgs, trace: Option<&Trace>) -> (String, String) {
    let asked = &args.subject;
    if asked.device.is_some() || asked.disk.is_some() {
        let device = asked.device.clone().unwrap_or_else(|| targets.default_device().to_owned());
        return (device, asked.disk.clone().unwrap_or_else(|| "sim".to_owned()));
    }
    match trace {
        Some(trace) => (trace.device.clone(), trace.disk.clone()),
        None => (targets.default_device().to_owned(), "sim".to_owned()),
    }
}

fn read(path: &Path) -> Result<Trace, String> {
    let shown = path.display();
    let said = |e: std::io::Error| format!("cannot read {shown}: {e}");
    let file = File::open(path).map_err(said)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("{shown} is no trace: it is larger than {MOST_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        format!("{shown} is no trace: byte {} is not text", e.utf8_error().valid_up_to())
    })?;
    text.parse().map_err(|e| format!("{shown}: {e}"))
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
        println!("{:016x}", verdict.hash);
        PASSED
    }
}

struct Seed {
    plan: Plan,
    seed: u64,
}

impl Visit for Seed {
    type Out = u8;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> u8 {
        let Seed { plan, seed } = self;
        let mut world = world::<D>(&setup, plan, seed);
        world.keep_journal();
        let mut actions = 0;
        let verdict = run_seed(&mut world, plan, seed, |_| actions += 1);
        match verdict.failure {
            Some(failure) => {
                let provenance =
                    Provenance { from: format!("seed {seed}"), ..Provenance::default() };
                print!("{}", tell(&world, &failure, &provenance));
                VIOLATED
            }
            None => {
                let hash = verdict.hash;
                println!("seed {seed} passes: {actions} actions, events {hash:016x}");
                PASSED
            }
        }
    }
}

struct Traced<'a> {
    trace: &'a Trace,
    name: String,
}

impl Visit for Traced<'_> {
    type Out = u8;

    fn visit<D: DeviceUnderTest>(self, setup: D::Setup) -> u8 {
        let Traced { trace, name } = self;
        let mut world = World::<D>::new(setup, trace.options, trace.run);
        let Judged { replayed, failure, moved, .. } = judge(&mut world, trace);
        let provenance = Provenance { from: name.clone(), ..Provenance::default() };
        if let Some(failure) = &failure {
            println!("{}", tell(&world, failure, &provenance));
        }
        if moved > 0 {
            println!("{name} rebased: {moved} of {} lines moved", trace.actions.len());
        }
        match replayed {
            Replayed::Fails => {
                println!("{name} fails: {}", trace.broke);
                VIOLATED
            }
            Replayed::FailsOtherwise(signature) => {
                println!("{name} fails with {signature}; it was recorded for {}", trace.broke);
                VIOLATED
            }
            Replayed::Passes => {
                println!(
                    "{name} passes: the situation was reached and {}",
                    trace.broke.rule.promise()
                );
                PASSED
            }
            Replayed::NotReached(what) => {
                println!("{name} did not reach its situation: {what}");
                NOT_REACHED
            }
        }
    }
}
