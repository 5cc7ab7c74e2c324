//! The truth: every way in which an honest disk could have come to where we are.
//!
//! A world is the order in which writes took effect since the power last came, and what each
//! request in flight has done so far. A write takes effect once in the hands of each backend, some
//! time between its submission and its end; `OK` means that it has in those of the last one. A read
//! samples the live content once. A power loss leaves some element of the order that does not
//! precede the last effect of any stable write.

use std::collections::BTreeSet;

use crate::history::{History, Op};

/// The content a power loss left, as the first element of an order: zeroes.
pub(crate) const ZERO: u8 = 15;
/// The content of the new disk.
pub(crate) const INITIAL: u8 = 0;

const IDLE: u8 = 1;
const LANDED: u8 = 2;

/// All that can have been, given what was seen.
pub(crate) trait Truth: Clone {
    /// Whether silence about something impossible is a miss. If not, only false alarms count.
    const EXACT: bool;
    fn new() -> Self;
    /// Whether it can have been so at all.
    fn is_possible(&self) -> bool;
    /// All that can come of this while nothing is seen.
    fn closed(&self, history: &History) -> Self;
    fn submit(&self, id: usize) -> Self;
    /// Request `id` is answered; `seen` is what a read found.
    fn complete(&self, id: usize, ok: bool, seen: Option<u8>, history: &History) -> Self;
    /// Every request in flight ends where it is, by a reset or by a kill.
    fn abandon(&self, kill: bool) -> Self;
    /// The backend dies and another one carries out all that is in flight, from the start.
    fn reconnect(&self, history: &History) -> Self;
    fn power_loss(&self, history: &History) -> Self;
    /// What the atom can have held when this powered life began.
    fn first_contents(&self, history: &History) -> BTreeSet<u8>;
}

/// One way it can have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    len: u8,
    order: u64,
    /// A byte for each request: 0 not in flight, 1 nothing done, 2 landed, or 2 + what a read
    /// sampled.
    doing: u128,
}

impl World {
    fn starting_with(content: u8) -> Self {
        Self { len: 1, order: u64::from(content), doing: 0 }
    }

    fn at(&self, index: u8) -> u8 {
        (self.order >> (4 * index) & 15) as u8
    }

    fn live(&self) -> u8 {
        self.at(self.len - 1)
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
        self.set(id, LANDED)
    }
}

/// What the version `code` looks like.
pub(crate) fn content(code: u8, history: &History) -> u8 {
    match code {
        INITIAL | ZERO => code,
        id if history.op(id.into()) == Op::Write => id,
        _ => ZERO,
    }
}

/// All worlds that agree with what was seen.
#[derive(Clone)]
pub(crate) struct Worlds(Vec<World>);

impl Truth for Worlds {
    const EXACT: bool = true;

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
            for &id in pending.iter().filter(|&&id| world.doing(id) == IDLE) {
                let next = match history.op(id) {
                    Op::Flush => continue,
                    Op::Read => world.set(id, LANDED + content(world.live(), history)),
                    Op::Write | Op::Zero | Op::Discard => world.landing(id),
                };
                if seen.insert(next) {
                    todo.push(next);
                }
            }
        }
        Self(seen.into_iter().collect())
    }

    fn submit(&self, id: usize) -> Self {
        Self(self.0.iter().map(|world| world.set(id, IDLE)).collect())
    }

    fn complete(&self, id: usize, ok: bool, seen: Option<u8>, history: &History) -> Self {
        let agrees = |world: &&World| match history.op(id) {
            Op::Write | Op::Zero => !ok || world.doing(id) == LANDED,
            Op::Read => seen.is_some_and(|seen| world.doing(id) == LANDED + seen),
            Op::Discard | Op::Flush => true,
        };
        Self::of(self.0.iter().filter(agrees).map(|world| world.set(id, 0)))
    }

    fn abandon(&self, _kill: bool) -> Self {
        Self::of(self.0.iter().map(|world| World { doing: 0, ..*world }))
    }

    fn reconnect(&self, history: &History) -> Self {
        let mut next: BTreeSet<World> = BTreeSet::new();
        for &world in &self.0 {
            let mut all = vec![world];
            for id in history.pending() {
                let again = all.iter().map(|world| world.set(id, IDLE)).collect::<Vec<_>>();
                // What a read had found may have been in its buffer already.
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
        let mut images = BTreeSet::new();
        for world in &self.0 {
            let is_stable = |code: u8| {
                !matches!(code, INITIAL | ZERO) && history.lines[usize::from(code) - 1].stable
            };
            let protected =
                (1..world.len).filter(|&index| is_stable(world.at(index))).max().unwrap_or(0);
            images.extend((protected..world.len).map(|index| content(world.at(index), history)));
        }
        Self(images.into_iter().map(World::starting_with).collect())
    }

    fn first_contents(&self, history: &History) -> BTreeSet<u8> {
        self.0.iter().map(|world| content(world.at(0), history)).collect()
    }
}

impl Worlds {
    fn of(worlds: impl Iterator<Item = World>) -> Self {
        let worlds: BTreeSet<World> = worlds.collect();
        Self(worlds.into_iter().collect())
    }
}
