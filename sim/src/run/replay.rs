//! The verdict on a replayed trace: the same failure, another, none, or situation not reached.

use std::collections::{BTreeMap, BTreeSet};

use crate::dut::DeviceUnderTest;
use crate::guest::Kind;
use crate::run::rebase::{Budget, Rebased, rebase_within, replay_within};
use crate::run::{MOST_STEPS, Verdict};
use crate::trace::{Signature, Trace, request_name};
use crate::world::action::{Action, Until};
use crate::world::{Event, Failure, World};

/// The maximum shift, in either direction, of a line's step count.
const REACH: i16 = 6;

/// The verdict on a replayed trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replayed {
    /// The same promise is broken.
    Fails,
    /// The situation was reached and the promise held.
    Passes,
    /// Another promise is broken.
    FailsOtherwise(Signature),
    /// The situation was not reached; says what is missing.
    NotReached(String),
}

/// A verdict on a trace, with the run that decided it. The world holds that run.
#[derive(Clone, Debug)]
pub struct Judged {
    /// The verdict.
    pub replayed: Replayed,
    /// The broken promise, if any.
    pub failure: Option<Box<Failure>>,
    /// The number of lines that were not enabled as they stood and were moved.
    pub moved: usize,
    /// The actions of that run.
    pub actions: Vec<Action>,
    /// The event hash of that run.
    pub hash: u64,
}

/// Replays a trace and returns the verdict.
///
/// The trace is replayed as it stands. If that does not fail as recorded, it is replayed by meaning
/// ([`rebase`](crate::run::rebase)), and then again with the lines that count steps of a thread
/// shifted a little, because the code may have gained or lost steps. A failure of any of these runs
/// is a real failure: a guest, a host and a scheduler may bring each of them about.
///
/// One budget of [`MOST_STEPS`] bounds all of it: a trace that needs more has not reached its
/// situation.
pub fn judge<D: DeviceUnderTest>(world: &mut World<D>, trace: &Trace) -> Judged {
    let kind = D::KINDS[0];
    if trace.shape.kind(0) != kind {
        let what = match kind {
            Kind::Disk => "the trace is of a persistent memory, and the device is a disk",
            Kind::Memory => "the trace is of a disk, and the device is a persistent memory",
        };
        let replayed = Replayed::NotReached(what.to_owned());
        return Judged { replayed, failure: None, moved: 0, actions: Vec::new(), hash: 0 };
    }
    world.keep_journal();
    let (shape, run) = (trace.shape, trace.run);
    let mut budget = Budget::new(MOST_STEPS);
    let exact = replay_within(world, shape, run, &trace.actions, &mut budget);
    let same = |verdict: &Verdict| {
        let broken = verdict.failure.as_ref().map(|failure| Signature::of(&failure.violation));
        broken.as_ref() == Some(&trace.broke)
    };
    if same(&exact) {
        return judged(Replayed::Fails, trace.actions.clone(), 0, exact);
    }
    if exact.exhausted {
        return judged(endless(), trace.actions.clone(), 0, exact);
    }
    world.refresh(exact.failure.as_deref());
    let before = budget.left();
    let meant = rebase_within(world, shape, run, &trace.actions, &mut budget);
    if same(&meant.verdict) {
        return judged(Replayed::Fails, meant.actions, meant.moved, meant.verdict);
    }
    if meant.verdict.exhausted {
        return judged(endless(), meant.actions, meant.moved, meant.verdict);
    }
    let cost = before - budget.left();
    world.refresh(meant.verdict.failure.as_deref());
    for (shifted, lines) in shifts(&trace.actions) {
        if budget.left() < 2 * cost {
            break;
        }
        let Rebased { verdict, actions, moved } =
            rebase_within(world, shape, run, &shifted, &mut budget);
        if same(&verdict) {
            return judged(Replayed::Fails, actions, moved.max(lines), verdict);
        }
        world.refresh(verdict.failure.as_deref());
    }
    // None of them fails as recorded, so the run by meaning decides. Repeating it costs as much as
    // before.
    let mut budget = Budget::new(cost + 1);
    let Rebased { verdict, actions, moved } =
        rebase_within(world, shape, run, &trace.actions, &mut budget);
    let replayed = match &verdict.failure {
        Some(failure) => Replayed::FailsOtherwise(Signature::of(&failure.violation)),
        None if verdict.exhausted => endless(),
        None => reached(world, trace).map_or(Replayed::Passes, Replayed::NotReached),
    };
    judged(replayed, actions, moved, verdict)
}

/// How often, of `times` replays of these actions, a device breaks the same promise again.
pub fn reproduced<D: DeviceUnderTest>(
    world: &mut World<D>,
    trace: &Trace,
    actions: &[Action],
    times: u32,
) -> u32 {
    let (shape, run) = (trace.shape, trace.run);
    let again = |_: &u32| {
        let mut budget = Budget::new(MOST_STEPS);
        let verdict = replay_within(world, shape, run, actions, &mut budget);
        world.refresh(verdict.failure.as_deref());
        verdict.failure.is_some_and(|failure| Signature::of(&failure.violation) == trace.broke)
    };
    (0..times).filter(again).count() as u32
}

fn endless() -> Replayed {
    let what = format!("it takes more than {MOST_STEPS} steps of device threads");
    Replayed::NotReached(what)
}

fn judged(replayed: Replayed, actions: Vec<Action>, moved: usize, verdict: Verdict) -> Judged {
    Judged { replayed, failure: verdict.failure, moved, actions, hash: verdict.hash }
}

/// The missing part of a trace's situation, if any.
fn reached<D: DeviceUnderTest>(world: &World<D>, trace: &Trace) -> Option<String> {
    let mut answers: BTreeMap<String, BTreeSet<u8>> = BTreeMap::new();
    let mut sent: BTreeSet<u32> = BTreeSet::new();
    for event in world.journal().map(|journal| journal.events()).unwrap_or_default() {
        match event {
            Event::Completed { id, ask, status, .. } => {
                answers.entry(request_name(*id, ask)).or_default().insert(status.0);
            }
            Event::Did(Action::Send { id, .. }) => {
                sent.insert(*id);
            }
            _ => {}
        }
    }
    for (name, status) in &trace.witness {
        let found = answers.get(name);
        if !found.is_some_and(|found| status.is_none_or(|status| found.contains(&status))) {
            let how = status.map_or(String::new(), |status| format!(" with status {status}"));
            return Some(format!("{name} was not answered{how}"));
        }
    }
    trace.actions.iter().find_map(|action| match action {
        Action::Send { id, ask, .. } if !sent.contains(id) => {
            Some(format!("{} could not be sent", request_name(*id, ask)))
        }
        _ => None,
    })
}

/// The same actions with counted steps shifted: first on all lines together, then on each line
/// alone. Each comes with the number of shifted lines.
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
