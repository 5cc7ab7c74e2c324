//! Backend kill and power loss, the upper two steps of the crash ladder above a device reset.

use super::judge::Failure;
use super::{Contract, Ended};
use super::{DeviceSlot, Outcome, World};
use crate::base::sectors::SectorSet;
use crate::dut::{DeviceUnderTest, End, Host};
use crate::guest::Kind;
use crate::world::action::CrashKind;
use crate::world::coverage::Situation;

impl<D: DeviceUnderTest> World<D> {
    pub(super) fn crash(&mut self, kind: CrashKind) -> Outcome {
        match kind {
            CrashKind::Backend { device } if device < self.shape.devices => self.kill(device),
            CrashKind::Power { survivors } if D::MEDIUM.loses_power() => self.power_loss(survivors),
            _ => Ok(false),
        }
    }

    /// Kills the backend process of one device and starts it again.
    fn kill(&mut self, device: u8) -> Outcome {
        let busy = self.disk.in_flight().any(|(key, _, _)| key.device == device);
        self.coverage.hit_if(busy, Situation::KillInFlight);
        self.coverage.hit_if(self.recovering, Situation::CrashInRecovery);
        self.stats.kills += 1;
        self.note_ended(device, None, Ended::Kill);
        let World { setup, shape, memory, disk, slots, .. } = self;
        let slot = &mut slots[usize::from(device)];
        disk.backend_kill(device, slot.oracle.first().host_failed());
        slot.end_alteration(memory);
        slot.oracle.tell(Contract::backend_kill);
        for driver in &mut slot.queues {
            driver.abandon(memory);
        }
        slot.backend_lost();
        let (may_fail, link) = (shape.host_may_fail, &mut slot.link);
        let mut host = Host { ram: memory.ram(), disk, device, may_fail, link };
        slot.device.restart(setup, &shape.spec, &mut host, End::BackendKill);
        // The end of its operations makes room on the shared disk for other devices.
        slots.iter_mut().for_each(DeviceSlot::make_runnable);
        self.heed(device);
        Ok(true)
    }

    /// Cuts the host's power: every life in this world ends.
    fn power_loss(&mut self, survivors: SectorSet) -> Outcome {
        if D::MEDIUM.is_simulated() {
            self.disk.witness(self.run).map_err(|seen| self.witnessed(seen))?;
        }
        self.note_power_loss(survivors);
        for device in 0..self.shape.devices {
            self.note_ended(device, None, Ended::Power);
        }
        let World { setup, shape, memory, disk, slots, .. } = self;
        disk.power_loss(survivors);
        for (device, slot) in slots.iter_mut().enumerate() {
            let device = device as u8;
            slot.end_alteration(memory);
            let told = slot.oracle.judge(|oracle, _| oracle.power_loss());
            told.map_err(|v| Failure::boxed(device, v))?;
            for driver in &mut slot.queues {
                driver.abandon(memory);
            }
            slot.backend_lost();
            slot.was_reset = false;
            slot.discarded_before_loss = slot.discarded_before_loss.or(slot.discarded);
            let survivors = survivors.lowered(shape.spec.disk.base(device));
            let end = End::PowerLoss { survivors };
            let (may_fail, link) = (shape.host_may_fail, &mut slot.link);
            let mut host = Host { ram: memory.ram(), disk, device, may_fail, link };
            slot.device.restart(setup, &shape.spec, &mut host, end);
        }
        for device in 0..self.shape.devices {
            self.heed(device);
        }
        Ok(true)
    }

    fn note_power_loss(&mut self, survivors: SectorSet) {
        let seen = self.dirty();
        let dirty = seen.unwrap_or_default();
        let kept = dirty.and(survivors).len();
        self.stats.power_losses += 1;
        self.stats.sectors_kept += u64::from(kept);
        self.stats.sectors_lost += u64::from(dirty.len() - kept);
        let partly = |key: crate::host::disk::OpKey, landed: SectorSet| {
            !landed.is_empty() && landed != key.range()
        };
        let inside = self.disk.in_flight().any(|(key, _, landed)| partly(key, landed));
        self.coverage.hit_if(inside, Situation::CrashInsideRequest);
        self.coverage.hit_if(self.recovering, Situation::CrashInRecovery);
        let paused = self.slots.iter().any(|slot| slot.is_paused());
        self.coverage.hit_if(paused, Situation::PowerLostPaused);
        let by_two = self.slots.iter().any(|slot| {
            let mut out = slot.queues.iter().flat_map(|queue| queue.outstanding());
            out.any(|(id, ask)| id <= slot.life().carried && ask.mutates())
        });
        self.coverage.hit_if(by_two, Situation::PowerLostAfterReconnect);
        let flushing = |slot: &DeviceSlot<D>| slot.kind == Kind::Memory && slot.queues[0].out() > 0;
        let flushing = self.slots.iter().any(flushing);
        self.coverage.hit_if(flushing, Situation::PowerLostFlushing);
        let loose = |least: usize| {
            self.slots.iter().any(|slot| slot.oracle.first().some_atom_has_loose_versions(least))
        };
        self.coverage.hit_if(loose(3), Situation::CrashWithThreeLoose);
        // Without access to the disk's dirty sectors, only the oracle tells what may be lost.
        let volatile = if seen.is_some() { !dirty.is_empty() } else { loose(1) };
        self.stats.volatile_losses += u64::from(volatile);
    }
}
