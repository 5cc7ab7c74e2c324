//! The world of one run: guests, devices, the host disk, and one oracle per device.
//!
//! [`World::step`] does one [`Action`] and draws nothing, so a world is a pure function of its
//! actions. An action that is not enabled returns `false` and changes nothing, so a list of actions
//! stays valid when lines are removed from it. After every device step the world polls the used
//! rings as a guest would, and reports each completion to the oracle.
//!
//! Not here: the choice of the next action ([`schedule`](crate::schedule)), and the meaning of an
//! answer (`powerfail_model`).

mod access;
pub mod action;
mod alter;
mod alteration;
mod background;
mod cells;
mod contract;
pub mod coverage;
mod crash;
mod device_slot;
pub mod event_hash;
mod facts;
mod guest_step;
mod host_step;
mod journal;
mod judge;
mod lifecycle;
mod reach;
mod readings;
mod registers;
mod rest;
mod shadow;
mod shape;
mod stream;

pub use cells::{Cells, Ended};
pub use contract::Contract;
pub(crate) use device_slot::DeviceSlot;
pub use facts::Stats;
pub use journal::{Event, Journal};
pub(crate) use judge::Answer;
pub use judge::Failure;
pub use reach::Reach;
pub use shape::{SERIAL, WorldShape};

use std::ops::Range;

use crate::dut::lifecycle::QueueState;
use crate::dut::{DeviceUnderTest, Host, Progress};
use crate::guest::memory::Memory;
use crate::guest::payload::SECTOR;
use crate::guest::{Breach, QueueDriver};
use crate::host::disk::SimDisk;
use crate::world::action::{Action, QueueId, Until};
use crate::world::coverage::{Coverage, Situation};
use crate::world::event_hash::Chain;
use crate::world::shadow::Shadow;
use powerfail_model::{Observed, Rule};

/// The result of a step: whether the action was enabled, or the broken promise.
pub type Outcome = Result<bool, Box<Failure>>;

/// One run's world.
#[derive(Clone, Debug)]
pub struct World<D: DeviceUnderTest> {
    setup: D::Setup,
    shape: WorldShape,
    run: u32,
    memory: Memory,
    disk: SimDisk,
    slots: Vec<DeviceSlot<D>>,
    coverage: Coverage,
    stats: Stats,
    chain: Chain,
    recovering: bool,
    /// The journal is `Some` iff [`keep_journal`](World::keep_journal) was called: reports need it.
    journal: Option<Box<Journal>>,
    /// Completed requests since the last call of [`answers`](World::answers); empty unless
    /// `listening`.
    answers: Vec<Answer>,
    listening: bool,
    /// The highest number of a request so far.
    newest: u32,
    /// What the last read has seen; kept for its allocation.
    seen: Vec<Observed>,
    /// The expected content of guest memory; `Some` iff the world is watched.
    shadow: Option<Box<Shadow>>,
    /// The part of guest memory that the guest may have written since the shadow was compared.
    guest_wrote: Range<usize>,
    /// Counts of what was in flight at each crash, if they are kept.
    cells: Option<Box<Cells>>,
}

impl<D: DeviceUnderTest> World<D> {
    /// A world just after power-on. `run` numbers it: worlds with different numbers share no
    /// content.
    #[must_use]
    pub fn new(setup: D::Setup, shape: WorldShape, run: u32) -> World<D> {
        let shape = shape.of_device::<D>(&setup);
        let disk = SimDisk::new(shape.spec.disk, run);
        let mut world = World {
            setup,
            shape,
            run,
            memory: Memory::new(shape.memory as usize),
            disk,
            slots: Vec::new(),
            coverage: Coverage::default(),
            stats: Stats::default(),
            chain: Chain::new(run),
            recovering: false,
            journal: None,
            answers: Vec::new(),
            listening: false,
            newest: 0,
            seen: Vec::new(),
            shadow: None,
            guest_wrote: 0..0,
            cells: None,
        };
        world.set_up();
        world
    }

    /// Resets the world to [`new`](Self::new) with the same set-up, but keeps its allocations,
    /// coverage and statistics.
    pub fn restart(&mut self, shape: WorldShape, run: u32) {
        let shape = shape.of_device::<D>(&self.setup);
        if shape.memory as usize != self.memory.len() {
            self.memory = Memory::new(shape.memory as usize);
        } else {
            // What a device leaves unwritten must not depend on the run before.
            self.memory.clear();
        }
        self.shape = shape;
        self.run = run;
        self.disk.restart(shape.spec.disk, run);
        self.chain = Chain::new(run);
        self.recovering = false;
        self.newest = 0;
        if let Some(journal) = &mut self.journal {
            journal.clear();
        }
        self.set_up();
    }

    /// The shape of the world.
    #[inline]
    #[must_use]
    pub fn shape(&self) -> &WorldShape {
        &self.shape
    }

    /// The set-up that every device is opened with.
    #[must_use]
    pub fn setup(&self) -> &D::Setup {
        &self.setup
    }

    /// The number of the run.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run
    }

    /// The highest number of a request of this run.
    #[inline]
    pub(crate) fn newest(&self) -> u32 {
        self.newest
    }

    /// The simulated disk.
    #[inline]
    #[must_use]
    pub fn disk(&self) -> &SimDisk {
        &self.disk
    }

    /// The situations reached, over all runs of this world.
    #[must_use]
    pub fn coverage(&self) -> &Coverage {
        &self.coverage
    }

    /// The counts over all runs of this world.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The hash over all events of this run so far.
    #[inline]
    #[must_use]
    pub fn event_hash(&self) -> u64 {
        self.chain.value()
    }

    /// The oracle of a device.
    ///
    /// # Panics
    /// If `device` is not below `shape().devices`.
    #[must_use]
    pub fn oracle(&self, device: u8) -> &Contract {
        self.slots[usize::from(device)].oracle.first()
    }

    #[inline]
    pub(crate) fn slot(&self, device: u8) -> &DeviceSlot<D> {
        &self.slots[usize::from(device)]
    }

    /// Resets coverage and statistics to zero.
    pub(crate) fn forget_counts(&mut self) {
        self.coverage = Coverage::default();
        self.stats = Stats::default();
        if let Some(cells) = &mut self.cells {
            cells.clear();
        }
    }

    /// Replaces all state that a panic may have left inconsistent.
    pub fn renew(&mut self) {
        let journal = self.journal.take();
        let (coverage, stats, cells) = (self.coverage, self.stats, self.cells.take());
        *self = World::new(self.setup.clone(), self.shape, self.run);
        (self.coverage, self.stats, self.journal) = (coverage, stats, journal);
        self.cells = cells;
        let listens = self.journal.is_some();
        self.slots.iter_mut().for_each(|slot| slot.link.listens = listens);
    }

    /// As [`renew`](Self::renew), if a run ended in a panic.
    pub(crate) fn refresh(&mut self, failure: Option<&Failure>) {
        if failure.is_some_and(|failure| failure.violation.rule == Rule::DevicePanicked) {
            self.renew();
        }
    }

    /// Keeps a journal from now on.
    pub fn keep_journal(&mut self) {
        self.journal = Some(Box::default());
        self.slots.iter_mut().for_each(|slot| slot.link.listens = true);
    }

    /// Starts a record of the disk's operations.
    pub(crate) fn keep_record(&mut self) {
        self.disk.keep_record();
    }

    /// Ends the disk's record.
    pub(crate) fn close_record(&mut self) {
        self.disk.close_record();
    }

    /// Drops the journal.
    pub(crate) fn forget_journal(&mut self) {
        self.journal = None;
        self.slots.iter_mut().for_each(|slot| slot.link.listens = false);
    }

    /// Keeps completed requests from now on, for [`answers`](Self::answers).
    pub(crate) fn listen_to_answers(&mut self) {
        self.listening = true;
    }

    /// Takes the requests completed since the last call.
    pub(crate) fn answers(&mut self) -> std::vec::Drain<'_, Answer> {
        self.answers.drain(..)
    }

    /// Frees the guest memory above the last driver's layout, so that copies of the world are
    /// cheaper. The world can run, but not be restarted.
    pub(crate) fn fit_memory(&mut self) {
        let ends = self.slots.iter().flat_map(|slot| &slot.queues).map(QueueDriver::end);
        let end = ends.max().unwrap_or(0) as usize;
        self.memory = self.memory.first(end.next_multiple_of(4096).clamp(4096, self.memory.len()));
    }

    /// Sets a sector or word of a device's part of the medium, as if a power loss had left it so.
    pub(crate) fn leave(&mut self, device: u8, number: u32, content: &[u8]) {
        self.disk.leave(device, number, content);
    }

    /// The bytes that an operation in flight would write to a sector of the medium. `None` if it
    /// has nothing left to write there.
    pub(crate) fn would_land(&self, nth: usize, sector: u32) -> Option<[u8; SECTOR]> {
        // SAFETY: `would_land` writes nothing; it reads the buffers of the operation.
        let ram = unsafe { self.memory.ram_to_read() };
        self.disk.would_land(nth, sector, ram)
    }

    /// A copy without a journal, for looking ahead.
    pub(crate) fn scout(&mut self) -> World<D> {
        let journal = self.journal.take();
        let copy = self.clone();
        self.journal = journal;
        copy
    }

    /// The events since power-on, if a journal is kept.
    #[must_use]
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_deref()
    }

    #[cold]
    pub(crate) fn note(&mut self, event: Event) {
        if let Some(journal) = &mut self.journal {
            journal.note(event);
        }
    }

    /// Marks recovery, the time from a crash to the end of the read that follows it. Crashes in it
    /// count as crashes during recovery.
    pub(crate) fn set_recovering(&mut self, recovering: bool) {
        self.recovering = recovering;
    }

    /// Does one action.
    ///
    /// Returns `false` iff the action is not enabled; the world is unchanged then.
    ///
    /// # Errors
    /// The promise that the device broke.
    pub fn step(&mut self, action: &Action) -> Outcome {
        if !self.addresses_exist(action) {
            return Ok(false);
        }
        if self.journal.is_some() {
            self.note(Event::Did(*action));
        }
        if self.shadow.is_some() {
            self.expect_memory(action);
        }
        let done = match *action {
            Action::Start { device, accept, base } => self.start(device, accept, base),
            Action::Send { to, id, ask, .. } if ask.is_access() => self.access(to, id, ask),
            Action::Send { to, id, ref ask, layout, malformation } => {
                Ok(self.send(to, id, ask, layout, malformation))
            }
            Action::SendAgain { to, id } => Ok(self.send_again(to, id)),
            Action::Alter { to, change, moment } => Ok(self.alter(to, change, moment)),
            Action::Jump { to } => Ok(self.jump(to)),
            Action::Kick { to } => Ok(self.kick(to)),
            Action::Reap { to, arm } => self.reap(to, arm),
            Action::Writeback { device, value } => self.writeback(device, value),
            Action::Reset { device } => self.reset(device),
            Action::PollReset { device } => self.poll_reset(device),
            Action::Crank { to, until } => self.crank(to, until),
            Action::Background { device, steps } => self.background(device, steps),
            Action::Choose { device, choices } => Ok(self.give_choices(device, choices)),
            Action::Effect { op, set } => {
                let done = self.disk.effect(op, set, self.memory.ram());
                self.look_at_memory(op.device).map(|()| done)
            }
            Action::Complete { op, outcome } => {
                let done = self.complete(op, outcome);
                self.look_at_memory(op.device).map(|()| done)
            }
            Action::WriteBack { set } => Ok(self.write_back(set)),
            Action::Evict { set } => Ok(self.evict(set)),
            Action::Lifecycle { device, what } => self.live(device, what),
            Action::Crash(kind) => self.crash(kind),
            Action::Await { device, id } => self.wait_for(device, id),
            Action::Stream { to, id, ask, count } => self.stream(to, id, ask, count),
            Action::Rest => self.rest(),
        }?;
        if done {
            self.chain.action(action);
        } else if let Some(journal) = &mut self.journal {
            // The action was not enabled, so it is not part of the report.
            journal.take_back(action);
        }
        Ok(done)
    }

    fn addresses_exist(&self, action: &Action) -> bool {
        let device = |device: u8| device < self.shape.devices;
        let queue = |to: QueueId| {
            device(to.device) && u16::from(to.queue) < self.shape.queues_of(to.device)
        };
        match action {
            Action::Start { device: d, .. }
            | Action::Writeback { device: d, .. }
            | Action::Reset { device: d }
            | Action::PollReset { device: d }
            | Action::Lifecycle { device: d, .. }
            | Action::Background { device: d, .. }
            | Action::Choose { device: d, .. }
            | Action::Await { device: d, .. } => device(*d),
            Action::Send { to, .. }
            | Action::SendAgain { to, .. }
            | Action::Alter { to, .. }
            | Action::Jump { to }
            | Action::Kick { to }
            | Action::Reap { to, .. }
            | Action::Stream { to, .. }
            | Action::Crank { to, .. } => queue(*to),
            Action::Effect { op, .. } | Action::Complete { op, .. } => device(op.device),
            Action::WriteBack { .. } | Action::Evict { .. } | Action::Crash(_) | Action::Rest => {
                true
            }
        }
    }

    /// Runs the thread of a queue.
    fn crank(&mut self, to: QueueId, until: Until) -> Outcome {
        let index = usize::from(to.queue);
        if !self.slots[usize::from(to.device)].runnable[index] {
            return Ok(false);
        }
        self.coverage.hit_if(self.disk.room() == 0, Situation::DiskFull);
        let resumed = self.disk.resumed();
        let before = self.disk.submitted();
        let may_fail = self.shape.host_may_fail;
        for _ in 0..until.most() {
            if self.slots[usize::from(to.device)].is_altering() {
                self.before_step(to);
            }
            let World { memory, disk, slots, .. } = self;
            let slot = &mut slots[usize::from(to.device)];
            let submitted = disk.submitted();
            let link = &mut slot.link;
            let mut host = Host { ram: memory.ram(), disk, device: to.device, may_fail, link };
            let progress = slot.device.step(u16::from(to.queue), &mut host);
            if let Some(journal) = &mut self.journal
                && let Some(op) = disk.newest().filter(|_| disk.submitted() > submitted)
            {
                journal.note(Event::Submitted(op));
            }
            self.stats.steps += 1;
            self.heed(to.device);
            self.look_at_memory(to.device)?;
            let slot = &mut self.slots[usize::from(to.device)];
            if D::BACKGROUND && progress != Progress::Idle {
                slot.background = true;
            }
            match progress {
                Progress::Idle => {
                    slot.runnable[index] = false;
                    // One step may both finish its work and find nothing more.
                    self.observe(to)?;
                    break;
                }
                Progress::Busy => {}
                Progress::Signal => {
                    // The signal covers elements that the same step used, too.
                    self.observe(to)?;
                    let slot = &mut self.slots[usize::from(to.device)];
                    if let Some(journal) = &mut self.journal {
                        journal.note(Event::Signalled(to));
                    }
                    slot.queues[index].signalled();
                    self.chain.note(2, u64::from(to.queue), u64::from(to.device));
                    self.stats.signals += 1;
                    if !slot.is_live() && !slot.is_resetting() {
                        return Err(self.signal_after_reset(to));
                    }
                }
                Progress::Woke(other) => {
                    if let Some(runnable) = slot.runnable.get_mut(usize::from(other)) {
                        *runnable = true;
                    }
                    // Waking the other queue may complete its requests.
                    self.observe(QueueId { queue: other as u8, ..to })?;
                }
            }
            self.observe(to)?;
            let reached = match until {
                Until::Idle | Until::Steps(_) => false,
                Until::Submitted(op) => {
                    self.disk.submitted() > before
                        && self.disk.newest().is_some_and(|newest| newest.is_like(&op))
                }
                Until::Used(id) => !self.is_out(to.device, id),
            };
            if reached {
                break;
            }
        }
        self.coverage.hit_if(self.disk.resumed() > resumed, Situation::ShortResumed);
        let slot = &mut self.slots[usize::from(to.device)];
        if slot.life().malformed_sent && !slot.life().avail_jumped {
            slot.life_mut().wants_reset = slot.device.needs_reset();
        }
        Ok(true)
    }

    /// Whether a request of a device is outstanding.
    pub(crate) fn is_out(&self, device: u8, id: u32) -> bool {
        let out = |queue: &QueueDriver| queue.outstanding().any(|(other, _)| other == id);
        self.slots.get(usize::from(device)).is_some_and(|s| s.queues.iter().any(out))
    }

    /// Looks for completions on a queue, as a guest that polls its used ring would.
    #[inline]
    fn observe(&mut self, to: QueueId) -> Result<(), Box<Failure>> {
        let slot = &self.slots[usize::from(to.device)];
        if !slot.is_live()
            || !slot.queues[usize::from(to.queue)].has_done(&self.memory)
            || slot.life().queue_states[usize::from(to.queue)] == QueueState::Down
        {
            return Ok(());
        }
        self.take_completions(to)
    }

    /// The slow path of [`observe`](Self::observe), which mostly finds nothing.
    #[inline(never)]
    fn take_completions(&mut self, to: QueueId) -> Result<(), Box<Failure>> {
        while let Some(done) =
            self.slots[usize::from(to.device)].queues[usize::from(to.queue)].next_done(&self.memory)
        {
            // An index out of range stays so; `completed` ignores it if the guest broke the ring.
            let stuck = matches!(done, Err(Breach::UsedIndex { .. }));
            self.completed(to, done)?;
            if stuck {
                break;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::blk::Blk;

    #[test]
    fn a_used_world_begins_with_the_memory_of_a_new_one() {
        let shape = WorldShape::default();
        let mut used = World::<Blk>::new((), shape, 1);
        used.memory.ram().write(0, &vec![0xee; shape.memory as usize]);
        used.restart(shape, 1);
        let new = World::<Blk>::new((), shape, 1);
        assert!(used.memory.all() == new.memory.all());
    }
}
