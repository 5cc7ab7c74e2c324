//! The registers of a device, as a driver reads them.
//!
//! A driver may read the configuration space before FEATURES_OK and after it, in any width (2.5,
//! CF-01), and relies on the fields of the features that are offered. At every start a few of them
//! are compared with what a device can be; in a [watched](super::WorldShape::watch) world all are
//! read at every start and at rest, and at the first start in every width.

use powerfail_model::{Profile, Rule, Terms, Violation};

use super::judge::Failure;
use super::{DeviceSlot, Outcome, World};
use crate::dut::DeviceUnderTest;
use crate::dut::caught::caught;
use crate::guest::wire::config::{self, END, FIELDS, Field};
use crate::guest::wire::{feature, memory};
use crate::guest::{Kind, Limits, REGION};

/// The fields of a configuration space, and which of its bytes belong to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    kind: Kind,
    bytes: [u8; END],
    is_there: [bool; END],
}

/// The end of the configuration space of a disk with every feature: virtio 1.4, 5.2.4.
const LAST: u64 = 96;

/// The fields of a memory's configuration space: virtio 1.4, 5.19.4.
const FIELDS_OF_MEMORY: [Field; 2] = [
    Field { name: "start", offset: memory::START, width: 8, feature: 0 },
    Field { name: "size", offset: memory::SIZE, width: 8, feature: 0 },
];

fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Disk => &FIELDS,
        Kind::Memory => &FIELDS_OF_MEMORY,
    }
}

/// The name of the field that a byte belongs to.
fn name_of(kind: Kind, at: usize) -> &'static str {
    let is_in =
        |field: &&Field| (field.offset..field.offset + field.width as u64).contains(&(at as u64));
    fields(kind).iter().find(is_in).map_or("a byte of no field", |field| field.name)
}

fn untrue(note: String) -> Violation {
    Violation::new(Rule::ConfigUntrue).note(note)
}

/// The ranges that a driver may read, as their starts and ends.
///
/// The text lets a driver read whole fields, and fields of 8 bytes in halves (4.1.3.1, 4.2.2.2).
/// With `any`, as under Strict, any range.
fn ranges(kind: Kind, any: bool) -> Vec<(usize, usize)> {
    match any {
        true => {
            let of_width = |width| (0..=END - width).map(move |at| (at, at + width));
            (1..=8).chain([END]).flat_map(of_width).collect()
        }
        false => {
            let whole = fields(kind).iter().map(|field| (field.offset as usize, field.width));
            let halves = whole.clone().filter(|(_, width)| *width == 8);
            let halves = halves.flat_map(|(at, _)| [(at, 4), (at + 4, 4)]);
            whole.chain(halves).map(|(at, width)| (at, at + width)).collect()
        }
    }
}

/// Reads the fields of these features in every way.
///
/// # Errors
/// Two reads disagree.
fn snapshot<D: DeviceUnderTest>(
    device: &mut D,
    kind: Kind,
    features: u64,
    any: bool,
) -> Result<Snapshot, Violation> {
    let mut seen = Snapshot { kind, bytes: [0; END], is_there: [false; END] };
    for field in fields(kind).iter().filter(|field| field.feature & !features == 0) {
        let at = field.offset as usize;
        device.config_read(field.offset, &mut seen.bytes[at..at + field.width]);
        seen.is_there[at..at + field.width].fill(true);
    }
    for (at, end) in ranges(kind, any) {
        if !seen.is_there[at..end].contains(&true) {
            continue;
        }
        let mut bytes = [0; END];
        device.config_read(at as u64, &mut bytes[at..end]);
        let differs = |at: &usize| seen.is_there[*at] && bytes[*at] != seen.bytes[*at];
        if let Some(byte) = (at..end).find(differs) {
            return Err(untrue(format!(
                "Byte {byte}, in {}, reads {:#04x} and then {:#04x} in a read of {} bytes from offset {at}.",
                name_of(kind, byte),
                seen.bytes[byte],
                bytes[byte],
                end - at
            )));
        }
    }
    Ok(seen)
}

impl Snapshot {
    /// Checks that a later snapshot shows the same, but for the fields that may have changed.
    fn check_same(
        &self,
        later: &Snapshot,
        since: &str,
        may_change: &[u64],
    ) -> Result<(), Violation> {
        for field in fields(self.kind) {
            let bytes = field.offset as usize..field.offset as usize + field.width;
            let is_there = self.is_there[bytes.start] && later.is_there[bytes.start];
            let (before, now) = (&self.bytes[bytes.clone()], &later.bytes[bytes]);
            if is_there && before != now && !may_change.contains(&field.offset) {
                return Err(untrue(format!(
                    "{} reads {} {since}, and read {} before.",
                    field.name,
                    number(now),
                    number(before)
                )));
            }
        }
        Ok(())
    }
}

/// The number that little-endian bytes stand for.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn read<D: DeviceUnderTest>(device: &mut D, offset: u64, width: usize) -> u64 {
    let mut bytes = [0; 8];
    device.config_read(offset, &mut bytes[..width]);
    u64::from_le_bytes(bytes)
}

/// What a driver reads of a disk after FEATURES_OK: the terms of its life, and its own limits.
pub(super) fn read_terms<D: DeviceUnderTest>(
    device: &mut D,
    offered: u64,
    negotiated: u64,
    first: u64,
    host_may_fail: bool,
) -> (Terms, Limits) {
    let mut word = |offset| read(device, offset, 4) as u32;
    let limit = |bit: u64, value: u32| if negotiated & bit != 0 { value } else { u32::MAX };
    let limits = Limits {
        segments: limit(feature::SEG_MAX, word(config::SEG_MAX)),
        segment_bytes: limit(feature::SIZE_MAX, word(config::SIZE_MAX)),
    };
    let terms = Terms {
        offered,
        negotiated,
        max_discard_sectors: word(config::MAX_DISCARD_SECTORS),
        max_discard_seg: word(config::MAX_DISCARD_SEG),
        max_write_zeroes_sectors: word(config::MAX_WRITE_ZEROES_SECTORS),
        max_write_zeroes_seg: word(config::MAX_WRITE_ZEROES_SEG),
        // A disk that ends before the guest's first sector has none.
        capacity: read(device, config::CAPACITY, 8).saturating_sub(first),
        writeback: read(device, config::WRITEBACK, 1) != 0,
        host_may_fail,
    };
    (terms, limits)
}

/// Checks the configuration space of a disk after FEATURES_OK.
fn check_disk<D: DeviceUnderTest>(
    slot: &mut DeviceSlot<D>,
    terms: &Terms,
    limits: Limits,
    contract: Profile,
) -> Result<(), Violation> {
    let has = |bit: u64| terms.negotiated & bit != 0;
    if has(feature::CONFIG_WCE) && !has(feature::FLUSH) && terms.writeback {
        return Err(Violation::new(Rule::WritebackStart));
    }
    for offset in config::UNUSED {
        let byte = read(&mut slot.device, offset, 1);
        if byte != 0 {
            let note = format!("Byte {offset} reads {byte}.");
            return Err(Violation::new(Rule::ReservedNotZero).note(note));
        }
    }
    let (least, most) = (u64::from(slot.least_capacity), u64::from(slot.capacity));
    if terms.capacity > most || terms.capacity == 0 {
        let note = format!("capacity reads {}, and the disk has {most} sectors.", terms.capacity);
        return Err(untrue(note));
    }
    if terms.capacity < least {
        return Err(untrue(format!("capacity reads {}, and read {least} before.", terms.capacity)));
    }
    if limits.segments == 0 || limits.segment_bytes == 0 {
        let name = if limits.segments == 0 { "seg_max" } else { "size_max" };
        return Err(untrue(format!("{name} is zero, so no data can be sent.")));
    }
    let most = limits.segments.saturating_mul(limits.segment_bytes);
    if most < 512 {
        return Err(untrue(format!("seg_max times size_max is {most}, less than a sector.")));
    }
    if has(feature::MQ) && read(&mut slot.device, config::NUM_QUEUES, 2) == 0 {
        return Err(untrue("num_queues is zero, so no request can be sent.".to_owned()));
    }
    if has(feature::BLK_SIZE) {
        let size = read(&mut slot.device, config::BLK_SIZE, 4);
        // The text does not say what a block size of zero means.
        let none = size == 0 && contract == Profile::Literal;
        if !none && (size < 512 || !size.is_power_of_two()) {
            return Err(untrue(format!("blk_size is {size}, not a power of two from 512.")));
        }
    }
    if contract == Profile::Literal {
        return Ok(());
    }
    if has(feature::WRITE_ZEROES) && read(&mut slot.device, config::MAY_UNMAP, 1) > 1 {
        return Err(untrue("write_zeroes_may_unmap is neither 0 nor 1.".to_owned()));
    }
    if has(feature::TOPOLOGY) {
        let [exponent, offset] = (read(&mut slot.device, 24, 2) as u16).to_le_bytes();
        if exponent >= 32 || u64::from(offset) >= 1 << exponent {
            return Err(untrue(format!(
                "alignment_offset is {offset}, and physical_block_exp {exponent}: the offset is less than a physical block."
            )));
        }
    }
    Ok(())
}

/// Checks that nothing of a disk shows behind its configuration space.
fn check_behind<D: DeviceUnderTest>(device: &mut D) -> Result<(), Violation> {
    for (offset, width) in [(LAST - 4, 8), (LAST, 8), (LAST + 5, 3), (253, 8), (4092, 4)] {
        let mut bytes = [0; 8];
        // A transport may keep such a read from the device, so it need not be ready for one.
        if caught(|| device.config_read(offset, &mut bytes[..width])).is_err() {
            return Ok(());
        }
        let mut behind = (offset..).zip(&bytes[..width]).filter(|(at, _)| *at >= LAST);
        if let Some((at, byte)) = behind.find(|(_, byte)| **byte != 0) {
            let note = format!("Byte {at}, behind the configuration space, reads {byte:#04x}.");
            return Err(Violation::new(Rule::ReservedNotZero).note(note));
        }
    }
    Ok(())
}

/// Checks the configuration space of a memory: 5.19.5.1 (PM-D-02, PM-D-03).
pub(super) fn check_region<D: DeviceUnderTest>(
    device: &mut D,
    negotiated: u64,
) -> Result<(), Violation> {
    let said = (read(device, memory::START, 8), read(device, memory::SIZE, 8));
    let is_shared = negotiated & memory::SHMEM_REGION != 0;
    if said != if is_shared { (0, 0) } else { REGION } {
        let note = format!("start reads {:#x} and size {:#x}.", said.0, said.1);
        return Err(Violation::new(Rule::RegionUntrue).note(note));
    }
    Ok(())
}

impl<D: DeviceUnderTest> World<D> {
    /// Reads every field of the offered features, if the world is watched.
    pub(super) fn look_at_registers(
        &mut self,
        device: u8,
    ) -> Result<Option<Snapshot>, Box<Failure>> {
        if !self.shape.watch {
            return Ok(None);
        }
        let slot = &mut self.slots[usize::from(device)];
        let offered = slot.device.offered();
        // Reading all ranges takes longer than many a run, so only the first life does.
        let any = self.shape.contract == Profile::Strict && slot.registers.is_none();
        let seen = snapshot(&mut slot.device, slot.kind, offered, any);
        let seen = seen.map_err(|violation| Failure::boxed(device, violation))?;
        if any && slot.kind == Kind::Disk {
            let behind = check_behind(&mut slot.device);
            behind.map_err(|violation| Failure::boxed(device, violation))?;
        }
        Ok(Some(seen))
    }

    /// Checks the configuration space after FEATURES_OK; `before` was read before it.
    pub(super) fn check_registers(
        &mut self,
        device: u8,
        before: Option<Snapshot>,
        terms: Option<(&Terms, Limits)>,
    ) -> Result<(), Box<Failure>> {
        let after = self.look_at_registers(device)?;
        let slot = &mut self.slots[usize::from(device)];
        if let (Some(before), Some(after)) = (before, after) {
            // The mode and the region depend on the negotiation: BLK-D-03, PM-D-02.
            let may_change: &[u64] = match slot.kind {
                Kind::Disk => &[config::WRITEBACK],
                Kind::Memory => &[memory::START, memory::SIZE],
            };
            let same = before.check_same(&after, "after FEATURES_OK", may_change);
            same.map_err(|violation| Failure::boxed(device, violation))?;
        }
        slot.registers = after;
        if let Some((terms, limits)) = terms {
            let checked = check_disk(slot, terms, limits, self.shape.contract);
            checked.map_err(|violation| Failure::boxed(device, violation))?;
            slot.capacity = terms.capacity as u32;
            slot.least_capacity = slot.capacity;
        }
        Ok(())
    }

    /// Checks at rest that every field reads as at the start of the life.
    pub(super) fn check_registers_at_rest(&mut self, device: u8) -> Outcome {
        let now = self.look_at_registers(device)?;
        let slot = &self.slots[usize::from(device)];
        if let (Some(before), Some(now)) = (slot.registers, now) {
            // The mode and the capacity were read back when they changed.
            let may_change: &[u64] = match slot.kind {
                Kind::Disk => &[config::WRITEBACK, config::CAPACITY],
                Kind::Memory => &[],
            };
            let same = before.check_same(&now, "at rest", may_change);
            same.map_err(|violation| Failure::boxed(device, violation))?;
            let capacity = number(&now.bytes[..8]);
            let first = self.shape.spec.disk.first;
            if slot.kind == Kind::Disk && capacity != first + u64::from(slot.capacity) {
                let note = format!(
                    "capacity reads {capacity} at rest, and read {} before.",
                    slot.capacity
                );
                return Err(Failure::boxed(device, untrue(note)));
            }
        }
        Ok(true)
    }

    /// Checks that a device that needs a reset has sent a configuration change notification: 2.1.2
    /// (ST-02).
    pub(super) fn check_reset_is_announced(&mut self, device: u8) -> Outcome {
        let slot = &mut self.slots[usize::from(device)];
        if !slot.is_live() || slot.life().reset_announced || !slot.device.needs_reset() {
            return Ok(true);
        }
        if !slot.device.take_config_signal() {
            return Err(Failure::boxed(device, Violation::new(Rule::NeedsResetSilent)));
        }
        slot.life_mut().reset_announced = true;
        Ok(true)
    }
}
