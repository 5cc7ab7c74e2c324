//! Shrinking of a failing run.
//!
//! A run is a list of actions in a world, so all axes are shrunk at once: fewer requests and lives,
//! smaller and earlier sectors, simpler layouts, fewer features, queues and devices, an order
//! closer to first in, first out, a crash that loses everything or nothing. The [`Signature`] must
//! stay: rule, class and kind of request. Every change is checked by a replay. A fixed order
//! decides which of two runs is simpler, so the result is the same for any number of threads, and
//! shrinking a shrunk run continues where it stopped.

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
use crate::trace::{Signature, Trace, request_name};
use crate::world::WorldShape;
use crate::world::action::Action;
use crate::world::{Event, Failure, World};
use case::Case;
use passes::Mode;
use search::{STRATEGIES, Search, confidence};
use timeline::Timeline;

/// Limits of shrinking.
pub struct Effort<'a> {
    /// The most replays.
    pub replays: u32,
    /// The number of threads.
    pub jobs: usize,
    /// A callback that receives the progress from time to time and returns whether to stop. The
    /// result then depends on the time of the stop.
    pub stop: &'a (dyn Fn(Standing) -> bool + Sync),
}

/// Progress of shrinking.
#[derive(Clone, Copy, Debug)]
pub struct Standing {
    /// Actions left.
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

/// A budget of replays that shrinking does not use up unless it has a bug.
pub const PLENTY: u32 = 200_000;

impl Effort<'_> {
    /// An unlimited effort on so many threads.
    #[must_use]
    pub fn plenty(jobs: usize) -> Effort<'static> {
        Effort { replays: PLENTY, jobs, stop: &|_| false }
    }
}

/// A shrunk failure.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The world.
    pub shape: WorldShape,
    /// The number of the run.
    pub run: u32,
    /// The actions left.
    pub actions: Vec<Action>,
    /// The failure of the shrunk run.
    pub failure: Box<Failure>,
    /// The event hash of the shrunk run.
    pub hash: u64,
    /// The requests on which the broken promise rests, by name, with their status; `None` accepts
    /// any status, as for the request at which the failure came to light.
    pub witness: Vec<(String, Option<u8>)>,
    /// The condition of the failure, if one was found: the run fails if and only if it holds.
    pub only_if: Option<String>,
    /// The number of actions before shrinking.
    pub from: usize,
    /// The number of replays.
    pub replays: u32,
    /// Whether no pass can simplify further; if not, the budget was used up.
    pub complete: bool,
}

impl Shrunk {
    /// The failure as a trace that names this device and this disk.
    #[must_use]
    pub fn trace(&self, device: &str, disk: &str) -> Trace {
        Trace {
            device: device.to_owned(),
            disk: disk.to_owned(),
            broke: Signature::of(&self.failure.violation),
            seed: String::new(),
            run: self.run,
            shape: self.shape,
            witness: self.witness.clone(),
            only_if: self.only_if.clone().unwrap_or_default(),
            events: self.hash,
            actions: self.actions.clone(),
        }
    }
}

/// A failing run as a trace, without shrinking, that names this device and this disk.
pub(crate) fn unshrunk<D: DeviceUnderTest>(
    setup: &D::Setup,
    shape: WorldShape,
    run: u32,
    actions: Vec<Action>,
    signature: &Signature,
    (device, disk): (&str, &str),
) -> Trace {
    let mut world = World::<D>::new(setup.clone(), shape, run);
    world.keep_journal();
    let verdict = replay(&mut world, shape, run, &actions, |_| {});
    let failure = verdict.failure.filter(|f| Signature::of(&f.violation) == *signature);
    Trace {
        device: device.to_owned(),
        disk: disk.to_owned(),
        broke: signature.clone(),
        seed: String::new(),
        run,
        shape,
        witness: failure.map_or_else(Vec::new, |failure| witness(&world, &failure)),
        only_if: String::new(),
        events: verdict.hash,
        actions,
    }
}

/// Shrinks a failing run. The result has no more actions than the input, if the input fails without
/// changes.
///
/// Returns `None` if a replay of the actions does not fail with this signature.
pub fn shrink<D: DeviceUnderTest>(
    setup: &D::Setup,
    shape: WorldShape,
    run: u32,
    actions: &[Action],
    signature: &Signature,
    effort: &Effort<'_>,
) -> Option<Shrunk> {
    let shape = shape.of_device::<D>(setup);
    let search = Search::<D>::new(setup, signature, effort);
    let given = Case { shape, run, actions: actions.to_vec() };
    let mut best = search.first(&given)?;
    let mut complete = from_every_side(&search, &mut best);
    nail_down(&search, &mut best, actions.len());
    // A run with added waits may be simplified in other ways.
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
    let mut world = World::<D>::new(setup.clone(), best.shape, best.run);
    world.keep_journal();
    let (verdict, failure) = (0..confidence::<D>()).find_map(|_| {
        let mut verdict = replay(&mut world, best.shape, best.run, &best.actions, |_| {});
        let failure = verdict.failure.take();
        let same = failure.filter(|failure| Signature::of(&failure.violation) == *signature);
        same.map(|failure| (verdict, failure))
    })?;
    let witness = witness(&world, &failure);
    Some(Shrunk {
        shape: best.shape,
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

/// Simplifies a run by every strategy and keeps the best result, because the order of removals
/// decides at which minimum the search stops. Returns whether all strategies finished.
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

/// Adds an `await` behind the step at which each request came back, unless a line waits for it
/// already, if the failure stays the same. On the device that failed these lines have no effect; on
/// another device the request may take longer. Adds none if the run would have more than `most`
/// actions.
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
/// The requests that a violation names and that were returned to the guest, with their status.
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
                // A correct device may return another status for the request at which the failure
                // came to light, and may have reason to fail a flush.
                let fixed =
                    failure.violation.request != Some(wanted) && *ask != GuestRequest::Flush;
                Some((request_name(*id, ask), fixed.then_some(status.0)))
            }
            _ => None,
        })
    };
    named.into_iter().filter_map(answered).collect()
}
