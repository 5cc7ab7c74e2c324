//! One state of a search: a world, the rest of the scope, and the part of the past that may still
//! matter.
//!
//! This file does the steps. [`enabled`](super::enabled) lists those that are possible, and
//! [`state_key`](super::state_key) defines equality of states.

use std::sync::{Arc, Mutex};

use super::cells::{Cells, Code, How, zero};
use super::history::History;
use super::log::Log;
use super::plan::Plan;
use super::scope::{Budget, Scope};
use super::step::{Step, queue};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::guest::{GuestRequest, Layout, Malformation};
use crate::host::disk::{Errno, OpKey, Outcome};
use crate::world::action::{Action, CrashKind, Until};
use crate::world::{Failure, World};

/// The outcome of a step: nothing, or the promise it broke.
pub(super) type Done = Result<(), Box<Failure>>;

/// The phase of the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The guest sends requests.
    Living,
    /// The guest waits until a reset completes.
    Resetting,
    /// The power was lost, and the guest reads everything back; this sector or word is next.
    Recalling {
        /// The number.
        next: u32,
    },
}

/// The layout of requests: as few ring descriptors as possible.
const LAYOUT: Layout = Layout { indirect: 1, ..Layout::PLAIN };

/// One state.
#[derive(Clone, Debug)]
pub(super) struct Node<D: DeviceUnderTest> {
    pub(super) world: World<D>,
    pub(super) cells: Cells,
    pub(super) phase: Phase,
    /// The rest of the scope.
    pub(super) left: Budget,
    /// Whether an earlier request distinguishes the two ends of the disk.
    pub(super) lopsided: bool,
    /// The number of queues that were used since then, and so are distinguished.
    pub(super) used: u8,
    /// The value that the guest last wrote to `writeback`, or found there.
    pub(super) writes_back: bool,
    pub(super) history: History,
    /// After a power loss, the possible contents of each sector, and the way to each.
    pub(super) left_behind: Vec<Vec<(Code, How)>>,
    next_id: u32,
    /// The number of actions done.
    pub(super) actions: u32,
    /// The log of the run; `Some` iff the run is to be written down.
    pub(super) log: Option<Arc<Mutex<Log>>>,
}

impl<D: DeviceUnderTest> Node<D> {
    /// The state after power-on, at the beginning of the first life.
    pub(super) fn new(
        setup: &D::Setup,
        plan: &Plan,
        log: Option<Arc<Mutex<Log>>>,
    ) -> Result<Node<D>, Box<Failure>> {
        let mut world = World::<D>::new(setup.clone(), plan.shape, RUN);
        world.listen_to_answers();
        world.fit_memory();
        let cells = Cells::new(world.disk(), RUN, plan.scope.reduction.lazy);
        let scope = &plan.scope;
        let mut node = Node {
            world,
            cells,
            phase: Phase::Living,
            left: scope.budget(),
            lopsided: false,
            used: 0,
            writes_back: true,
            history: History::new(!scope.reduction.alike),
            left_behind: Vec::new(),
            next_id: 1,
            actions: 0,
            log,
        };
        // The first life begins as every other one does, so it needs no distinction.
        node.history.power_lost(node.world.slot(0).device.carries());
        node.begin_life(plan)?;
        (0..node.cells.len()).try_for_each(|number| node.look_at(plan, number))?;
        node.act(Action::Rest)?;
        node.history.all_recalled();
        node.lopsided = !node.is_mirrored();
        Ok(node)
    }

    /// Whether the contents of the disk are the same from both ends.
    fn is_mirrored(&self) -> bool {
        let is_zero = |number: u32| self.cells.cached(number) == zero();
        let last = self.cells.len() - 1;
        (0..=last).all(|number| is_zero(number) == is_zero(last - number))
    }

    /// The number of requests in flight.
    pub(super) fn out(&self) -> u32 {
        self.world.slot(0).queues.iter().map(|queue| u32::from(queue.out())).sum()
    }

    /// Whether the disk and all threads of the device are idle.
    pub(super) fn is_idle(&self) -> bool {
        self.world.disk().busy() == 0 && !self.world.slot(0).runnable.contains(&true)
    }

    /// Does one step.
    ///
    /// # Errors
    /// The promise that the step broke.
    pub(super) fn take(&mut self, plan: &Plan, step: &Step) -> Done {
        self.do_unit(plan, step)?;
        // A guest that waits for a reset polls after every step.
        if self.phase == Phase::Resetting && self.act(Action::PollReset { device: 0 })? {
            self.history.reset_shown();
            self.phase = Phase::Living;
            self.begin_life(plan)?;
        }
        Ok(())
    }

    fn do_unit(&mut self, plan: &Plan, step: &Step) -> Done {
        match *step {
            Step::Send { queue, nth } => self.send(plan, queue, nth),
            Step::Switch { value } => self.switch(value),
            Step::Run { queue } => self.run(queue),
            Step::Land { op, sector } => {
                self.host(Action::Effect { op, set: SectorSet::range(sector, 1) })
            }
            Step::Finish { op, landed } => self.finish(op, Outcome::Ok { landed }),
            Step::Fail { op, landed, forgets } => {
                self.left.faults -= 1;
                let all = self.world.disk().dirty();
                let forgot = if forgets { all } else { SectorSet::EMPTY };
                self.finish(op, Outcome::Failed { errno: Errno::EIO, landed, forgot })
            }
            Step::WriteBack { sector } => {
                self.host(Action::WriteBack { set: SectorSet::range(sector, 1) })
            }
            Step::Reset => self.reset(),
            Step::Cut { survivors } => self.cut(plan, survivors),
            Step::Recall { content } => self.recall(plan, content),
        }
    }

    pub(super) fn act(&mut self, action: Action) -> Result<bool, Box<Failure>> {
        self.actions += 1;
        if let Some(log) = &self.log {
            log.lock().expect(WRITING).actions.push(action);
        }
        self.world.step(&action)
    }

    /// Does an action of the host and updates the cells.
    fn host(&mut self, action: Action) -> Done {
        let done = self.act(action)?;
        assert!(done, "`{action}` was not possible");
        self.cells.look(self.world.disk(), self.actions);
        Ok(())
    }

    fn send(&mut self, plan: &Plan, to: u8, nth: u8) -> Done {
        let ask = plan.asks[usize::from(nth)];
        let id = self.publish(to, ask)?;
        self.left.requests -= 1;
        self.lopsided |= !plan.is_symmetric(nth);
        self.used = self.used.max(to + 1);
        if ask.is_access() {
            // An access ends at once, and its effect is in the cache.
            self.cells.look(self.world.disk(), self.actions);
            self.history.accessed(id, nth);
        } else {
            self.history.sent(to, id, nth);
        }
        self.history.heard(self.world.answers());
        Ok(())
    }

    fn publish(&mut self, to: u8, ask: GuestRequest) -> Result<u32, Box<Failure>> {
        let id = self.next_id;
        self.next_id += 1;
        let (to, malformation) = (queue(to), Malformation::None);
        let layout = if ask.is_access() { Layout::PLAIN } else { LAYOUT };
        let sent = self.act(Action::Send { to, id, ask, layout, malformation })?;
        assert!(sent, "`{ask}` found no room");
        if !ask.is_access() {
            self.act(Action::Kick { to })?;
        }
        Ok(id)
    }

    fn switch(&mut self, value: u8) -> Done {
        self.left.requests -= 1;
        self.act(Action::Writeback { device: 0, value })?;
        self.writes_back = value != 0;
        self.history.switched(value);
        Ok(())
    }

    fn run(&mut self, thread: u8) -> Done {
        let to = queue(thread);
        self.history.runs(thread);
        self.act(Action::Crank { to, until: Until::Idle })?;
        self.history.heard(self.world.answers());
        for index in 0..self.world.slot(0).life().active as u8 {
            if self.world.slot(0).queues[usize::from(index)].back() > 0 {
                self.act(Action::Reap { to: queue(index), arm: true })?;
            }
        }
        // A disk mutant may change its state during a submission.
        self.cells.look(self.world.disk(), self.actions);
        Ok(())
    }

    fn finish(&mut self, op: OpKey, outcome: Outcome) -> Done {
        self.history.waits(op, outcome);
        self.host(Action::Complete { op, outcome })
    }

    fn reset(&mut self) -> Done {
        self.left.resets -= 1;
        self.history.reset_begun();
        self.act(Action::Reset { device: 0 })?;
        self.phase = Phase::Resetting;
        Ok(())
    }

    /// Loses the power and restarts the device. The survivors are recorded, not decided.
    fn cut(&mut self, plan: &Plan, survivors: SectorSet) -> Done {
        self.left.crashes -= 1;
        if plan.scope.reduction.lazy {
            self.left_behind = self.may_survive();
        }
        let carries = self.world.slot(0).device.carries();
        if let Some(log) = &self.log {
            let known = match self.phase {
                Phase::Recalling { next } => next,
                Phase::Living | Phase::Resetting => self.cells.len(),
            };
            log.lock().expect(WRITING).cut(known, self.cells.len());
        }
        self.act(Action::Crash(CrashKind::Power { survivors }))?;
        self.cells = Cells::new(self.world.disk(), self.world.run(), plan.scope.reduction.lazy);
        if !plan.scope.reduction.lazy {
            self.left_behind = self.may_survive();
        }
        self.history.power_lost(carries);
        self.phase = Phase::Recalling { next: 0 };
        self.begin_life(plan)
    }

    /// The possible contents of each sector after a power loss now, in this life or while the last
    /// one is read back.
    pub(super) fn may_survive(&self) -> Vec<Vec<(Code, How)>> {
        let mut all = Vec::with_capacity(self.cells.len() as usize);
        for number in 0..self.cells.len() {
            let undecided = match self.phase {
                Phase::Recalling { next } => number >= next,
                Phase::Living | Phase::Resetting => false,
            };
            if undecided {
                all.push(self.left_behind[number as usize].clone());
                continue;
            }
            let mut may = Vec::new();
            self.cells.survivors(number, &mut may);
            self.may_land(number, &mut may);
            all.push(may);
        }
        all
    }

    /// Adds the contents that operations in flight may leave in a sector.
    fn may_land(&self, number: u32, may: &mut Vec<(Code, How)>) {
        let sector = self.cells.sector(number);
        for (nth, (op, ..)) in self.world.disk().in_flight().enumerate() {
            if !op.kind.mutates() {
                continue;
            }
            if let Some(bytes) = self.world.would_land(nth, sector) {
                let content = self.cells.code_of(number, &bytes);
                if may.iter().all(|known| known.0 != content) {
                    may.push((content, How::Landed { op }));
                }
            }
        }
    }

    fn begin_life(&mut self, plan: &Plan) -> Done {
        let started = self.act(Action::Start { device: 0, accept: plan.accept, base: 0 })?;
        assert!(started, "a device does not start");
        self.writes_back = true;
        if let Some(value) = plan.row.mode() {
            self.act(Action::Writeback { device: 0, value })?;
            self.writes_back = value != 0;
        }
        for index in 0..self.world.slot(0).life().active as u8 {
            self.act(Action::Crank { to: queue(index), until: Until::Idle })?;
        }
        Ok(())
    }

    /// The guest reads the next sector, which holds this content.
    fn recall(&mut self, plan: &Plan, content: Code) -> Done {
        let Phase::Recalling { next } = self.phase else { unreachable!("nothing to read back") };
        let known = self.left_behind[next as usize].iter().find(|known| known.0 == content);
        let how = known.expect("one of those that were left behind").1;
        if let Some(log) = &self.log {
            log.lock().expect(WRITING).decide(next, self.cells.sector(next), how);
        }
        let bytes = self.cells.bytes(next, content);
        self.world.leave(0, next, &bytes);
        self.cells.look(self.world.disk(), self.actions);
        self.look_at(plan, next)?;
        self.left_behind[next as usize] = vec![(content, How::Lost)];
        self.phase = if next + 1 < self.cells.len() {
            Phase::Recalling { next: next + 1 }
        } else {
            // All used buffers and signals must have arrived: this life is not checked again.
            self.act(Action::Rest)?;
            self.history.all_recalled();
            self.lopsided = !self.is_mirrored();
            self.used = 0;
            Phase::Living
        };
        Ok(())
    }

    /// The guest reads a sector; every part of the world runs until the read ends.
    fn look_at(&mut self, plan: &Plan, number: u32) -> Done {
        let id = self.publish(0, Scope::recall(plan.kind, number))?;
        self.act(Action::Await { device: 0, id })?;
        if self.world.slot(0).queues[0].back() > 0 {
            self.act(Action::Reap { to: queue(0), arm: true })?;
        }
        self.world.answers().for_each(drop);
        Ok(())
    }

    /// Runs until the world is at rest, which it must reach, and reads everything back.
    pub(super) fn look(&mut self, plan: &Plan) -> Done {
        self.act(Action::Rest)?;
        (0..self.cells.len()).try_for_each(|number| self.look_at(plan, number))
    }
}

/// No panic occurs while the log is locked for a line.
const WRITING: &str = "only a device panics";

/// The number of the run, in all payloads.
pub(super) const RUN: u32 = 1;
