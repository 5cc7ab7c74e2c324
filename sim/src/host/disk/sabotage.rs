//! Faults that break the disk's promises. Only mutants call these methods.

use powerfail_device::{Bounce, Buffer, Op};

use super::loss::copy;
use super::operation::OpKind;
use super::sim::{LANES_EACH, SimDisk, lane_index};
use crate::base::sectors::SectorSet;
use crate::guest::memory::Ram;
use crate::guest::payload::SECTOR;

impl SimDisk {
    /// Abandons a device's operations in flight: they run later without a completion. Either its
    /// `reads` do, into whatever their memory is used for then, or its other operations do, with a
    /// copy of their data. The remaining ones are dropped.
    pub fn orphan(&mut self, device: u8, reads: bool, memory: Ram<'_>) {
        let all = std::mem::take(&mut self.in_flight);
        let (mut orphans, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|op| op.key.device == device);
        self.in_flight = others;
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
        self.orphans.append(&mut orphans);
        for lane in 0..LANES_EACH {
            self.ready[lane_index(device, lane)].clear();
        }
    }

    /// Puts orphans back in flight: reads, and those that overlap the range of an operation that
    /// has just completed.
    #[cold]
    pub(super) fn readmit(&mut self, passed: SectorSet) {
        for orphan in std::mem::take(&mut self.orphans) {
            let again =
                orphan.key.kind == OpKind::Read || !orphan.key.range().and(passed).is_empty();
            if again {
                self.in_flight.push(orphan);
            } else {
                self.orphans.push(orphan);
            }
        }
    }

    /// Makes every sync in flight omit one sector that it must persist.
    pub(crate) fn neglect_one(&mut self) {
        for op in &mut self.in_flight {
            if let Some(sector) = op.owed.iter().next() {
                op.owed.remove(sector);
            }
        }
    }

    /// Makes a device's syncs in flight omit all sectors that they must persist.
    pub(crate) fn neglect_all(&mut self, device: u8) {
        for op in self.in_flight.iter_mut().filter(|op| op.key.device == device) {
            op.owed = SectorSet::EMPTY;
        }
    }

    /// Makes every sync in flight omit the sectors that hold zeroes.
    pub(super) fn neglect_zeroes(&mut self) {
        for op in &mut self.in_flight {
            for sector in op.owed.iter() {
                let at = sector as usize * SECTOR;
                if self.cache[at..at + SECTOR].iter().all(|&byte| byte == 0) {
                    op.owed.remove(sector);
                }
            }
        }
    }

    /// Zeroes the sector after a device's part.
    pub(super) fn spill(&mut self, device: u8) {
        let behind = self.shape.base(device) + self.capacity(device);
        let at = behind as usize * SECTOR;
        self.cache[at..at + SECTOR].fill(0);
        self.dirty.insert(behind);
    }

    /// Reverts the dirty sectors of a device's part to the medium.
    pub(crate) fn drop_cache(&mut self, device: u8) {
        let lost = self.dirty.and(self.shape.part(device));
        copy(&self.medium, &mut self.cache, lost);
        self.clean(lost);
        self.note(|record| record.changed(lost));
    }

    /// Moves the whole part of a device up by one sector.
    pub(crate) fn shift_part(&mut self, device: u8) {
        let start = self.shape.base(device) as usize * SECTOR;
        let end = start + self.shape.capacity as usize * SECTOR;
        self.medium.copy_within(start..end, start + SECTOR);
        self.cache.copy_within(start..end, start + SECTOR);
        let part = self.shape.part(device);
        self.note(|record| record.changed(part));
    }

    /// Sets the content of a sector in the cache, or `behind` it, on the medium only.
    pub(crate) fn put(&mut self, device: u8, sector: u32, bytes: &[u8; SECTOR], behind: bool) {
        let sector = self.shape.base(device) + sector;
        let at = sector as usize * SECTOR;
        let image = if behind { &mut self.medium } else { &mut self.cache };
        image[at..at + SECTOR].copy_from_slice(bytes);
        self.note(|record| record.changed(SectorSet::range(sector, 1)));
        if !behind {
            self.dirty.insert(sector);
        }
    }
}
