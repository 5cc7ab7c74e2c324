//! The disks of a host as one type, so that each test runs on all of them.

use crate::body::{REGIONS, Subject};
use powerfail_device::host::{Access, ArcMemory, FileDisk, OpenError, SerialUring, UringDisk};
use powerfail_device::{Completion, Disk, Limits, Submission};
use std::path::Path;
use std::sync::Arc;
use vm_memory::GuestMemoryMmap;

pub type Mmap = GuestMemoryMmap<()>;
pub type Memory = ArcMemory<Mmap>;

/// Guest memory in two regions with a hole between them.
pub fn memory() -> Memory {
    Arc::new(Mmap::from_ranges(&REGIONS).expect("memory")).into()
}

/// A folder on the file system of the target folder: a temporary folder in memory may have no
/// direct I/O.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Serial(Access),
    Uring(Access),
}

const BUFFERED: Access = Access { read_only: false, direct: false };
pub const DIRECT: Access = Access { read_only: false, direct: true };

pub const KINDS: [Kind; 5] = [
    Kind::File,
    Kind::Serial(BUFFERED),
    Kind::Serial(DIRECT),
    Kind::Uring(BUFFERED),
    Kind::Uring(DIRECT),
];

pub enum Lane {
    File(FileDisk),
    Serial(SerialUring),
    Uring(UringDisk<Mmap>),
}

impl Lane {
    pub fn open(kind: Kind, path: &Path) -> Result<Lane, OpenError> {
        match kind {
            Kind::File => FileDisk::open(path, false).map(Lane::File),
            Kind::Serial(access) => SerialUring::open(path, access).map(Lane::Serial),
            Kind::Uring(access) => UringDisk::open(path, access).map(Lane::Uring),
        }
    }

    pub fn open_read_only(kind: Kind, path: &Path) -> Result<Lane, OpenError> {
        let read_only = |access| Access { read_only: true, ..access };
        match kind {
            Kind::File => FileDisk::open(path, true).map(Lane::File),
            Kind::Serial(access) => Lane::open(Kind::Serial(read_only(access)), path),
            Kind::Uring(access) => Lane::open(Kind::Uring(read_only(access)), path),
        }
    }

    pub fn another(&self) -> Lane {
        match self {
            Lane::File(disk) => Lane::File(disk.lane().expect("a file")),
            Lane::Serial(disk) => Lane::Serial(disk.lane().expect("a ring")),
            Lane::Uring(disk) => Lane::Uring(disk.lane().expect("a ring")),
        }
    }
}

impl Disk<Memory> for Lane {
    fn limits(&self) -> Limits {
        match self {
            Lane::File(disk) => Disk::<Memory>::limits(disk),
            Lane::Serial(disk) => Disk::<Memory>::limits(disk),
            Lane::Uring(disk) => disk.limits(),
        }
    }

    fn room(&self) -> u32 {
        match self {
            Lane::File(disk) => Disk::<Memory>::room(disk),
            Lane::Serial(disk) => Disk::<Memory>::room(disk),
            Lane::Uring(disk) => disk.room(),
        }
    }

    fn submit(&mut self, memory: &Memory, submission: Submission) {
        match self {
            Lane::File(disk) => disk.submit(memory, submission),
            Lane::Serial(disk) => disk.submit(memory, submission),
            Lane::Uring(disk) => disk.submit(memory, submission),
        }
    }

    fn doorbell(&mut self) {
        match self {
            Lane::File(disk) => Disk::<Memory>::doorbell(disk),
            Lane::Serial(disk) => Disk::<Memory>::doorbell(disk),
            Lane::Uring(disk) => disk.doorbell(),
        }
    }

    fn complete(&mut self, memory: &Memory) -> Option<Completion> {
        match self {
            Lane::File(disk) => disk.complete(memory),
            Lane::Serial(disk) => disk.complete(memory),
            Lane::Uring(disk) => disk.complete(memory),
        }
    }
}

/// Two lanes onto a file.
pub struct OnHost {
    lanes: [Lane; 2],
    memory: Memory,
}

impl OnHost {
    /// Lanes onto a new file of zeroes.
    pub fn new(kind: Kind, path: &Path, size: usize) -> OnHost {
        std::fs::write(path, vec![0; size]).expect("room for a file");
        OnHost::on(Lane::open(kind, path).expect("a disk"))
    }

    pub fn on(first: Lane) -> OnHost {
        OnHost { lanes: [first.another(), first], memory: memory() }
    }
}

impl Subject for OnHost {
    type Memory = Memory;

    fn lane(&mut self, lane: usize) -> (impl Disk<Memory>, &Memory) {
        (&mut self.lanes[lane], &self.memory)
    }

    fn work(&mut self) {
        for lane in &mut self.lanes {
            if let Lane::Uring(disk) = lane {
                disk.wait();
            }
        }
    }
}
