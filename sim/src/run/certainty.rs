//! The point of no return: the step of a failing run from which every sampled continuation fails.
//!
//! A failing run is one future among many. From a step of it, others are sampled: from there on the
//! guest only reads and flushes, the host does not fail, the power is cut or not, and everything is
//! read back. If all of them break a promise, the failure is certain at that step. The step that
//! turns a few failing futures into all of them points to the bug.
//!
//! The futures are drawn from fixed seeds, so the result is deterministic. The guest does not
//! write, because a write could cover the damage.

use crate::base::choose::{Choose, Seeded, Site};
use crate::base::prng::mix;
use crate::dut::DeviceUnderTest;
use crate::run::guarded;
use crate::schedule::options::{Mix, Options};
use crate::schedule::{Schedule, Scheduler};
use crate::world::action::Action;
use crate::world::{Event, World, WorldShape};

/// The number of futures sampled from a step.
pub const FUTURES: u32 = 300;

/// The maximum length of an analysed run, in steps.
const MOST_STEPS: usize = 400;

/// The point of no return of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certainty {
    /// The number of steps after which every sampled future breaks a promise. `None` if that is so
    /// only once the failure itself is observed.
    pub from: Option<usize>,
    /// The number of futures that break a promise one step before `from`, or before the last step
    /// if `from` is `None`.
    pub before: u32,
    /// The number of futures sampled from each step.
    pub futures: u32,
}

/// The steps among events: every action except `await` and `rest`, which stand for others.
pub fn steps(events: &[Event]) -> impl Iterator<Item = Action> + '_ {
    events.iter().filter_map(|event| match event {
        Event::Did(Action::Await { .. } | Action::Stream { .. } | Action::Rest) => None,
        Event::Did(action) => Some(*action),
        _ => None,
    })
}

/// Finds the point of no return of the failure that the world, with a journal, has just reached.
///
/// `None` for a run that is too long, and for a device that is not on the simulated disk or cannot
/// be copied, because its futures cannot be run from a clone.
#[must_use]
pub fn certainty<D: DeviceUnderTest>(world: &World<D>) -> Option<Certainty> {
    let events = world.journal()?.events();
    if events.iter().any(|event| matches!(event, Event::Did(Action::Stream { .. }))) {
        // A stream is judged as a whole: no single step of it breaks the promise.
        return None;
    }
    let steps: Vec<Action> = steps(events).collect();
    if !D::MEDIUM.is_simulated() || !D::COPIES || steps.is_empty() || steps.len() > MOST_STEPS {
        return None;
    }
    let mut fresh = world.clone();
    fresh.renew();
    fresh.forget_journal();
    let futures = Futures { fresh, steps: &steps };
    // The last step shows the failure, so it is not analysed.
    let last = steps.len() - 1;
    if !futures.all_break(last) {
        return Some(Certainty { from: None, before: futures.broken(last), futures: FUTURES });
    }
    // A certain failure stays certain, so bisection finds the first such step.
    let (mut open, mut certain) = (0, last);
    while open < certain {
        let middle = open.midpoint(certain);
        if futures.all_break(middle) {
            certain = middle;
        } else {
            open = middle + 1;
        }
    }
    let before = if certain == 0 { 0 } else { futures.broken(certain - 1) };
    Some(Certainty { from: Some(certain), before, futures: FUTURES })
}

struct Futures<'a, D: DeviceUnderTest> {
    fresh: World<D>,
    steps: &'a [Action],
}

impl<D: DeviceUnderTest> Futures<'_, D> {
    /// The world after `count` steps; `None` if it fails before that.
    fn after(&self, count: usize) -> Option<World<D>> {
        let mut world = self.fresh.clone();
        let verdict = guarded(&mut world, |world| {
            for step in &self.steps[..count] {
                world.step(step)?;
            }
            Ok(false)
        });
        verdict.failure.is_none().then_some(world)
    }

    fn all_break(&self, count: usize) -> bool {
        let Some(world) = self.after(count) else { return true };
        (0..FUTURES).all(|nth| self.breaks(&world, nth))
    }

    fn broken(&self, count: usize) -> u32 {
        let Some(world) = self.after(count) else { return FUTURES };
        (0..FUTURES).filter(|&nth| self.breaks(&world, nth)).count() as u32
    }

    /// Whether future `nth` of this world breaks a promise.
    fn breaks(&self, now: &World<D>, nth: u32) -> bool {
        let mut world = now.clone();
        let mut choose = Seeded::new(mix(u64::from(now.run()) << 32 | u64::from(nth)));
        let options = calm(now.shape());
        let sent = self.steps.iter().filter_map(|step| match step {
            Action::Send { id, .. } => Some(*id),
            _ => None,
        });
        let next_id = sent.max().unwrap_or(0) + 1;
        let requests = choose.below(6, Site::Request);
        let cut = choose.below(2, Site::Crash) == 1;
        let schedule = Schedule::Uniform;
        let mut scheduler =
            Scheduler::resume(schedule, options, next_id, requests, cut, &mut choose);
        let verdict = guarded(&mut world, |world| {
            while let Some(action) = scheduler.next(world, &mut choose) {
                world.step(&action)?;
            }
            Ok(false)
        });
        verdict.failure.is_some()
    }
}

/// The options of a run in this world with a host that does not fail and a guest that only reads
/// and flushes.
fn calm(shape: &WorldShape) -> Options {
    Options {
        crashes: 1,
        mix: Mix { read: 2, write: 0, flush: 1, discard: 0, zeroes: 0, id: 0 },
        burst: 8,
        ..Options::quiet(*shape)
    }
}
