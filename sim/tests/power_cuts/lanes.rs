//! Reports of a failed sync to the lanes of a disk.

use std::fs::File;

use powerfail::base::sectors::SectorSet;
use powerfail::host::power_cut_fs::Mount;
use powerfail_device::host::{Access, FileDisk, SerialUring};
use powerfail_device::{Disk, Errno, Op, Submission, Token};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::skipped;

type Memory = GuestMemoryMmap<()>;

fn sync<D: Disk<Memory>>(lane: &mut D, memory: &Memory) -> Result<u32, Errno> {
    lane.submit(memory, Submission { token: Token::new(0, 0), op: Op::Sync });
    lane.doorbell();
    lane.complete(memory).expect("it ends before it is asked for").result
}

/// A sync fails on one lane and is not reported yet when another lane syncs: that sync must fail
/// too (AMB-02).
fn told<D: Disk<Memory>>(open: impl Fn(&std::path::Path) -> [D; 3]) {
    let place = tempfile::tempdir().expect("a place for the file");
    let path = place.path().join("disk");
    File::create(&path).expect("a file");
    let Ok(mount) = Mount::over(&path).inspect_err(skipped) else { return };
    mount.power().fill(&[b'.'; 16 * 512]);
    let memory = Memory::from_ranges(&[(GuestAddress(0), 4096)]).expect("a small region");
    let mut lanes = open(&path);
    mount.power().fail_next_sync(Errno::EIO, SectorSet::EMPTY);
    for lane in &mut lanes {
        assert_eq!(sync(lane, &memory), Err(Errno::EIO));
    }
    for lane in &mut lanes {
        assert_eq!(sync(lane, &memory), Ok(0), "it is told once");
    }
}

#[test]
fn each_lane_of_a_file_is_told() {
    told(|path| {
        let disk = FileDisk::open(path, false).expect("a file");
        let another = || disk.lane().expect("another lane");
        [another(), another(), another()]
    });
}

#[test]
fn each_lane_over_a_ring_is_told() {
    told(|path| {
        let access = Access { read_only: false, direct: false };
        let disk = SerialUring::open(path, access).expect("a ring");
        let another = || disk.lane().expect("another lane");
        [another(), another(), another()]
    });
}
