//! Since when a failure could no longer be averted.
//!
//! A failing run is one future among many. From each moment of it others are tried: the guest only
//! reads and flushes from there on, the host is sound, the power is cut or not, and everything is
//! read back. If all of them break a promise the failure was certain by then, whatever comes after;
//! what turned a few of them into all is where to look for the mistake.
//!
//! The futures are drawn from fixed seeds, so the answer is the same every time. A guest that wrote
//! on could cover the damage up, which is why this one does not.

use crate::base::choose::{Choose, Ratio, Seeded, Site};
use crate::base::prng::mix;
use crate::dut::DeviceUnderTest;
use crate::run::guarded;
use crate::schedule::options::{Mix, Options};
use crate::schedule::{Schedule, Scheduler};
use crate::world::action::Action;
use crate::world::{Event, World};

/// How many futures are tried from a moment.
pub const FUTURES: u32 = 300;

/// No run longer than this is asked about.
const MOST_STEPS: usize = 400;

/// Since when a failure was certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Certainty {
    /// After so many steps every future breaks a promise. Nothing if that is so only once the
    /// promise is seen to be broken.
    pub from: Option<usize>,
    /// How many futures break one a step before that. Without such a step: before the last one.
    pub before: u32,
    /// How many futures were tried from each moment.
    pub futures: u32,
}

/// The steps among events: every action but those that let others happen.
pub fn steps(events: &[Event]) -> impl Iterator<Item = Action> + '_ {
    events.iter().filter_map(|event| match event {
        Event::Did(Action::Await { .. } | Action::Rest) => None,
        Event::Did(action) => Some(*action),
        _ => None,
    })
}

/// Finds out since when the failure was certain that the world has just run into, with a journal.
///
/// Nothing is found out about a run that is too long, or about a device that is not on the
/// simulated disk: its futures cannot be tried from a clone.
#[must_use]
pub fn certainty<D: DeviceUnderTest>(world: &World<D>) -> Option<Certainty> {
    let steps: Vec<Action> = steps(world.journal()?.events()).collect();
    if !D::MEDIUM.is_simulated() || steps.is_empty() || steps.len() > MOST_STEPS {
        return None;
    }
    let mut fresh = world.clone();
    fresh.renew();
    fresh.forget_journal();
    let futures = Futures { fresh, steps: &steps };
    // The step that shows the failure is not a moment before it.
    let last = steps.len() - 1;
    if !futures.all_break(last) {
        return Some(Certainty { from: None, before: futures.broken(last), futures: FUTURES });
    }
    // Once it is certain it stays certain, so the first moment can be found by halving.
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
    /// The world after so many steps; nothing if it does not get there.
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

    /// Whether a promise is broken in one of the futures of this world.
    fn breaks(&self, now: &World<D>, nth: u32) -> bool {
        let mut world = now.clone();
        let mut choose = Seeded::new(mix(u64::from(now.run()) << 32 | u64::from(nth)));
        let options = calm(now.options());
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

/// The same world with a sound host and a guest that reads and flushes by the book.
fn calm(options: &Options) -> Options {
    Options {
        requests: 0,
        crashes: 1,
        kill: Ratio::NEVER,
        mix: Mix { read: 2, write: 0, flush: 1, discard: 0, zeroes: 0, id: 0 },
        chase: Ratio::NEVER,
        toggle: Ratio::NEVER,
        reset: Ratio::NEVER,
        refuse: Ratio::NEVER,
        layouts: false,
        parts: Ratio::NEVER,
        write_back: Ratio::NEVER,
        burst: 8,
        spread: options.spec.disk.capacity,
        base: 0,
        ..options.without_trouble()
    }
}
