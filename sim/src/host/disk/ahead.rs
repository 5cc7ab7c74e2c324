//! Look-ahead: the effects that operations in flight would have, for the exhaustive search.

use powerfail_device::Op;

use super::sim::{LANES_EACH, SimDisk, lane_index};
use crate::base::sectors::SectorSet;
use crate::guest::memory::Ram;
use crate::guest::payload::SECTOR;

impl SimDisk {
    /// The bytes that the `nth` operation in flight would write to a sector of the medium. `None`
    /// if it does not write there, or has landed there already.
    pub(crate) fn would_land(&self, nth: usize, sector: u32, ram: Ram<'_>) -> Option<[u8; SECTOR]> {
        let op = &self.in_flight[nth];
        if !op.key.range().minus(op.landed).contains(sector) {
            return None;
        }
        let mut bytes = [0; SECTOR];
        match &op.submission.op {
            Op::Read { .. } | Op::Sync => None,
            Op::Discard { .. } | Op::WriteZeroes { .. } => Some(bytes),
            Op::Write { from, .. } => {
                let offset = (sector - op.key.sector) * SECTOR as u32;
                from.read_at(&ram, offset, &mut bytes).ok().map(|()| bytes)
            }
        }
    }

    /// The sectors that the `nth` operation in flight must persist; empty unless it is a sync.
    pub(crate) fn owed(&self, nth: usize) -> SectorSet {
        self.in_flight[nth].owed
    }

    /// The sectors landed by completions that a lane has not taken.
    pub(crate) fn untaken(&self, device: u8, lane: u8) -> SectorSet {
        let ready = &self.ready[lane_index(device, lane % LANES_EACH)];
        ready.iter().fold(SectorSet::EMPTY, |all, ready| all.or(ready.landed))
    }

    /// Sets a sector of a device's part in cache and medium, as if a power loss had left it so.
    pub(crate) fn leave(&mut self, device: u8, number: u32, content: &[u8]) {
        let at = (self.shape.base(device) + number) as usize * SECTOR;
        self.cache[at..at + content.len()].copy_from_slice(content);
        self.medium[at..at + content.len()].copy_from_slice(content);
    }
}
