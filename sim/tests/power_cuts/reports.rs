//! A host reports a failed write-back once for each open file, and not always to a sync. Whatever a
//! write returns, the next sync of the lane fails: lost data is never reported as stable.

use powerfail::base::sectors::SectorSet;
use powerfail::host::power_cut_fs::Mount;
use powerfail_device::host::{Access, FileDisk, SerialUring};
use powerfail_device::{Bounce, Buffer, Disk, Errno, Op, Submission, Token};
use vm_memory::{GuestAddress, GuestMemoryMmap};

use crate::skipped;

type Memory = GuestMemoryMmap<()>;

fn run(lane: &mut impl Disk<Memory>, op: Op) -> Result<u32, Errno> {
    let memory = Memory::from_ranges(&[(GuestAddress(0), 4096)]).expect("memory");
    lane.submit(&memory, Submission { token: Token::new(0, 0), op });
    lane.doorbell();
    lane.complete(&memory).expect("it is over when it was submitted").result
}

fn write(sector: u64) -> Op {
    let mut bytes = Bounce::zeroed(512);
    bytes.as_mut_slice().fill(b'a');
    Op::Write { offset: sector * 512, from: Buffer::Bounce(bytes) }
}

fn all() -> SectorSet {
    SectorSet::range(0, 64)
}

/// Calls `claim` with a lane of each kind onto a file with power cuts; does not call it without
/// FUSE.
fn on_each_lane(claim: impl Fn(&Mount, &mut dyn FnMut(Op) -> Result<u32, Errno>)) {
    let place = tempfile::tempdir().expect("a place for the file");
    let path = place.path().join("disk");
    std::fs::File::create(&path).expect("a file");
    let Ok(mount) = Mount::over(&path).inspect_err(skipped) else { return };
    mount.power().fill(&[b'.'; 64 * 512]);
    let mut file = FileDisk::open(&path, false).expect("a disk");
    claim(&mount, &mut |op| run(&mut file, op));
    drop(file);
    mount.power().fill(&[b'.'; 64 * 512]);
    let mut ring = SerialUring::open(&path, Access::default()).expect("a disk");
    claim(&mount, &mut |op| run(&mut ring, op));
}

#[test]
fn what_a_write_is_told_of_earlier_ones_the_next_sync_is_told_too() {
    for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EIO] {
        on_each_lane(|mount, run| {
            assert_eq!(run(write(0)), Ok(512));
            mount.power().fail_write_back(errno, all());
            assert_eq!(run(write(1)), Err(errno), "NFS would say so here");
            assert_eq!(run(Op::Sync), Err(errno), "the first write is lost");
        });
    }
}

#[test]
fn a_write_that_was_refused_is_nothing_to_a_sync() {
    for errno in [Errno::ENOSPC, Errno::EDQUOT, Errno::EFBIG, Errno::EIO] {
        on_each_lane(|mount, run| {
            assert_eq!(run(write(0)), Ok(512));
            mount.power().refuse_next_write(errno);
            assert_eq!(run(write(1)), Err(errno));
            assert_eq!(run(Op::Sync), Ok(0));
            mount.power().cut(SectorSet::EMPTY);
            assert_eq!(mount.power().medium()[..1024], [[b'a'; 512], [b'.'; 512]].concat());
        });
    }
}
