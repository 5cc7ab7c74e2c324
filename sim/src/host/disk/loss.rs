//! Persistence and loss: write-back, forgotten sectors, eviction, backend kill and power loss.

use std::collections::VecDeque;

use super::op_kind::OpKind;
use super::sim::{LANES_EACH, SimDisk, lane_index};
use crate::base::sectors::SectorSet;
use crate::guest::payload::SECTOR;

impl SimDisk {
    pub(super) fn persist(&mut self, set: SectorSet) {
        let set = set.and(self.dirty);
        copy(&self.cache, &mut self.medium, set);
        self.clean(set);
        for op in &mut self.in_flight {
            if op.key.kind == OpKind::Sync {
                op.owed = op.owed.minus(set);
            }
        }
    }

    pub(super) fn clean(&mut self, set: SectorSet) {
        self.dirty = self.dirty.minus(set);
        self.taken = self.taken.minus(set);
    }

    pub(super) fn forget(&mut self, set: SectorSet) {
        let owed = self.in_flight.iter().fold(SectorSet::EMPTY, |owed, op| owed.or(op.owed));
        let set = set.and(self.dirty).minus(owed);
        self.clean(set);
        self.forgotten = self.forgotten.or(set);
    }

    /// Writes dirty sectors back to the medium without a sync. Returns `false` if none is dirty.
    pub fn write_back(&mut self, set: SectorSet) -> bool {
        let set = set.and(self.dirty);
        self.persist(set);
        !set.is_empty()
    }

    /// Evicts forgotten sectors: reads see the medium again. Returns `false` if none is forgotten.
    pub fn evict(&mut self, set: SectorSet) -> bool {
        let set = set.and(self.forgotten);
        copy(&self.medium, &mut self.cache, set);
        self.forgotten = self.forgotten.minus(set);
        if let Some(record) = &mut self.record {
            record.written(set, &self.cache);
        }
        !set.is_empty()
    }

    /// Kills one device's backend. Its operations in flight end without further transfers. Their
    /// landed sectors stay, and the next sync must cover them, because a host finishes its
    /// operations before another backend opens the disk. Forgotten sectors are evicted if the guest
    /// was `told` of a failure; else they become dirty again.
    pub fn backend_kill(&mut self, device: u8, told: bool) {
        self.in_flight.retain(|op| op.key.device != device);
        self.orphans.retain(|op| op.key.device != device);
        for lane in 0..LANES_EACH {
            self.ready[lane_index(device, lane)].clear();
        }
        let part = self.shape.part(device);
        self.taken = self.taken.or(self.dirty.and(part));
        let forgotten = self.forgotten.and(part);
        if told {
            self.evict(forgotten);
        } else {
            self.forgotten = self.forgotten.minus(forgotten);
            self.dirty = self.dirty.or(forgotten);
            // The next sync must cover them, because the guest has seen no failure.
            self.taken = self.taken.or(forgotten);
        }
    }

    /// A device's part of the medium as [`power_loss`](Self::power_loss) would leave it.
    #[must_use]
    pub(crate) fn image_after_loss(&self, device: u8, survivors: SectorSet) -> Vec<u8> {
        let mut medium = self.medium.clone();
        copy(&self.cache, &mut medium, survivors.and(self.dirty));
        let start = self.shape.base(device) as usize * SECTOR;
        medium[start..start + self.capacity(device) as usize * SECTOR].to_vec()
    }

    /// Cuts the power: dirty sectors in `survivors` reach the medium; the others and all operations
    /// in flight are lost.
    pub fn power_loss(&mut self, survivors: SectorSet) {
        self.persist(survivors.and(self.dirty));
        let lost = self.dirty.or(self.forgotten);
        copy(&self.medium, &mut self.cache, lost);
        (self.dirty, self.taken, self.forgotten) = Default::default();
        self.in_flight.clear();
        self.orphans.clear();
        self.ready.iter_mut().for_each(VecDeque::clear);
        assert!(self.cache == self.medium, "a power loss leaves nothing but the medium");
        assert!(
            self.dirty().or(self.forgotten()).is_empty(),
            "a power loss leaves nothing volatile"
        );
        assert!(self.in_flight().len() == 0, "a power loss ends every operation");
    }
}

/// Copies whole sectors from one image to another.
pub(super) fn copy(from: &[u8], to: &mut [u8], set: SectorSet) {
    for sector in set.iter() {
        let bytes = sector as usize * SECTOR..(sector as usize + 1) * SECTOR;
        to[bytes.clone()].copy_from_slice(&from[bytes]);
    }
}
