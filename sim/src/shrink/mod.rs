//! From a failing run to a short one.
//!
//! A run is a list of actions in a world, so all axes are shrunk at once: fewer requests and lives,
//! smaller and earlier sectors, plainer layouts, fewer features, queues and devices, an order
//! closer to first in, first out, a crash that loses everything or nothing. What must stay is the
//! [`Signature`]: rule, class and kind of request. Every change is judged by replaying it; of two
//! runs the simpler one is decided by a fixed order, so the result is the same for any
//! number of threads, and shrinking what was shrunk goes on where it stopped.

mod case;
mod counterfactual;
mod passes;
mod places;
mod search;
mod timeline;

use powerfail_model::{Reason, RequestId};

use crate::dut::DeviceUnderTest;
use crate::guest::GuestRequest;
use crate::run::replay;
use crate::schedule::options::Options;
use crate::trace::{Signature, Trace, request_name};
use crate::world::action::Action;
use crate::world::{Event, Failure, World};
use case::Case;
use passes::Mode;
use search::{STRATEGIES, Search};
use timeline::Timeline;

/// How much work shrinking may be.
pub struct Effort<'a> {
    /// The most replays.
    pub replays: u32,
    /// How many threads.
    pub jobs: usize,
    /// Told now and then how things stand, and asked whether to stop with that. The result then
    /// depends on when that was.
    pub stop: &'a (dyn Fn(Standing) -> bool + Sync),
}

/// How far shrinking has come.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Actions that are left.
    pub actions: usize,
    /// Replays so far.
    pub replays: u32,
}

impl std::fmt::Debug for Effort<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Effort { replays, jobs, .. } = self;
        f.debug_struct("Effort").field("replays", replays).field("jobs", jobs).finish()
    }
}

/// More replays than shrinking takes, if nothing is wrong with it.
pub const PLENTY: u32 = 200_000;

impl Effort<'_> {
    /// As much as it takes, on so many threads.
    #[must_use]
    pub fn plenty(jobs: usize) -> Effort<'static> {
        Effort { replays: PLENTY, jobs, stop: &|_| false }
    }
}

/// A shrunk failure.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The world.
    pub options: Options,
    /// The number of the run.
    pub run: u32,
    /// The actions that are left.
    pub actions: Vec<Action>,
    /// How the failure looks now.
    pub failure: Box<Failure>,
    /// The event hash of the shrunk run.
    pub hash: u64,
    /// The requests the broken promise rests on, by name, and how they were answered; any answer
    /// will do for the one at which it came to light.
    pub witness: Vec<(String, Option<u8>)>,
    /// The one thing that makes the run pass if it is otherwise: it fails if and only if this is
    /// so.
    pub only_if: Option<String>,
    /// How many actions there were.
    pub from: usize,
    /// How many replays it took.
    pub replays: u32,
    /// Whether nothing more could be done; if not, the budget was used up.
    pub complete: bool,
}

impl Shrunk {
    /// As a trace, found on the device and disk with these names.
    #[must_use]
    pub fn trace(&self, device: &str, disk: &str) -> Trace {
        Trace {
            device: device.to_owned(),
            disk: disk.to_owned(),
            broke: Signature::of(&self.failure.violation),
            seed: String::new(),
            run: self.run,
            options: self.options,
            witness: self.witness.clone(),
            only_if: self.only_if.clone().unwrap_or_default(),
            events: self.hash,
            actions: self.actions.clone(),
        }
    }
}

/// A failing run as a trace, as long as it is: found on the device and disk with these names.
pub fn unshrunk<D: DeviceUnderTest>(
    setup: &D::Setup,
    options: Options,
    run: u32,
    actions: Vec<Action>,
    signature: &Signature,
    (device, disk): (&str, &str),
) -> Trace {
    let mut world = World::<D>::new(setup.clone(), options, run);
    world.keep_journal();
    let verdict = replay(&mut world, options, run, &actions, |_| {});
    let failure = verdict.failure.filter(|f| Signature::of(&f.violation) == *signature);
    Trace {
        device: device.to_owned(),
        disk: disk.to_owned(),
        broke: signature.clone(),
        seed: String::new(),
        run,
        options,
        witness: failure.map_or_else(Vec::new, |failure| witness(&world, &failure)),
        only_if: String::new(),
        events: verdict.hash,
        actions,
    }
}

/// Shrinks a failing run. The result has no more actions than were given, if these fail as they
/// stand.
///
/// Returns nothing if the actions do not fail with this signature when replayed.
pub fn shrink<D: DeviceUnderTest>(
    setup: &D::Setup,
    options: Options,
    run: u32,
    actions: &[Action],
    signature: &Signature,
    effort: &Effort<'_>,
) -> Option<Shrunk> {
    let search = Search::<D>::new(setup, signature, effort);
    let given = Case { options, run, actions: actions.to_vec() };
    let mut best = search
        .attempt(&(given.clone(), Mode::Strict))
        .or_else(|| search.attempt(&(given, Mode::ByMeaning)))?;
    let mut complete = from_every_side(&search, &mut best);
    nail_down(&search, &mut best, actions.len());
    // What was nailed down may be gone about in other ways.
    loop {
        let mut again = best.clone();
        complete &= from_every_side(&search, &mut again);
        nail_down(&search, &mut again, actions.len());
        if again.actions.len() >= best.actions.len() {
            break;
        }
        best = again;
    }
    let only_if = counterfactual::find(&search, &best);
    let mut world = World::<D>::new(setup.clone(), best.options, best.run);
    world.keep_journal();
    let verdict = replay(&mut world, best.options, best.run, &best.actions, |_| {});
    let failure = verdict.failure.filter(|f| Signature::of(&f.violation) == *signature)?;
    let witness = witness(&world, &failure);
    Some(Shrunk {
        options: best.options,
        run: best.run,
        actions: best.actions,
        failure,
        hash: verdict.hash,
        witness,
        only_if,
        from: actions.len(),
        replays: search.replays(),
        complete,
    })
}

/// Simplifies a run by every strategy and keeps the best: the order in which things are taken away
/// decides where one gets stuck. Whether all came to their end.
fn from_every_side<D: DeviceUnderTest>(search: &Search<'_, D>, best: &mut Case) -> bool {
    let first = best.clone();
    let mut complete = true;
    for strategy in 0..STRATEGIES {
        let mut other = first.clone();
        complete &= search.simplify(&mut other, strategy);
        if other.cost() < best.cost() {
            *best = other;
        }
    }
    complete
}

/// Puts an `await` behind the step at which each request came back that nobody waits for yet, if
/// the failure stays the same. On the device that failed they do nothing; on another the request
/// may take longer. Not where that makes more than `most` actions.
fn nail_down<D: DeviceUnderTest>(search: &Search<'_, D>, best: &mut Case, most: usize) {
    let timeline = search.with(best, |world| Timeline::of(world, best));
    let mut actions = Vec::with_capacity(best.actions.len() + 4);
    let last = best.actions.len().saturating_sub(1);
    for (place, action) in best.actions.iter().enumerate() {
        actions.push(*action);
        if place == last || matches!(action, Action::Await { .. } | Action::Rest) {
            continue;
        }
        for (device, id) in timeline.at(place).back {
            let wait = Action::Await { device, id };
            if !best.actions.contains(&wait) {
                actions.push(wait);
            }
        }
    }
    if actions.len() > best.actions.len()
        && actions.len() <= most
        && let Some(nailed) = search.attempt(&(Case { actions, ..*best }, Mode::Strict))
    {
        *best = nailed;
    }
}
/// The requests that a violation names and the guest saw answered, with their status.
fn witness<D: DeviceUnderTest>(world: &World<D>, failure: &Failure) -> Vec<(String, Option<u8>)> {
    let mut named: Vec<RequestId> = failure
        .violation
        .because
        .iter()
        .filter_map(|reason| match *reason {
            Reason::Submitted { id, .. }
            | Reason::Completed { id, .. }
            | Reason::FlushSubmitted { id, .. }
            | Reason::FlushCompleted { id, .. }
            | Reason::ReadSaw { id, .. } => Some(id),
            _ => None,
        })
        .collect();
    named.extend(failure.violation.request);
    named.sort_unstable();
    named.dedup();
    let events = world.journal().map(|journal| journal.events()).unwrap_or_default();
    let answered = |wanted: RequestId| {
        events.iter().find_map(|event| match event {
            Event::Completed { to, id, ask, status }
                if *id == wanted.0 && to.device == failure.device =>
            {
                // A right device may answer otherwise where the failure came to light, and may
                // have reason to fail a flush.
                let fixed =
                    failure.violation.request != Some(wanted) && *ask != GuestRequest::Flush;
                Some((request_name(*id, ask), fixed.then_some(*status)))
            }
            _ => None,
        })
    };
    named.into_iter().filter_map(answered).collect()
}
