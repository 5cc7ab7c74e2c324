//! The options of a run, which are drawn, not configured (swarm testing).
//!
//! They are the first numbers that a run draws, so one seed determines the whole run. A feature
//! that is always on hides the bugs that need it off. Therefore each run draws its own shape, and a
//! feature that is off draws nothing later.

use std::fmt;
use std::str::FromStr;

use crate::base::choose::{Choose, Ratio, Site};
use crate::dut::{ALL_FEATURES, Profile, Spec};
use crate::guest::wire::{feature, memory};
use crate::guest::{Kind, MAX_SECTORS, MEMORY};
use crate::host::disk::DiskShape;

/// The weights of the request types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    /// Reads.
    pub read: u32,
    /// Writes.
    pub write: u32,
    /// Flushes.
    pub flush: u32,
    /// Discards.
    pub discard: u32,
    /// Write-zeroes.
    pub zeroes: u32,
    /// Reads of the serial number.
    pub id: u32,
}

/// The options of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The contract that every device is judged by.
    pub contract: Profile,
    /// Every device of the world is made alike.
    pub spec: Spec,
    /// The number of devices, one or two.
    pub devices: u8,
    /// The most sectors of one read or write.
    pub max_sectors: u32,
    /// The guest uses the first `spread` sectors or words of each device.
    pub spread: u32,
    /// The number of requests in the workload, without recovery reads.
    pub requests: u32,
    /// The number of crashes during the workload.
    pub crashes: u32,
    /// How often a crash is a backend kill instead of a power loss. The last crash is a power loss
    /// if none was before.
    pub kill: Ratio,
    /// The mix of requests.
    pub mix: Mix,
    /// How often a read covers the range of a write in flight.
    pub chase: Ratio,
    /// How often a request is invalid or malformed on purpose.
    pub malformation: Ratio,
    /// How often a head is published twice.
    pub again: Ratio,
    /// How often the guest writes `writeback` instead of sending a request.
    pub toggle: Ratio,
    /// How often the guest resets a device instead of sending a request.
    pub reset: Ratio,
    /// How often a [`Lifecycle`](crate::dut::lifecycle::Lifecycle) event begins between two steps.
    pub lifecycle: Ratio,
    /// How often the driver refuses an offered feature, per feature bit.
    pub refuse: Ratio,
    /// Whether chains have every legal layout, or only a plain one.
    pub layouts: bool,
    /// How often a host operation lands in parts before it completes.
    pub parts: Ratio,
    /// How often a sync fails.
    pub fail_sync: Ratio,
    /// How often another operation fails.
    pub fail: Ratio,
    /// How often a transfer is short.
    pub short: Ratio,
    /// How often an operation is refused for now.
    pub transient: Ratio,
    /// How often the host writes back or evicts between two steps.
    pub write_back: Ratio,
    /// The most steps of a queue's thread at a time.
    pub burst: u32,
    /// Ring indices at the start of each life, if the device supports that: 0, or close to the
    /// wrap.
    pub base: u16,
}

impl Options {
    /// The same options without host failures and without invalid or malformed requests.
    #[must_use]
    pub(crate) fn without_trouble(self) -> Options {
        Options {
            malformation: Ratio::NEVER,
            again: Ratio::NEVER,
            fail_sync: Ratio::NEVER,
            fail: Ratio::NEVER,
            short: Ratio::NEVER,
            transient: Ratio::NEVER,
            ..self
        }
    }

    /// Whether the host may fail, so that a legal request may fail too.
    #[must_use]
    pub fn host_may_fail(&self) -> bool {
        self.fail_sync.possible() || self.fail.possible()
    }

    /// The same options for devices of these kinds.
    #[must_use]
    pub(crate) fn of_kinds(mut self, kinds: [Kind; 2]) -> Options {
        self.spec.disk.kinds = kinds;
        self
    }

    /// The options of a world with a persistent memory, without the options that a memory lacks.
    fn with_memory<C: Choose>(mut self, kinds: [Kind; 2], choose: &mut C) -> Options {
        let disk = &mut self.spec.disk;
        (disk.read_only, disk.spare) = (false, 0);
        self.mix.flush = self.mix.flush.max(1);
        if kinds == [Kind::Memory; 2] {
            (disk.granule, disk.tear, disk.discard_granularity) = (512, 1, 512);
            disk.max_transfer = 1 << 20;
            self.spec.queues = 1;
            self.spec.record = false;
            self.spec.offer &= feature::VERSION_1 | feature::INDIRECT_DESC | feature::EVENT_IDX;
            if choose.below(2, Site::Option) == 0 {
                self.spec.offer |= memory::SHMEM_REGION;
            }
            (self.lifecycle, self.toggle) = (Ratio::NEVER, Ratio::NEVER);
            // The device serves only flushes.
            self.mix = Mix { discard: 0, zeroes: 0, id: 0, flush: self.mix.flush + 1, ..self.mix };
        } else {
            self.devices = 2;
            disk.devices = 2;
            // Two devices have half the memory each.
            let shares = 2 * u32::from(self.spec.queues);
            self.max_sectors = self.max_sectors.min([8, 8, 4, 2][shares.min(8) as usize / 2 - 1]);
        }
        self.of_kinds(kinds)
    }

    /// The kind of a device.
    #[inline]
    #[must_use]
    pub fn kind(&self, device: u8) -> Kind {
        self.spec.disk.kinds[usize::from(device)]
    }

    /// The number of queues of a device.
    #[inline]
    #[must_use]
    pub fn queues_of(&self, device: u8) -> u16 {
        match self.kind(device) {
            Kind::Disk => self.spec.queues,
            Kind::Memory => 1,
        }
    }

    /// The share of guest memory of one queue, in bytes.
    #[must_use]
    pub fn share(&self) -> u32 {
        let shares = u32::from(self.devices) * u32::from(self.spec.queues);
        (MEMORY as u32 / shares) & !0xff
    }
}

/// A family of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Preset {
    /// Every option is drawn.
    #[default]
    Swarm,
    /// No host failures and no invalid requests: only orders, crashes and features.
    Calm,
    /// One fixed shape for measurements: one queue, 64 sectors, 64 requests of up to 4 KiB, one
    /// power loss.
    Bench,
}

impl Preset {
    const NAMES: [(Preset, &'static str); 3] =
        [(Preset::Swarm, "swarm"), (Preset::Calm, "calm"), (Preset::Bench, "bench")];

    /// Draws the options of a run with devices of these kinds.
    pub fn draw<C: Choose>(self, kinds: [Kind; 2], choose: &mut C) -> Options {
        let options = self.draw_disks(choose);
        if kinds == [Kind::Disk; 2] { options } else { options.with_memory(kinds, choose) }
    }

    fn draw_disks<C: Choose>(self, choose: &mut C) -> Options {
        match self {
            Preset::Bench => bench(),
            Preset::Swarm => swarm(choose),
            Preset::Calm => swarm(choose).without_trouble(),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Preset::NAMES.iter().find(|n| n.0 == *self).map_or("", |n| n.1);
        f.write_str(name)
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(text: &str) -> Result<Preset, String> {
        Preset::NAMES.iter().find(|n| n.1 == text).map(|n| n.0).ok_or_else(|| {
            let names: Vec<&str> = Preset::NAMES.iter().map(|n| n.1).collect();
            format!("there is no profile `{text}`; there are {}", names.join(", "))
        })
    }
}

const SERIAL: [u8; 20] = *b"powerfail-simulated\0";

fn bench() -> Options {
    let disk = DiskShape {
        capacity: 64,
        spare: 0,
        devices: 1,
        kinds: [Kind::Disk; 2],
        granule: 512,
        tear: 1,
        max_transfer: 1 << 20,
        discard_granularity: 512,
        depth: 32,
        read_only: false,
    };
    let spec = Spec {
        queues: 1,
        ring_size: 32,
        offer: ALL_FEATURES,
        writeback: true,
        serial: SERIAL,
        max_segment_sectors: 64,
        max_segments: 3,
        record: false,
        disk,
    };
    Options {
        contract: Profile::Strict,
        spec,
        devices: 1,
        max_sectors: MAX_SECTORS,
        spread: 64,
        requests: 64,
        crashes: 1,
        kill: Ratio::NEVER,
        mix: Mix { read: 6, write: 8, flush: 2, discard: 0, zeroes: 0, id: 0 },
        chase: Ratio::NEVER,
        malformation: Ratio::NEVER,
        again: Ratio::NEVER,
        toggle: Ratio::NEVER,
        reset: Ratio::NEVER,
        lifecycle: Ratio::NEVER,
        refuse: Ratio::NEVER,
        layouts: false,
        parts: Ratio::new(1, 8),
        fail_sync: Ratio::NEVER,
        fail: Ratio::NEVER,
        short: Ratio::NEVER,
        transient: Ratio::NEVER,
        write_back: Ratio::new(1, 16),
        burst: 16,
        base: 0,
    }
}

fn swarm<C: Choose>(choose: &mut C) -> Options {
    let mut draw = |n: u32| choose.below(n, Site::Option);
    let devices: u8 = if draw(8) == 0 { 2 } else { 1 };
    let queues: u16 = [1, 1, 2, 2, 3, 4][draw(6) as usize];
    let granule: u32 = [512, 512, 512, 512, 1024, 2048, 4096, 4096][draw(8) as usize];
    let sectors = granule / 512;
    let capacity = [8, 16, 24, 64][draw(4) as usize];
    let tear = if draw(2) == 0 { 1 } else { sectors };
    let max_transfer = if draw(4) == 0 { granule * [1, 2, 3][draw(3) as usize] } else { 1 << 20 };
    let mut disk = DiskShape {
        capacity,
        spare: 0,
        devices,
        kinds: [Kind::Disk; 2],
        granule,
        tear,
        max_transfer,
        discard_granularity: granule * [1, 1, 2][draw(3) as usize],
        depth: [1, 2, 4, 32, 32, 32][draw(6) as usize],
        read_only: draw(32) == 0,
    };
    let mut offer = ALL_FEATURES;
    for (bit, out_of) in [
        (feature::INDIRECT_DESC, 3),
        (feature::EVENT_IDX, 3),
        (feature::FLUSH, 12),
        (feature::CONFIG_WCE, 4),
        (feature::DISCARD, 8),
        (feature::WRITE_ZEROES, 8),
    ] {
        if draw(out_of) == 0 {
            offer &= !bit;
        }
    }
    if offer & feature::FLUSH == 0 {
        offer &= !feature::CONFIG_WCE;
    }
    if queues == 1 && draw(2) == 0 {
        offer &= !feature::MQ;
    }
    let shares = u32::from(devices) * u32::from(queues);
    let room = [8, 8, 4, 2, 2, 1, 1, 1][shares.min(8) as usize - 1];
    let mut ratio = |off: u32, choices: &[u32]| {
        if draw(off) != 0 {
            return Ratio::NEVER;
        }
        Ratio::new(1, choices[draw(choices.len() as u32) as usize])
    };
    let fail_sync = ratio(3, &[3, 8, 16]);
    let fail = ratio(4, &[16, 64, 128]);
    let short = ratio(3, &[8, 32]);
    let transient = ratio(3, &[8, 32]);
    let malformation = ratio(2, &[8, 24, 64]);
    let again = ratio(6, &[16, 64]);
    let toggle = ratio(2, &[12, 32]);
    let reset = ratio(3, &[24, 64]);
    let lifecycle = ratio(2, &[12, 24, 48]);
    let parts = ratio(2, &[2, 4]);
    let write_back = ratio(2, &[8, 32]);
    let refuse = ratio(2, &[4, 2]);

    let kill = ratio(2, &[2, 4]);
    let chase = ratio(2, &[2, 4]);
    let mix = Mix {
        read: 2 + draw(6),
        write: 3 + draw(8),
        flush: draw(4),
        discard: draw(3),
        zeroes: draw(3),
        id: u32::from(draw(4) == 0),
    };
    let mut record = false;
    if lifecycle.possible() {
        disk.spare = sectors * draw(3);
        record = draw(3) != 0;
        if draw(3) != 0 {
            offer |= feature::RING_RESET;
        }
    }
    Options {
        contract: Profile::Strict,
        spec: Spec {
            queues,
            ring_size: [4, 8, 16, 32][draw(4) as usize],
            offer,
            writeback: draw(8) != 0,
            serial: SERIAL,
            max_segment_sectors: [2, 8, 64][draw(3) as usize].min(capacity),
            max_segments: 1 + draw(3),
            record,
            disk,
        },
        devices,
        max_sectors: 1 + draw(room),
        spread: if draw(2) == 0 { 4 + draw(4) } else { capacity },
        requests: 30 + draw(25),
        crashes: 1 + draw(3) / 2 + draw(4) / 3,
        kill,
        mix,
        chase,
        malformation,
        again,
        toggle,
        reset,
        lifecycle,
        refuse,
        layouts: draw(2) == 0,
        parts,
        fail_sync,
        fail,
        short,
        transient,
        write_back,
        burst: [1, 2, 4, 16][draw(4) as usize],
        base: if draw(4) == 0 { u16::MAX - draw(24) as u16 } else { 0 },
    }
}
