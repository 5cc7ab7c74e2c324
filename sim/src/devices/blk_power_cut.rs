//! Our block device on a real file whose power is cut: durability, measured through system calls.
//!
//! It is [`BlkFile`] with its files under a [file system that forgets](crate::host::power_cut_fs).
//! Dirty sectors are cut and written back by the same choices as on the simulated disk, which are
//! in the trace. Failed syncs, and the sectors they forget, are drawn from the run's number and are
//! in no trace: they change with the steps before them.
//!
//! A backend that dies may have been about to report a failed sync. Whether it did is unknown, so
//! nothing stays forgotten then.

use powerfail_device::Errno;
use powerfail_device::host::FileDisk;

use super::blk_file::{BlkFile, FileLane};
use super::files::Files;
use super::forward::forward;
use super::seam::{Direct, Seam};
use crate::base::prng::{Prng, mix};
use crate::base::sectors::SectorSet;
use crate::dut::{DeviceUnderTest, End, Host, Medium, OwnMedium, Profile, Progress, Spec};
use crate::host::disk::SimDisk;
use crate::host::power_cut_fs::Power;

/// One sync in so many fails, in runs whose host may.
const ONE_FAILS_IN: u32 = 6;

/// Our block device on a file whose power can be cut.
#[derive(Debug)]
pub struct BlkPowerCut<L: FileLane = FileDisk, S: Seam = Direct> {
    device: BlkFile<L, S>,
    host_faults: Prng,
    /// How many syncs there had been when the fate of the next one was drawn last.
    drawn_at: Option<u64>,
}

impl<L: FileLane, S: Seam> Clone for BlkPowerCut<L, S> {
    fn clone(&self) -> BlkPowerCut<L, S> {
        let BlkPowerCut { device, host_faults, drawn_at } = self;
        BlkPowerCut {
            device: device.clone(),
            host_faults: host_faults.clone(),
            drawn_at: *drawn_at,
        }
    }
}

impl<L: FileLane, S: Seam> BlkPowerCut<L, S> {
    fn power(&self) -> &Power {
        self.device.power().expect("these files have a switch")
    }

    /// Decides over the next sync, once.
    fn draw_fate(&mut self) {
        let syncs = self.power().syncs();
        if self.drawn_at == Some(syncs) {
            return;
        }
        self.drawn_at = Some(syncs);
        let fails = self.host_faults.below(ONE_FAILS_IN) == 0;
        let errno = if self.host_faults.below(4) == 0 { Errno::ENOSPC } else { Errno::EIO };
        let some = SectorSet::from_words([(); 4].map(|()| self.host_faults.word()));
        let forgets = match self.host_faults.below(3) {
            0 => SectorSet::EMPTY,
            1 => SectorSet::range(0, SectorSet::CAPACITY),
            _ => some,
        };
        if fails {
            self.power().fail_next_sync(errno, forgets);
        } else {
            self.power().fail_no_sync();
        }
    }
}

impl<L: FileLane, S: Seam> DeviceUnderTest for BlkPowerCut<L, S> {
    type Setup = (Files, S::Setup);

    const MEDIUM: Medium = Medium::Own;
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = BlkFile::<L, S>::RING_BASE;

    /// # Panics
    /// If the files have no power to be cut, or cannot be used.
    fn open(setup: &Self::Setup, spec: &Spec, disk: &SimDisk, device: u8) -> BlkPowerCut<L, S> {
        // The payload of the first sector names the run.
        let seed = disk
            .image(device)
            .iter()
            .take(16)
            .fold(u64::from(device), |seed, &byte| mix(seed ^ u64::from(byte)).wrapping_add(1));
        let device = BlkFile::<L, S>::open(setup, spec, disk, device);
        assert!(device.power().is_some(), "a file without power cuts has no power to lose");
        BlkPowerCut { device, host_faults: Prng::new(seed), drawn_at: None }
    }

    fn restart(&mut self, setup: &Self::Setup, spec: &Spec, host: &mut Host<'_>, end: End) {
        // Opening must not fail: a backend that cannot sync does not start.
        self.power().fail_no_sync();
        self.drawn_at = None;
        match end {
            End::BackendKill => self.power().remember(),
            End::PowerLoss { survivors } => self.power().cut(survivors),
        }
        self.device.restart(setup, spec, host, end);
    }

    forward!(
        device: offered, negotiate, config_read, config_write, start, kick, begin_reset, reset_done,
        needs_reset, take_config_signal
    );

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        if host.may_fail {
            self.draw_fate();
        }
        let before = self.power().failures();
        let progress = self.device.step(queue, host);
        if self.power().failures() > before {
            host.failed_sync();
        }
        progress
    }

    fn own_medium(&self) -> Option<&impl OwnMedium> {
        Some(self.power())
    }
}

impl OwnMedium for Power {
    fn dirty(&self) -> SectorSet {
        self.dirty()
    }

    fn write_back(&self, set: SectorSet) -> bool {
        self.write_back(set)
    }
}
