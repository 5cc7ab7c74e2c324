//! The ground truth for a host that may fail: a page cache of one page over a medium, and a device
//! that never promises more than holds.
//!
//! A write lands in the cache and makes the page dirty; write-back may happen whenever it is dirty.
//! A sync may fail, and may then forget that the page was dirty: the page stays readable for now,
//! and may be evicted at any time, which restores the medium's content. A new write makes the whole
//! page dirty. A flush, or a write in write-through mode, is answered with `OK` only if its own
//! sync did not fail and the promised data, or data that landed later, is on the medium. A
//! forgotten page of a killed backend is evicted.

use std::collections::BTreeSet;

use crate::history::{History, Op};
use crate::worlds::{INITIAL, Truth, content};

const IDLE: u8 = 1;
const LANDED: u8 = 2;
/// Its sync has failed, so it must not return `OK`. Greater than every sample of a read.
const FAILED: u8 = 64;

/// One possible state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    /// The last element of the order is live; the one at `durable` is on the medium.
    len: u8,
    durable: u8,
    dirty: bool,
    /// Clean, yet newer than the medium.
    forgotten: bool,
    order: u64,
    /// The writes that were evicted while no later data was on the medium.
    lost: u16,
    doing: u128,
}

impl World {
    fn starting_with(content: u8) -> Self {
        Self {
            len: 1,
            durable: 0,
            dirty: false,
            forgotten: false,
            order: u64::from(content),
            lost: 0,
            doing: 0,
        }
    }

    fn at(&self, index: u8) -> u8 {
        (self.order >> (4 * index) & 15) as u8
    }

    fn doing(&self, id: usize) -> u8 {
        (self.doing >> (8 * id) & 255) as u8
    }

    fn set(mut self, id: usize, doing: u8) -> Self {
        self.doing = self.doing & !(255 << (8 * id)) | u128::from(doing) << (8 * id);
        self
    }

    fn landing(mut self, id: usize) -> Self {
        self.order |= (id as u64) << (4 * self.len);
        self.len += 1;
        self.dirty = true;
        self.forgotten = false;
        self.set(id, LANDED)
    }

    fn written_back(self) -> Self {
        Self { durable: self.len - 1, dirty: false, lost: 0, ..self }
    }

    fn evicted(mut self) -> Self {
        for index in self.durable + 1..self.len {
            self.lost |= 1 << self.at(index);
        }
        self.len = self.durable + 1;
        self.order &= (1 << (4 * self.len)) - 1;
        self.forgotten = false;
        self
    }

    /// The steps that are invisible to the guest.
    fn unseen(&self, history: &History, pending: &[usize]) -> Vec<Self> {
        let mut next = Vec::new();
        if self.dirty {
            next.push(self.written_back());
        }
        if self.forgotten {
            next.push(self.evicted());
        }
        for &id in pending {
            let line = &history.lines[id - 1];
            let doing = self.doing(id);
            match line.op {
                Op::Read if doing == IDLE => {
                    next.push(self.set(id, LANDED + content(self.at(self.len - 1), history)))
                }
                Op::Write | Op::Zero | Op::Discard if doing == IDLE => next.push(self.landing(id)),
                _ => {}
            }
            let syncs = line.op == Op::Flush && doing == IDLE
                || line.op.writes() && line.through && doing == LANDED;
            if syncs {
                next.push(self.set(id, FAILED));
                if self.dirty {
                    next.push(Self { dirty: false, forgotten: true, ..self.set(id, FAILED) });
                }
            }
        }
        next
    }

    /// Whether the data of `id`, or data that landed later, is on the medium.
    fn is_kept(&self, id: usize) -> bool {
        let volatile = (self.durable + 1..self.len).any(|index| usize::from(self.at(index)) == id);
        !volatile && self.lost & 1 << id == 0
    }

    fn may_answer(&self, id: usize, ok: bool, seen: Option<u8>, history: &History) -> bool {
        let line = &history.lines[id - 1];
        let doing = self.doing(id);
        match line.op {
            Op::Read => seen.is_some_and(|seen| doing == LANDED + seen),
            _ if !ok => true,
            _ if doing == FAILED => false,
            Op::Discard => true,
            Op::Write | Op::Zero => doing == LANDED && (!line.through || self.is_kept(id)),
            Op::Flush => history.lines.iter().enumerate().all(|(index, write)| {
                !(write.op.writes() && write.ok && write.end < line.sub) || self.is_kept(index + 1)
            }),
        }
    }
}

/// All states that agree with the observations.
#[derive(Clone)]
pub(crate) struct FailingHost(Vec<World>);

impl FailingHost {
    fn of(worlds: impl Iterator<Item = World>) -> Self {
        let worlds: BTreeSet<World> = worlds.collect();
        Self(worlds.into_iter().collect())
    }
}

impl Truth for FailingHost {
    const EXACT: bool = false;

    fn new() -> Self {
        Self(vec![World::starting_with(INITIAL)])
    }

    fn is_possible(&self) -> bool {
        !self.0.is_empty()
    }

    fn closed(&self, history: &History) -> Self {
        let mut seen: BTreeSet<World> = self.0.iter().copied().collect();
        let mut todo = self.0.clone();
        let pending = history.pending();
        while let Some(world) = todo.pop() {
            todo.extend(
                world.unseen(history, &pending).into_iter().filter(|&next| seen.insert(next)),
            );
        }
        Self(seen.into_iter().collect())
    }

    fn submit(&self, id: usize) -> Self {
        Self(self.0.iter().map(|world| world.set(id, IDLE)).collect())
    }

    fn complete(&self, id: usize, ok: bool, seen: Option<u8>, history: &History) -> Self {
        Self::of(
            self.0
                .iter()
                .filter(|world| world.may_answer(id, ok, seen, history))
                .map(|world| world.set(id, 0)),
        )
    }

    fn abandon(&self, kill: bool) -> Self {
        Self::of(self.0.iter().map(|world| {
            let world = World { doing: 0, ..*world };
            if kill && world.forgotten { world.evicted() } else { world }
        }))
    }

    fn reconnect(&self, history: &History) -> Self {
        let mut next: BTreeSet<World> = BTreeSet::new();
        for &world in &self.0 {
            let mut all = vec![if world.forgotten { world.evicted() } else { world }];
            for id in history.pending() {
                let again = all.iter().map(|world| world.set(id, IDLE)).collect::<Vec<_>>();
                if history.op(id) != Op::Read {
                    all.clear();
                }
                all.extend(again);
            }
            next.extend(all);
        }
        Self(next.into_iter().collect())
    }

    fn power_loss(&self, history: &History) -> Self {
        Self::of(
            self.0
                .iter()
                .map(|world| World::starting_with(content(world.at(world.durable), history))),
        )
    }

    fn first_contents(&self, history: &History) -> BTreeSet<u8> {
        self.0.iter().map(|world| content(world.at(0), history)).collect()
    }
}
