//! How a world ends and begins again: the crash ladder (device reset, backend kill, power loss).

use super::judge::Failure;
use super::{Outcome, Station, World};
use crate::base::sectors::SectorSet;
use crate::dut::{DeviceUnderTest, End};
use crate::guest::Kind;
use crate::world::action::CrashKind;
use crate::world::coverage::Situation;

impl<D: DeviceUnderTest> World<D> {
    pub(super) fn crash(&mut self, kind: CrashKind) -> Outcome {
        match kind {
            CrashKind::Backend { device } if device < self.options.devices => self.kill(device),
            CrashKind::Power { survivors } if D::SURVIVES_POWER_LOSS => self.power_loss(survivors),
            _ => Ok(false),
        }
    }

    /// The backend process of one device dies and is started again.
    fn kill(&mut self, device: u8) -> Outcome {
        let busy = self.disk.in_flight().any(|(key, _, _)| key.device == device);
        self.coverage.hit_if(busy, Situation::KillInFlight);
        self.coverage.hit_if(self.recovering, Situation::CrashInRecovery);
        self.stats.kills += 1;
        let World { setup, options, memory, disk, stations, .. } = self;
        let station = &mut stations[usize::from(device)];
        disk.backend_kill(device, station.oracle.host_failed());
        station.oracle.backend_kill();
        for driver in &mut station.queues {
            driver.abandon(memory);
        }
        station.still();
        station.reopened();
        station.device.restart(setup, &options.spec, disk, device, End::BackendKill);
        // What it had in flight makes room on a disk that others share.
        stations.iter_mut().for_each(Station::stir);
        Ok(true)
    }

    /// The host loses power: every device of the world ends here.
    fn power_loss(&mut self, survivors: SectorSet) -> Outcome {
        if D::ON_SIM_DISK {
            self.disk.witness(self.run).map_err(|seen| self.witnessed(seen))?;
        }
        self.note_power_loss(survivors);
        let World { setup, options, memory, disk, stations, .. } = self;
        disk.power_loss(survivors);
        for (device, station) in stations.iter_mut().enumerate() {
            let device = device as u8;
            station.oracle.power_loss().map_err(|v| Failure::boxed(device, v))?;
            for driver in &mut station.queues {
                driver.abandon(memory);
            }
            station.still();
            station.reopened();
            station.was_reset = false;
            station.discarded_before_loss = station.discarded_before_loss.or(station.discarded);
            let survivors = survivors.lowered(options.spec.disk.base(device));
            let end = End::PowerLoss { survivors };
            station.device.restart(setup, &options.spec, disk, device, end);
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
        let paused = self.stations.iter().any(|station| station.paused);
        self.coverage.hit_if(paused, Situation::PowerLostPaused);
        let by_two = self.stations.iter().any(|station| {
            let mut out = station.queues.iter().flat_map(|queue| queue.outstanding());
            out.any(|(id, ask)| id <= station.carried && ask.mutates())
        });
        self.coverage.hit_if(by_two, Situation::PowerLostAfterReconnect);
        let flushing =
            |station: &Station<D>| station.kind == Kind::Memory && station.queues[0].out() > 0;
        let flushing = self.stations.iter().any(flushing);
        self.coverage.hit_if(flushing, Situation::PowerLostFlushing);
        let loose = |least: usize| {
            self.stations.iter().any(|station| station.oracle.some_atom_has_loose_versions(least))
        };
        self.coverage.hit_if(loose(3), Situation::CrashWithThreeLoose);
        // Of a disk that nobody can look into only the oracle knows what may be lost.
        let volatile = if seen.is_some() { !dirty.is_empty() } else { loose(1) };
        self.stats.volatile_losses += u64::from(volatile);
    }
}
