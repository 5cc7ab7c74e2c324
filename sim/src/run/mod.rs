//! One run, from a seed or from a list of actions.

pub mod campaign;
pub mod certainty;
pub(crate) mod known;
pub mod rebase;
mod replay;
pub mod rows;

pub use replay::{Judged, Replayed, judge, reproduced};

use std::any::Any;

use powerfail_model::{Profile, Rule, Violation};

use crate::base::choose::{Choose, Seeded};
use crate::base::prng::mix;
use crate::dut::DeviceUnderTest;
use crate::dut::caught::{caught, said};
use crate::schedule::options::{Options, Preset};
use crate::schedule::{Schedule, Scheduler};
use crate::world::action::Action;
use crate::world::{Event, Failure, World, WorldShape};

/// The way runs are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Plan {
    /// The preset that draws the options.
    pub preset: Preset,
    /// The scheduler of the steps.
    pub schedule: Schedule,
    /// The contract that the devices are judged by; by default [their
    /// own](DeviceUnderTest::PROFILE).
    pub contract: Option<Profile>,
}

impl Plan {
    /// The contract that a device is judged by.
    #[must_use]
    pub fn contract_of<D: DeviceUnderTest>(self) -> Profile {
        self.contract.unwrap_or(D::PROFILE)
    }

    /// Draws the options of a seed's run.
    fn draw<D: DeviceUnderTest>(
        self,
        setup: &D::Setup,
        seed: u64,
        choose: &mut impl Choose,
    ) -> Options {
        let mut options = self.preset.draw(D::KINDS, choose);
        options.shape = options.shape.fitting::<D>(setup);
        options.shape.contract = self.contract_of::<D>();
        if self.preset != Preset::Bench {
            // Not drawn, so that a run is the same with them and without them.
            let is_one_in = |runs: u64| seed % runs == mix(seed / runs) % runs;
            options.shape.watch = is_one_in(ONE_WATCHED_IN);
            if is_one_in(ONE_IN_REGIONS_IN) {
                options.shape.region = 4096 << (mix(seed) % 2);
            }
        }
        options
    }
}

/// The result of one run.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The hash over all its events.
    pub hash: u64,
    /// The broken promise, if any.
    pub failure: Option<Box<Failure>>,
    /// Whether the replay was given up after [`MOST_STEPS`].
    pub exhausted: bool,
}

/// One seed of so many neighbours is watched: its run takes ten times as long as another one.
const ONE_WATCHED_IN: u64 = 384;

/// One seed of so many neighbours has guest memory of several regions that move.
const ONE_IN_REGIONS_IN: u64 = 256;

/// The maximum number of device-thread steps of a replay.
pub const MOST_STEPS: u64 = 3_000_000;

/// The number that identifies the run of a seed in its payloads; never zero.
#[must_use]
pub fn run_number(seed: u64) -> u32 {
    (mix(seed ^ 0x5eed) as u32) | 1
}

/// A world of this seed's shape, at power-on.
pub fn world<D: DeviceUnderTest>(setup: &D::Setup, plan: Plan, seed: u64) -> World<D> {
    let mut choose = Seeded::new(seed);
    let options = plan.draw::<D>(setup, seed, &mut choose);
    World::new(setup.clone(), options.shape, run_number(seed))
}

/// Does the run of a seed in a world that may have done other runs. Calls `record` with every
/// action that was done.
pub fn run_seed<D: DeviceUnderTest>(
    world: &mut World<D>,
    plan: Plan,
    seed: u64,
    record: impl FnMut(&Action),
) -> Verdict {
    let mut choose = Seeded::new(seed);
    let options = plan.draw::<D>(world.setup(), seed, &mut choose);
    lead(world, plan, options, run_number(seed), &mut choose, record)
}

/// The world and the actions of a seed's run, for replay.
pub(crate) fn record<D: DeviceUnderTest>(
    setup: &D::Setup,
    plan: Plan,
    seed: u64,
) -> (WorldShape, Vec<Action>) {
    let mut world = world::<D>(setup, plan, seed);
    let shape = *world.shape();
    let mut actions = Vec::new();
    run_seed(&mut world, plan, seed, |action| actions.push(*action));
    (shape, actions)
}

/// Does one run with these options; every further number is drawn from `choose`.
pub fn lead<D: DeviceUnderTest, C: Choose>(
    world: &mut World<D>,
    plan: Plan,
    options: Options,
    run: u32,
    choose: &mut C,
    mut record: impl FnMut(&Action),
) -> Verdict {
    let mut last = None;
    let verdict = guarded(world, |world| {
        world.restart(options.shape, run);
        let mut scheduler = Scheduler::new(plan.schedule, options, choose);
        loop {
            world.set_recovering(scheduler.is_recovering());
            let Some(action) = scheduler.next(world, choose) else { break };
            last = Some(action);
            match world.step(&action) {
                Ok(true) => record(&action),
                Ok(false) => {}
                Err(failure) => {
                    record(&action);
                    return Err(failure);
                }
            }
        }
        Ok(false)
    });
    let panicked = |failure: &Failure| failure.violation.rule == Rule::DevicePanicked;
    if verdict.failure.as_deref().is_some_and(panicked)
        && let Some(action) = last
    {
        // The step panicked, so the loop above has not recorded it.
        record(&action);
    }
    verdict
}

/// Replays a list of actions from power-on. Actions that are not enabled are skipped; `skipped` is
/// called with their index.
pub fn replay<D: DeviceUnderTest>(
    world: &mut World<D>,
    shape: WorldShape,
    run: u32,
    actions: &[Action],
    mut skipped: impl FnMut(usize),
) -> Verdict {
    guarded(world, |world| {
        world.restart(shape, run);
        let begun = world.stats().steps;
        for (index, action) in actions.iter().enumerate() {
            if !world.step(action)? {
                skipped(index);
            }
            if world.stats().steps - begun > MOST_STEPS {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// The actions with every `await` and `rest` replaced by the steps they stand for, and without
/// those that were not enabled. A replay of them does the same, one step at a time.
pub fn unfold<D: DeviceUnderTest>(
    world: &mut World<D>,
    shape: WorldShape,
    run: u32,
    actions: &[Action],
) -> Vec<Action> {
    world.keep_journal();
    world.restart(shape, run);
    let mut unfolded = Vec::new();
    for action in actions {
        let before = world.journal().map_or(0, |journal| journal.events().len());
        let done = caught(|| world.step(action));
        let events = world.journal().map(|journal| &journal.events()[before..]).unwrap_or_default();
        let did = events.iter().filter_map(|event| match event {
            Event::Did(action) => Some(*action),
            _ => None,
        });
        match action {
            Action::Await { .. } => unfolded.extend(did.skip(1)),
            Action::Rest => {
                unfolded.extend(did.skip(1));
                unfolded.push(Action::Rest);
            }
            _ if matches!(done, Ok(Ok(false))) => {}
            _ => unfolded.push(*action),
        }
        if !matches!(done, Ok(Ok(_))) {
            break;
        }
    }
    unfolded
}

/// Does a run whose device may panic. `run` returns whether it was given up.
pub(crate) fn guarded<D: DeviceUnderTest>(
    world: &mut World<D>,
    run: impl FnOnce(&mut World<D>) -> Result<bool, Box<Failure>>,
) -> Verdict {
    let mut exhausted = false;
    let mut failure = match caught(|| run(world)) {
        Ok(Ok(given_up)) => {
            exhausted = given_up;
            None
        }
        Ok(Err(failure)) => Some(failure),
        Err(panic) => Some(panicked(&*panic)),
    };
    if let Some(failure) = &mut failure {
        // The rules that the world checks itself hold in either profile.
        failure.violation.profile = world.shape().contract;
    }
    Verdict { hash: world.event_hash(), failure, exhausted }
}

/// The failure that a panic of a device stands for.
pub(crate) fn panicked(panic: &(dyn Any + Send)) -> Box<Failure> {
    let violation =
        Violation::new(Rule::DevicePanicked).note(format!("Panic message: {}", said(panic)));
    Box::new(Failure { device: 0, violation })
}
