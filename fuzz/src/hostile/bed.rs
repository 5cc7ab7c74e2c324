//! The raw device, its disk and its two guests, one step at a time.
//!
//! Each queue has a memory of its own, which is lent to it alone: whatever the hostile guest writes, it cannot touch the good one's ring,
//! so whatever happens there the device has done. What they share is what a device shares between queues: the disk, the flush gate, the
//! range locks, the cache mode, and the end of a life.

use powerfail::disk::{DiskShape, Lane, OpKey, OpKind, Outcome, SimDisk};
use powerfail::payload;
use powerfail::sectors::SectorSet;
use powerfail::spec::{ALL_FEATURES, Kind};
use powerfail::wire::feature;
use powerfail_device::wire::{
    STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK, STATUS_NEEDS_RESET,
};
use powerfail_device::{
    Config, Device, DeviceState, QueueLayout, QueueT, SaveError, Step, WRITEBACK_OFFSET, step,
};
use powerfail_model::Terms;

use super::good::{self, Good};
use super::script::Setup;
use crate::bound::Watched;
use crate::reference::{self, Offer};

/// Bytes of the hostile guest's memory.
pub(super) const MEMORY: u32 = 12 << 10;
/// Sectors of the disk.
const SECTORS: u32 = 16;
/// Most sectors of a segment, and most segments.
const SEGMENT: (u32, u32) = (8, 3);
/// A device thread that takes no new chain for so many steps is one that goes round in circles.
const MOST_STEPS: u32 = 5_000;
/// A guest can have its own buffers publish chain after chain; so many are enough.
const MOST_CHAINS: u32 = 300;

const SERIAL: [u8; 20] = *b"the number of a disk";

/// The hostile queue.
pub(super) const HOSTILE: u16 = 0;
/// The good queue.
const GOOD: u16 = 1;

/// Everything.
pub(super) struct Bed {
    device: Device,
    disk: SimDisk,
    pub(super) hostile: Watched,
    pub(super) good: Good,
    setup: Setup,
    resetting: bool,
    paused: bool,
    /// A reset of the hostile queue was asked for.
    queue_resetting: bool,
    /// Steps since a chain was taken.
    idle_steps: u32,
    chains: u32,
    /// Operations that the host has ended.
    ended: u32,
    /// How often in a row the host has put something off.
    put_off: u32,
}

fn shape(setup: Setup) -> DiskShape {
    let code = |by: u8, of: &[u32]| of[usize::from(setup.disk >> by & 3) % of.len()];
    let granule = code(0, &[512, 512, 1024, 4096]);
    DiskShape {
        capacity: SECTORS,
        spare: 0,
        devices: 1,
        kinds: [Kind::Disk; 2],
        granule,
        tear: if code(2, &[0, 1]) == 0 { 1 } else { granule / 512 },
        max_transfer: code(4, &[1 << 20, 2 * granule, granule, 1 << 20]),
        discard_granularity: granule,
        depth: code(6, &[32, 4, 2, 1]),
        read_only: setup.host / 4 % 16 == 15,
    }
}

fn config(setup: Setup) -> Config {
    Config {
        queues: 2,
        queue_size: 16,
        serial: SERIAL,
        features: ALL_FEATURES | feature::RING_RESET,
        writeback: setup.host & 64 == 0,
        max_discard_sectors: SEGMENT.0,
        max_discard_seg: SEGMENT.1,
        max_write_zeroes_sectors: SEGMENT.0,
        max_write_zeroes_seg: SEGMENT.1,
        ..Config::default()
    }
}

fn device(setup: Setup, disk: &SimDisk) -> Device {
    Device::new(config(setup), disk.limits(0)).expect("a configuration like any")
}

impl Bed {
    pub(super) fn new(setup: Setup) -> Bed {
        let disk = SimDisk::new(shape(setup), good::AUTHOR.run);
        let mut bed = Bed {
            device: device(setup, &disk),
            disk,
            hostile: Watched::new(MEMORY),
            good: Good::new(),
            setup,
            resetting: false,
            paused: false,
            queue_resetting: false,
            idle_steps: 0,
            chains: 0,
            ended: 0,
            put_off: 0,
        };
        bed.restart(setup);
        bed
    }

    /// Becomes what [`new`](Self::new) returns.
    pub(super) fn restart(&mut self, setup: Setup) {
        self.setup = setup;
        self.disk.restart(shape(setup), good::AUTHOR.run);
        self.device = device(setup, &self.disk);
        self.hostile.restart(super::HEADERS);
        self.good.restart(SECTORS, [4, 8, 8, 16][usize::from(setup.sizes >> 2 & 3)]);
        (self.resetting, self.paused, self.queue_resetting) = (false, false, false);
        (self.idle_steps, self.chains, self.put_off) = (0, 0, 0);
        self.begin();
    }

    pub(super) fn is_alone(&self) -> bool {
        self.setup.alone.is_multiple_of(4)
    }

    pub(super) fn host_may_fail(&self) -> bool {
        self.setup.host.is_multiple_of(4)
    }

    pub(super) fn ring_size(&self) -> u16 {
        [4, 8, 16, 2][usize::from(self.setup.sizes & 3)]
    }

    /// Where the hostile ring is placed, or would be by the book.
    pub(super) fn plan(&self) -> QueueLayout {
        let size = self.ring_size();
        if self.setup.odd_ring % 8 == 7 {
            let [descriptors, available, used] = self.setup.ring_at.map(u64::from);
            let (descriptors, available) = (descriptors & !15, (available & !1).max(2));
            return QueueLayout { size, descriptors, available, used: used & !3 };
        }
        QueueLayout { size, descriptors: 0, available: 0x100, used: 0x180 }
    }

    /// A life begins: both queues, negotiated and placed.
    fn begin(&mut self) {
        let mut accept = ALL_FEATURES | feature::RING_RESET;
        for (nth, bit) in [
            feature::EVENT_IDX,
            feature::FLUSH,
            feature::CONFIG_WCE,
            feature::DISCARD,
            feature::WRITE_ZEROES,
            feature::INDIRECT_DESC,
            feature::RING_RESET,
        ]
        .into_iter()
        .enumerate()
        {
            if self.setup.declines >> nth & 1 != 0 {
                accept &= !bit;
            }
        }
        let offered = self.device.offered();
        accept |= offered & feature::RO;
        if self.is_alone() {
            accept &= !feature::MQ;
        }
        self.device.set_status(STATUS_ACKNOWLEDGE);
        self.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        self.device.set_driver_features(accept);
        self.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
        assert!(self.device.status() & STATUS_FEATURES_OK != 0, "a subset of the offer is refused");
        let layout = self.plan();
        self.device.set_queue(HOSTILE, layout).expect("aligned");
        self.hostile.placed(layout);
        if !self.is_alone() {
            let mut mode = [0];
            self.device.config_read(WRITEBACK_OFFSET, &mut mode);
            let terms = Terms {
                offered,
                negotiated: accept,
                writeback: mode[0] != 0,
                capacity: SECTORS.into(),
                max_discard_sectors: SEGMENT.0,
                max_discard_seg: SEGMENT.1,
                max_write_zeroes_sectors: SEGMENT.0,
                max_write_zeroes_seg: SEGMENT.1,
                host_may_fail: self.host_may_fail(),
            };
            let ring = self.good.begin(terms, accept & feature::EVENT_IDX != 0);
            let layout = QueueLayout {
                size: ring.size,
                descriptors: ring.descriptors.into(),
                available: ring.available.into(),
                used: ring.used.into(),
            };
            self.device.set_queue(GOOD, layout).expect("placed by the book");
        }
        let live = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
        self.device.set_status(live);
        assert_eq!(self.device.status() & STATUS_DRIVER_OK, STATUS_DRIVER_OK);
    }

    pub(super) fn kick(&mut self, queue: u16) {
        if let Some((queue, _)) = self.device.queue_mut(queue) {
            queue.handle_kick();
        }
    }

    /// The good guest kicks, if the device has asked for it; whether it did.
    pub(super) fn kick_good(&mut self) -> bool {
        let kicks = self.good.kicks();
        if kicks {
            self.kick(GOOD);
        }
        kicks
    }

    /// The thread of a queue takes one step; false if there was nothing to do.
    fn step(&mut self, index: u16) -> bool {
        let Some((queue, ring)) = self.device.queue_mut(index) else { return false };
        let memory = if index == HOSTILE { self.hostile.memory() } else { &self.good.memory };
        let ram = memory.ram();
        let mut lane = Lane::new(&mut self.disk, 0, index as u8);
        let did = step(queue, ring, &mut lane, &ram);
        if let Step::Wake(other) = did
            && let Some((queue, ring)) = self.device.queue_mut(other.0)
        {
            let memory = if other.0 == HOSTILE { self.hostile.memory() } else { &self.good.memory };
            queue.handle_wake(ring, &memory.ram());
        }
        // Whoever steps the good queue has not been lent the hostile one's memory, unless it woke it.
        if index == HOSTILE || matches!(did, Step::Wake(_)) {
            self.look();
        }
        match did {
            Step::Signal if index == GOOD => self.good.signalled(),
            Step::Signal => assert!(!self.resetting, "a signal during a reset"),
            _ => self.good.observe(),
        }
        self.idle_steps += u32::from(did != Step::Idle);
        assert!(self.idle_steps < MOST_STEPS, "queue {index} does not come to rest");
        did != Step::Idle
    }

    /// Holds what was done to the hostile guest's memory against its bound, and notes what the chain that was taken may write to.
    fn look(&mut self) {
        let negotiated = self.device.negotiated();
        let read_only = self.device.offered() & feature::RO != 0;
        let ring = self.device.queue_mut(HOSTILE).map(|(_, ring)| &*ring);
        let fouled = &mut self.good.fouled;
        let took = self.hostile.look(ring, |memory, plan, head| {
            let offer = Offer {
                sectors: SECTORS.into(),
                flush: true,
                discard: negotiated & feature::DISCARD != 0,
                write_zeroes: negotiated & feature::WRITE_ZEROES != 0,
                read_only,
                fails: false,
                serial: SERIAL,
                most_segments: SEGMENT.1,
                most_sectors: SEGMENT.0,
            };
            let outcome = reference::serve(memory, plan.descriptors, plan.size, head, &offer);
            for (first, count) in outcome.ops.iter().filter_map(reference::Asked::changes) {
                *fouled = fouled.or(SectorSet::range(first as u32, count as u32));
            }
        });
        if took {
            (self.idle_steps, self.chains) = (0, self.chains + 1);
        }
    }

    /// The thread of a queue runs.
    pub(super) fn crank(&mut self, queue: u16, steps: u32) {
        for _ in 0..steps {
            if !self.step(queue) {
                break;
            }
        }
        self.poll_reset();
    }

    /// The `nth` operation in flight, as often as there are any.
    pub(super) fn nth_op(&self, nth: u8) -> Option<(OpKey, SectorSet)> {
        let busy = self.disk.busy();
        (busy > 0).then(|| self.disk.nth(usize::from(nth) % busy))
    }

    /// A set of sectors that is whole in units that do not tear.
    pub(super) fn subset(&self, mask: u32) -> SectorSet {
        let tear = self.disk.shape().tear;
        SectorSet::from_words([mask.into(), 0, 0, 0]).rounded(tear).and(self.disk.shape().part(0))
    }

    /// The unit that does not tear, in sectors.
    pub(super) fn tear(&self) -> u32 {
        self.disk.shape().tear
    }

    pub(super) fn effect(&mut self, op: OpKey, set: SectorSet) {
        let memory = if op.lane == 0 { self.hostile.memory() } else { &self.good.memory };
        self.disk.effect(op, set, memory.ram());
        self.look();
    }

    pub(super) fn complete(&mut self, op: OpKey, outcome: Outcome) {
        if let Outcome::Failed { errno, .. } = outcome {
            let transient = errno == 4 || errno == 11;
            // A host that puts things off for ever is one that fails.
            if transient && self.put_off > 8 || !transient && !self.host_may_fail() {
                return;
            }
            self.put_off += u32::from(transient);
        } else {
            self.put_off = 0;
        }
        let memory = if op.lane == 0 { self.hostile.memory() } else { &self.good.memory };
        self.ended += 1;
        self.disk.complete(op, outcome, memory.ram());
        if op.lane == 0 {
            self.look();
        }
    }

    pub(super) fn write_back(&mut self, set: SectorSet) {
        self.disk.write_back(set);
    }

    /// The guest writes into the configuration space.
    pub(super) fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        if self.resetting {
            return;
        }
        self.device.config_write(offset, bytes);
        let mut mode = [0];
        self.device.config_read(WRITEBACK_OFFSET, &mut mode);
        if !self.is_alone() {
            self.good.set_writeback(mode[0] != 0);
        }
    }

    pub(super) fn reset(&mut self) {
        self.device.set_status(0);
        self.resetting = true;
        self.good.pause();
        self.poll_reset();
    }

    /// A reset that is over is noticed, and the next life begins.
    fn poll_reset(&mut self) {
        if self.queue_resetting && !self.device.is_queue_resetting(HOSTILE) {
            self.queue_resetting = false;
            if !self.resetting {
                self.hostile.ended();
                let layout = self.plan();
                self.device
                    .set_queue(HOSTILE, layout)
                    .expect("a queue that was reset is placed again");
                self.hostile.placed(layout);
            }
        }
        if self.resetting && self.device.status() == 0 {
            self.resetting = false;
            self.queue_resetting = false;
            self.hostile.ended();
            if !self.is_alone() {
                self.good.reset_shown();
            }
            for queue in [HOSTILE, GOOD] {
                assert!(!self.step(queue), "queue {queue} does something after its reset");
            }
            self.begin();
        }
    }

    pub(super) fn reset_queue(&mut self) {
        if self.device.reset_queue(HOSTILE).is_ok() {
            self.queue_resetting = true;
            self.poll_reset();
        }
    }

    pub(super) fn pause_or_resume(&mut self) {
        if self.paused {
            self.device.resume();
        } else {
            self.device.pause();
        }
        self.paused = !self.paused;
    }

    /// The monitor saves the device, if it is paused and drained, and goes on with one restored from that.
    pub(super) fn move_on(&mut self) {
        if !self.device.is_drained() {
            return;
        }
        self.device.begin_save().expect("it is paused and drained");
        if !self.is_alone() {
            self.good.save_begun();
        }
        while self.step(HOSTILE) || self.end_oldest() {}
        let state = match self.device.save() {
            Ok(state) => {
                if !self.is_alone() {
                    self.good.saved();
                }
                state
            }
            Err(SaveError::NotStable(state)) => {
                assert!(self.host_may_fail(), "the host has not failed, and the device says so");
                if !self.is_alone() {
                    self.good.host_failure_shown();
                }
                *state
            }
            Err(error) => panic!("{error}"),
        };
        let state = DeviceState::from_bytes(&state.to_bytes()).expect("our own bytes");
        let device = Device::restore(config(self.setup), self.disk.limits(0), &state);
        self.device = device.expect("a state of the same device");
        self.paused = false;
    }

    /// The host does all that it was asked, the threads run until they have nothing to do, and then nothing may be owed.
    pub(super) fn rest(&mut self) {
        if self.paused {
            self.pause_or_resume();
        }
        (self.idle_steps, self.chains) = (0, 0);
        loop {
            // What lands in a buffer, or comes back, may move an available index that lies in it: such a driver has to kick once more.
            let before = (self.chains, self.ended);
            self.kick(HOSTILE);
            while self.work() {
                if self.chains > MOST_CHAINS {
                    return;
                }
            }
            if (self.chains, self.ended) == before {
                break;
            }
        }
        assert!(!self.resetting && !self.queue_resetting, "a reset is never shown");
        self.check_hostile_rest();
        if !self.is_alone() {
            self.good.check_rest();
        }
        self.check_guards();
    }

    /// A round of everybody's work; false if there is none.
    fn work(&mut self) -> bool {
        let mut busy = false;
        for queue in [HOSTILE, GOOD] {
            let mut steps = 0;
            while steps < 200 && self.step(queue) {
                steps += 1;
            }
            busy |= steps > 0;
        }
        busy |= self.kick_good();
        busy |= self.end_oldest();
        self.poll_reset();
        busy
    }

    /// The host does the oldest thing that it was asked; false if there is none.
    fn end_oldest(&mut self) -> bool {
        let oldest = self.disk.in_flight().min_by_key(|&(_, nth, _)| nth);
        let Some((op, ..)) = oldest else { return false };
        let landed = if op.kind == OpKind::Discard { op.range() } else { SectorSet::EMPTY };
        self.complete(op, Outcome::Ok { landed });
        true
    }

    fn check_hostile_rest(&mut self) {
        let plan = self.hostile.ring();
        let Some((queue, ring)) = self.device.queue_mut(HOSTILE) else { return };
        assert_eq!(queue.in_flight(), 0, "requests of the hostile queue have no end");
        let (broken, next_avail) = (queue.is_broken(), ring.next_avail());
        if broken {
            assert!(
                self.device.status() & STATUS_NEEDS_RESET != 0,
                "a ring makes no sense and nobody says so"
            );
            return;
        }
        if let Some(taken) = self.hostile.in_hand() {
            assert_eq!(taken, 0, "chains that were taken never came back");
        }
        if let Some(plan) = plan {
            let published = self.hostile.read_u16(plan.available + 2);
            assert_eq!(
                published, next_avail,
                "something was published, and kicked, and is left lying"
            );
        }
    }

    /// Sectors that belong to nobody are as they were.
    fn check_guards(&self) {
        for sector in SECTORS..self.disk.shape().sectors() {
            let nobody = payload::Author { disk: payload::Author::NOBODY, ..good::AUTHOR };
            let (cache, medium) = self.disk.sector(sector);
            let whole = |bytes: &[u8]| payload::is_filled(bytes, nobody, sector, 0);
            assert!(whole(cache) && whole(medium), "sector {sector}, behind the disk, was written");
        }
    }

    /// The power goes, and comes back.
    pub(super) fn power(&mut self, survivors: SectorSet) {
        self.disk.power_loss(survivors);
        self.device = device(self.setup, &self.disk);
        (self.resetting, self.paused, self.queue_resetting) = (false, false, false);
        self.hostile.ended();
        if !self.is_alone() {
            self.good.power_loss();
        }
        self.begin();
    }

    /// The good guest reads everything that is its own.
    pub(super) fn read_back(&mut self) {
        let mut from = 0;
        loop {
            self.good.reap(true);
            let more = self.good.read_all(&mut from);
            let mut rounds = 0;
            self.idle_steps = 0;
            while self.good.waits() {
                self.work();
                self.good.reap(true);
                rounds += 1;
                assert!(rounds < 2_000, "the good queue does not get its reads");
            }
            if !more {
                return;
            }
        }
    }
}
