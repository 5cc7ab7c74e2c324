//! The options of a run, which are drawn, not configured (swarm testing).
//!
//! They are the first numbers that a run draws, so one seed determines the whole run. A feature
//! that is always on hides the bugs that need it off. Therefore each run draws its own shape, and a
//! feature that is off draws nothing later.

use std::fmt;
use std::str::FromStr;

use super::parameters::HASTE;
pub use super::parameters::{Mix, Options, Since};
use super::tail::Tail;
use crate::base::choose::{Choose, Ratio, Site};
use crate::dut::{ALL_FEATURES, Profile, Spec, Waived};
use crate::guest::wire::feature;
use crate::guest::{Kind, MEMORY};
use crate::host::disk::DiskShape;
use crate::world::{SERIAL, WorldShape};

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
        let options = self.draw_disks(kinds, choose);
        if kinds == [Kind::Disk; 2] { options } else { options.with_memory(kinds, choose) }
    }

    fn draw_disks<C: Choose>(self, kinds: [Kind; 2], choose: &mut C) -> Options {
        match self {
            Preset::Bench => bench(),
            Preset::Swarm => swarm(kinds, choose),
            Preset::Calm => swarm(kinds, choose).without_trouble(),
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

fn bench() -> Options {
    Options {
        requests: 64,
        crashes: 1,
        mix: Mix { read: 6, write: 8, flush: 2, discard: 0, zeroes: 0, id: 0 },
        parts: Ratio::new(1, 8),
        write_back: Ratio::new(1, 16),
        burst: 16,
        ..Options::quiet(WorldShape::default())
    }
}

fn swarm<C: Choose>(kinds: [Kind; 2], choose: &mut C) -> Options {
    let tail = Tail::draw(choose);
    let mut options = usual(choose);
    if kinds == [Kind::Disk; 2] {
        tail.apply(&mut options, choose);
    }
    options
}

/// The options of a small world.
fn usual<C: Choose>(choose: &mut C) -> Options {
    let mut draw = |n: u32| choose.below(n, Site::Option);
    let devices: u8 = if draw(8) == 0 { 2 } else { 1 };
    let queues: u16 = [1, 1, 2, 2, 3, 4][draw(6) as usize];
    let granule: u32 = [512, 512, 512, 512, 1024, 2048, 4096, 4096][draw(8) as usize];
    let sectors = granule / 512;
    let capacity = [8, 16, 24, 64][draw(4) as usize];
    let tear = if draw(2) == 0 { 1 } else { sectors };
    let max_transfer = if draw(4) == 0 { granule * [1, 2, 3][draw(3) as usize] } else { 1 << 20 };
    let mut disk = DiskShape {
        first: 0,
        capacity,
        spare: 0,
        devices,
        kinds: [Kind::Disk; 2],
        granule,
        tear,
        max_transfer,
        discard_granularity: granule * [1, 1, 2][draw(3) as usize],
        zero_granularity: granule * [1, 1, 1, 2][draw(4) as usize],
        can_discard: draw(8) != 0,
        forgets: true,
        depth: [1, 2, 4, 32, 32, 32][draw(6) as usize],
        read_only: draw(32) == 0,
        reserve: 0,
        plain: true,
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
    let spec = Spec {
        queues,
        ring_size: [4, 8, 16, 32][draw(4) as usize],
        offer,
        writeback: draw(8) != 0,
        serial: *SERIAL,
        max_segment_sectors: [2, 8, 64][draw(3) as usize].min(capacity),
        max_segments: 1 + draw(3),
        record,
        waive: Waived::default(),
        disk,
    };
    let shape = WorldShape {
        contract: Profile::Strict,
        spec,
        devices,
        max_sectors: 1 + draw(room),
        host_may_fail: fail_sync.possible() || fail.possible(),
        watch: false,
        memory: MEMORY as u32,
        region: 0,
    };
    Options {
        shape,
        spread: if draw(2) == 0 { 4 + draw(4) } else { capacity },
        requests: 30 + draw(25),
        crashes: 1 + draw(3) / 2 + draw(4) / 3,
        kill,
        mix,
        chase,
        malformation,
        again,
        alter: Ratio::NEVER,
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
        haste: HASTE,
        flushless: false,
        no_discard: Since::Never,
        no_zeroes: Since::Never,
        stream: false,
        base: if draw(4) == 0 { u16::MAX - draw(24) as u16 } else { 0 },
    }
}
