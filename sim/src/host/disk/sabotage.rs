//! Faults that break the disk's promises.

use powerfail_device::{Bounce, Buffer, Op, Submission};

use super::loss::copy;
use super::op_kind::OpKind;
use super::sim::{LANES_EACH, SimDisk, lane_index};
use crate::base::sectors::SectorSet;
use crate::guest::memory::Ram;
use crate::guest::payload::SECTOR;

/// The right to break a disk's promises. Only mutants make one: a device under test is lent a
/// [`SimDisk`], which has none of these methods.
#[derive(Debug)]
pub(crate) struct FaultHandle<'a> {
    disk: &'a mut SimDisk,
}

impl<'a> FaultHandle<'a> {
    /// The handle of a disk.
    pub(crate) fn of(disk: &'a mut SimDisk) -> FaultHandle<'a> {
        FaultHandle { disk }
    }

    /// Submits an operation of a queue's lane as if its device's part began at sector `base`.
    pub(crate) fn submit_at(&mut self, device: u8, lane: u8, base: u32, submission: Submission) {
        self.disk.submit(device, lane, base, submission);
    }

    /// Abandons a device's operations in flight: they run later without a completion. Either its
    /// `reads` do, into whatever their memory is used for then, or its other operations do, with a
    /// copy of their data. The remaining ones are dropped.
    pub(crate) fn orphan(&mut self, device: u8, reads: bool, memory: Ram<'_>) {
        let all = std::mem::take(&mut self.disk.in_flight);
        let (mut orphans, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|op| op.key.device == device);
        self.disk.in_flight = others;
        orphans.retain(|op| (op.key.kind == OpKind::Read) == reads);
        for op in &mut orphans {
            op.orphaned = true;
            if let Op::Write { from, .. } = &mut op.submission.op {
                let mut bytes = Bounce::zeroed(from.len() as usize);
                if from.read_at(&memory, 0, bytes.as_mut_slice()).is_ok() {
                    *from = Buffer::Bounce(bytes);
                }
            }
        }
        self.disk.orphans.append(&mut orphans);
        for lane in 0..LANES_EACH {
            self.disk.ready[lane_index(device, lane)].clear();
        }
    }

    /// Makes every sync in flight omit one sector that it must persist.
    pub(crate) fn neglect_one(&mut self) {
        for op in &mut self.disk.in_flight {
            if let Some(sector) = op.owed.iter().next() {
                op.owed.remove(sector);
            }
        }
    }

    /// Makes a device's syncs in flight omit all sectors that they must persist.
    pub(crate) fn neglect_all(&mut self, device: u8) {
        for op in self.disk.in_flight.iter_mut().filter(|op| op.key.device == device) {
            op.owed = SectorSet::EMPTY;
        }
    }

    /// Makes every sync in flight omit the sectors that hold zeroes.
    pub(crate) fn neglect_zeroes(&mut self) {
        for op in &mut self.disk.in_flight {
            for sector in op.owed.iter() {
                let at = sector as usize * SECTOR;
                if self.disk.cache[at..at + SECTOR].iter().all(|&byte| byte == 0) {
                    op.owed.remove(sector);
                }
            }
        }
    }

    /// Zeroes the sector after a device's part.
    pub(crate) fn spill(&mut self, device: u8) {
        let behind = self.disk.shape.base(device) + self.disk.capacity(device);
        let at = behind as usize * SECTOR;
        self.disk.cache[at..at + SECTOR].fill(0);
        self.disk.dirty.insert(behind);
    }

    /// Reverts the dirty sectors of a device's part to the medium.
    pub(crate) fn drop_cache(&mut self, device: u8) {
        let lost = self.disk.dirty.and(self.disk.shape.part(device));
        copy(&self.disk.medium, &mut self.disk.cache, lost);
        self.disk.clean(lost);
        self.disk.note(|record| record.changed(lost));
    }

    /// Moves the whole part of a device up by one sector.
    pub(crate) fn shift_part(&mut self, device: u8) {
        let start = self.disk.shape.base(device) as usize * SECTOR;
        let end = start + self.disk.shape.capacity as usize * SECTOR;
        self.disk.medium.copy_within(start..end, start + SECTOR);
        self.disk.cache.copy_within(start..end, start + SECTOR);
        let part = self.disk.shape.part(device);
        self.disk.note(|record| record.changed(part));
    }

    /// Sets the content of a sector in the cache, or `behind` it, on the medium only.
    pub(crate) fn put(&mut self, device: u8, sector: u32, bytes: &[u8; SECTOR], behind: bool) {
        let sector = self.disk.shape.base(device) + sector;
        let at = sector as usize * SECTOR;
        let image = if behind { &mut self.disk.medium } else { &mut self.disk.cache };
        image[at..at + SECTOR].copy_from_slice(bytes);
        self.disk.note(|record| record.changed(SectorSet::range(sector, 1)));
        if !behind {
            self.disk.dirty.insert(sector);
        }
    }
}
