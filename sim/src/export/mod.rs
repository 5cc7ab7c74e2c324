//! Export of a failure in formats that other programs read.
//!
//! [`image`] writes a medium after a power loss, to be mounted or checked; [`log_writes`] writes
//! the operations of the host disk, to be replayed step by step. Both replay a trace up to one of
//! its lines and read the simulated disk there. Not here: file names and files.

pub mod image;
pub mod log_writes;

use crate::dut::DeviceUnderTest;
use crate::run::rebase::rebase;
use crate::run::{MOST_STEPS, replay};
use crate::trace::{Signature, Trace};
use crate::world::action::{Action, CrashKind};
use crate::world::{Failure, World};

/// A part of a trace that was replayed.
#[derive(Clone, Debug)]
pub struct Part {
    /// The actions that were done.
    pub actions: Vec<Action>,
    /// The number of lines that were not possible as written, and were moved or left out.
    pub moved: usize,
    /// The failure on the way, if any. The world is in its state at the failure; no action was done
    /// after.
    pub failure: Option<Box<Failure>>,
}

/// The index of the first power loss among the actions of a trace, counted from one.
#[must_use]
pub fn first_power_loss(trace: &Trace) -> Option<usize> {
    let cut = |action: &Action| matches!(action, Action::Crash(CrashKind::Power { .. }));
    trace.actions.iter().position(cut).map(|index| index + 1)
}

/// Replays the actions before an action, counted from one; the number of actions plus one means
/// all. The world keeps its state at that point.
///
/// A trace that fails as written is replayed as written, any other one by meaning, as
/// [`judge`](crate::run::judge) does.
///
/// # Errors
/// The action does not exist, or the replay does not reach it.
pub fn replay_before<D: DeviceUnderTest>(
    world: &mut World<D>,
    trace: &Trace,
    before: usize,
) -> Result<Part, String> {
    let most = trace.actions.len();
    if !(1..=most + 1).contains(&before) {
        let end = most + 1;
        return Err(format!(
            "there is no action {before}; there are 1 to {most}, and {end} is the end"
        ));
    }
    let (shape, run) = (trace.shape, trace.run);
    let wanted = &trace.actions[..before - 1];
    let whole = replay(world, shape, run, &trace.actions, |_| {});
    world.refresh(whole.failure.as_deref());
    let broken = whole.failure.map(|failure| Signature::of(&failure.violation));
    let (verdict, actions, moved) = if broken.as_ref() == Some(&trace.broke) {
        let mut moved = 0;
        let verdict = replay(world, shape, run, wanted, |_| moved += 1);
        (verdict, wanted.to_vec(), moved)
    } else {
        let rebased = rebase(world, shape, run, wanted);
        (rebased.verdict, rebased.actions, rebased.moved)
    };
    if verdict.exhausted {
        return Err(format!("it takes more than {MOST_STEPS} steps of device threads"));
    }
    Ok(Part { actions, moved, failure: verdict.failure })
}
