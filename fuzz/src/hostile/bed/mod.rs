//! The raw device, its disk and its two guests, one step at a time.
//!
//! Each queue has separate memory, so the hostile guest cannot write to the ring of the good one:
//! every change there is the device's. The queues share the device's shared state: the disk, the
//! flush group, the range locks, the cache mode, and the end of a life.
//!
//! `lives` begins and ends lives, and `rest` checks the state at rest.

mod lives;
mod rest;

use powerfail::base::sectors::SectorSet;
use powerfail::dut::ALL_FEATURES;
use powerfail::guest::Kind;
use powerfail::guest::wire::feature;
use powerfail::host::disk::{DiskShape, Lane, OpKey, Outcome, SimDisk};
use powerfail_device::RegisterSurface;
use powerfail_device::{Config, Device, QueueLayout, Step, WRITEBACK_OFFSET, step};

use super::good::{self, Good};
use super::script::Setup;
use crate::bound::Watched;
use crate::patience::Patience;
use crate::reference::{self, Offer};

/// Bytes of the hostile guest's memory.
pub(super) const MEMORY: u32 = 12 << 10;
/// Sectors of the disk.
const SECTORS: u32 = 16;
/// Most sectors of a segment, and most segments.
const SEGMENT: (u32, u32) = (8, 3);
/// The most steps of a device thread without a new chain; more are a livelock.
const MOST_STEPS: u32 = 5_000;
/// The most chains of a run: a guest can have its own buffers publish chain after chain.
const MOST_CHAINS: u32 = 300;

const SERIAL: [u8; 20] = *b"the number of a disk";

/// The hostile queue.
pub(super) const HOSTILE: u16 = 0;
/// The good queue.
const GOOD: u16 = 1;

/// The whole test bed.
pub(super) struct Bed {
    device: Device,
    disk: SimDisk,
    pub(super) hostile: Watched,
    pub(super) good: Good,
    setup: Setup,
    resetting: bool,
    paused: bool,
    /// A reset of the hostile queue was started and has not completed.
    queue_resetting: bool,
    /// Steps since a chain was taken.
    idle_steps: u32,
    chains: u32,
    /// Operations that the host has completed or failed.
    ended: u32,
    /// Transient failures of the host in a row.
    patience: Patience,
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
        reserve: 0,
        plain: true,
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
            patience: Patience::default(),
        };
        bed.restart(setup);
        bed
    }

    /// Resets this bed to the state that [`new`](Self::new) returns.
    pub(super) fn restart(&mut self, setup: Setup) {
        self.setup = setup;
        self.disk.restart(shape(setup), good::AUTHOR.run);
        self.device = device(setup, &self.disk);
        self.hostile.restart(super::HEADERS);
        self.good.restart(SECTORS, [4, 8, 8, 16][usize::from(setup.sizes >> 2 & 3)]);
        (self.resetting, self.paused, self.queue_resetting) = (false, false, false);
        (self.idle_steps, self.chains) = (0, 0);
        self.patience = Patience::default();
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

    /// The placement of the hostile ring, or the valid one if it is not placed.
    pub(super) fn plan(&self) -> QueueLayout {
        let size = self.ring_size();
        if self.setup.odd_ring % 8 == 7 {
            let [descriptors, available, used] = self.setup.ring_at.map(u64::from);
            let (descriptors, available) = (descriptors & !15, (available & !1).max(2));
            return QueueLayout { size, descriptors, available, used: used & !3 };
        }
        QueueLayout { size, descriptors: 0, available: 0x100, used: 0x180 }
    }

    pub(super) fn kick(&mut self, queue: u16) {
        if let Some((queue, _)) = self.device.queue_mut(queue) {
            queue.handle_kick();
        }
    }

    /// The good guest kicks, if the device has enabled notifications. Returns whether it did.
    pub(super) fn kick_good(&mut self) -> bool {
        let kicks = self.good.kicks();
        if kicks {
            self.kick(GOOD);
        }
        kicks
    }

    /// The thread of a queue takes one step.
    fn step(&mut self, index: u16) -> bool {
        self.step_as(index) != Step::Idle
    }

    fn step_as(&mut self, index: u16) -> Step {
        let Some((queue, ring)) = self.device.queue_mut(index) else { return Step::Idle };
        let ram = if index == HOSTILE { self.hostile.ram() } else { self.good.memory.ram() };
        let mut lane = Lane::new(&mut self.disk, 0, index as u8);
        let did = step(queue, ring, &mut lane, &ram);
        self.device.check();
        if let Step::Wake(other) = did
            && let Some((queue, ring)) = self.device.queue_mut(other.0)
        {
            let hostile = other.0 == HOSTILE;
            let ram = if hostile { self.hostile.ram() } else { self.good.memory.ram() };
            queue.handle_wake(ring, &ram);
        }
        // A step of the good queue does not access the hostile guest's memory unless it woke the
        // hostile queue.
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
        did
    }

    /// Checks the bound on the hostile guest's memory, and records the sectors that a newly taken
    /// chain may write.
    fn look(&mut self) {
        let negotiated = self.device.negotiated();
        let read_only = self.device.offered() & feature::RO != 0;
        let ring = self.device.queue_mut(HOSTILE).map(|(_, ring)| &*ring);
        let fouled = &mut self.good.fouled;
        let took = self.hostile.look(ring, |memory, plan, head| {
            let offer = Offer {
                sectors: SECTORS.into(),
                // A rejected request fouls no sector, so the check of its length is omitted.
                seg_max: u32::MAX - 2,
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

    /// Runs the thread of a queue.
    pub(super) fn crank(&mut self, queue: u16, steps: u32) {
        for _ in 0..steps {
            if !self.step(queue) {
                break;
            }
        }
        self.poll_reset();
    }

    /// The `nth` operation in flight, modulo their number.
    pub(super) fn nth_op(&self, nth: u8) -> Option<(OpKey, SectorSet)> {
        let busy = self.disk.busy();
        (busy > 0).then(|| self.disk.nth(usize::from(nth) % busy))
    }

    /// A set of sectors made of whole units that do not tear.
    pub(super) fn subset(&self, mask: u32) -> SectorSet {
        let tear = self.disk.shape().tear;
        SectorSet::from_words([mask.into(), 0, 0, 0]).rounded(tear).and(self.disk.shape().part(0))
    }

    /// The unit that does not tear, in sectors.
    pub(super) fn tear(&self) -> u32 {
        self.disk.shape().tear
    }

    pub(super) fn effect(&mut self, op: OpKey, set: SectorSet) {
        let ram = if op.lane == 0 { self.hostile.ram() } else { self.good.memory.ram() };
        self.disk.effect(op, set, ram);
        self.look();
    }

    pub(super) fn complete(&mut self, op: OpKey, outcome: Outcome) {
        let may_fail = self.host_may_fail();
        if !self.patience.allows(outcome, may_fail) {
            return;
        }
        let ram = if op.lane == 0 { self.hostile.ram() } else { self.good.memory.ram() };
        self.ended += 1;
        self.disk.complete(op, outcome, ram);
        if op.lane == 0 {
            self.look();
        }
    }

    pub(super) fn write_back(&mut self, set: SectorSet) {
        self.disk.write_back(set);
    }

    /// The guest writes to the configuration space.
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
}
