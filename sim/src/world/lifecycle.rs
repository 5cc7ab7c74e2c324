//! Lifecycle events of a live device: pause, save, resize, queue reset, reconnection.

use powerfail_model::{RequestId, Rule, Violation};

use super::device_slot::{HostFailures, Pause};
use super::judge::Failure;
use super::{DeviceSlot, Ended, Outcome, World};
use crate::base::sectors::SectorSet;
use crate::dut::caught::of_device;
use crate::dut::lifecycle::{Cut, Lifecycle, Moved, QueueState};
use crate::dut::{DeviceUnderTest, Host, Managed, Progress};
use crate::guest::wire::config;
use crate::guest::{GuestRequest, QueueDriver};
use crate::world::action::QueueId;
use crate::world::coverage::Situation;

impl<D: DeviceUnderTest> World<D> {
    /// Applies a lifecycle event. Not enabled if the device does not support it or is not live.
    pub(super) fn live(&mut self, device: u8, what: Lifecycle) -> Outcome {
        let slot = self.slot(device);
        let can = slot.can;
        // A pause outlives a reset, so it may have to end before the device is live again.
        if what == Lifecycle::Resume && slot.is_paused() {
            return Ok(self.resume(device));
        }
        // A guest that broke a ring, or changes a request, only finishes the queue resets that it
        // has begun.
        let begun = matches!(what, Lifecycle::PollQueue { .. } | Lifecycle::PlaceQueue { .. });
        if !slot.is_live() || ((slot.life().avail_jumped || slot.is_altering()) && !begun) {
            return Ok(false);
        }
        match what {
            Lifecycle::Pause if can.pause => Ok(self.pause(device)),
            Lifecycle::Save if slot.is_paused() => Ok(self.save(device)),
            Lifecycle::Restore if slot.is_saving() => self.move_on(device),
            Lifecycle::RestartRings if slot.is_paused() && !slot.is_saving() => {
                Ok(self.restart_rings(device))
            }
            Lifecycle::Leave if can.reconnect => self.leave_backend(device),
            Lifecycle::Resize { sectors } if can.resize => self.resize(device, sectors),
            Lifecycle::ResetQueue { queue } if can.queue_reset => {
                Ok(self.reset_queue(device, queue))
            }
            Lifecycle::PollQueue { queue } => self.poll_queue(device, queue),
            Lifecycle::PlaceQueue { queue, size } => Ok(self.place_queue(device, queue, size)),
            Lifecycle::Reconnect { inside } if can.reconnect => self.reconnect(device, inside),
            _ => Ok(false),
        }
    }

    fn pause(&mut self, device: u8) -> bool {
        let busy = self.disk.in_flight().any(|(key, ..)| key.device == device);
        let slot = &mut self.slots[usize::from(device)];
        if slot.is_paused() {
            return false;
        }
        self.coverage.hit_if(busy, Situation::PausedInFlight);
        managed(&mut slot.device, |part| part.pause());
        slot.pause = Some(Pause::default());
        true
    }

    fn resume(&mut self, device: u8) -> bool {
        let slot = &mut self.slots[usize::from(device)];
        managed(&mut slot.device, |part| part.resume());
        if slot.is_saving() {
            slot.oracle.tell(|oracle| oracle.disk().save_given_up());
        }
        slot.pause = None;
        slot.make_runnable();
        true
    }

    fn save(&mut self, device: u8) -> bool {
        let slot = &mut self.slots[usize::from(device)];
        if slot.is_saving() || !managed(&mut slot.device, |part| part.is_drained()) {
            return false;
        }
        managed(&mut slot.device, |part| part.begin_save());
        slot.oracle.tell(|oracle| oracle.disk().save_begun());
        slot.pause = Some(Pause { saving: true, ..slot.pause.unwrap_or_default() });
        slot.make_runnable();
        true
    }

    /// Restores the saved device in another process.
    fn move_on(&mut self, device: u8) -> Outcome {
        self.note_ended(device, None, Ended::Restore);
        let may_fail = self.shape.host_may_fail;
        let World { shape, memory, disk, slots, .. } = self;
        let slot = &mut slots[usize::from(device)];
        let link = &mut slot.link;
        let mut host = Host { ram: memory.ram(), disk, device, may_fail, link };
        let moved = managed(&mut slot.device, |part| part.move_on(&shape.spec, &mut host));
        self.heed(device);
        let Some(moved) = moved else { return Ok(false) };
        let slot = &mut self.slots[usize::from(device)];
        match moved {
            Moved::Stable => slot.oracle.tell(|oracle| oracle.disk().saved()),
            Moved::NotStable if may_fail && slot.host_failures.sync_failed => {
                slot.oracle.tell(|oracle| oracle.disk().host_failure_shown());
                self.coverage.hit(Situation::SaveFailed);
            }
            Moved::NotStable => {
                let note = "The device could not be saved, and no sync had failed.";
                let violation = Violation::new(Rule::LegalRequestFailed).note(note);
                return Err(Failure::boxed(device, violation));
            }
        }
        self.stats.moves += 1;
        self.coverage
            .hit_if(slot.pause.is_some_and(|pause| pause.kicked), Situation::RestoredKickPending);
        let owed = slot.queues.iter().any(QueueDriver::signal_owed);
        self.coverage.hit_if(owed, Situation::RestoredSignalPending);
        slot.pause = None;
        slot.make_runnable();
        Ok(true)
    }

    fn resize(&mut self, device: u8, sectors: u32) -> Outcome {
        let shape = self.shape.spec.disk;
        let slot = &mut self.slots[usize::from(device)];
        let before = slot.capacity;
        let granules = shape.granule / 512;
        let fits = sectors > before
            && sectors <= shape.room()
            && sectors.is_multiple_of(granules)
            && shape.spare > 0
            && D::PLAIN_MEDIUM;
        // A request that the old size forbids and the new one allows may be answered either way;
        // the oracle does not model that.
        let mut out = slot.queues.iter().flat_map(QueueDriver::outstanding);
        if !fits || out.any(|(_, ask)| reaches(ask, u64::from(before), u64::from(sectors))) {
            return Ok(false);
        }
        let writing =
            slot.queues.iter().any(|queue| queue.outstanding().any(|(_, ask)| ask.mutates()));
        self.coverage.hit_if(writing, Situation::ResizedUnderWrite);
        let generation = managed(&mut slot.device, |part| part.config_generation());
        self.disk.grow(device, sectors, self.run);
        managed(&mut slot.device, |part| part.resize(sectors));
        let mut bytes = [0; 8];
        slot.device.config_read(config::CAPACITY, &mut bytes);
        let shown = u64::from_le_bytes(bytes).saturating_sub(shape.first);
        if shown != u64::from(sectors) {
            let note = format!("The disk has {sectors} sectors and the driver is shown {shown}.");
            let violation = Violation::new(Rule::GenerationStale).note(note);
            return Err(Failure::boxed(device, violation));
        }
        if managed(&mut slot.device, |part| part.config_generation()) == generation {
            let note = format!("The capacity has grown from {before} to {sectors} sectors.");
            let violation = Violation::new(Rule::GenerationStale).note(note);
            return Err(Failure::boxed(device, violation));
        }
        drop(out);
        let announced = slot.device.take_config_signal();
        // One notification covers both.
        slot.life_mut().reset_announced |= announced && slot.device.needs_reset();
        if !announced {
            let note = "The configuration has changed, and no notification was sent.";
            let violation = Violation::new(Rule::SignalMissing).note(note);
            return Err(Failure::boxed(device, violation));
        }
        (slot.capacity, slot.least_capacity) = (sectors, sectors);
        slot.oracle.tell(|oracle| oracle.disk().grown(u64::from(sectors)));
        Ok(true)
    }

    fn reset_queue(&mut self, device: u8, queue: u8) -> bool {
        let busy = self.disk.in_flight().any(|(key, ..)| key.device == device && key.lane == queue);
        let slot = &mut self.slots[usize::from(device)];
        if !slot.may_reset_queues() || !slot.is_queue_live(queue) {
            return false;
        }
        self.coverage.hit_if(busy, Situation::QueueResetInFlight);
        self.note_ended(device, Some(queue), Ended::QueueReset);
        let slot = &mut self.slots[usize::from(device)];
        managed(&mut slot.device, |part| part.reset_queue(u16::from(queue)));
        slot.life_mut().queue_states[usize::from(queue)] = QueueState::Resetting;
        slot.make_runnable();
        self.stats.queue_resets += 1;
        true
    }

    fn poll_queue(&mut self, device: u8, queue: u8) -> Outcome {
        let slot = &mut self.slots[usize::from(device)];
        if u16::from(queue) >= slot.life().active
            || slot.life().queue_states[usize::from(queue)] != QueueState::Resetting
            || managed(&mut slot.device, |part| part.is_queue_resetting(u16::from(queue)))
        {
            return Ok(false);
        }
        let driver = &mut slot.queues[usize::from(queue)];
        slot.oracle.tell(|oracle| {
            oracle.disk().queue_reset_shown(driver.outstanding().map(|(id, _)| RequestId(id)));
        });
        driver.abandon(&mut self.memory);
        slot.life_mut().queue_states[usize::from(queue)] = QueueState::Down;
        self.listen(device, u16::from(queue)..u16::from(queue) + 1)
    }

    fn place_queue(&mut self, device: u8, queue: u8, size: u16) -> bool {
        let most = self.shape.spec.ring_size;
        let slot = &mut self.slots[usize::from(device)];
        let sound = size.is_power_of_two() && (2..=most).contains(&size);
        if !sound
            || u16::from(queue) >= slot.life().active
            || slot.life().queue_states[usize::from(queue)] != QueueState::Down
        {
            return false;
        }
        let driver = &mut slot.queues[usize::from(queue)];
        driver.place(size, &mut self.memory);
        managed(&mut slot.device, |part| part.place_queue(u16::from(queue), driver.plan()));
        slot.life_mut().queue_states[usize::from(queue)] = QueueState::Live;
        slot.make_runnable();
        self.coverage.hit_if(size < most, Situation::QueuePlacedSmaller);
        true
    }

    fn restart_rings(&mut self, device: u8) -> bool {
        let slot = &mut self.slots[usize::from(device)];
        let carried = slot.is_carrying();
        if !managed(&mut slot.device, |part| part.restart_rings()) {
            return false;
        }
        self.coverage.hit_if(carried, Situation::StoppedCarried);
        slot.pause = None;
        slot.make_runnable();
        true
    }

    /// Whether another backend can take over with the in-flight record.
    fn may_be_left(&self, device: u8) -> bool {
        let slot = self.slot(device);
        let all_live = (0..slot.life().active).all(|queue| slot.is_queue_live(queue as u8));
        // The record counts a head that was published twice once, so one answer could be lost.
        all_live && !slot.life().head_republished && self.shape.spec.record
    }

    /// Kills the backend under a live driver; another one takes over.
    fn reconnect(&mut self, device: u8, inside: Option<(u8, Cut)>) -> Outcome {
        let exists =
            inside.is_none_or(|(queue, _)| u16::from(queue) < self.slot(device).life().active);
        if !exists || !self.may_be_left(device) {
            return Ok(false);
        }
        if let Some((queue, cut)) = inside {
            self.die_inside(QueueId { device, queue }, cut)?;
        }
        self.note_reconnect(device);
        self.note_ended(device, None, Ended::Reconnect);
        let slot = &mut self.slots[usize::from(device)];
        self.disk.backend_kill(device, slot.oracle.first().host_failed());
        // The new backend opens the disk again, unlike one that the front-end left.
        slot.host_failures = HostFailures::default();
        self.go_on(device)
    }

    /// The front-end leaves the backend, the operations in flight complete, and it reconnects.
    fn leave_backend(&mut self, device: u8) -> Outcome {
        if !self.may_be_left(device) {
            return Ok(false);
        }
        let slot = &mut self.slots[usize::from(device)];
        let busy = slot.queues.iter().any(|queue| queue.outstanding().next().is_some());
        self.coverage.hit_if(busy, Situation::LeftInFlight);
        self.note_ended(device, None, Ended::Reconnect);
        let slot = &mut self.slots[usize::from(device)];
        managed(&mut slot.device, |part| part.leave());
        loop {
            for queue in 0..self.slot(device).life().active as u8 {
                self.run_dry(QueueId { device, queue })?;
            }
            let mine = self.disk.in_flight().map(|(key, ..)| key).find(|key| key.device == device);
            let Some(op) = mine else { break };
            self.complete(op, crate::host::disk::Outcome::Ok { landed: SectorSet::EMPTY });
        }
        self.go_on(device)
    }

    /// Steps a queue's thread until it has nothing to do.
    fn run_dry(&mut self, to: QueueId) -> Outcome {
        let may_fail = self.shape.host_may_fail;
        // Far more steps than operations can be in flight.
        for _ in 0..1000 {
            let World { memory, disk, slots, .. } = self;
            let slot = &mut slots[usize::from(to.device)];
            let link = &mut slot.link;
            let mut host = Host { ram: memory.ram(), disk, device: to.device, may_fail, link };
            let progress = slot.device.step(u16::from(to.queue), &mut host);
            self.heed(to.device);
            self.look_at_memory(to.device)?;
            if progress == Progress::Idle {
                break;
            }
            self.observe(to)?;
        }
        Ok(true)
    }

    /// The connected backend continues with the rings as they are.
    fn go_on(&mut self, device: u8) -> Outcome {
        let again = self.slot(device).is_carrying();
        self.coverage.hit_if(again, Situation::CarriedTwice);
        let World { shape, memory, disk, slots, .. } = self;
        let slot = &mut slots[usize::from(device)];
        slot.life_mut().carried_again += u32::from(again);
        slot.oracle.tell(|oracle| oracle.disk().reconnect());
        let out = slot.queues.iter().flat_map(QueueDriver::outstanding);
        slot.life_mut().carried = out.map(|(id, _)| id).max().unwrap_or(0);
        let mut rings = [crate::guest::RingPlan::at(0, 2, 0, false); crate::dut::MAX_QUEUES];
        let active = usize::from(slot.life().active);
        for (driver, ring) in slot.queues[..active].iter().zip(&mut rings) {
            *ring = driver.plan();
        }
        let negotiated = slot.life().negotiated;
        let (may_fail, link) = (shape.host_may_fail, &mut slot.link);
        let mut host = Host { ram: memory.ram(), disk, device, may_fail, link };
        let rings = &rings[..active];
        managed(&mut slot.device, |part| {
            part.reconnect(&shape.spec, negotiated, rings, &mut host);
        });
        slot.pause = None;
        self.heed(device);
        self.stats.reconnects += 1;
        // The end of its operations makes room on the shared disk for other devices.
        self.slots.iter_mut().for_each(DeviceSlot::make_runnable);
        Ok(true)
    }

    /// Runs the last step of a queue's thread, in which its backend dies at `cut`.
    fn die_inside(&mut self, to: QueueId, cut: Cut) -> Outcome {
        let may_fail = self.shape.host_may_fail;
        let World { memory, disk, slots, .. } = self;
        let slot = &mut slots[usize::from(to.device)];
        let link = &mut slot.link;
        let mut host = Host { ram: memory.ram(), disk, device: to.device, may_fail, link };
        let queue = u16::from(to.queue);
        let cut_there = managed(&mut slot.device, |part| part.die_inside(queue, cut, &mut host));
        self.heed(to.device);
        self.coverage.hit_if(
            cut_there,
            match cut {
                Cut::Unrecorded => Situation::KilledBeforeRecord,
                Cut::Element => Situation::KilledAtElement,
                Cut::Index => Situation::KilledAtIndex,
            },
        );
        // The step may have woken another queue and answered its requests before the end, too.
        for queue in 0..self.slot(to.device).life().active as u8 {
            self.observe(QueueId { queue, ..to })?;
        }
        Ok(true)
    }

    fn note_reconnect(&mut self, device: u8) {
        let mine = |key: crate::host::disk::OpKey| key.device == device;
        let busy = self.disk.in_flight().any(|(key, ..)| mine(key));
        let partly = self
            .disk
            .in_flight()
            .any(|(key, _, landed)| mine(key) && !landed.is_empty() && landed != key.range());
        self.coverage.hit_if(busy, Situation::ReconnectedInFlight);
        self.coverage.hit_if(partly, Situation::ReconnectedInsideWrite);
    }
}

impl<D> DeviceSlot<D> {
    /// Whether a request is in flight that already was when a backend died or was left.
    pub(crate) fn is_carrying(&self) -> bool {
        let carried = self.life().carried;
        let mut out = self.queues.iter().flat_map(QueueDriver::outstanding);
        // Most backends take nothing over, and this is asked at every step.
        carried > 0 && out.any(|(id, _)| id <= carried)
    }

    /// Whether a queue is in use and not being reset.
    pub(crate) fn is_queue_live(&self, queue: u8) -> bool {
        self.is_live()
            && u16::from(queue) < self.life().active
            && self.life().queue_states[usize::from(queue)] == QueueState::Live
    }

    /// Whether the reset of a queue was begun and its completion has not been read.
    pub(crate) fn is_queue_resetting(&self, queue: u8) -> bool {
        self.life().queue_states.get(usize::from(queue)) == Some(&QueueState::Resetting)
    }

    /// Whether the driver may reset queues one by one.
    pub(crate) fn may_reset_queues(&self) -> bool {
        self.life().negotiated & crate::guest::wire::feature::RING_RESET != 0
    }
}

/// Calls the lifecycle of a device that has one.
///
/// # Panics
/// If it has none: the world asks its [abilities](DeviceSlot::can) first.
pub(super) fn managed<D: DeviceUnderTest, T>(
    device: &mut D,
    call: impl FnOnce(&mut dyn Managed) -> T,
) -> T {
    let part = device.lifecycle().expect("a device with an ability has a lifecycle");
    of_device(|| call(part))
}

/// Whether a request ends in the sectors from `old` up to `new`.
fn reaches(ask: &GuestRequest, old: u64, new: u64) -> bool {
    let between = |sector: u64, sectors: u32| {
        sector.checked_add(u64::from(sectors)).is_some_and(|end| old < end && end <= new)
    };
    match ask {
        GuestRequest::In { sector, sectors } | GuestRequest::Out { sector, sectors } => {
            between(*sector, *sectors)
        }
        other => other.segments().any(|segment| between(segment.sector, segment.sectors)),
    }
}
