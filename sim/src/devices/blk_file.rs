//! Our block device on a real file: the same seeds and the same oracle on a real disk.
//!
//! There is no power loss here, because a file does not forget; backends die and devices are reset
//! instead. It holds the simulated disk against a real one. Where the files are under a [file
//! system that forgets](crate::host::power_cut_fs), it is
//! [`BlkPowerCut`](crate::devices::blk_power_cut::BlkPowerCut) that is tested.

use powerfail_device::RegisterSurface;
use std::collections::BTreeSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use powerfail_device::host::{Access, FileDisk, OpenError, SerialUring};
use powerfail_device::{Disk, Limits};

use crate::base::leftovers::{self, Listed, is_dead, unmount_dead};
use crate::devices::blk::Registers;
use crate::devices::faulty::{DiskFault, FaultyLane, FaultyState};
use crate::dut::Spec;
use crate::dut::{DeviceUnderTest, End, Host, Medium, Profile, Progress};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::payload::SECTOR;
use crate::host::disk::SimDisk;
use crate::host::power_cut_fs::{Mount, MountError, Power};

/// Among so many of the first files those are looked for that a killed process has left mounted.
const MOST_DEAD: u32 = 64;

/// The files of a campaign: one for each device that is open, `PATH`, `PATH.1` and so on, as far
/// as these were free. All are removed in the end.
#[derive(Clone, Debug, Default)]
pub struct Files {
    pool: Arc<Mutex<Pool>>,
    fault: Option<DiskFault>,
}

#[derive(Debug, Default)]
struct Pool {
    path: PathBuf,
    leased: BTreeSet<u32>,
    /// A file is made iff this pool created it, and so may write and remove it.
    made: BTreeMap<u32, Listed>,
    /// Whether they are mapped.
    mapped: bool,
    /// The file systems over them, if their power is to be cut.
    mounts: Option<BTreeMap<u32, Mount>>,
}

impl Files {
    /// Files that begin with this path, under a disk that may be wrong on purpose. They are made
    /// here and removed with the last user; nothing that was there before is touched.
    ///
    /// # Errors
    /// The file exists already, or cannot be made.
    pub fn new(path: PathBuf, fault: Option<DiskFault>) -> io::Result<Files> {
        let made = BTreeMap::from([(0, create_new(&path)?)]);
        let pool = Pool { path, leased: BTreeSet::new(), made, mapped: false, mounts: None };
        Ok(Files { pool: Arc::new(Mutex::new(pool)), fault })
    }

    /// The same, each under a [file system that forgets](crate::host::power_cut_fs). It is mounted
    /// here. Mounts that a killed process has left under these names are removed first.
    ///
    /// # Errors
    /// Besides those of [`new`](Self::new): nothing can be mounted here, or what is left of a
    /// killed process cannot be taken away.
    pub fn with_power_cuts(path: PathBuf, fault: Option<DiskFault>) -> Result<Files, MountError> {
        clear(&path)?;
        let files = Files::new(path.clone(), fault).map_err(|e| MountError::NoFile(path, e))?;
        files.pool.lock().unwrap_or_else(PoisonError::into_inner).mounts = Some(BTreeMap::new());
        files.try_lease()?;
        Ok(files)
    }

    /// Files to be mapped, with power cuts or without.
    ///
    /// # Errors
    /// As [`with_power_cuts`](Self::with_power_cuts).
    pub fn mapped(path: PathBuf, power_cuts: bool) -> Result<Files, MountError> {
        if power_cuts {
            clear(&path)?;
        }
        let files = Files::new(path.clone(), None).map_err(|e| MountError::NoFile(path, e))?;
        let mut pool = files.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.mapped = true;
        pool.mounts = power_cuts.then(BTreeMap::new);
        drop(pool);
        files.try_lease()?;
        Ok(files)
    }

    /// A file that no other run uses.
    pub(crate) fn lease(&self) -> Lease {
        match self.try_lease() {
            Ok(lease) => lease,
            Err(error) => panic!("there is no file for this run: {error}"),
        }
    }

    fn try_lease(&self) -> Result<Lease, MountError> {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let free = (0..).filter(|number| !pool.leased.contains(number));
        let (number, made) = free
            .filter_map(|number| match pool.made.contains_key(&number) {
                true => Some((number, Ok(None))),
                // A file of another process keeps its number. Any other error is reported.
                false => match create_new(&pool.named(number)) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
                    made => Some((number, made.map(Some))),
                },
            })
            .next()
            .expect("there are more numbers than files");
        let path = pool.named(number);
        match made {
            Ok(None) => {}
            Ok(Some(listed)) => drop(pool.made.insert(number, listed)),
            Err(error) => return Err(MountError::NoFile(path, error)),
        }
        let mapped = pool.mapped;
        let power = match &mut pool.mounts {
            None => None,
            Some(mounts) => {
                let mount = match mounts.entry(number) {
                    Entry::Occupied(mount) => mount.into_mut(),
                    Entry::Vacant(place) => place.insert(match mapped {
                        false => Mount::over(&path)?,
                        true => Mount::over_mapped(&path)?,
                    }),
                };
                Some(mount.power().clone())
            }
        };
        pool.leased.insert(number);
        Ok(Lease { path, number, power, pool: Arc::clone(&self.pool) })
    }
}

impl Pool {
    fn named(&self, number: u32) -> PathBuf {
        numbered(&self.path, number)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // A file under a mount cannot be removed.
        self.mounts = None;
        for number in self.made.keys() {
            // The file may be gone already, which is as good.
            let _ = std::fs::remove_file(self.named(*number));
        }
    }
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    if number == 0 {
        return path.to_owned();
    }
    let mut name = path.to_owned().into_os_string();
    name.push(format!(".{number}"));
    name.into()
}

/// Makes an empty file where there is none.
fn create_new(path: &Path) -> io::Result<Listed> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    leftovers::file(path, || options.open(path)).map(|(_, listed)| listed)
}

/// Takes away what a killed process has left mounted under these names.
fn clear(path: &Path) -> Result<(), MountError> {
    let dead = (0..MOST_DEAD).map(|number| numbered(path, number)).filter(|path| is_dead(path));
    let left: Vec<PathBuf> = dead.filter(|path| !unmount_dead(path)).collect();
    match left.is_empty() {
        true => Ok(()),
        false => Err(MountError::Stale(left)),
    }
}

/// The right to use one file.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) path: PathBuf,
    number: u32,
    /// Its switch, if its power can be cut.
    pub(crate) power: Option<Power>,
    pool: Arc<Mutex<Pool>>,
}

impl Lease {
    pub(crate) fn fill(&self, image: &[u8]) -> io::Result<()> {
        match &self.power {
            None => std::fs::write(&self.path, image),
            Some(power) => {
                power.fill(image);
                Ok(())
            }
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        pool.leased.remove(&self.number);
    }
}

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
pub struct BlkFile<L = FileDisk> {
    registers: Registers,
    /// One for each queue.
    lanes: Vec<L>,
    faulty: Option<Box<FaultyState>>,
    files: Files,
    lease: Lease,
    queues: u16,
    read_only: bool,
}

/// A clone has a file of its own, with the same content.
impl<L: FileLane> Clone for BlkFile<L> {
    fn clone(&self) -> BlkFile<L> {
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
            faulty: self.faulty.clone(),
            files: self.files.clone(),
            lease,
            queues: self.queues,
            read_only: self.read_only,
        }
    }
}

impl<L: FileLane> BlkFile<L> {
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

impl<L: FileLane> DeviceUnderTest for BlkFile<L> {
    type Setup = Files;

    const MEDIUM: Medium = Medium::FaultFree;
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    /// # Panics
    /// If the file cannot be written.
    fn open(files: &Files, spec: &Spec, disk: &SimDisk, device: u8) -> BlkFile<L> {
        let lease = files.lease();
        if let Err(error) = lease.fill(disk.image(device)) {
            panic!("{}: {error}", lease.path.display());
        }
        let read_only = spec.disk.read_only;
        BlkFile {
            registers: Registers::on(spec, limits(spec)),
            lanes: open_lanes(&lease.path, read_only, spec.queues),
            faulty: files.fault.map(|fault| Box::new(FaultyState::new(fault))),
            files: files.clone(),
            lease,
            queues: spec.queues,
            read_only,
        }
    }

    fn restart(&mut self, _: &Files, spec: &Spec, _: &SimDisk, _: u8, _: End) {
        self.registers = Registers::on(spec, limits(spec));
        // The old backend lets go of the file before the new one takes it.
        self.lanes.clear();
        self.lanes = open_lanes(&self.lease.path, self.read_only, self.queues);
        if let Some(state) = &mut self.faulty {
            state.backend_lost();
        }
    }

    fn offered(&self) -> u64 {
        self.registers.device.offered()
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        self.registers.negotiate(accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.registers.device.config_read(offset, out);
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.registers.device.config_write(offset, bytes);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.registers.start(rings);
    }

    fn kick(&mut self, queue: u16) {
        self.registers.kick(queue);
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let lane = &mut self.lanes[usize::from(queue)];
        match &mut self.faulty {
            None => self.registers.step(queue, lane, host.ram),
            Some(state) => {
                let mut lane = FaultyLane::new(lane, state, queue as u8);
                self.registers.step(queue, &mut lane, host.ram)
            }
        }
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {
        if let Some(state) = &mut self.faulty {
            state.reset_begun();
        }
        self.registers.device.set_status(0);
    }

    fn reset_done(&mut self) -> bool {
        self.registers.device.status() == 0
    }

    fn needs_reset(&mut self) -> bool {
        self.registers.needs_reset()
    }
}
