//! The shape of a world as a line of words.

use std::fmt;

use super::features::{self, Features};
use crate::base::sectors::SectorSet;
use crate::dut::MAX_QUEUES;
use crate::guest::wire::feature;
use crate::guest::{MAX_RING, MAX_SECTORS};
use crate::world::WorldShape;

/// A world's shape, for display as a line.
pub(super) struct Shown<'a>(pub(super) &'a WorldShape);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shown(shape) = self;
        let spec = &shape.spec;
        let disk = &spec.disk;
        let yes = |b: bool| if b { "yes" } else { "no" };
        write!(
            f,
            "devices={} queues={} ring={} sectors={} request-sectors={} offer={} writeback={} \
             segment-sectors={} segments={} granule={} tear={} transfer={} discard-granularity={} \
             depth={} read-only={} host-may-fail={} spare={} record={} watch={} \
             first-sector={} memory={} zero-granularity={} can-discard={} region={} waive={} forgets={}",
            shape.devices,
            spec.queues,
            spec.ring_size,
            disk.capacity,
            shape.max_sectors,
            Features(spec.offer),
            u8::from(spec.writeback),
            spec.max_segment_sectors,
            spec.max_segments,
            disk.granule,
            disk.tear,
            disk.max_transfer,
            disk.discard_granularity,
            disk.depth,
            yes(disk.read_only),
            yes(shape.host_may_fail),
            disk.spare,
            yes(spec.record),
            yes(shape.watch),
            disk.first,
            shape.memory,
            disk.zero_granularity,
            yes(disk.can_discard),
            shape.region,
            spec.waive,
            yes(disk.forgets),
        )
    }
}

/// The keys. Each stands in the line exactly once, because the default of an omitted key could
/// change. `spare` and `record` came with format 3; before it no disk had spare sectors, and no
/// backend kept an in-flight record. `watch` came with format 4, four with format 5, before which
/// the unit of zeroing was the granule, `region` with format 6, and `waive` and `forgets` with
/// format 7.
const KEYS: [&str; 26] = [
    "devices",
    "queues",
    "ring",
    "sectors",
    "request-sectors",
    "offer",
    "writeback",
    "segment-sectors",
    "segments",
    "granule",
    "tear",
    "transfer",
    "discard-granularity",
    "depth",
    "read-only",
    "host-may-fail",
    "spare",
    "record",
    "watch",
    "first-sector",
    "memory",
    "zero-granularity",
    "can-discard",
    "region",
    "waive",
    "forgets",
];

/// The number of keys in formats 1 to 6.
const OLD_KEYS: [usize; 6] = [16, 16, 18, 19, 23, 24];

/// Reads the line of a trace of this version.
///
/// # Errors
/// One line: a key or value is invalid, or no world can have these shape.
pub(super) fn parse(line: &str, version: u32) -> Result<WorldShape, String> {
    let mut shape = WorldShape::default();
    let count = OLD_KEYS.get(version as usize - 1).copied().unwrap_or(KEYS.len());
    let keys = &KEYS[..count];
    let mut missing = keys.to_vec();
    for word in line.split_whitespace() {
        let Some((key, value)) = word.split_once('=') else {
            return Err(format!("`{word}` should be `key=value`"));
        };
        if !keys.contains(&key) {
            return Err(format!("there is no option `{key}`"));
        }
        set(&mut shape, key, value)?;
        let Some(at) = missing.iter().position(|missing| *missing == key) else {
            return Err(format!("`{key}=` is given twice"));
        };
        missing.swap_remove(at);
    }
    if !keys.contains(&"zero-granularity") {
        shape.spec.disk.zero_granularity = shape.spec.disk.granule;
    }
    if let Some(key) = missing.first() {
        return Err(format!("`{key}=` is missing"));
    }
    possible(&shape).map_err(|what| format!("a world cannot have {what}"))?;
    Ok(shape)
}

fn set(shape: &mut WorldShape, key: &str, value: &str) -> Result<(), String> {
    let bad = || format!("`{value}` is not a value for {key}");
    let number = || value.parse::<u32>().map_err(|_| bad());
    let yes = || match value {
        "yes" | "1" => Ok(true),
        "no" | "0" => Ok(false),
        _ => Err(bad()),
    };
    let small = || value.parse::<u16>().map_err(|_| bad());
    let spec = &mut shape.spec;
    match key {
        "devices" => {
            shape.devices = value.parse().map_err(|_| bad())?;
            spec.disk.devices = shape.devices;
        }
        "queues" => spec.queues = small()?,
        "ring" => spec.ring_size = small()?,
        "sectors" => spec.disk.capacity = number()?,
        "request-sectors" => shape.max_sectors = number()?,
        "offer" => spec.offer = features::parse(value)?,
        "writeback" => spec.writeback = yes()?,
        "segment-sectors" => spec.max_segment_sectors = number()?,
        "segments" => spec.max_segments = number()?,
        "granule" => spec.disk.granule = number()?,
        "tear" => spec.disk.tear = number()?,
        "transfer" => spec.disk.max_transfer = number()?,
        "discard-granularity" => spec.disk.discard_granularity = number()?,
        "depth" => spec.disk.depth = number()?,
        "read-only" => spec.disk.read_only = yes()?,
        "spare" => spec.disk.spare = number()?,
        "record" => spec.record = yes()?,
        "host-may-fail" => shape.host_may_fail = yes()?,
        "watch" => shape.watch = yes()?,
        "first-sector" => spec.disk.first = value.parse().map_err(|_| bad())?,
        "memory" => shape.memory = number()?,
        "region" => shape.region = number()?,
        "waive" => spec.waive = value.parse()?,
        "forgets" => spec.disk.forgets = yes()?,
        "zero-granularity" => spec.disk.zero_granularity = number()?,
        "can-discard" => spec.disk.can_discard = yes()?,
        _ => return Err(format!("there is no option `{key}`")),
    }
    Ok(())
}

/// Checks that a world can have these shape.
///
/// # Errors
/// The first option that it cannot have.
pub(crate) fn possible(shape: &WorldShape) -> Result<(), String> {
    let (spec, disk) = (&shape.spec, &shape.spec.disk);
    let is = |ok: bool, what: String| if ok { Ok(()) } else { Err(what) };
    let queues = usize::from(spec.queues);
    is((1..=2).contains(&shape.devices), format!("{} devices", shape.devices))?;
    is((1..=MAX_QUEUES).contains(&queues), format!("{queues} queues"))?;
    let offers = |bits: u64| spec.offer & bits == bits;
    is(queues == 1 || offers(feature::MQ), format!("{queues} queues without mq offered"))?;
    is(offers(feature::VERSION_1), "a device that does not offer version-1".to_owned())?;
    let wce = offers(feature::CONFIG_WCE) && !offers(feature::FLUSH);
    is(!wce, "config-wce without flush".to_owned())?;
    let unknown = spec.offer & !features::known();
    is(unknown == 0, format!("{} to offer", Features(unknown)))?;
    let ring = spec.ring_size;
    is((2..=MAX_RING).contains(&ring) && ring.is_power_of_two(), format!("rings of {ring}"))?;
    let whole = disk.granule.is_power_of_two() && (512..=4096).contains(&disk.granule);
    is(whole, format!("granules of {} bytes", disk.granule))?;
    let sectors = disk.granule / 512;
    // The set of sectors has room for two parts of 120 with their guards, or one of 240.
    let most = if shape.devices == 1 { 240 } else { 120 };
    let fits = (1..=most).contains(&disk.capacity)
        && disk.spare <= most - disk.capacity
        && disk.capacity.is_multiple_of(sectors)
        && disk.spare.is_multiple_of(sectors)
        && disk.sectors() <= SectorSet::CAPACITY;
    is(fits, format!("{}+{} sectors", disk.capacity, disk.spare))?;
    let tears = (1..=sectors).contains(&disk.tear) && sectors.is_multiple_of(disk.tear);
    is(tears, format!("tears of {} sectors", disk.tear))?;
    let moves = disk.max_transfer > 0 && disk.max_transfer.is_multiple_of(disk.granule);
    is(moves, format!("transfers of {} bytes", disk.max_transfer))?;
    let unit = disk.discard_granularity;
    let discards = (512..=1 << 20).contains(&unit) && unit.is_multiple_of(disk.granule);
    is(discards && (1 << 20) % unit == 0, format!("discards in units of {unit} bytes"))?;
    let unit = disk.zero_granularity;
    let zeroes = (512..=1 << 20).contains(&unit) && unit.is_multiple_of(disk.granule);
    is(zeroes, format!("zeroing in units of {unit} bytes"))?;
    let far = disk.first <= 1 << 54 && disk.first.is_multiple_of(sectors.into());
    is(far, format!("a first sector of {}", disk.first))?;
    let memory = shape.memory;
    let pages = (4096..=16 << 20).contains(&memory) && memory.is_multiple_of(4096);
    is(pages, format!("{memory} bytes of memory"))?;
    let regions = shape.region.is_multiple_of(4096) && shape.region <= memory;
    is(regions, format!("regions of {} bytes", shape.region))?;
    is((1..=1024).contains(&disk.depth), format!("a disk {} deep", disk.depth))?;
    is(
        (1..=MAX_SECTORS).contains(&shape.max_sectors),
        format!("requests of {} sectors", shape.max_sectors),
    )?;
    is(spec.max_segments > 0 && spec.max_segment_sectors > 0, "limits of zero".to_owned())?;
    // Rings, guards and at least one buffer must fit each queue's share of memory.
    let room =
        shape.max_sectors * 512 + 1024 + 28 * u32::from(ring) + 16 * u32::from(shape.table());
    is(shape.share() >= room, "buffers this large for so many queues".to_owned())
}
