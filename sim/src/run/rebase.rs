//! Replay by meaning: a rebase of a trace onto code that has gained or lost steps since the trace
//! was recorded.
//!
//! An enabled action is done as it stands. Any other is moved: threads run until the named
//! operation, or one like it, is in flight; a reset that takes longer is waited for; a request that
//! does not fit its ring waits for room. The result is a new list of actions, and a plain replay of
//! that list does the same.
//!
//! Not here: whether the situation of a trace was reached ([`judge`](crate::run::judge)).

use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::dut::lifecycle::Lifecycle;
use crate::guest::wire::feature;
use crate::guest::{GuestRequest, Layout, Malformation};
use crate::host::disk::{OpKey, OpKind, Outcome};
use crate::run::{MOST_STEPS, Verdict, guarded};
use crate::world::WorldShape;
use crate::world::action::{Action, QueueId, Until};
use crate::world::{Failure, World};

/// The maximum number of actions done on behalf of one line.
const MOST_TRIES: u32 = 64;

/// The work a replay may still do, so that every replay ends soon, whatever its lines.
///
/// One unit is about the cost of a device-thread step. Every cost that a line can multiply is
/// counted, so the budget bounds the time and, through the journal, the memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    left: u64,
    /// The number of requests of this replay. The oracle's cost grows with it.
    sent: u64,
}

impl Budget {
    /// The cost of copying a world in order to look ahead.
    const COPY: u64 = 500;

    pub(crate) fn new(left: u64) -> Budget {
        Budget { left, sent: 0 }
    }

    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    fn spend(&mut self, work: u64) {
        self.left = self.left.saturating_sub(work);
    }

    /// The cost of a line, its steps not included.
    fn of(&mut self, action: &Action) -> u64 {
        match action {
            Action::Send { .. } => {
                self.sent += 1;
                4 + self.sent / 4
            }
            Action::Crash(_) => 500,
            Action::Start { .. } | Action::Reset { .. } => 100,
            Action::Lifecycle { .. } => 100,
            Action::Rest | Action::PollReset { .. } => 50,
            _ => 4,
        }
    }
}

/// The result of a replay by meaning.
#[derive(Clone, Debug)]
pub struct Rebased {
    /// The result of the run.
    pub verdict: Verdict,
    /// The actions that were done.
    pub actions: Vec<Action>,
    /// The number of lines that were not enabled as they stood.
    pub moved: usize,
}

/// Replays a list of actions from power-on, and moves those that are not enabled as they stand.
pub fn rebase<D: DeviceUnderTest>(
    world: &mut World<D>,
    shape: WorldShape,
    run: u32,
    actions: &[Action],
) -> Rebased {
    rebase_within(world, shape, run, actions, &mut Budget::new(MOST_STEPS))
}

/// As [`rebase`], within a budget.
pub(crate) fn rebase_within<D: DeviceUnderTest>(
    world: &mut World<D>,
    shape: WorldShape,
    run: u32,
    actions: &[Action],
    budget: &mut Budget,
) -> Rebased {
    let mut done = Vec::with_capacity(actions.len());
    let mut moved = 0;
    let verdict = guarded(world, |world| {
        world.restart(shape, run);
        budget.sent = 0;
        for action in actions {
            let mut line = Line { world, done: &mut done, moved: false, budget };
            let result = line.follow(action);
            moved += usize::from(line.moved);
            result?;
            if budget.left == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    });
    Rebased { verdict, actions: done, moved }
}

/// As [`replay`](crate::run::replay), within a budget.
pub(crate) fn replay_within<D: DeviceUnderTest>(
    world: &mut World<D>,
    shape: WorldShape,
    run: u32,
    actions: &[Action],
    budget: &mut Budget,
) -> Verdict {
    guarded(world, |world| {
        world.restart(shape, run);
        budget.sent = 0;
        for action in actions {
            spent(world, action, budget)?;
            if budget.left == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    })
}

/// Does an action and takes its cost from the budget.
fn spent<D: DeviceUnderTest>(world: &mut World<D>, action: &Action, budget: &mut Budget) -> Step {
    let events = |world: &World<D>| world.journal().map_or(0, |journal| journal.events().len());
    let (steps, before) = (world.stats().steps, events(world));
    let done = world.step(action);
    let noted = (events(world) - before) as u64;
    let work = budget.of(action) + 4 * noted + (world.stats().steps - steps);
    budget.spend(work);
    done
}

/// One line of a trace, and the world it is applied to.
struct Line<'a, D: DeviceUnderTest> {
    world: &'a mut World<D>,
    done: &'a mut Vec<Action>,
    moved: bool,
    budget: &'a mut Budget,
}

type Step = Result<bool, Box<Failure>>;

impl<D: DeviceUnderTest> Line<'_, D> {
    fn step(&mut self, action: Action) -> Step {
        // Recorded first, because an action that breaks a promise or panics was done.
        self.done.push(action);
        let done = spent(self.world, &action, self.budget)?;
        if !done {
            self.done.pop();
        }
        Ok(done)
    }

    /// Does a line's action, or the closest one that is enabled.
    fn follow(&mut self, action: &Action) -> Result<(), Box<Failure>> {
        if let Action::Crank { until: Until::Submitted(op), .. } = action
            && self.is_in_flight(op)
        {
            // The operation is in flight already: the device has lost a step.
            return Ok(());
        }
        if self.step(*action)? {
            return Ok(());
        }
        match *action {
            Action::Complete { op, outcome } => self.complete(op, outcome),
            Action::Effect { op, set } => self.effect(op, set),
            Action::Start { device, .. } if self.is_resetting(device) => {
                self.settle_until(|world| !world.slot(device).is_resetting())?;
                self.again(*action)
            }
            Action::PollReset { device } if self.is_resetting(device) => {
                self.settle_until(|world| !world.slot(device).is_resetting())?;
                self.moved = true;
                Ok(())
            }
            Action::Lifecycle { device, what } => self.life(device, what),
            Action::Send { to, id, ask, layout, malformation } => {
                self.send(to, id, ask, layout, malformation)
            }
            Action::Crank { to, .. } if self.step(Action::Kick { to })? => self.again(*action),
            // An idle thread, a kick that is not due, a completed request: after a code change such
            // lines have no effect.
            _ => Ok(()),
        }
    }

    fn again(&mut self, action: Action) -> Result<(), Box<Failure>> {
        self.moved = true;
        self.step(action).map(|_| ())
    }

    /// Does a lifecycle action after its prerequisites: a device drains before it is saved, and its
    /// sync ends before it is restored.
    fn life(&mut self, device: u8, what: Lifecycle) -> Result<(), Box<Failure>> {
        let action = Action::Lifecycle { device, what };
        if device >= self.world.shape().devices || !self.world.slot(device).is_live() {
            return Ok(());
        }
        match what {
            Lifecycle::Save | Lifecycle::Restore | Lifecycle::RestartRings
                if self.world.slot(device).is_paused() =>
            {
                for _ in 0..MOST_TRIES {
                    if self.budget.left == 0 || self.step(action)? {
                        break;
                    }
                    let Some(step) = self.world.settle_paused() else { break };
                    self.step(step)?;
                }
                self.moved = true;
                Ok(())
            }
            Lifecycle::PlaceQueue { queue, size } => {
                // Rings may have become smaller.
                let size = size.min(self.world.shape().spec.ring_size);
                self.again(Action::Lifecycle {
                    device,
                    what: Lifecycle::PlaceQueue { queue, size },
                })
            }
            Lifecycle::PollQueue { queue } => {
                self.settle_until(|world| !world.slot(device).is_queue_resetting(queue))?;
                self.moved = true;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn is_in_flight(&self, op: &OpKey) -> bool {
        self.world.disk().in_flight().any(|(key, ..)| key.is_like(op))
    }

    fn is_resetting(&self, device: u8) -> bool {
        device < self.world.shape().devices && self.world.slot(device).is_resetting()
    }

    /// Whether the thread of a queue is runnable, or would be after a kick.
    fn may_run(&self, to: QueueId) -> bool {
        let exists = to.device < self.world.shape().devices;
        exists && {
            let (slot, queue) = (self.world.slot(to.device), usize::from(to.queue));
            slot.runnable[queue] || (slot.is_live() && slot.queues[queue].kick_due())
        }
    }

    /// Lets the world run until `is` holds, or until it is idle.
    fn settle_until(&mut self, is: impl Fn(&World<D>) -> bool) -> Result<(), Box<Failure>> {
        for _ in 0..MOST_TRIES {
            if is(self.world) || self.budget.left == 0 {
                break;
            }
            let Some(action) = self.world.settle() else { break };
            self.step(action)?;
        }
        Ok(())
    }

    fn send(
        &mut self,
        to: QueueId,
        id: u32,
        ask: GuestRequest,
        layout: Layout,
        malformation: Malformation,
    ) -> Result<(), Box<Failure>> {
        let device = to.device;
        if device >= self.world.shape().devices || !self.world.slot(device).is_live() {
            return Ok(());
        }
        let slot = self.world.slot(device);
        let queue = if u16::from(to.queue) < slot.life().active { to.queue } else { 0 };
        let to = QueueId { device, queue };
        let indirect = slot.life().negotiated & feature::INDIRECT_DESC != 0;
        let layout = if indirect { layout } else { Layout { indirect: 0, ..layout } };
        self.moved = true;
        // The split into descriptors carries no meaning, so try a small layout before waiting for
        // room.
        let small = match indirect {
            true => Layout { indirect: 1, ..Layout::PLAIN },
            false => Layout { glued: 1, ..Layout::PLAIN },
        };
        for layout in [layout, small] {
            if self.step(Action::Send { to, id, ask, layout, malformation })? {
                return Ok(());
            }
        }
        self.settle_until(|world| world.slot(device).queues[usize::from(queue)].has_room())?;
        self.again(Action::Send { to, id, ask, layout, malformation })
    }

    /// Runs threads until an operation that `op` may mean is in flight: exactly that one, or else
    /// one of its kind that overlaps the sectors `left` of it.
    fn find(&mut self, op: &OpKey, left: SectorSet) -> Result<Option<OpKey>, Box<Failure>> {
        let wanted = |world: &World<D>, exactly: bool| {
            let mut like: Vec<(OpKey, u32)> = world
                .disk()
                .in_flight()
                .map(|(key, nth, _)| (key, nth))
                .filter(|(key, _)| if exactly { key.is_like(op) } else { is_like(key, op, left) })
                .collect();
            like.sort_by_key(|&(key, nth)| (key.lane != op.lane, key.twin != op.twin, nth));
            like.first().map(|&(key, _)| key)
        };
        if let Some(key) = wanted(self.world, true) {
            return Ok(Some(key));
        }
        // A copy of the world looks ahead. Its steps are then repeated here. A device that cannot
        // be copied does without.
        let queues = self.world.shape().spec.queues as u8;
        let first = op.lane % queues;
        let mut nearest = wanted(self.world, false).map(|_| None);
        'search: for lane in (first..queues).chain(0..first) {
            let to = QueueId { device: op.device, queue: lane };
            if !D::COPIES || self.budget.left == 0 || !self.may_run(to) {
                continue;
            }
            self.budget.spend(Budget::COPY);
            let mut ahead = self.world.scout();
            let kicks = matches!(ahead.step(&Action::Kick { to }), Ok(true));
            for steps in 1..=Until::MOST {
                let crank = Action::Crank { to, until: Until::Steps(1) };
                if !matches!(spent(&mut ahead, &crank, self.budget), Ok(true)) {
                    break;
                }
                let crank = (kicks, Action::Crank { to, until: Until::Steps(steps) });
                if wanted(&ahead, true).is_some() {
                    nearest = Some(Some(crank));
                    break 'search;
                }
                if nearest.is_none() && wanted(&ahead, false).is_some() {
                    nearest = Some(Some(crank));
                }
            }
            if nearest.is_some() {
                break;
            }
        }
        match nearest {
            None => return Ok(None),
            Some(None) => {}
            Some(Some((kicks, crank))) => {
                if let Action::Crank { to, .. } = crank
                    && kicks
                {
                    self.step(Action::Kick { to })?;
                }
                self.step(crank)?;
            }
        }
        Ok(wanted(self.world, true).or_else(|| wanted(self.world, false)))
    }

    fn complete(&mut self, op: OpKey, outcome: Outcome) -> Result<(), Box<Failure>> {
        self.moved = true;
        let mut left = op.range();
        for _ in 0..MOST_TRIES {
            let Some(found) = self.find(&op, left)? else { break };
            left = left.minus(found.range());
            let done = self.step(Action::Complete { op: found, outcome })?;
            // Otherwise complete it with the part of the outcome that fits it.
            if !done {
                let fitting = fit(&found, outcome);
                self.step(Action::Complete { op: found, outcome: fitting })?;
            }
            let ended = !matches!(outcome, Outcome::Ok { .. });
            if ended || left.is_empty() {
                break;
            }
        }
        Ok(())
    }

    fn effect(&mut self, op: OpKey, set: SectorSet) -> Result<(), Box<Failure>> {
        if op.kind == OpKind::Sync {
            return Ok(());
        }
        self.moved = true;
        let mut left = set.and(op.range());
        for _ in 0..MOST_TRIES {
            if left.is_empty() {
                break;
            }
            let Some(found) = self.find(&op, left)? else { break };
            let part = left.and(found.range());
            left = left.minus(part);
            if part.is_empty() || !self.step(Action::Effect { op: found, set: part })? {
                break;
            }
        }
        Ok(())
    }
}

/// Whether an operation may stand for another one's name.
fn is_like(key: &OpKey, op: &OpKey, left: SectorSet) -> bool {
    let family = |kind: OpKind| match kind {
        OpKind::Read => 0,
        OpKind::Write => 1,
        OpKind::Sync => 2,
        OpKind::Discard | OpKind::WriteZeroes => 3,
    };
    let same = key.device == op.device && family(key.kind) == family(op.kind);
    same && (op.kind == OpKind::Sync || !key.range().and(left).is_empty())
}

/// The same outcome for an operation of another size.
fn fit(op: &OpKey, outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::Ok { landed } => Outcome::Ok { landed: landed.and(op.range()) },
        Outcome::Short { .. } => Outcome::Ok { landed: SectorSet::EMPTY },
        Outcome::Failed { errno, forgot, .. } => {
            Outcome::Failed { errno, landed: SectorSet::EMPTY, forgot }
        }
    }
}
