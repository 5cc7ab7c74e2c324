//! Data that the file system keeps and loses, observed through system calls.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use nix::fcntl::{FallocateFlags, fallocate};
use powerfail::base::sectors::SectorSet;
use powerfail::host::power_cut_fs::{Mount, Power};
use powerfail_device::Errno;
use tempfile::TempDir;

use crate::skipped;

/// 64 sectors of dots.
static IMAGE: [u8; 64 * 512] = [b'.'; 64 * 512];

/// A file whose power can be cut.
struct Cut {
    mount: Mount,
    path: PathBuf,
    _place: TempDir,
}

/// A file with [`IMAGE`]; `None` without FUSE.
fn cut_file() -> Option<Cut> {
    let place = tempfile::tempdir().expect("a place for the file");
    let path = place.path().join("disk");
    File::create(&path).expect("a file");
    let mount = Mount::over(&path).inspect_err(skipped).ok()?;
    mount.power().fill(&IMAGE);
    Some(Cut { mount, path, _place: place })
}

impl Cut {
    fn power(&self) -> &Power {
        self.mount.power()
    }

    fn open(&self, flags: i32) -> File {
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(flags).open(&self.path).expect("it opens")
    }

    /// The first letter of each of the first sectors, as a new handle reads them.
    fn holds(&self, sectors: usize) -> String {
        let mut bytes = vec![0; sectors * 512];
        self.open(0).read_exact_at(&mut bytes, 0).expect("it can be read");
        for sector in bytes.chunks(512) {
            assert!(sector.iter().all(|byte| *byte == sector[0]), "a sector is torn");
        }
        let shown = |byte: &u8| if *byte == 0 { '0' } else { char::from(*byte) };
        bytes.iter().step_by(512).map(shown).collect()
    }
}

fn set(text: &str) -> SectorSet {
    text.parse().expect("a set of sectors")
}

/// Writes letters to consecutive sectors.
fn write(file: &File, sector: u64, letters: &str) {
    let bytes: Vec<u8> = letters.bytes().flat_map(|letter| [letter; 512]).collect();
    file.write_all_at(&bytes, sector * 512).expect("it can be written");
}

fn errno<T>(result: io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn what_was_not_synced_is_gone() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(0);
    write(&file, 1, "ab");
    assert_eq!(cut.holds(4), ".ab.", "reads see the cache");
    assert_eq!(cut.power().dirty(), set("1-2"));
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(4), "....");
}

#[test]
fn what_was_synced_stays() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(0);
    write(&file, 0, "a");
    file.sync_data().expect("it syncs");
    write(&file, 1, "b");
    // Through another handle: a sync applies to the file.
    cut.open(0).sync_all().expect("it syncs");
    write(&file, 2, "c");
    assert_eq!(cut.power().syncs(), 2, "each sync arrives");
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(4), "ab..");
}

#[test]
fn closing_makes_nothing_stable() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(0);
    write(&file, 0, "a");
    drop(file);
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(1), ".");
}

#[test]
fn any_part_of_what_was_not_synced_may_survive() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(0);
    write(&file, 0, "abcdefghijklmnop");
    cut.power().cut(set("1,6-8"));
    assert_eq!(cut.holds(16), ".b....ghi.......", "pages are torn");
    let file = cut.open(0);
    write(&file, 0, "ABCDEFGHIJKLMNOP");
    cut.power().cut(set("3").rounded(8));
    assert_eq!(cut.holds(16), "ABCDEFGHi.......", "or whole");
}

#[test]
fn an_older_content_may_be_the_one_that_survives() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(0);
    write(&file, 0, "aa");
    assert!(cut.power().write_back(set("0")));
    write(&file, 0, "bb");
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(2), "a.");
}

#[test]
fn a_failed_sync_forgets_and_the_next_one_says_nothing() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(0);
    write(&file, 0, "abc");
    cut.power().fail_next_sync(Errno::EIO, set("0-1"));
    assert_eq!(errno(file.sync_data()), Some(libc::EIO));
    assert_eq!((cut.power().dirty(), cut.power().forgotten()), (set("2"), set("0-1")));
    assert_eq!(cut.holds(3), "abc", "it is all to be seen");
    file.sync_data().expect("the error is reported once");
    write(&file, 0, "A");
    file.sync_data().expect("what is written again is known again");
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(3), "A.c");
}

#[test]
fn each_open_file_is_told_of_a_failed_sync_once() {
    let Some(cut) = cut_file() else { return };
    let (file, other) = (cut.open(0), cut.open(0));
    let same = file.try_clone().expect("a copy of the descriptor");
    cut.power().fail_next_sync(Errno::ENOSPC, SectorSet::EMPTY);
    assert_eq!(errno(file.sync_data()), Some(libc::ENOSPC));
    let later = cut.open(0);
    same.sync_data().expect("the same open file has reported the error already");
    later.sync_data().expect("it was opened after the failure");
    assert_eq!(errno(other.sync_data()), Some(libc::ENOSPC));
    other.sync_data().expect("the error was reported already");
}

#[test]
fn a_failed_sync_tells_the_error_it_was_given() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(0);
    write(&file, 0, "a");
    cut.power().fail_next_sync(Errno::ENOSPC, SectorSet::EMPTY);
    assert_eq!(errno(file.sync_all()), Some(libc::ENOSPC));
    file.sync_all().expect("it syncs");
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(1), "a", "this one forgot nothing");
}

#[test]
fn a_write_that_must_be_stable_is_when_it_returns() {
    let Some(cut) = cut_file() else { return };
    let plain = cut.open(0);
    write(&plain, 0, "a");
    for (sector, flags) in [(1, libc::O_DSYNC), (2, libc::O_SYNC)] {
        write(&cut.open(flags), sector, "b");
    }
    let once = rustix::io::ReadWriteFlags::DSYNC;
    let bytes = io::IoSlice::new(&[b'c'; 512]);
    assert_eq!(rustix::io::pwritev2(&plain, &[bytes], 3 * 512, once), Ok(512));
    write(&plain, 4, "d");
    assert_eq!(cut.power().dirty(), set("0,4"), "and only that");
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(5), ".bbc.");
}

#[test]
fn a_stable_write_fails_like_a_sync() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(libc::O_DSYNC);
    cut.power().fail_next_sync(Errno::EIO, set("0-63"));
    assert_eq!(errno(file.write_at(&[b'a'; 1024], 0)), Some(libc::EIO));
    assert_eq!(cut.power().forgotten(), set("0-1"));
    cut.open(0).sync_data().expect("it syncs");
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(2), "..");
}

#[test]
fn holes_are_as_volatile_as_writes() {
    let Some(cut) = cut_file() else { return };
    let keep = FallocateFlags::FALLOC_FL_KEEP_SIZE;
    let punch = keep | FallocateFlags::FALLOC_FL_PUNCH_HOLE;
    let zero = keep | FallocateFlags::FALLOC_FL_ZERO_RANGE;
    let file = cut.open(0);
    fallocate(&file, punch, 0, 512).expect("a hole");
    fallocate(&file, zero, 1024, 512).expect("zeroes");
    fallocate(&file, keep, 0, 1 << 20).expect("room, of which there is enough");
    assert_eq!(cut.holds(4), "0.0.");
    cut.power().cut(set("2"));
    assert_eq!(cut.holds(4), "..0.");
    fallocate(cut.open(libc::O_DSYNC), punch, 512, 512).expect("a hole");
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(cut.holds(4), ".00.");
    let refused = fallocate(cut.open(0), FallocateFlags::FALLOC_FL_COLLAPSE_RANGE, 0, 512);
    assert_eq!(refused, Err(nix::errno::Errno::EOPNOTSUPP));
}

#[test]
fn its_size_is_that_of_its_content() {
    let Some(cut) = cut_file() else { return };
    let mut file = cut.open(0);
    let end = file.seek(SeekFrom::End(0)).expect("it has an end");
    assert_eq!(end, IMAGE.len() as u64);
    assert_eq!(file.metadata().expect("it has a size").len(), end);
    assert_eq!(errno(file.write_at(&[0], end)), Some(libc::ENOSPC));
    assert_eq!(file.write_at(&[b'.'; 100], end - 10).expect("as far as it goes"), 10);
    assert_eq!(file.read_at(&mut [0], end).expect("nothing"), 0);
    assert_eq!(errno(file.set_len(10)), Some(libc::EPERM));
    assert_eq!(errno(std::fs::write(&cut.path, "short")), Some(libc::EPERM));
    assert_eq!(file.metadata().expect("it has a size").len(), end);
    cut.power().fill(&IMAGE[..4096]);
    assert_eq!(cut.open(0).seek(SeekFrom::End(0)).expect("it has an end"), 4096);
}

#[test]
fn handles_end_with_the_power() {
    let Some(cut) = cut_file() else { return };
    let file = cut.open(libc::O_DIRECT);
    write(&file, 0, "a");
    cut.power().cut(SectorSet::EMPTY);
    assert_eq!(errno(file.read_at(&mut [0; 512], 0)), Some(libc::EIO));
    assert_eq!(errno(file.write_at(&[0; 512], 0)), Some(libc::EIO));
    assert_eq!(errno(file.sync_data()), Some(libc::EIO));
    let punch = FallocateFlags::FALLOC_FL_KEEP_SIZE | FallocateFlags::FALLOC_FL_PUNCH_HOLE;
    assert_eq!(fallocate(&file, punch, 0, 512), Err(nix::errno::Errno::EIO));
    assert!(cut.power().dirty().is_empty(), "nothing of it has an effect");
    write(&cut.open(0), 0, "b");
    assert_eq!(cut.holds(1), "b");
}

#[test]
fn a_copy_shares_nothing() {
    let (Some(one), Some(other)) = (cut_file(), cut_file()) else { return };
    write(&one.open(0), 0, "ab");
    one.open(0).sync_data().expect("it syncs");
    write(&one.open(0), 1, "c");
    other.power().copy_from(one.power());
    write(&one.open(0), 2, "d");
    assert_eq!((one.holds(3), other.holds(3)), ("acd".into(), "ac.".into()));
    other.power().cut(SectorSet::EMPTY);
    assert_eq!((one.holds(3), other.holds(3)), ("acd".into(), "ab.".into()));
}

#[test]
fn nothing_stays_behind() {
    let Some(cut) = cut_file() else { return };
    let (path, place) = (cut.path.clone(), cut._place.path().to_owned());
    let file = cut.open(0);
    let is_mounted = || {
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("the list of mounts");
        mounts.contains(&place.display().to_string())
    };
    assert!(is_mounted());
    // A panic in the middle of the test, with a handle that outlives it.
    let Cut { mount, _place: kept, .. } = cut;
    let panicked = catch_unwind(AssertUnwindSafe(move || {
        let _mount = mount;
        std::panic::resume_unwind(Box::new("a test that fails"));
    }));
    assert!(panicked.is_err());
    assert!(!is_mounted());
    assert_eq!(errno(file.sync_data()), Some(libc::ENOTCONN));
    assert_eq!(std::fs::read(&path).expect("the file below").len(), 0, "and it was not touched");
    drop(kept);
    assert_eq!(path.metadata().map_err(|e| e.kind()).err(), Some(ErrorKind::NotFound));
}
