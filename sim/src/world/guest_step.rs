//! Steps of the guest.

use powerfail_model::{Profile, RequestId, Rule, Violation};

use super::alter::submit;
use super::device_slot::Life;
use super::judge::Failure;
use super::registers::{check_region, read_terms};
use super::{Contract, Ended, Outcome, World, WorldShape};
use crate::base::sectors::SectorSet;
use crate::dut::{DeviceUnderTest, Host, MAX_QUEUES, Progress, Waived};
use crate::guest::payload::Author;
use crate::guest::wire::{config, feature, memory};
use crate::guest::{GuestRequest, Kind, Layout, Limits, Malformation, RangeKind, RingPlan};
use crate::world::action::QueueId;
use crate::world::coverage::Situation;

/// The layout without what the device is known not to bear.
fn without(layout: Layout, shape: &WorldShape) -> Layout {
    let mut layout = layout;
    if shape.waives(Waived::EMPTY_BUFFERS) {
        layout.empty = 0;
    }
    if shape.waives(Waived::MIXED_INDIRECT) && layout.indirect == 2 {
        layout.indirect = 1;
    }
    layout
}

impl<D: DeviceUnderTest> World<D> {
    /// Initialises a device up to DRIVER_OK.
    pub(super) fn start(&mut self, device: u8, accept: u64, base: u16) -> Outcome {
        let slot = &mut self.slots[usize::from(device)];
        if slot.is_live() || slot.is_resetting() {
            return Ok(false);
        }
        let offered = slot.device.offered();
        self.stats.offered |= offered;
        self.stats.omitted |= !offered;
        check_offer(slot.kind, offered).map_err(|v| Failure::boxed(device, v))?;
        let before = self.look_at_registers(device)?;
        let slot = &mut self.slots[usize::from(device)];
        let accepted = slot.device.negotiate(accept);
        let legal = accept & !offered == 0 && accept & feature::VERSION_1 != 0;
        if accepted && accept & !offered != 0 {
            return Err(Failure::boxed(device, Violation::new(Rule::UnofferedAccepted)));
        }
        if !accepted {
            if legal {
                return Err(Failure::boxed(device, Violation::new(Rule::FeaturesRefused)));
            }
            self.coverage.hit(Situation::FeaturesRefused);
            // The driver ends this life with a reset, so that it can try again.
            return self.begin_reset(device);
        }
        let may_fail = D::MEDIUM.may_fail() && self.shape.host_may_fail;
        let first = self.shape.spec.disk.first;
        let terms = match slot.kind {
            Kind::Disk => Some(read_terms(&mut slot.device, offered, accept, first, may_fail)),
            Kind::Memory => {
                let region = check_region(&mut slot.device, accept);
                region.map_err(|v| Failure::boxed(device, v))?;
                None
            }
        };
        self.check_registers(
            device,
            before,
            terms.as_ref().map(|(terms, limits)| (terms, *limits)),
        )?;
        let slot = &mut self.slots[usize::from(device)];
        let base = if D::RING_BASE { base } else { 0 };
        let event_idx = accept & feature::EVENT_IDX != 0;
        let many = accept & feature::MQ != 0 && slot.kind == Kind::Disk;
        let queues = if many { self.shape.spec.queues } else { 1 };
        let author = Author { run: self.run, disk: device };
        let mut rings = [RingPlan::at(0, 2, 0, false); MAX_QUEUES];
        let active = usize::from(queues);
        for (driver, ring) in slot.queues[..active].iter_mut().zip(&mut rings) {
            let limits = terms.map_or(Limits::NONE, |(_, limits)| limits);
            driver.restart(base, event_idx, author, limits, &mut self.memory);
            *ring = driver.plan();
        }
        slot.device.start(&rings[..active]);
        match terms {
            Some((terms, _)) => slot.oracle.tell(|oracle| oracle.disk().begin_life(terms)),
            None => slot.oracle.tell(|oracle| oracle.memory().begin_life(may_fail)),
        }
        slot.life = Some(Life::begin(queues, accept));
        // A device may poll its rings without a kick.
        slot.make_runnable();
        Ok(true)
    }

    /// Publishes a request.
    pub(super) fn send(
        &mut self,
        to: QueueId,
        id: u32,
        ask: &GuestRequest,
        layout: Layout,
        malformation: Malformation,
    ) -> bool {
        let slot = &mut self.slots[usize::from(to.device)];
        let fits = match slot.kind {
            Kind::Disk => malformation.len(ask.data_len()) <= self.shape.max_sectors * 512,
            Kind::Memory => matches!(ask, GuestRequest::Flush | GuestRequest::Other(_)),
        };
        let bearable = malformation.is_framed() || !self.shape.waives(Waived::BROKEN_RINGS);
        if !slot.is_queue_live(to.queue) || slot.life().avail_jumped || !fits || !bearable {
            return false;
        }
        // A stream may have used the number of a later request of a trace.
        if slot.oracle.first().knows(RequestId(id)) {
            return false;
        }
        let layout = without(layout, &self.shape);
        let driver = &mut slot.queues[usize::from(to.queue)];
        if !driver.send(&mut self.memory, id, ask, layout, malformation) {
            return false;
        }
        self.newest = self.newest.max(id);
        self.note_send(to, id, ask, layout);
        let slot = &mut self.slots[usize::from(to.device)];
        slot.life_mut().malformed_sent |= !malformation.is_framed();
        let before = slot.readings_before(to.queue);
        slot.oracle.tell(|oracle| submit(oracle, id, ask, malformation));
        if let Some(before) = before {
            self.begin_alteration(to, id, before);
        }
        true
    }

    /// Publishes an outstanding head again.
    pub(super) fn send_again(&mut self, to: QueueId, id: u32) -> bool {
        let slot = &mut self.slots[usize::from(to.device)];
        if !slot.is_queue_live(to.queue) || slot.life().avail_jumped {
            return false;
        }
        let driver = &mut slot.queues[usize::from(to.queue)];
        // If a read may fail, two reads into one buffer cannot be judged.
        let may_fail = self.shape.host_may_fail;
        let harmless = driver.outstanding().any(|(other, ask)| {
            other == id && !ask.mutates() && !(may_fail && matches!(ask, GuestRequest::In { .. }))
        });
        let altered =
            slot.alteration.as_ref().is_some_and(|alteration| alteration.id() == Some(id));
        if !harmless || altered || !driver.send_again(&mut self.memory, id) {
            return false;
        }
        slot.life_mut().head_republished = true;
        slot.oracle.tell(|oracle| oracle.submit_again(RequestId(id)));
        self.coverage.hit(Situation::DuplicateHead);
        true
    }

    /// Moves the available index out of range. From here on the device only has to ask for a reset.
    pub(super) fn jump(&mut self, to: QueueId) -> bool {
        let slot = &mut self.slots[usize::from(to.device)];
        if !slot.is_queue_live(to.queue)
            || slot.life().avail_jumped
            || self.shape.waives(Waived::BROKEN_RINGS)
        {
            return false;
        }
        slot.queues[usize::from(to.queue)].jump(&mut self.memory);
        slot.life_mut().avail_jumped = true;
        slot.runnable[usize::from(to.queue)] = true;
        slot.device.kick(u16::from(to.queue));
        true
    }

    /// Kicks the device if a kick is due and not suppressed.
    pub(super) fn kick(&mut self, to: QueueId) -> bool {
        let slot = &mut self.slots[usize::from(to.device)];
        let live = slot.is_queue_live(to.queue);
        let driver = &mut slot.queues[usize::from(to.queue)];
        if !live || !driver.kick_due() {
            return false;
        }
        if self.shape.region != 0 {
            self.memory.move_away();
        }
        if driver.needs_kick(&self.memory) {
            slot.device.kick(u16::from(to.queue));
            slot.runnable[usize::from(to.queue)] = true;
            if let Some(pause) = &mut slot.pause {
                pause.kicked = true;
            }
        } else {
            self.coverage.hit(Situation::KickSuppressed);
        }
        true
    }

    /// Takes the used elements, and enables signals iff `arm`.
    pub(super) fn reap(&mut self, to: QueueId, arm: bool) -> Outcome {
        let slot = &mut self.slots[usize::from(to.device)];
        let live = slot.is_queue_live(to.queue);
        let driver = &mut slot.queues[usize::from(to.queue)];
        if !live || (driver.back() == 0 && driver.armed() == arm) {
            return Ok(false);
        }
        match driver.reap(&mut self.memory, arm) {
            Ok(()) => Ok(true),
            Err(breach) => Err(self.breached(to, breach)),
        }
    }

    /// Writes `writeback` and reads it back.
    pub(super) fn writeback(&mut self, device: u8, value: u8) -> Outcome {
        let slot = &mut self.slots[usize::from(device)];
        let is_disk = slot.kind == Kind::Disk;
        if !slot.is_live() || !is_disk || slot.life().negotiated & feature::CONFIG_WCE == 0 {
            return Ok(false);
        }
        slot.device.config_write(config::WRITEBACK, &[value]);
        let mut byte = [0xff];
        slot.device.config_read(config::WRITEBACK, &mut byte);
        let wanted = u8::from(value != 0);
        // A device may pin write-through where FLUSH was not accepted: AMB-17.
        let pinned = byte[0] == 0 && slot.life().negotiated & feature::FLUSH == 0;
        // The specification defines the values 0 and 1 only (AMB-20). The value read back decides
        // which mode is in force.
        let unknown = value > 1 && self.shape.contract == Profile::Literal;
        if byte[0] != wanted && !pinned && !unknown {
            let note = format!("{value} was written and {} is read.", byte[0]);
            let violation = Violation::new(Rule::WritebackUntrue).note(note);
            return Err(Failure::boxed(device, violation));
        }
        let writing = slot.queues.iter().any(|queue| {
            queue.outstanding().any(|(_, ask)| matches!(ask, GuestRequest::Out { .. }))
        });
        slot.oracle.tell(|oracle| oracle.disk().set_writeback(byte[0] != 0));
        self.coverage.hit_if(writing, Situation::WritebackInFlight);
        Ok(true)
    }

    /// Writes zero to the device status.
    pub(super) fn reset(&mut self, device: u8) -> Outcome {
        let slot = &self.slots[usize::from(device)];
        if !slot.is_live() {
            return Ok(false);
        }
        if slot.runnable == [false; MAX_QUEUES] {
            self.check_reset_is_announced(device)?;
        }
        let busy = self.disk.in_flight().any(|(key, _, _)| key.device == device);
        self.coverage.hit_if(busy, Situation::ResetInFlight);
        self.note_ended(device, None, Ended::Reset);
        self.begin_reset(device)
    }

    fn begin_reset(&mut self, device: u8) -> Outcome {
        let may_fail = self.shape.host_may_fail;
        let World { memory, disk, slots, .. } = self;
        let slot = &mut slots[usize::from(device)];
        let link = &mut slot.link;
        let mut host = Host { ram: memory.ram(), disk, device, may_fail, link };
        slot.device.begin_reset(&mut host);
        slot.make_runnable();
        slot.life.get_or_insert_with(|| Life::begin(0, 0)).resetting = true;
        if self.memory.has_trap() {
            self.after_trap();
        }
        self.stats.resets += 1;
        self.heed(device);
        Ok(true)
    }

    /// Reads the device status to see whether the reset is complete.
    pub(super) fn poll_reset(&mut self, device: u8) -> Outcome {
        let slot = &mut self.slots[usize::from(device)];
        if !slot.is_resetting() || !slot.device.reset_done() {
            return Ok(false);
        }
        slot.end_alteration(&mut self.memory);
        slot.oracle.tell(Contract::reset_shown);
        for driver in &mut slot.queues {
            driver.abandon(&mut self.memory);
        }
        let active = slot.life().active;
        slot.end_life();
        slot.was_reset = true;
        self.listen(device, 0..active)
    }

    /// Steps a device once more after its reset, to check that it uses and signals nothing.
    pub(super) fn listen(&mut self, device: u8, queues: std::ops::Range<u16>) -> Outcome {
        let may_fail = self.shape.host_may_fail;
        for queue in queues {
            let World { memory, disk, slots, .. } = self;
            let slot = &mut slots[usize::from(device)];
            let driver = &slot.queues[usize::from(queue)];
            let before = driver.used_idx(memory);
            let link = &mut slot.link;
            let mut host = Host { ram: memory.ram(), disk, device, may_fail, link };
            let progress = slot.device.step(queue, &mut host);
            self.heed(device);
            let to = QueueId { device, queue: queue as u8 };
            if progress == Progress::Signal {
                return Err(self.signal_after_reset(to));
            }
            let driver = &self.slot(device).queues[usize::from(queue)];
            if driver.used_idx(&self.memory) != before {
                let note = format!("On queue {queue}.");
                let violation = Violation::new(Rule::UsedAfterEnd).note(note);
                return Err(Failure::boxed(device, violation));
            }
        }
        Ok(true)
    }

    /// Counts the situations that a published request shows.
    fn note_send(&mut self, to: QueueId, id: u32, ask: &GuestRequest, layout: Layout) {
        let kind = match ask {
            GuestRequest::In { .. } | GuestRequest::Load { .. } => 0,
            GuestRequest::Out { .. } | GuestRequest::Store { .. } => 1,
            GuestRequest::Flush => 2,
            GuestRequest::Ranges(RangeKind::Discard, _) => 3,
            GuestRequest::Ranges(RangeKind::WriteZeroes, _) => 4,
            GuestRequest::GetId | GuestRequest::Other(_) => 5,
        };
        self.stats.requests += 1;
        self.stats.by_kind[kind] += 1;
        let coverage = &mut self.coverage;
        coverage.hit_if(layout.indirect != 0, Situation::Indirect);
        let slot = &mut self.slots[usize::from(to.device)];
        let driver = &slot.queues[usize::from(to.queue)];
        coverage.hit_if(driver.avail_at_wrap(), Situation::AvailWrapped);
        if matches!(ask, GuestRequest::Flush) && slot.oracle.first().host_failed() {
            let reported = !D::MEDIUM.is_simulated() && slot.host_failures.sync_failed;
            let failed = self.disk.syncs_failed() > 0 || reported;
            coverage.hit_if(failed, Situation::FailedSyncThenFlush);
        }
        if matches!(ask, GuestRequest::In { .. }) {
            coverage.hit_if(slot.was_reset, Situation::ReadAfterReset);
        }
        if !ask.mutates() {
            return;
        }
        let granule = self.shape.spec.disk.granule / 512;
        let discards = matches!(ask, GuestRequest::Ranges(RangeKind::Discard, _));
        if slot.queues.len() == 1 && granule == 1 && !discards {
            // The situations below need two queues, a larger granule or a discard.
            return;
        }
        let mine = ask.covered(self.shape.spec.disk.room());
        for (index, other) in slot.queues.iter().enumerate() {
            if other.out() == 0 {
                continue;
            }
            for (their_id, theirs) in other.outstanding() {
                if their_id == id || !theirs.mutates() {
                    continue;
                }
                let range = theirs.covered(self.shape.spec.disk.room());
                let overlap = !mine.and(range).is_empty();
                let writes =
                    matches!((ask, theirs), (GuestRequest::Out { .. }, GuestRequest::Out { .. }));
                if overlap && writes && index != usize::from(to.queue) {
                    coverage.hit(Situation::OverlapOnTwoQueues);
                }
                if overlap && discards && matches!(theirs, GuestRequest::Out { .. }) {
                    coverage.hit(Situation::DiscardUnderWrite);
                }
                if granule > 1 && !overlap && shares_granule(mine, range, granule) {
                    coverage.hit(Situation::GranuleShared);
                }
            }
        }
    }
}

fn shares_granule(mine: SectorSet, theirs: SectorSet, granule: u32) -> bool {
    mine.iter().any(|sector| {
        let whole = SectorSet::range(sector / granule * granule, granule);
        !whole.and(theirs).is_empty()
    })
}

/// Checks the offered features: virtio 1.4, 5.2.3, 5.2.5.2 and 5.19.3 (BLK-D-02, FB-01, FB-04).
fn check_offer(kind: Kind, offered: u64) -> Result<(), Violation> {
    /// The feature bits that each device type defines for itself.
    const OWN: u64 = (1 << 24) - 1;
    let wrong = match kind {
        Kind::Disk => {
            let wce = offered & feature::CONFIG_WCE != 0 && offered & feature::FLUSH == 0;
            wce || offered & feature::NEVER != 0
        }
        Kind::Memory => offered & OWN & !memory::SHMEM_REGION != 0,
    };
    if wrong || offered & feature::VERSION_1 == 0 {
        let note = format!("The device offers {offered:#x}.");
        return Err(Violation::new(Rule::OfferBroken).note(note));
    }
    Ok(())
}
