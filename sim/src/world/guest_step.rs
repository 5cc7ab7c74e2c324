//! What the guest does.

use powerfail_model::{RequestId, Rule, Terms, Violation};

use super::judge::Failure;
use super::{Contract, Outcome, World};
use crate::base::sectors::SectorSet;
use crate::dut::lifecycle::QueueLife;
use crate::dut::{DeviceUnderTest, Host, Progress};
use crate::guest::payload::Author;
use crate::guest::wire::{config, feature, memory};
use crate::guest::{Ask, Layout, Mischief, RingPlan};
use crate::guest::{Kind, REGION};
use crate::world::action::QueueId;
use crate::world::coverage::Situation;

impl<D: DeviceUnderTest> World<D> {
    /// Initialises a device up to DRIVER_OK.
    pub(super) fn start(&mut self, device: u8, accept: u64, base: u16) -> Outcome {
        let station = &mut self.stations[usize::from(device)];
        if station.live || station.resetting {
            return Ok(false);
        }
        let offered = station.device.offered();
        check_offer(station.kind, offered).map_err(|v| Failure::boxed(device, v))?;
        let accepted = station.device.negotiate(accept);
        let legal = accept & !offered == 0 && accept & feature::VERSION_1 != 0;
        if accepted && accept & !offered != 0 {
            return Err(Failure::boxed(device, Violation::new(Rule::UnofferedAccepted)));
        }
        if !accepted {
            if legal {
                return Err(Failure::boxed(device, Violation::new(Rule::FeaturesRefused)));
            }
            self.coverage.hit(Situation::FeaturesRefused);
            // The driver gives up this life; a reset makes way for the next attempt.
            return self.begin_reset(device);
        }
        let may_fail = D::HOST_FAILS && self.options.host_may_fail();
        let terms = match station.kind {
            Kind::Disk => {
                let terms = read_terms(&mut station.device, offered, accept, may_fail);
                check_config(&mut station.device, &terms).map(|()| Some(terms))
            }
            Kind::Memory => check_region(&mut station.device, accept).map(|()| None),
        };
        let terms = terms.map_err(|v| Failure::boxed(device, v))?;
        let base = if D::RING_BASE { base } else { 0 };
        let event_idx = accept & feature::EVENT_IDX != 0;
        let many = accept & feature::MQ != 0 && station.kind == Kind::Disk;
        station.active = if many { self.options.spec.queues } else { 1 };
        station.negotiated = accept;
        let author = Author { run: self.run, disk: device };
        let mut rings = [RingPlan::at(0, 2, 0, false); crate::dut::MAX_QUEUES];
        let active = usize::from(station.active);
        for (driver, ring) in station.queues[..active].iter_mut().zip(&mut rings) {
            driver.restart(base, event_idx, author, &mut self.memory);
            *ring = driver.plan();
        }
        station.device.start(&rings[..active]);
        match terms {
            Some(terms) => station.oracle.disk().begin_life(terms),
            None => station.oracle.memory().begin_life(may_fail),
        }
        station.live = true;
        // A device may look at its rings without being kicked.
        station.stir();
        Ok(true)
    }

    /// Publishes a request.
    pub(super) fn send(
        &mut self,
        to: QueueId,
        id: u32,
        ask: &Ask,
        layout: Layout,
        mischief: Mischief,
    ) -> bool {
        let station = &mut self.stations[usize::from(to.device)];
        let fits = match station.kind {
            Kind::Disk => ask.data_len() <= self.options.max_sectors * 512,
            Kind::Memory => matches!(ask, Ask::Flush | Ask::Other(_)),
        };
        if !station.is_queue_live(to.queue) || station.jumped || !fits {
            return false;
        }
        let driver = &mut station.queues[usize::from(to.queue)];
        if !driver.send(&mut self.memory, id, ask, layout, mischief) {
            return false;
        }
        self.note_send(to, id, ask, layout);
        let station = &mut self.stations[usize::from(to.device)];
        station.provoked |= !matches!(mischief, Mischief::None | Mischief::Ragged(_));
        match &mut station.oracle {
            Contract::Disk(oracle) => oracle.submit(RequestId(id), &ask.request(mischief)),
            Contract::Memory(oracle) => {
                oracle.submit(RequestId(id), ask.request_of_memory(mischief));
            }
        }
        true
    }

    /// Publishes an outstanding head once more.
    pub(super) fn send_again(&mut self, to: QueueId, id: u32) -> bool {
        let station = &mut self.stations[usize::from(to.device)];
        if !station.is_queue_live(to.queue) || station.jumped {
            return false;
        }
        let driver = &mut station.queues[usize::from(to.queue)];
        // Two reads into one buffer say nothing about each other once one of them may fail.
        let may_fail = self.options.host_may_fail();
        let harmless = driver.outstanding().any(|(other, ask)| {
            other == id && !ask.mutates() && !(may_fail && matches!(ask, Ask::In { .. }))
        });
        if !harmless || !driver.send_again(&mut self.memory, id) {
            return false;
        }
        station.doubled = true;
        station.oracle.submit_again(RequestId(id));
        self.coverage.hit(Situation::DuplicateHead);
        true
    }

    /// Moves the available index to where no driver may. From here on the device owes nothing but
    /// to ask for a reset.
    pub(super) fn jump(&mut self, to: QueueId) -> bool {
        let station = &mut self.stations[usize::from(to.device)];
        if !station.is_queue_live(to.queue) || station.jumped {
            return false;
        }
        station.queues[usize::from(to.queue)].jump(&mut self.memory);
        station.jumped = true;
        station.stirred[usize::from(to.queue)] = true;
        station.device.kick(u16::from(to.queue));
        true
    }

    /// Considers a kick.
    pub(super) fn kick(&mut self, to: QueueId) -> bool {
        let station = &mut self.stations[usize::from(to.device)];
        let driver = &mut station.queues[usize::from(to.queue)];
        if !station.live || !driver.kick_due() {
            return false;
        }
        let live = station.lives[usize::from(to.queue)] == QueueLife::Live;
        if !live {
            return false;
        }
        if driver.needs_kick(&self.memory) {
            station.device.kick(u16::from(to.queue));
            station.stirred[usize::from(to.queue)] = true;
            station.kicked = station.paused;
        } else {
            self.coverage.hit(Situation::KickSuppressed);
        }
        true
    }

    /// Takes back what was used.
    pub(super) fn reap(&mut self, to: QueueId, arm: bool) -> Outcome {
        let station = &mut self.stations[usize::from(to.device)];
        let live = station.is_queue_live(to.queue);
        let driver = &mut station.queues[usize::from(to.queue)];
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
        let station = &mut self.stations[usize::from(device)];
        let is_disk = station.kind == Kind::Disk;
        if !station.live || !is_disk || station.negotiated & feature::CONFIG_WCE == 0 {
            return Ok(false);
        }
        station.device.config_write(config::WRITEBACK, &[value]);
        let mut byte = [0xff];
        station.device.config_read(config::WRITEBACK, &mut byte);
        let wanted = u8::from(value != 0);
        // A device may pin write-through where FLUSH was not taken: AMB-17.
        let pinned = byte[0] == 0 && station.negotiated & feature::FLUSH == 0;
        if byte[0] != wanted && !pinned {
            let note = format!("{value} was written and {} is read.", byte[0]);
            let violation = Violation::new(Rule::WritebackUntrue).note(note);
            return Err(Failure::boxed(device, violation));
        }
        let writing = station
            .queues
            .iter()
            .any(|queue| queue.outstanding().any(|(_, ask)| matches!(ask, Ask::Out { .. })));
        station.oracle.disk().set_writeback(byte[0] == 1);
        self.coverage.hit_if(writing, Situation::WritebackInFlight);
        Ok(true)
    }

    /// Writes zero to the device status.
    pub(super) fn reset(&mut self, device: u8) -> bool {
        let station = &self.stations[usize::from(device)];
        if !station.live {
            return false;
        }
        let busy = self.disk.in_flight().any(|(key, _, _)| key.device == device);
        self.coverage.hit_if(busy, Situation::ResetInFlight);
        self.begin_reset(device).is_ok()
    }

    fn begin_reset(&mut self, device: u8) -> Outcome {
        let may_fail = self.options.host_may_fail();
        let World { memory, disk, stations, .. } = self;
        let station = &mut stations[usize::from(device)];
        let mut host = Host { ram: memory.ram(), disk, device, may_fail };
        station.device.begin_reset(&mut host);
        station.stir();
        station.live = false;
        station.resetting = true;
        self.stats.resets += 1;
        Ok(true)
    }

    /// Reads the device status: the reset may have finished.
    pub(super) fn poll_reset(&mut self, device: u8) -> Outcome {
        let station = &mut self.stations[usize::from(device)];
        if !station.resetting || !station.device.reset_done() {
            return Ok(false);
        }
        station.oracle.reset_shown();
        for driver in &mut station.queues {
            driver.abandon(&mut self.memory);
        }
        let (active, paused) = (station.active, station.paused);
        station.still();
        station.paused = paused;
        station.was_reset = true;
        self.listen(device, 0..active)
    }

    /// A device that shows its reset done is given one more step, to be caught talking.
    pub(super) fn listen(&mut self, device: u8, queues: std::ops::Range<u16>) -> Outcome {
        let may_fail = self.options.host_may_fail();
        for queue in queues {
            let World { memory, disk, stations, .. } = self;
            let station = &mut stations[usize::from(device)];
            let driver = &station.queues[usize::from(queue)];
            let before = driver.used_idx(memory);
            let mut host = Host { ram: memory.ram(), disk, device, may_fail };
            let progress = station.device.step(queue, &mut host);
            let to = QueueId { device, queue: queue as u8 };
            if progress == Progress::Signal {
                return Err(self.signal_after_reset(to));
            }
            let driver = &self.station(device).queues[usize::from(queue)];
            if driver.used_idx(&self.memory) != before {
                let note = format!("On queue {queue}.");
                let violation = Violation::new(Rule::UsedAfterEnd).note(note);
                return Err(Failure::boxed(device, violation));
            }
        }
        Ok(true)
    }

    /// What sending this request says about the run.
    fn note_send(&mut self, to: QueueId, id: u32, ask: &Ask, layout: Layout) {
        let kind = match ask {
            Ask::In { .. } | Ask::Load { .. } => 0,
            Ask::Out { .. } | Ask::Store { .. } => 1,
            Ask::Flush => 2,
            Ask::Discard(_) => 3,
            Ask::WriteZeroes(_) => 4,
            Ask::GetId | Ask::Other(_) => 5,
        };
        self.stats.requests += 1;
        self.stats.by_kind[kind] += 1;
        let coverage = &mut self.coverage;
        coverage.hit_if(layout.indirect != 0, Situation::Indirect);
        let station = &mut self.stations[usize::from(to.device)];
        let driver = &station.queues[usize::from(to.queue)];
        coverage.hit_if(driver.avail_at_wrap(), Situation::AvailWrapped);
        if matches!(ask, Ask::Flush) && station.oracle.host_failed() {
            coverage.hit_if(self.disk.syncs_failed() > 0, Situation::FailedSyncThenFlush);
        }
        if matches!(ask, Ask::In { .. }) {
            coverage.hit_if(station.was_reset, Situation::ReadAfterReset);
        }
        if !ask.mutates() {
            return;
        }
        let granule = self.options.spec.disk.granule / 512;
        let discards = matches!(ask, Ask::Discard(_));
        if station.queues.len() == 1 && granule == 1 && !discards {
            // None of what follows can happen then.
            return;
        }
        let mine = covered(ask, self.options.spec.disk.room());
        for (index, other) in station.queues.iter().enumerate() {
            if other.out() == 0 {
                continue;
            }
            for (their_id, theirs) in other.outstanding() {
                if their_id == id || !theirs.mutates() {
                    continue;
                }
                let range = covered(theirs, self.options.spec.disk.room());
                let overlap = !mine.and(range).is_empty();
                let writes = matches!((ask, theirs), (Ask::Out { .. }, Ask::Out { .. }));
                if overlap && writes && index != usize::from(to.queue) {
                    coverage.hit(Situation::OverlapOnTwoQueues);
                }
                if overlap && matches!((ask, theirs), (Ask::Discard(_), Ask::Out { .. })) {
                    coverage.hit(Situation::DiscardUnderWrite);
                }
                if granule > 1 && !overlap && shares_granule(mine, range, granule) {
                    coverage.hit(Situation::GranuleShared);
                }
            }
        }
    }
}

/// The sectors of a device a request names, as far as they exist.
#[inline]
pub(crate) fn covered(ask: &Ask, capacity: u32) -> SectorSet {
    let clip = |sector: u64, sectors: u32| {
        let start = sector.min(u64::from(capacity)) as u32;
        let count = sectors.min(capacity - start);
        SectorSet::range(start, count)
    };
    match ask {
        Ask::In { sector, sectors } | Ask::Out { sector, sectors } => clip(*sector, *sectors),
        Ask::Store { word, words } | Ask::Load { word, words } => clip(u64::from(*word), *words),
        Ask::Discard(segments) | Ask::WriteZeroes(segments) => segments
            .as_slice()
            .iter()
            .fold(SectorSet::EMPTY, |set, s| set.or(clip(s.sector, s.sectors))),
        _ => SectorSet::EMPTY,
    }
}

fn shares_granule(mine: SectorSet, theirs: SectorSet, granule: u32) -> bool {
    mine.iter().any(|sector| {
        let whole = SectorSet::range(sector / granule * granule, granule);
        !whole.and(theirs).is_empty()
    })
}

/// What no device may offer: virtio 1.4, 5.2.3, 5.2.5.2 and 5.19.3 (BLK-D-02, FB-01, FB-04).
fn check_offer(kind: Kind, offered: u64) -> Result<(), Violation> {
    const NEVER: u64 = 1 << 0 | 1 << 3 | 1 << 7 | 1 << 8;
    /// The bits of a device type of its own.
    const OWN: u64 = (1 << 24) - 1;
    let wrong = match kind {
        Kind::Disk => {
            let wce = offered & feature::CONFIG_WCE != 0 && offered & feature::FLUSH == 0;
            wce || offered & NEVER != 0
        }
        Kind::Memory => offered & OWN & !memory::SHMEM_REGION != 0,
    };
    if wrong || offered & feature::VERSION_1 == 0 {
        let note = format!("The device offers {offered:#x}.");
        return Err(Violation::new(Rule::OfferBroken).note(note));
    }
    Ok(())
}

/// What the configuration space of a memory must say: 5.19.5.1 (PM-D-02, PM-D-03).
fn check_region<D: DeviceUnderTest>(device: &mut D, negotiated: u64) -> Result<(), Violation> {
    let mut read = |offset| {
        let mut bytes = [0; 8];
        device.config_read(offset, &mut bytes);
        u64::from_le_bytes(bytes)
    };
    let said = (read(memory::START), read(memory::SIZE));
    let is_shared = negotiated & memory::SHMEM_REGION != 0;
    if said != if is_shared { (0, 0) } else { REGION } {
        let note = format!("start reads {:#x} and size {:#x}.", said.0, said.1);
        return Err(Violation::new(Rule::RegionUntrue).note(note));
    }
    Ok(())
}

fn read_terms<D: DeviceUnderTest>(
    device: &mut D,
    offered: u64,
    negotiated: u64,
    host_may_fail: bool,
) -> Terms {
    let mut word = |offset| {
        let mut bytes = [0; 4];
        device.config_read(offset, &mut bytes);
        u32::from_le_bytes(bytes)
    };
    let max_discard_sectors = word(config::MAX_DISCARD_SECTORS);
    let max_discard_seg = word(config::MAX_DISCARD_SEG);
    let max_write_zeroes_sectors = word(config::MAX_WRITE_ZEROES_SECTORS);
    let max_write_zeroes_seg = word(config::MAX_WRITE_ZEROES_SEG);
    let mut capacity = [0; 8];
    device.config_read(config::CAPACITY, &mut capacity);
    let mut writeback = [0];
    device.config_read(config::WRITEBACK, &mut writeback);
    Terms {
        offered,
        negotiated,
        writeback: writeback[0] != 0,
        capacity: u64::from_le_bytes(capacity),
        max_discard_sectors,
        max_discard_seg,
        max_write_zeroes_sectors,
        max_write_zeroes_seg,
        host_may_fail,
    }
}

/// What must stand in the configuration space after FEATURES_OK.
fn check_config<D: DeviceUnderTest>(device: &mut D, terms: &Terms) -> Result<(), Violation> {
    let wce = terms.negotiated & feature::CONFIG_WCE != 0;
    if wce && terms.negotiated & feature::FLUSH == 0 && terms.writeback {
        return Err(Violation::new(Rule::WritebackStart));
    }
    for offset in [33, 57, 58, 59] {
        let mut byte = [0];
        device.config_read(offset, &mut byte);
        if byte[0] != 0 {
            let note = format!("Byte {offset} reads {}.", byte[0]);
            return Err(Violation::new(Rule::ReservedNotZero).note(note));
        }
    }
    Ok(())
}
