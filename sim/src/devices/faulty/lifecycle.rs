//! The behaviour of mutants with a lifecycle mistake.

use super::{DeviceFault, LifecycleFault, WrongDevice};
use powerfail_device::settle;

use crate::devices::blk::Blk;
use crate::devices::in_flight::SimRecord;
use crate::dut::MAX_QUEUES;
use crate::dut::lifecycle::Moved;
use crate::dut::toolkit::BlockRequest;
use crate::dut::{DeviceUnderTest, Host, Managed, Progress, Spec};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::{feature, request};
use crate::host::disk::Lane;

/// The state of a mutant with a lifecycle mistake; arrays are per queue.
#[derive(Clone, Debug, Default)]
pub(super) struct LifecycleState {
    /// The queue waits for a kick, even with heads on the ring.
    asleep: [bool; MAX_QUEUES],
    /// A used index that is not yet written to guest memory.
    hidden: [Option<u16>; MAX_QUEUES],
    /// The next signal is lost.
    lost: [bool; MAX_QUEUES],
    /// The new ring of a queue whose reset was reported as complete too early.
    placed: [Option<RingPlan>; MAX_QUEUES],
    paused: bool,
    /// It is saved without draining or without a sync.
    hurried: bool,
}

impl LifecycleState {
    /// The state after a reset has begun.
    pub(super) fn reset(&self) -> LifecycleState {
        LifecycleState { paused: self.paused, ..LifecycleState::default() }
    }
}

impl WrongDevice {
    pub(super) fn life_fault(&self) -> Option<LifecycleFault> {
        match self.fault {
            DeviceFault::Lifecycle(fault) => Some(fault),
            _ => None,
        }
    }

    fn is(&self, fault: LifecycleFault) -> bool {
        self.life_fault() == Some(fault)
    }

    /// One step of a mutant with a lifecycle mistake.
    pub(super) fn life_step(
        &mut self,
        fault: LifecycleFault,
        queue: u16,
        host: &mut Host<'_>,
    ) -> Progress {
        let at = usize::from(queue);
        self.place_late(queue);
        if let Some(index) = self.lifecycle.hidden[at].take() {
            let used = self.rings[at].used;
            host.ram.write(used + 2, &index.to_le_bytes());
            return Progress::Busy;
        }
        let (asked, before) = (self.asks(queue, &host.ram), self.used_idx(queue, &host.ram));
        let progress = match fault {
            LifecycleFault::WaitsAfterRestore if self.lifecycle.asleep[at] => {
                return Progress::Idle;
            }
            LifecycleFault::NoSecondLook if self.lifecycle.asleep[at] => {
                settle_step(&mut self.inner, queue, host)
            }
            _ => self.inner.step(queue, host),
        };
        let after = self.used_idx(queue, &host.ram);
        match fault {
            LifecycleFault::NoSecondLook => {
                let asks = self.asks(queue, &host.ram);
                self.lifecycle.asleep[at] |= asks != asked && asks.0;
            }
            LifecycleFault::SignalsBeforeIndex if after != before => {
                host.ram.write(self.rings[at].used + 2, &before.to_le_bytes());
                self.lifecycle.hidden[at] = Some(after);
                return Progress::Signal;
            }
            LifecycleFault::EventNotWrapped
                if after != before && self.negotiated & feature::EVENT_IDX != 0 =>
            {
                let ring = self.rings[at];
                let event = ring.available + 4 + 2 * u32::from(ring.size);
                let event = u16::from_le_bytes(host.ram.read::<2>(event));
                let passed = after.wrapping_sub(event).wrapping_sub(1) < after.wrapping_sub(before);
                self.lifecycle.lost[at] |= passed && !(before <= event && event < after);
            }
            _ => {}
        }
        if progress == Progress::Signal {
            let swallowed = self.is(LifecycleFault::SignalsBeforeIndex);
            if swallowed || std::mem::take(&mut self.lifecycle.lost[at]) {
                return Progress::Busy;
            }
        }
        progress
    }

    /// Whether the device enables kicks, and at which index.
    fn asks(&self, queue: u16, ram: &Ram<'_>) -> (bool, u16) {
        let Some(ring) = self.rings.get(usize::from(queue)) else { return (false, 0) };
        let word = |at: u32| u16::from_le_bytes(ram.read::<2>(at));
        if self.negotiated & feature::EVENT_IDX != 0 {
            (true, word(ring.used + 4 + 8 * u32::from(ring.size)))
        } else {
            (word(ring.used) & 1 == 0, 0)
        }
    }

    pub(super) fn life_kick(&mut self, queue: u16) {
        if let Some(asleep) = self.lifecycle.asleep.get_mut(usize::from(queue)) {
            *asleep = false;
        }
    }

    /// Whether a request exceeds the initial capacity on a queue other than the first.
    pub(super) fn spoil_grown(&self, queue: u16, request: &BlockRequest) -> bool {
        let sectors = u64::from(request.data_in.max(request.data_out).div_ceil(512));
        let transfers = matches!(request.kind, request::IN | request::OUT);
        queue > 0 && transfers && request.sector + sectors > u64::from(self.spec.disk.capacity)
    }

    /// Sets up a queue again once its reset is really complete.
    fn place_late(&mut self, queue: u16) {
        let at = usize::from(queue);
        if self.lifecycle.placed[at].is_some()
            && !self.inner.is_queue_resetting(queue)
            && let Some(ring) = self.lifecycle.placed[at].take()
        {
            self.inner.place_queue(queue, ring);
        }
    }

    pub(super) fn life_place_queue(&mut self, queue: u16, ring: RingPlan) {
        self.rings[usize::from(queue)] = ring;
        if self.is(LifecycleFault::LateAfterQueueReset) {
            self.lifecycle.placed[usize::from(queue)] = Some(ring);
            self.place_late(queue);
        } else {
            self.inner.place_queue(queue, ring);
        }
    }

    pub(super) fn life_reset_queue(&mut self, queue: u16) {
        self.lifecycle.hidden[usize::from(queue)] = None;
        // A queue that is not set up yet needs no reset.
        if self.lifecycle.placed[usize::from(queue)].take().is_none() {
            self.inner.reset_queue(queue);
        }
    }

    pub(super) fn life_pause(&mut self) {
        self.lifecycle.paused = true;
        self.lifecycle.hurried = false;
        self.inner.pause();
    }

    pub(super) fn life_resume(&mut self) {
        self.lifecycle.paused = false;
        self.inner.resume();
    }

    pub(super) fn life_is_drained(&mut self) -> bool {
        self.inner.is_drained()
            || (self.is(LifecycleFault::PauseWithoutDrain) && self.lifecycle.paused)
    }

    pub(super) fn life_restart_rings(&mut self) -> bool {
        if self.is(LifecycleFault::StopsWhileTakingAgain) && self.lifecycle.paused {
            let device = &mut self.inner.registers.device;
            let idle = (0..device.queues()).all(|index| {
                device.queue_mut(index).is_none_or(|(queue, _)| queue.in_flight() == 0)
            });
            if !idle {
                return false;
            }
            // Requests that were not resubmitted are forgotten with their record; the base is after
            // them.
            for index in 0..device.queues() {
                if let Some((queue, _)) = device.queue_mut(index) {
                    queue.stop();
                    queue.restart();
                }
            }
        }
        let restarted = self.inner.restart_rings();
        self.lifecycle.paused &= !restarted;
        restarted
    }

    pub(super) fn life_leave(&mut self) {
        match self.life_fault() {
            // The next process makes the mistake, so this one must not be there any more.
            Some(LifecycleFault::SkipsInFlight | LifecycleFault::LateAfterQueueReset) => return,
            Some(LifecycleFault::ForgetsWhenLeft) => {
                self.inner.records.iter().for_each(|record| record.unmark());
            }
            _ => {}
        }
        self.inner.leave();
    }

    pub(super) fn life_begin_save(&mut self) {
        self.lifecycle.hurried = match self.life_fault() {
            Some(LifecycleFault::PauseWithoutDrain) => !self.inner.is_drained(),
            Some(LifecycleFault::SaveWithoutSync) => true,
            _ => false,
        };
        if !self.lifecycle.hurried {
            self.inner.begin_save();
        }
    }

    pub(super) fn life_move_on(&mut self, host: &mut Host<'_>) -> Option<Moved> {
        let moved = if self.lifecycle.hurried {
            self.go_on_behind(host);
            Moved::Stable
        } else {
            self.inner.move_on(&self.spec, host)?
        };
        self.lifecycle.paused = false;
        if self.is(LifecycleFault::WaitsAfterRestore) {
            self.lifecycle.asleep = [true; MAX_QUEUES];
        }
        Some(moved)
    }

    pub(super) fn life_reconnect(
        &mut self,
        negotiated: u64,
        rings: &[RingPlan],
        host: &mut Host<'_>,
    ) {
        // A used index that was not written yet is written now, because the new backend does not
        // have it.
        for (hidden, ring) in self.lifecycle.hidden.iter_mut().zip(&self.rings) {
            if let Some(index) = hidden.take() {
                host.ram.write(ring.used + 2, &index.to_le_bytes());
            }
        }
        // A queue that was not set up yet gets an empty record.
        for (at, placed) in self.lifecycle.placed.iter().enumerate() {
            if let (Some(ring), Some(record)) = (placed, self.inner.records.get_mut(at)) {
                *record = SimRecord::new(ring.size).into();
            }
        }
        self.lifecycle = LifecycleState::default();
        if self.is(LifecycleFault::SkipsInFlight) {
            return self.go_on_behind(host);
        }
        if self.is(LifecycleFault::RepeatsUsed) {
            self.inner.records.iter().for_each(|record| record.mark_last());
        }
        let spec = self.spec;
        self.inner.reconnect(&spec, negotiated, rings, host);
    }

    /// Another process continues after all heads taken, as if none were in flight.
    fn go_on_behind(&mut self, host: &mut Host<'_>) {
        host.disk.backend_kill(host.device, false);
        let (spec, negotiated) = (self.spec, self.negotiated);
        let rings = std::mem::take(&mut self.rings);
        go_on_behind(&mut self.inner, &spec, negotiated, &rings, host);
        self.rings = rings;
    }
}

/// One step towards the end of what is in flight.
fn settle_step(blk: &mut Blk, queue: u16, host: &mut Host<'_>) -> Progress {
    let mut lane = Lane::new(host.disk, host.device, queue as u8);
    blk.registers.step_as(queue, &mut lane, host.ram, settle)
}

/// Another process goes on behind all that was taken.
fn go_on_behind(
    blk: &mut Blk,
    spec: &Spec,
    negotiated: u64,
    rings: &[RingPlan],
    host: &mut Host<'_>,
) {
    if blk.unrecorded != 0 {
        blk.find_records(host.ram);
    }
    let device = &mut blk.registers.device;
    let mut places = Vec::new();
    for (index, plan) in rings.iter().enumerate() {
        let over = device.is_queue_resetting(index as u16);
        let ring =
            device.queue_mut(index as u16).map(|(_, ring)| (ring.is_ready(), ring.position().0));
        let (ready, avail) = ring.unwrap_or((false, 0));
        let used = u16::from_le_bytes(host.ram.read::<2>(plan.used + 2));
        places.push((ready && !over, avail, used));
    }
    blk.reconnect(spec, negotiated, rings, host);
    // A record would set right what is to be wrong.
    blk.records.clear();
    blk.unrecorded = 0;
    for (index, (ready, avail, used)) in places.into_iter().enumerate() {
        if let Some((_, ring)) = blk.registers.device.queue_mut(index as u16) {
            if ready {
                ring.set_position(avail, used);
            } else {
                ring.reset();
            }
        }
    }
}
