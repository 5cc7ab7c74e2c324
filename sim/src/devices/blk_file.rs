//! Our block device on a real file: the same seeds and the same oracle on a real disk.
//!
//! There is no power loss here, because a file does not forget; backends die and devices are reset
//! instead. It holds the simulated disk against a real one. Where the files are under a [file
//! system that forgets](crate::host::power_cut_fs), it is
//! [`BlkPowerCut`](crate::devices::blk_power_cut::BlkPowerCut) that is tested.

use std::fmt::Debug;
use std::path::Path;

use powerfail_device::host::{Access, FileDisk, OpenError, SerialUring};
use powerfail_device::{Disk, Limits};

use super::files::{Files, Lease};
use super::forward::forward;
use super::registers::Registers;
use super::seam::{Direct, Seam};
use crate::dut::{DeviceUnderTest, End, Host, Medium, Profile, Progress, Spec};
use crate::guest::memory::Ram;
use crate::guest::payload::SECTOR;
use crate::host::disk::SimDisk;
use crate::host::power_cut_fs::Power;

/// A way to drive a file: each operation is run when it is submitted, so that a run can be
/// repeated.
pub trait FileLane: for<'a> Disk<Ram<'a>> + Debug + Send + Sized {
    /// The first lane onto a file.
    ///
    /// # Errors
    /// It is no disk, or the host gives none.
    fn open(path: &Path, read_only: bool) -> Result<Self, OpenError>;

    /// Another lane onto the same file.
    ///
    /// # Errors
    /// The host gives none.
    fn another(&self) -> Result<Self, OpenError>;

    /// What waits to be taken from the other lane waits here too: for copies of a world.
    fn copy_waiting(&mut self, other: &Self);
}

impl FileLane for FileDisk {
    fn open(path: &Path, read_only: bool) -> Result<FileDisk, OpenError> {
        FileDisk::open(path, read_only)
    }

    fn another(&self) -> Result<FileDisk, OpenError> {
        self.lane()
    }

    fn copy_waiting(&mut self, other: &FileDisk) {
        self.copy_waiting(other);
    }
}

impl FileLane for SerialUring {
    fn open(path: &Path, read_only: bool) -> Result<SerialUring, OpenError> {
        SerialUring::open(path, Access { read_only, direct: false })
    }

    fn another(&self) -> Result<SerialUring, OpenError> {
        self.lane()
    }

    fn copy_waiting(&mut self, other: &SerialUring) {
        self.copy_waiting(other);
    }
}

/// Our block device on a file.
#[derive(Debug)]
pub struct BlkFile<L = FileDisk, S = Direct> {
    registers: Registers,
    /// One for each queue.
    lanes: Vec<L>,
    seam: S,
    files: Files,
    lease: Lease,
    queues: u16,
    read_only: bool,
}

/// A clone has a file of its own, with the same content.
impl<L: FileLane, S: Seam> Clone for BlkFile<L, S> {
    fn clone(&self) -> BlkFile<L, S> {
        let lease = self.files.lease();
        let content = std::fs::read(&self.lease.path);
        content.and_then(|bytes| lease.fill(&bytes)).expect("the file is copied");
        let mut lanes: Vec<L> = open_lanes(&lease.path, self.read_only, self.queues);
        for (mine, theirs) in lanes.iter_mut().zip(&self.lanes) {
            mine.copy_waiting(theirs);
        }
        if let (Some(mine), Some(theirs)) = (&lease.power, &self.lease.power) {
            // Opening has synced it; what is not stable there shall not be stable here.
            mine.copy_from(theirs);
        }
        BlkFile {
            registers: self.registers.clone(),
            lanes,
            seam: self.seam.clone(),
            files: self.files.clone(),
            lease,
            queues: self.queues,
            read_only: self.read_only,
        }
    }
}

impl<L: FileLane, S: Seam> BlkFile<L, S> {
    /// The switch of its file, if it is under a file system that forgets.
    pub(crate) fn power(&self) -> Option<&Power> {
        self.lease.power.as_ref()
    }
}

fn open_lanes<L: FileLane>(path: &Path, read_only: bool, queues: u16) -> Vec<L> {
    let lanes = L::open(path, read_only).and_then(|first| {
        let others: Result<Vec<L>, OpenError> = (1..queues).map(|_| first.another()).collect();
        let mut lanes = others?;
        lanes.push(first);
        Ok(lanes)
    });
    match lanes {
        Ok(lanes) => lanes,
        Err(error) => panic!("the file of this run is not a disk: {error}"),
    }
}

fn limits(spec: &Spec) -> Limits {
    let capacity = u64::from(spec.disk.capacity) * SECTOR as u64;
    Limits { read_only: spec.disk.read_only, ..Limits::plain(capacity) }
}

impl<L: FileLane, S: Seam> DeviceUnderTest for BlkFile<L, S> {
    /// The files, and what lies between the device and them.
    type Setup = (Files, S::Setup);

    const MEDIUM: Medium = Medium::FaultFree;
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    /// # Panics
    /// If the file cannot be written.
    fn open((files, seam): &Self::Setup, spec: &Spec, disk: &SimDisk, device: u8) -> BlkFile<L, S> {
        let lease = files.lease();
        if let Err(error) = lease.fill(disk.image(device)) {
            panic!("{}: {error}", lease.path.display());
        }
        let read_only = spec.disk.read_only;
        BlkFile {
            registers: Registers::on(spec, limits(spec)),
            lanes: open_lanes(&lease.path, read_only, spec.queues),
            seam: S::new(seam),
            files: files.clone(),
            lease,
            queues: spec.queues,
            read_only,
        }
    }

    fn restart(&mut self, _: &Self::Setup, spec: &Spec, _: &mut Host<'_>, end: End) {
        self.registers = Registers::on(spec, limits(spec));
        // The old backend lets go of the file before the new one takes it.
        self.lanes.clear();
        self.lanes = open_lanes(&self.lease.path, self.read_only, self.queues);
        self.seam.backend_lost(end);
    }

    forward!(
        registers: offered, negotiate, config_read, config_write, start, kick, reset_done, needs_reset, take_config_signal
    );

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let lane = &mut self.lanes[usize::from(queue)];
        self.seam.step(&mut self.registers, queue, lane, host.ram)
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {
        self.seam.reset_begun();
        self.registers.begin_reset();
    }
}
