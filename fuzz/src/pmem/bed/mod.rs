//! The raw device, its memory, its backing and its driver, one step at a time.
//!
//! `hands` contains the writes of the driver's two hands.

mod hands;

use powerfail::base::sectors::SectorSet;
use powerfail::dut::MEMORY_FEATURES;
use powerfail::guest::payload::{self, Author};
use powerfail::guest::wire::{feature, memory};
use powerfail::guest::{Kind, REGION};
use powerfail::host::disk::{DiskShape, MemoryLane, Outcome, SimDisk};
use powerfail_device::RegisterSurface;
use powerfail_device::pmem::{PmemConfig, PmemDevice, Region, step};
use powerfail_device::wire::{
    STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FEATURES_OK, STATUS_NEEDS_RESET,
};
use powerfail_device::{QueueLayout, Step};
use powerfail_model::{Atom, Observed, PmemOracle, Profile, RequestId, Violation};

use super::Setup;
use crate::bound::Watched;
use crate::patience::Patience;

/// Bytes of guest memory.
pub(super) const MEMORY: u32 = 4 << 10;
/// Addresses of the good hand's type and response.
const GOOD: (u64, u64) = (0x300, 0x340);
/// Start of the hostile hand's memory, in a tame script.
const HOSTILE: u64 = 0x400;
/// Address of its table, of 32 descriptors.
pub(super) const TABLE: u64 = 0x400;
/// Bytes of that table.
const TABLE_BYTES: usize = 512;
/// Address of its requests.
const REQUESTS: u64 = 0x800;
/// Words of the persistent memory.
const WORDS: u32 = 24;
/// The most steps of a device thread without a new chain; more are a livelock.
const MOST_STEPS: u32 = 2_000;
/// The most chains of a run: a guest can have its own buffers publish chain after chain.
const MOST_CHAINS: u32 = 200;

const AUTHOR: Author = Author { run: 0x0f22, disk: 0 };

/// The whole test bed.
pub(super) struct Bed {
    device: PmemDevice,
    disk: SimDisk,
    guest: Watched,
    oracle: PmemOracle,
    setup: Setup,
    next_id: u32,
    /// The good hand's request in flight.
    asked: Option<RequestId>,
    /// The number of used elements that the driver has read.
    seen: u16,
    resetting: bool,
    idle_steps: u32,
    chains: u32,
    /// Operations that the host has completed or failed.
    ended: u32,
    patience: Patience,
}

/// Addresses of the type and the response of one of the hostile hand's requests.
pub(super) fn request_at(nth: u8) -> (u64, u64) {
    let at = REQUESTS + 64 * u64::from(nth % 16);
    (at, at + 32)
}

fn shape() -> DiskShape {
    DiskShape {
        capacity: WORDS,
        spare: 0,
        devices: 1,
        kinds: [Kind::Memory; 2],
        granule: 512,
        tear: 1,
        max_transfer: 1 << 20,
        discard_granularity: 512,
        depth: 4,
        read_only: false,
        reserve: 0,
        plain: true,
    }
}

fn device() -> PmemDevice {
    let (start, size) = REGION;
    let region = Region { start, size };
    let config = PmemConfig { region, queue_size: 16, features: MEMORY_FEATURES };
    PmemDevice::new(config).expect("a configuration like any")
}

impl Bed {
    pub(super) fn new(setup: Setup) -> Bed {
        Bed {
            device: device(),
            disk: SimDisk::new(shape(), AUTHOR.run),
            guest: Watched::new(MEMORY),
            oracle: PmemOracle::new(Profile::Strict, WORDS),
            setup,
            next_id: 1,
            asked: None,
            seen: 0,
            resetting: false,
            idle_steps: 0,
            chains: 0,
            ended: 0,
            patience: Patience::default(),
        }
    }

    /// The first power-on.
    pub(super) fn restart(&mut self, setup: Setup) {
        self.setup = setup;
        self.disk.restart(shape(), AUTHOR.run);
        self.device = device();
        self.guest.restart(GOOD.0 as u32);
        self.guest.write(TABLE, &[0; TABLE_BYTES]);
        self.oracle.restart(Profile::Strict, WORDS);
        (self.next_id, self.asked, self.resetting) = (1, None, false);
        (self.idle_steps, self.chains) = (0, 0);
        self.patience = Patience::default();
        self.begin();
    }

    fn is_wild(&self) -> bool {
        self.setup.wild % 4 == 3
    }

    fn host_may_fail(&self) -> bool {
        self.setup.host.is_multiple_of(4)
    }

    /// An index, modulo the size of the ring.
    pub(super) fn wrapped(&self, index: u16) -> u16 {
        index % self.plan().size
    }

    /// The lowest address that the hostile hand may write.
    pub(super) fn first_of_hostile(&self) -> u64 {
        if self.is_wild() { 0 } else { HOSTILE }
    }

    fn plan(&self) -> QueueLayout {
        let size = [16, 8, 4, 2][usize::from(self.setup.size % 4)];
        if self.is_wild() && self.setup.odd_ring % 8 == 7 {
            let [descriptors, available, used] = self.setup.ring_at.map(u64::from);
            let (descriptors, available) = (descriptors & !15, (available & !1).max(2));
            return QueueLayout { size, descriptors, available, used: used & !3 };
        }
        QueueLayout { size, descriptors: 0, available: 0x100, used: 0x180 }
    }

    /// Begins a life.
    fn begin(&mut self) {
        let mut accept = MEMORY_FEATURES;
        let bits = [feature::EVENT_IDX, feature::INDIRECT_DESC, memory::SHMEM_REGION];
        for (nth, bit) in bits.into_iter().enumerate() {
            if self.setup.declines >> nth & 1 != 0 {
                accept &= !bit;
            }
        }
        self.device.set_status(STATUS_ACKNOWLEDGE);
        self.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        self.device.set_driver_features(accept);
        self.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK);
        assert!(self.device.status() & STATUS_FEATURES_OK != 0, "a subset of the offer is refused");
        self.check_region(accept & memory::SHMEM_REGION != 0);
        let layout = self.plan();
        self.device.set_queue(0, layout).expect("aligned");
        if !self.is_wild() {
            self.guest.write(0, &[0; 0x300]);
        }
        self.guest.placed(layout);
        let live = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;
        self.device.set_status(live);
        self.oracle.begin_life(self.host_may_fail());
        (self.asked, self.seen) = (None, 0);
    }

    /// Checks that the configuration space gives the region of the memory iff the driver does not
    /// use the shared memory region (PM-D-02, PM-D-03), which a transport has to announce before
    /// features are accepted (PM-D-01).
    fn check_region(&self, shared: bool) {
        let (start, size) = REGION;
        let mut space = [0; 20];
        self.device.config_read(0, &mut space);
        let mut expected = [0; 20];
        if !shared {
            expected[..8].copy_from_slice(&start.to_le_bytes());
            expected[8..16].copy_from_slice(&size.to_le_bytes());
        }
        assert_eq!(space, expected, "the configuration space");
        let region = self.device.shared_memory(0);
        assert_eq!(region, Some(Region { start, size }), "the shared memory region");
    }

    fn name(&mut self) -> RequestId {
        self.next_id += 1;
        RequestId(self.next_id - 1)
    }

    pub(super) fn store(&mut self, word: u8, words: u8) {
        if self.resetting {
            return;
        }
        let id = self.name();
        let first = u32::from(word) % WORDS;
        let words = (1 + u32::from(words % 4)).min(WORDS - first);
        for word in first..first + words {
            self.disk.store(0, word, payload::word(AUTHOR, word, id.0));
        }
        self.oracle.store(id, Atom(first), words);
    }

    pub(super) fn load(&mut self, word: u8, words: u8) {
        let first = u32::from(word) % WORDS;
        self.load_words(first, (1 + u32::from(words % 4)).min(WORDS - first));
    }

    fn load_words(&mut self, first: u32, words: u32) {
        if self.resetting {
            return;
        }
        let id = self.name();
        let seen: Vec<Observed> = (first..first + words)
            .map(|word| payload::read_word(self.disk.load(0, word), AUTHOR, word))
            .collect();
        hold(self.oracle.load(id, Atom(first), &seen));
    }

    pub(super) fn load_all(&mut self) {
        (0..WORDS).step_by(8).for_each(|word| self.load_words(word, 8));
    }

    pub(super) fn kick(&mut self) {
        if let Some((queue, _)) = self.device.queue_mut() {
            queue.handle_kick();
        }
    }

    /// The device's thread takes one step. Returns false if it was idle.
    fn step(&mut self) -> bool {
        let Some((queue, ring)) = self.device.queue_mut() else { return false };
        let mut lane = MemoryLane::new(&mut self.disk, 0);
        let did = step(queue, ring, &mut lane, &self.guest.ram());
        self.device.check();
        assert!(did != Step::Signal || !self.resetting, "a signal during a reset");
        self.look();
        self.idle_steps += u32::from(did != Step::Idle);
        assert!(self.idle_steps < MOST_STEPS, "the queue does not come to rest");
        did != Step::Idle
    }

    fn look(&mut self) {
        let ring = self.device.queue_mut().map(|(_, ring)| &*ring);
        let used = ring.map(|ring| ring.position().1);
        if self.guest.look(ring, |_, _, _| {}) {
            (self.idle_steps, self.chains) = (0, self.chains + 1);
        }
        let Some(used) = used.filter(|_| !self.is_wild()) else { return };
        let plan = self.plan();
        while self.seen != used {
            let at = plan.used + 4 + 8 * u64::from(self.seen % plan.size);
            self.seen = self.seen.wrapping_add(1);
            if self.guest.read_u16(at) == 0 {
                self.answered();
            }
        }
    }

    /// The good hand's request was returned.
    fn answered(&mut self) {
        let id = self.asked.take().expect("the good hand's request is used once");
        let half = |by| u32::from(self.guest.read_u16(GOOD.1 + by));
        let ret = half(0) | half(2) << 16;
        hold(self.oracle.complete(id, Some(ret)));
    }

    pub(super) fn crank(&mut self, steps: u32) {
        for _ in 0..steps {
            if !self.step() {
                break;
            }
        }
        self.poll_reset();
    }

    pub(super) fn subset(&self, mask: u32) -> SectorSet {
        SectorSet::from_words([mask.into(), 0, 0, 0]).and(self.disk.shape().part(0))
    }

    /// The host completes the oldest sync.
    pub(super) fn complete(&mut self, outcome: Outcome) {
        let oldest = self.disk.in_flight().min_by_key(|&(_, nth, _)| nth);
        let Some((op, ..)) = oldest else { return };
        let may_fail = self.host_may_fail();
        if !self.patience.allows(outcome, may_fail) {
            return;
        }
        self.ended += 1;
        self.disk.complete(op, outcome, self.guest.ram());
        self.look();
    }

    pub(super) fn write_back(&mut self, set: SectorSet) {
        self.disk.write_back(set);
    }

    pub(super) fn reset(&mut self) {
        self.device.set_status(0);
        self.resetting = true;
        self.poll_reset();
    }

    fn poll_reset(&mut self) {
        if self.resetting && self.device.status() == 0 {
            self.resetting = false;
            self.guest.ended();
            self.oracle.reset_shown();
            assert!(!self.step(), "the queue makes progress after its reset");
            self.begin();
        }
    }

    /// Completes all operations, runs the thread until it is idle, and checks that no request is
    /// pending.
    pub(super) fn rest(&mut self) {
        (self.idle_steps, self.chains) = (0, 0);
        loop {
            // Data written to a buffer, or a used element, may move an available index that
            // overlaps it. Such a driver has to kick once more.
            let before = (self.chains, self.ended);
            self.kick();
            while self.work() {
                if self.chains > MOST_CHAINS {
                    return;
                }
            }
            if (self.chains, self.ended) == before {
                break;
            }
        }
        assert!(!self.resetting, "a reset never completes");
        let Some((queue, ring)) = self.device.queue_mut() else { return };
        assert_eq!(queue.in_flight(), 0, "flushes have no end");
        let (broken, next_avail) = (queue.is_broken(), ring.position().0);
        if broken {
            let status = self.device.status();
            assert!(status & STATUS_NEEDS_RESET != 0, "a ring is broken without NEEDS_RESET");
            assert!(self.is_wild(), "a tame ring is valid");
            return;
        }
        if let Some(taken) = self.guest.in_hand() {
            assert_eq!(taken, 0, "chains were taken and never used");
        }
        assert_eq!(self.published(), next_avail, "a chain was published and never taken");
        hold(self.oracle.quiesce());
    }

    fn work(&mut self) -> bool {
        let mut steps = 0;
        while steps < 200 && self.step() {
            steps += 1;
        }
        let busy = self.disk.busy() > 0;
        self.complete(Outcome::Ok { landed: SectorSet::EMPTY });
        self.poll_reset();
        busy || steps > 0
    }

    /// Loses the power and starts the device again.
    pub(super) fn power(&mut self, survivors: SectorSet) {
        self.disk.power_loss(survivors);
        self.device = device();
        self.resetting = false;
        self.guest.ended();
        self.oracle.power_loss().expect("the last content of an atom may always survive");
        self.begin();
    }
}

fn hold(told: Result<(), Violation>) {
    if let Err(violation) = told {
        panic!("{}: {violation:#?}", violation.rule.name());
    }
}
