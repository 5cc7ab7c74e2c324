//! Steps of the host: completion, failure, writeback and eviction.

use super::{Event, World};
use crate::base::sectors::SectorSet;
use crate::dut::caught::of_device;
use crate::dut::{DeviceUnderTest, News, OwnMedium};
use crate::guest::Kind;
use crate::host::disk::{BACKGROUND_LANE, OpKey, OpKind, Outcome};
use crate::world::coverage::Situation;

impl<D: DeviceUnderTest> World<D> {
    /// Completes an operation and makes its lane's thread runnable; if the disk was full, all
    /// threads. Returns `false` if the operation cannot complete so.
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
        if outcome.is_failure() {
            self.note_failure(op);
        }
        if let Some(slot) = self.slots.get_mut(usize::from(op.device)) {
            let waits = slot.kind == Kind::Memory && slot.queues[0].out() > 1;
            self.coverage.hit_if(waits, Situation::FlushesShared);
            match slot.runnable.get_mut(usize::from(op.lane)) {
                Some(runnable) => *runnable = true,
                None => slot.background = true,
            }
        }
        if was_full {
            for slot in &mut self.slots {
                slot.make_runnable();
            }
        }
        true
    }

    /// Takes note of what a device has said in a call. Due after each call that has a
    /// [`Host`](crate::dut::Host), and before the guest looks at the rings.
    #[inline]
    pub(super) fn heed(&mut self, device: u8) {
        if self.disk.take_failure() {
            // The device learns of it only now, so it concerns writes that were sent since, too.
            self.slots[usize::from(device)].excuse_writes();
        }
        if self.slots[usize::from(device)].link.spoke {
            self.heed_link(device);
        }
    }

    #[cold]
    fn heed_link(&mut self, device: u8) {
        let World { slots, journal, .. } = self;
        let slot = &mut slots[usize::from(device)];
        slot.link.spoke = false;
        for news in slot.link.news.drain(..) {
            let event = match news {
                News::Remarked(text) => Event::Remarked { device, text },
                News::Chose { number, of } => Event::Chose { device, number, of },
            };
            if let Some(journal) = journal {
                journal.note(event);
            }
        }
        if std::mem::take(&mut slot.link.sync_failed) {
            slot.host_failures.sync_failed = true;
            slot.excuse_writes();
        }
        if std::mem::take(&mut slot.link.failed) {
            slot.host_failures.write_failed = true;
            slot.excuse_outstanding();
        }
    }

    /// Records the errors that a failure excuses: a failed sync excuses every later request that
    /// needs a sync, and every write in flight, which may have asked for it; any other failed
    /// operation its own request.
    #[cold]
    fn note_failure(&mut self, op: OpKey) {
        let disk = self.shape.spec.disk;
        let Some(slot) = self.slots.get_mut(usize::from(op.device)) else { return };
        if op.kind == OpKind::Sync {
            slot.host_failures.sync_failed = true;
            return slot.excuse_writes();
        }
        slot.host_failures.write_failed |= op.kind.mutates();
        // The request that the operation served is unknown.
        if op.lane == BACKGROUND_LANE || !D::PLAIN_MEDIUM {
            return slot.excuse_outstanding();
        }
        let Some(queue) = slot.queues.get(usize::from(op.lane)) else { return };
        let range = op.range().lowered(disk.base(op.device));
        let own =
            queue.outstanding().filter(|(_, ask)| !ask.covered(disk.room()).and(range).is_empty());
        // Where a request that the guest changes lies, is not known.
        let altered = slot.alteration.as_ref().and_then(|alteration| alteration.id());
        if let Some(life) = &mut slot.life {
            life.excused.extend(own.map(|(id, _)| id).chain(altered));
        }
    }

    /// The sectors of the whole medium that a power loss may lose: those of the simulated disk, or
    /// of the devices' own disks, which are placed in it like the parts of the simulated one.
    /// `None` if a device cannot list its dirty sectors.
    #[must_use]
    pub fn dirty(&self) -> Option<SectorSet> {
        if D::MEDIUM.is_simulated() {
            return Some(self.disk.dirty());
        }
        let mut all = SectorSet::EMPTY;
        for (device, slot) in self.slots.iter().enumerate() {
            let medium = slot.device.own_medium()?;
            all = all.or(self.part_of(device as u8, of_device(|| medium.dirty())));
        }
        Some(all)
    }

    /// The sectors of a device's own disk, as sectors of the whole medium.
    fn part_of(&self, device: u8, set: SectorSet) -> SectorSet {
        let shape = &self.shape.spec.disk;
        set.raised(shape.base(device)).and(shape.part(device))
    }

    /// Writes dirty sectors back without a sync.
    pub(super) fn write_back(&mut self, set: SectorSet) -> bool {
        if D::MEDIUM.is_simulated() {
            return self.disk.write_back(set);
        }
        let shape = self.shape.spec.disk;
        let mut done = false;
        for (device, slot) in self.slots.iter_mut().enumerate() {
            let part = set.and(shape.part(device as u8)).lowered(shape.base(device as u8));
            let medium = slot.device.own_medium();
            done |= medium.is_some_and(|medium| of_device(|| medium.write_back(part)));
        }
        done
    }

    /// Evicts sectors that a failed sync marked clean, only of devices whose guest has seen the
    /// failure.
    pub(super) fn evict(&mut self, set: SectorSet) -> bool {
        let mut told = SectorSet::EMPTY;
        for (device, slot) in self.slots.iter().enumerate() {
            if slot.oracle.first().host_failed() {
                told = told.or(self.shape.spec.disk.part(device as u8));
            }
        }
        let evicted = self.disk.evict(set.and(told));
        self.coverage.hit_if(evicted, Situation::Evicted);
        evicted
    }
}
