//! What replaying a trace comes to: the same failure, none, or not the situation at all.

use super::file::{Signature, Trace};
use super::line::request_name;
use crate::action::{Action, Until};
use crate::dut::DeviceUnderTest;
use crate::rebase::{Rebased, rebase};
use crate::run::{MOST_STEPS, Verdict, replay};
use crate::world::{Event, Failure, World};

/// How far a thread's steps are shifted, either way, in search of the place where they now stop.
const REACH: i16 = 6;

/// What replaying a trace came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The same promise is broken.
    Fails,
    /// The situation was reached and the promise held.
    Passes,
    /// Something else is broken.
    FailsOtherwise(Signature),
    /// The situation was not reached: what is missing.
    NotReached(String),
}

/// A verdict on a trace, and how it was reached. The world holds the run that decided it.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The verdict.
    pub replayed: Replayed,
    /// What was broken, if something was.
    pub failure: Option<Box<Failure>>,
    /// How many lines were not possible as they stood, and were moved.
    pub moved: usize,
    /// The actions that were done in the end.
    pub actions: Vec<Action>,
    /// The event hash of that run.
    pub hash: u64,
}

/// Replays a trace and judges what it came to.
///
/// It is replayed as it stands. If that does not fail as recorded, it is replayed by meaning
/// ([`rebase`]), and then once more with the lines that count steps of a thread shifted a little,
/// for the code may have gained or lost some. Whatever fails, fails for good: each of these is a
/// run that a guest, a host and a scheduler may bring about.
pub fn judge<D: DeviceUnderTest>(world: &mut World<D>, trace: &Trace) -> Judged {
    world.keep_journal();
    let (options, run) = (trace.options, trace.run);
    let exact = replay(world, options, run, &trace.actions, |_| {});
    let same = |verdict: &Verdict| {
        let broken = verdict.failure.as_ref().map(|failure| Signature::of(&failure.violation));
        broken.as_ref() == Some(&trace.broke)
    };
    if same(&exact) {
        return judged(Replayed::Fails, trace.actions.clone(), 0, exact);
    }
    world.refresh(&exact);
    let meant = rebase(world, options, run, &trace.actions);
    if same(&meant.verdict) {
        return judged(Replayed::Fails, meant.actions, meant.moved, meant.verdict);
    }
    world.refresh(&meant.verdict);
    for (shifted, lines) in shifts(&trace.actions) {
        let Rebased { verdict, actions, moved } = rebase(world, options, run, &shifted);
        if same(&verdict) {
            return judged(Replayed::Fails, actions, moved.max(lines), verdict);
        }
        world.refresh(&verdict);
    }
    // None of them fails as recorded: the run by meaning is the one to speak of.
    let Rebased { verdict, actions, moved } = rebase(world, options, run, &trace.actions);
    let replayed = match &verdict.failure {
        Some(failure) => Replayed::FailsOtherwise(Signature::of(&failure.violation)),
        None if verdict.exhausted => {
            let what = format!("it takes more than {MOST_STEPS} steps of device threads");
            Replayed::NotReached(what)
        }
        None => reached(world, trace).map_or(Replayed::Passes, Replayed::NotReached),
    };
    judged(replayed, actions, moved, verdict)
}

fn judged(replayed: Replayed, actions: Vec<Action>, moved: usize, verdict: Verdict) -> Judged {
    Judged { replayed, failure: verdict.failure, moved, actions, hash: verdict.hash }
}

/// What is missing of the situation that a trace is about, if anything is.
fn reached<D: DeviceUnderTest>(world: &World<D>, trace: &Trace) -> Option<String> {
    let events = world.journal().map(|journal| journal.events()).unwrap_or_default();
    for (name, status) in &trace.witness {
        let answered = events.iter().any(|event| match event {
            Event::Completed { id, ask, status: found, .. } => {
                request_name(*id, ask) == *name && status.is_none_or(|status| status == *found)
            }
            _ => false,
        });
        if !answered {
            let how = status.map_or(String::new(), |status| format!(" with status {status}"));
            return Some(format!("{name} was not answered{how}"));
        }
    }
    let sent = |id: u32| {
        events.iter().any(
            |event| matches!(event, Event::Did(Action::Send { id: other, .. }) if *other == id),
        )
    };
    trace.actions.iter().find_map(|action| match action {
        Action::Send { id, ask, .. } if !sent(*id) => {
            Some(format!("{} could not be sent", request_name(*id, ask)))
        }
        _ => None,
    })
}

/// The same actions with counted steps shifted, each line for itself and all of them together, and
/// how many lines that are.
fn shifts(actions: &[Action]) -> impl Iterator<Item = (Vec<Action>, usize)> + '_ {
    let counted: Vec<usize> = (0..actions.len())
        .filter(|&at| matches!(actions[at], Action::Crank { until: Until::Steps(_), .. }))
        .collect();
    let alone = counted.clone().into_iter().rev().map(|at| vec![at]);
    let groups = (counted.len() > 1).then(|| counted.clone()).into_iter().chain(alone);
    groups.take(16).flat_map(move |group| {
        let by = (1..=REACH).flat_map(|n| [n, -n]);
        by.map(move |by| {
            let mut shifted = actions.to_vec();
            for &at in &group {
                if let Action::Crank { until: Until::Steps(steps), .. } = &mut shifted[at] {
                    let sum = i16::from(*steps) + by;
                    *steps = sum.clamp(1, i16::from(Until::MOST)) as u8;
                }
            }
            (shifted, group.len())
        })
    })
}
