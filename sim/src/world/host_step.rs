//! What the host does.

use super::World;
use crate::coverage::Situation;
use crate::disk::{OpKey, OpKind, Outcome};
use crate::dut::DeviceUnderTest;
use crate::sectors::SectorSet;

impl<D: DeviceUnderTest> World<D> {
    /// Ends an operation; its lane's thread has something to do, and if the disk was full, all have.
    pub(super) fn complete(&mut self, op: OpKey, outcome: Outcome) -> bool {
        let was_full = self.disk.room() == 0;
        if !self.disk.complete(op, outcome, self.memory.ram()) {
            return false;
        }
        let ok = matches!(outcome, Outcome::Ok { .. });
        self.stats.faults += u64::from(!ok);
        if op.kind == OpKind::Sync
            && let Outcome::Failed { forgot, .. } = outcome
        {
            let forgets = !forgot.and(self.disk.dirty()).is_empty();
            self.coverage.hit_if(forgets, Situation::SyncForgot);
        }
        if let Some(station) = self.stations.get_mut(usize::from(op.device)) {
            station.stirred[usize::from(op.lane)] = true;
        }
        if was_full {
            for station in &mut self.stations {
                station.stir();
            }
        }
        true
    }

    /// Evicts forgotten sectors; a host does so only after somebody was told of the failure.
    pub(super) fn evict(&mut self, set: SectorSet) -> bool {
        let mut told = SectorSet::EMPTY;
        for (device, station) in self.stations.iter().enumerate() {
            if station.oracle.host_failed() {
                told = told.or(self.options.spec.disk.part(device as u8));
            }
        }
        let evicted = self.disk.evict(set.and(told));
        self.coverage.hit_if(evicted, Situation::Evicted);
        evicted
    }
}
