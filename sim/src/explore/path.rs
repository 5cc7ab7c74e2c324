//! Paths: the identity of a state in checkpoints, and the way to repeat a run.

use std::sync::{Arc, Mutex, PoisonError};

use super::enabled::enabled;
use super::log::Log;
use super::node::Node;
use super::plan::Plan;
use crate::dut::DeviceUnderTest;
use crate::dut::caught::caught;
use crate::world::action::Action;

/// A path to a state: the index of each step among the enabled ones.
pub(super) type Path = Vec<u16>;

/// The entry of a path at which the guest reads everything back.
pub(super) const LOOK: u16 = u16::MAX;

/// The state that a path leads to. `None` if a promise is broken on the way.
pub(super) fn state<D: DeviceUnderTest>(
    setup: &D::Setup,
    plan: &Plan,
    path: &Path,
) -> Option<Node<D>> {
    let mut node = Node::<D>::new(setup, plan, None).ok()?;
    let mut steps = Vec::new();
    for &nth in path {
        enabled(&node, plan, &mut steps);
        node.take(plan, &steps[usize::from(nth)]).ok()?;
    }
    Some(node)
}

/// The run of a path, as actions of a world of the plan's shape.
pub(super) fn run<D: DeviceUnderTest>(setup: &D::Setup, plan: &Plan, path: &Path) -> Vec<Action> {
    let log = Arc::new(Mutex::new(Log::default()));
    // The device may panic on its last step; the log holds its inputs by then.
    let shared = Arc::clone(&log);
    let walk = caught(move || {
        let Ok(mut node) = Node::<D>::new(setup, plan, Some(shared)) else { return };
        let mut steps = Vec::new();
        for &nth in path {
            let done = if nth == LOOK {
                node.look(plan)
            } else {
                enabled(&node, plan, &mut steps);
                node.take(plan, &steps[usize::from(nth)])
            };
            if done.is_err() {
                break;
            }
        }
    });
    drop(walk);
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.written_down()
}
