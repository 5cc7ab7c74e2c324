//! The log of a run of the search, and the run of the real disk that it stands for.
//!
//! A lazy search decides the content of a sector after a power loss when the sector is read. A
//! trace states each event when it happens: the host writes a sector back, an operation lands in it
//! before the power loss, the sector survives.

use super::cells::How;
use crate::base::sectors::SectorSet;
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
