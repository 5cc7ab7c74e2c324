//! The ground truth: every state that an honest disk could be in.
//!
//! A world is the order in which writes took effect since power-on, and the progress of each
//! request in flight. A write takes effect once per backend, at some time between its submission
//! and its end; `OK` means that it took effect in the last one. A read samples the live content
//! once. A power loss leaves some element of the order that does not precede the last effect of any
//! stable write.

use std::collections::BTreeSet;

use crate::history::{History, Op};

/// Zeroes left by a power loss, as the first element of an order.
pub(crate) const ZERO: u8 = 15;
/// The content of the new disk.
pub(crate) const INITIAL: u8 = 0;

const IDLE: u8 = 1;
const LANDED: u8 = 2;

/// All states that agree with the observations.
pub(crate) trait Truth: Clone {
    /// Whether acceptance of an impossible observation is a miss. If not, only false alarms count.
    const EXACT: bool;
    fn new() -> Self;
    /// Whether any state is left.
    fn is_possible(&self) -> bool;
    /// All states reachable without an observation.
    fn closed(&self, history: &History) -> Self;
    fn submit(&self, id: usize) -> Self;
    /// Completes request `id`; `seen` is the observation of a read.
    fn complete(&self, id: usize, ok: bool, seen: Option<u8>, history: &History) -> Self;
    /// Ends every request in flight at its present progress, by a reset or a kill.
    fn abandon(&self, kill: bool) -> Self;
    /// Replaces the backend: the new one carries out every request in flight again.
    fn reconnect(&self, history: &History) -> Self;
    fn power_loss(&self, history: &History) -> Self;
    /// The possible contents of the atom at the start of this powered life.
    fn first_contents(&self, history: &History) -> BTreeSet<u8>;
}

/// One possible state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct World {
    len: u8,
    order: u64,
    /// One byte per request: 0 not in flight, 1 not started, 2 landed, or 2 + the content that a
    /// read sampled.
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

/// Content of the version `code`.
pub(crate) fn content(code: u8, history: &History) -> u8 {
    match code {
        INITIAL | ZERO => code,
        id if history.op(id.into()) == Op::Write => id,
        _ => ZERO,
    }
}

/// All states that agree with the observations.
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
                // The content sampled by a read may already be in its buffer.
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
