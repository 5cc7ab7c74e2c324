//! From a failing run to a short one, by plain deletion.
//!
//! Ranges of actions are deleted, then single ones, as long as the same signature fails; an action
//! that is no longer enabled is skipped by the replay. Then the answers the failure rests on are
//! nailed down as `await` lines, so that the trace means the same on another device.

use powerfail_model::{Reason, RequestId};

use crate::action::Action;
use crate::dut::DeviceUnderTest;
use crate::guest::Ask;
use crate::run::{Verdict, replay};
use crate::spec::Options;
use crate::trace::{Signature, request_name};
use crate::world::{Event, Failure, World};

/// A shrunk failure.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The actions that are left.
    pub actions: Vec<Action>,
    /// How the failure looks now.
    pub failure: Box<Failure>,
    /// The event hash of the shrunk run.
    pub hash: u64,
    /// The requests the broken promise rests on, by name, and how they were answered; any answer
    /// will do for the one at which it came to light.
    pub witness: Vec<(String, Option<u8>)>,
    /// How many actions there were.
    pub from: usize,
    /// How many replays it took.
    pub replays: u32,
}

/// Shrinks a failing run with at most `budget` replays.
///
/// Returns nothing if the actions do not fail with this signature when replayed.
pub fn shrink<D: DeviceUnderTest>(
    world: &mut World<D>,
    options: Options,
    run: u32,
    actions: &[Action],
    signature: &Signature,
    budget: u32,
) -> Option<Shrunk> {
    let from = actions.len();
    let mut shrinker = Shrinker { world, options, run, signature, replays: 0, budget };
    let mut best = shrinker.keep(actions)?;
    let mut size = (best.len() / 2).max(1);
    loop {
        let mut at = 0;
        let mut progress = false;
        while at < best.len() && shrinker.replays < budget {
            let mut attempt = best.clone();
            attempt.drain(at..(at + size).min(best.len()));
            match shrinker.keep(&attempt) {
                Some(kept) => {
                    best = kept;
                    progress = true;
                }
                None => at += size,
            }
        }
        if shrinker.replays >= budget || (size == 1 && !progress) {
            break;
        }
        size = (size / 2).max(1);
    }
    let best = shrinker.nail_down(best);
    let replays = shrinker.replays;
    shrinker.world.keep_journal();
    let verdict = replay(shrinker.world, options, run, &best, |_| {});
    let failure = verdict.failure.filter(|f| Signature::of(&f.violation) == *signature)?;
    let witness = witness(shrinker.world, &failure);
    Some(Shrunk { actions: best, failure, hash: verdict.hash, witness, from, replays })
}

struct Shrinker<'a, D: DeviceUnderTest> {
    world: &'a mut World<D>,
    options: Options,
    run: u32,
    signature: &'a Signature,
    replays: u32,
    budget: u32,
}

impl<D: DeviceUnderTest> Shrinker<'_, D> {
    fn try_out(&mut self, actions: &[Action], skipped: impl FnMut(usize)) -> Verdict {
        self.replays += 1;
        let verdict = replay(self.world, self.options, self.run, actions, skipped);
        if matches!(&verdict.failure, Some(f) if f.violation.rule == powerfail_model::Rule::DevicePanicked)
        {
            // Whatever a panic left behind, the next replay begins with a new world.
            self.world.renew();
        }
        verdict
    }

    /// The actions without those that do nothing, if they fail with the same signature.
    fn keep(&mut self, actions: &[Action]) -> Option<Vec<Action>> {
        let mut idle = Vec::new();
        let verdict = self.try_out(actions, |index| idle.push(index));
        let failure = verdict.failure?;
        if Signature::of(&failure.violation) != *self.signature {
            return None;
        }
        let mut idle = idle.into_iter().peekable();
        let mut kept = Vec::with_capacity(actions.len());
        for (index, action) in actions.iter().enumerate() {
            if idle.next_if_eq(&index).is_none() {
                kept.push(*action);
            }
        }
        Some(kept)
    }

    /// Puts an `await` behind the step at which each request came back that the guest saw answered,
    /// if the failure stays the same. On the device that failed they do nothing.
    fn nail_down(&mut self, actions: Vec<Action>) -> Vec<Action> {
        self.world.keep_journal();
        self.try_out(&actions, |_| {});
        let mut nailed = Vec::with_capacity(actions.len() * 2);
        let journal = self.world.journal().map(|journal| journal.events().to_vec());
        let mut events = journal.unwrap_or_default().into_iter().peekable();
        for action in &actions {
            nailed.push(*action);
            let mut came_back = Vec::new();
            while let Some(event) = events.next() {
                match event {
                    Event::Completed { to, id, .. } => came_back.push((to.device, id)),
                    Event::Did(_) | Event::Submitted(_) | Event::Signalled(_) => {}
                }
                // What follows up to the next listed action came of this one.
                if matches!(events.peek(), Some(Event::Did(next)) if !is_inner(action, next)) {
                    break;
                }
            }
            if !matches!(action, Action::Rest) {
                nailed
                    .extend(came_back.into_iter().map(|(device, id)| Action::Await { device, id }));
            }
        }
        let verdict = self.try_out(&nailed, |_| {});
        let same = verdict.failure.is_some_and(|f| Signature::of(&f.violation) == *self.signature);
        // The request that showed the failure never came back as far as the journal goes, so the
        // last action stays the last.
        if same && self.replays < self.budget + 2 { nailed } else { actions }
    }
}

/// Whether an action was done on behalf of one that lets everything move.
fn is_inner(outer: &Action, inner: &Action) -> bool {
    let settles = matches!(outer, Action::Rest | Action::Await { .. });
    let moves = matches!(
        inner,
        Action::Crank { .. }
            | Action::Complete { .. }
            | Action::Kick { .. }
            | Action::Reap { .. }
            | Action::PollReset { .. }
    );
    settles && moves
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
                let fixed = failure.violation.request != Some(wanted) && *ask != Ask::Flush;
                Some((request_name(*id, ask), fixed.then_some(*status)))
            }
            _ => None,
        })
    };
    named.into_iter().filter_map(answered).collect()
}
