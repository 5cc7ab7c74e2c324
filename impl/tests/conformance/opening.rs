//! Opening of a host's disk: suitable files, locks, and capacity.

use crate::body::{guest, run};
use crate::hosts::{DIRECT, KINDS, Kind, Lane, Memory, OnHost, scratch};
use powerfail_device::host::OpenError;
use powerfail_device::{Disk, Errno, Op};
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

#[test]
fn a_disk_stays_within_its_bounds_and_within_guest_memory() {
    for kind in KINDS {
        let place = scratch();
        let path = place.path().join("disk");
        let mut subject = OnHost::new(kind, &path, 8192);
        for (offset, pieces, errno) in [
            (8192, [(0, 4096)], Errno::EINVAL),
            (4096, [(0, 8192)], Errno::EINVAL),
            (u64::MAX - 4095, [(0, 4096)], Errno::EINVAL),
            (0, [(0xffff, 4096)], Errno::EFAULT),
            (0, [(u64::MAX - 4095, 4096)], Errno::EFAULT),
        ] {
            let write = Op::Write { offset, from: guest(&pieces) };
            let done = run(&mut subject, 0, write);
            assert_eq!((done.result, done.buffer), (Err(errno), Some(guest(&pieces))), "{kind:?}");
            let done = run(&mut subject, 0, Op::Read { offset, into: guest(&pieces) });
            assert_eq!((done.result, done.buffer), (Err(errno), Some(guest(&pieces))), "{kind:?}");
        }
        for (offset, len) in [(8192, 4096), (4096, 8192), (4096, u64::MAX), (u64::MAX, 4096)] {
            let zeroes = Op::WriteZeroes { offset, len, may_unmap: false };
            for op in [Op::Discard { offset, len }, zeroes] {
                assert_eq!(run(&mut subject, 0, op).result, Err(Errno::EINVAL), "{kind:?}");
            }
        }
        assert_eq!(std::fs::read(&path).expect("a file"), vec![0; 8192], "nothing was touched");
    }
}

#[test]
fn a_file_that_shrank_reads_short() {
    for kind in KINDS {
        let place = scratch();
        let path = place.path().join("disk");
        let mut subject = OnHost::new(kind, &path, 16384);
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("a file");
        file.set_len(8192).expect("a smaller file");
        let done = run(&mut subject, 0, Op::Read { offset: 4096, into: guest(&[(0, 8192)]) });
        assert_eq!(done.result, Ok(4096), "{kind:?}");
    }
}

#[test]
fn a_transfer_of_more_pieces_than_a_call_takes_is_short_or_whole() {
    for kind in KINDS {
        let place = scratch();
        let mut subject = OnHost::new(kind, &place.path().join("disk"), 16384);
        let pieces: Vec<(u64, u32)> = (0..2048).map(|at| (at * 16, 4)).collect();
        // The pieces of a sector are written in one operation, so that no sector can be torn.
        let done = run(&mut subject, 0, Op::Write { offset: 0, from: guest(&pieces) });
        assert_eq!(done.result, Ok(8192), "{kind:?}");
        let done = run(&mut subject, 0, Op::Read { offset: 0, into: guest(&pieces) });
        let direct = matches!(kind, Kind::Serial(DIRECT) | Kind::Uring(DIRECT));
        let moved = if direct { 8192 } else { 4096 };
        assert_eq!(done.result, Ok(moved), "{kind:?}");
    }
}

#[test]
fn a_disk_opened_read_only_takes_no_writes() {
    for kind in KINDS {
        let place = scratch();
        let path = place.path().join("disk");
        std::fs::write(&path, vec![0; 8192]).expect("room for a file");
        let first = Lane::open_read_only(kind, &path).expect("a disk");
        assert!(first.limits().read_only);
        let mut subject = OnHost::on(first);
        let (offset, len) = (0, 4096);
        for op in [
            Op::Write { offset, from: guest(&[(0, 4096)]) },
            Op::WriteZeroes { offset, len, may_unmap: false },
            Op::Discard { offset, len },
        ] {
            assert_eq!(run(&mut subject, 0, op).result, Err(Errno(9)), "{kind:?}: EBADF");
        }
        assert_eq!(run(&mut subject, 0, Op::Sync).result, Ok(0), "{kind:?}");
    }
}

#[test]
fn what_is_no_disk_is_refused_in_one_line() {
    let place = scratch();
    let path = place.path().join("odd");
    let fifo = place.path().join("a\nfifo");
    let name = CString::new(fifo.as_os_str().as_bytes()).expect("no zero byte");
    // SAFETY: the path is a string that ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let socket = place.path().join("socket");
    let _socket = UnixListener::bind(&socket).expect("a socket");
    for kind in KINDS {
        for (path, name) in [
            (&*fifo, "FIFO"),
            (&*socket, "socket"),
            (place.path(), "directory"),
            (Path::new("/dev/null"), "character device"),
        ] {
            // Opening a FIFO without a writer or reader would block.
            let read_only = Lane::open_read_only(kind, path).err().expect("it is no disk");
            for refused in [refusal(kind, path), read_only] {
                let said = refused.to_string();
                assert!(matches!(refused, OpenError::NoDisk(..)), "{refused}");
                assert!(said.contains(&format!("is a {name}, but a disk")), "{said}");
                assert_eq!(said.lines().count(), 1, "{said}");
            }
        }
        std::fs::write(&path, vec![0; 1000]).expect("room for a file");
        let odd = refusal(kind, &path);
        assert!(matches!(odd, OpenError::Size(_, 1000)), "{odd}");
        assert!(odd.to_string().ends_with("512-byte sectors, not 1000 bytes"), "{odd}");
        let missing = refusal(kind, "/nonexistent/disk".as_ref());
        assert!(missing.to_string().contains("/nonexistent/disk"), "{missing}");
    }
    let direct = Lane::open(Kind::Uring(DIRECT), &{
        std::fs::write(&path, vec![0; 4096]).expect("room for a file");
        path.clone()
    })
    .expect("a disk");
    let granule = direct.limits().granule;
    drop(direct);
    if granule > 512 {
        std::fs::write(&path, vec![0; 512]).expect("room for a file");
        let odd = refusal(Kind::Uring(DIRECT), &path);
        assert!(matches!(odd, OpenError::DirectSize(_, 512, unit) if unit == granule), "{odd}");
    }
}

#[test]
fn a_disk_has_one_server_or_only_readers() {
    let place = scratch();
    let path = place.path().join("disk");
    std::fs::write(&path, vec![0; 8192]).expect("room for a file");
    for kind in KINDS {
        for other in KINDS {
            let first = Lane::open(kind, &path).expect("a disk");
            let lane = first.another();
            drop(first);
            let refused = refusal(other, &path);
            assert!(matches!(refused, OpenError::InUse(_)), "{kind:?}, {other:?}: {refused}");
            assert!(!refused.to_string().contains('\n'));
            drop(lane);
            // The lock is released with the last lane, at once.
            let reader = Lane::open_read_only(kind, &path).expect("the file is not locked");
            let second = Lane::open_read_only(other, &path).expect("readers share");
            assert!(matches!(refusal(kind, &path), OpenError::InUse(_)));
            drop((reader, second));
        }
    }
}

fn refusal(kind: Kind, path: &Path) -> OpenError {
    match Lane::open(kind, path) {
        Ok(_) => panic!("{kind:?} opened {}", path.display()),
        Err(error) => error,
    }
}

#[test]
fn direct_disks_say_what_the_host_asks_for() {
    let place = scratch();
    let path = place.path().join("disk");
    std::fs::write(&path, vec![0; 8192]).expect("room for a file");
    let limits = Disk::<Memory>::limits(&Lane::open(Kind::Uring(DIRECT), &path).expect("a disk"));
    assert!(limits.granule.is_power_of_two() && (512..=4096).contains(&limits.granule));
    assert_eq!(limits.max_transfer % limits.granule, 0);
    // A host that zeroes part of a block does so in its page cache, beside direct writes.
    let block = std::fs::metadata(&path).expect("a file").blksize();
    for unit in [limits.discard_granularity, limits.write_zeroes_granularity] {
        assert!(unit.is_power_of_two() && unit % limits.granule == 0, "{unit}");
        assert!(u64::from(unit) >= block, "{unit} bytes of a block of {block}");
    }
}
