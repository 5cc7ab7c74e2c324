//! What replaying a trace comes to: the same failure, none, or not the situation at all.

use super::file::{Signature, Trace};
use super::line::request_name;
use crate::action::Action;
use crate::dut::DeviceUnderTest;
use crate::run::replay;
use crate::spec::Options;
use crate::world::{Event, Failure, World};

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

/// Replays a trace in a fresh world and judges what it came to.
pub fn judge<D: DeviceUnderTest>(
    world: &mut World<D>,
    trace: &Trace,
) -> (Replayed, Option<Box<Failure>>) {
    world.keep_journal();
    let mut skipped = Vec::new();
    let (options, run): (Options, u32) = (trace.options, trace.run);
    let verdict = replay(world, options, run, &trace.actions, |index| skipped.push(index));
    if let Some(failure) = verdict.failure {
        let signature = Signature::of(&failure.violation);
        let replayed = if signature == trace.broke {
            Replayed::Fails
        } else {
            Replayed::FailsOtherwise(signature)
        };
        return (replayed, Some(failure));
    }
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
            return (Replayed::NotReached(format!("{name} was not answered{how}")), None);
        }
    }
    let last = trace.actions.iter().rposition(|action| !matches!(action, Action::Await { .. }));
    if let Some(last) = last
        && skipped.contains(&last)
        && trace.witness.is_empty()
    {
        let action = &trace.actions[last];
        return (Replayed::NotReached(format!("`{action}` was not possible")), None);
    }
    (Replayed::Passes, None)
}
