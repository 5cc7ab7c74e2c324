//! A run of the search as a run of the real disk.
//!
//! A lazy search decides the content of a sector after a power loss when the sector is read. A
//! trace states each event when it happens: the host writes a sector back, an operation lands in it
//! before the power loss, the sector survives.

use std::sync::{Arc, Mutex, PoisonError};

use super::cells::How;
use super::node::Node;
use super::plan::Plan;
use super::search::{LOOK, Path};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::dut::caught::caught;
use crate::world::action::{Action, CrashKind};

/// The actions of one run, and the decisions made afterwards.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    pub(super) actions: Vec<Action>,
    /// By sector: the last power loss after which it was not read yet.
    cut_at: Vec<usize>,
    /// Decisions: the sector, the power loss, and the way in which the content survived.
    decided: Vec<(u32, usize, How)>,
}

impl Log {
    /// Records a power loss; the sectors from `known` on were not read since the one before it.
    pub(super) fn cut(&mut self, known: u32, sectors: u32) {
        self.cut_at.resize(sectors as usize, 0);
        let now = self.actions.len();
        self.cut_at[..known as usize].fill(now);
    }

    /// Records that the `number`th sector, at `sector` of the medium, survived in this way.
    pub(super) fn decide(&mut self, number: u32, sector: u32, how: How) {
        self.decided.push((sector, self.cut_at[number as usize], how));
    }

    /// The run, with every decision at its place.
    pub(super) fn written_down(&self) -> Vec<Action> {
        // By the index of the action before which they belong; at one index, in the order of
        // sectors.
        let mut between: Vec<(usize, Action)> = Vec::new();
        let mut actions = self.actions.clone();
        for &(sector, cut, how) in &self.decided {
            let set = SectorSet::range(sector, 1);
            let mut survives = || {
                if let Action::Crash(CrashKind::Power { survivors }) = &mut actions[cut] {
                    *survivors = survivors.or(set);
                }
            };
            match how {
                How::Lost => {}
                How::Kept => survives(),
                How::WrittenBack { before } => {
                    between.push((before as usize - 1, Action::WriteBack { set }));
                }
                How::Landed { op } => {
                    survives();
                    between.push((cut, Action::Effect { op, set }));
                }
            }
        }
        between.sort_by_key(|&(at, _)| at);
        let mut whole = Vec::with_capacity(actions.len() + between.len());
        let mut between = between.into_iter().peekable();
        for (at, action) in actions.into_iter().enumerate() {
            while let Some((_, more)) = between.next_if(|&(before, _)| before == at) {
                whole.push(more);
            }
            whole.push(action);
        }
        whole
    }
}

/// The state that a path leads to. `None` if a promise is broken on the way.
pub(super) fn state<D: DeviceUnderTest>(
    setup: &D::Setup,
    plan: &Plan,
    path: &Path,
) -> Option<Node<D>> {
    let mut node = Node::<D>::new(setup, plan, None).ok()?;
    let mut steps = Vec::new();
    for &nth in path {
        node.enabled(plan, &mut steps);
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
                node.enabled(plan, &mut steps);
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
