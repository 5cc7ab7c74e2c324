//! QEMU's byte locks, which tell who uses an image and how: as this crate takes them, and as it
//! respects those of other programs.
//!
//! The bytes are written here a second time, from QEMU's block/file-posix.c: 100 + n means that
//! permission n is in use, 200 + n that it is not shared. The permissions are 0 (consistent read),
//! 1 (write), 2 (write unchanged) and 3 (resize).

use crate::hosts::{KINDS, Kind, Lane, scratch};
use powerfail_device::host::{MapError, MappedFile, OpenError};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::Path;

/// The locks of a writable disk, and of a read-only one.
const WRITER: [i64; 6] = [100, 101, 103, 200, 201, 203];
const READER: [i64; 3] = [100, 201, 203];

fn byte_lock(file: &File, command: i32, kind: i32, byte: i64) -> i32 {
    let (l_type, l_whence) = (kind as i16, libc::SEEK_SET as i16);
    let mut lock = libc::flock { l_type, l_whence, l_start: byte, l_len: 1, l_pid: 0 };
    // SAFETY: the descriptor is open, and these commands read and write one such structure.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    lock.l_type.into()
}

/// The file, with these bytes locked for reading as QEMU does.
fn locked(path: &Path, bytes: &[i64]) -> File {
    let file = File::open(path).expect("a file");
    for &byte in bytes {
        byte_lock(&file, libc::F_OFD_SETLK, libc::F_RDLCK, byte);
    }
    file
}

/// The bytes that are locked through another descriptor.
fn locks(path: &Path) -> Vec<i64> {
    let file = File::open(path).expect("a file");
    let is_locked =
        |&byte: &i64| byte_lock(&file, libc::F_OFD_GETLK, libc::F_WRLCK, byte) != libc::F_UNLCK;
    (0..400).filter(is_locked).collect()
}

#[test]
fn a_disk_has_the_locks_of_its_use_until_its_last_lane_is_gone() {
    let place = scratch();
    let path = place.path().join("disk");
    std::fs::write(&path, vec![0; 8192]).expect("room for a file");
    for kind in KINDS {
        let first = Lane::open(kind, &path).expect("a disk");
        assert_eq!(locks(&path), WRITER, "{kind:?}");
        let lane = first.another();
        drop(first);
        assert_eq!(locks(&path), WRITER, "{kind:?}");
        drop(lane);
        assert_eq!(locks(&path), [0; 0], "{kind:?}");
        let readers = [(); 2].map(|()| Lane::open_read_only(kind, &path).expect("readers share"));
        assert_eq!(locks(&path), READER, "{kind:?}");
        drop(readers);
        assert_eq!(locks(&path), [0; 0], "{kind:?}");
    }
    let map = MappedFile::open(&path).expect("a memory");
    let again = map.again().expect("another mapping");
    drop(map);
    assert_eq!(locks(&path), WRITER);
    drop(again);
    assert_eq!(locks(&path), [0; 0]);
}

#[test]
fn a_disk_that_others_have_locked_is_refused_unless_both_agree() {
    let place = scratch();
    let path = place.path().join("disk");
    std::fs::write(&path, vec![0; 8192]).expect("room for a file");
    // Locks of other programs, and whether a writer and a reader may have the disk beside them.
    let cases: [(&[i64], bool, bool); 10] = [
        (&[100, 101, 103, 201, 203], false, false),
        (&[100, 101], false, false),
        (&[103], false, false),
        (&[100, 201, 203], false, true),
        (&[201], false, true),
        (&[203], false, true),
        (&[200], false, false),
        (&[100], false, true),
        (&[102, 202], true, true),
        (&[0, 99, 104, 199, 204], true, true),
    ];
    for (bytes, writer, reader) in cases {
        let other = locked(&path, bytes);
        for kind in KINDS {
            for (reads, may) in [(false, writer), (true, reader)] {
                let open = if reads { Lane::open_read_only } else { Lane::open };
                if let Err(error) = open(kind, &path) {
                    assert!(matches!(error, OpenError::Locked(_)), "{error}");
                    assert!(!may, "{kind:?} beside {bytes:?}: {error}");
                    let said = error.to_string();
                    assert!(said.contains("QEMU") && said.lines().count() == 1, "{said}");
                } else {
                    assert!(may, "{kind:?} beside {bytes:?}");
                }
            }
        }
        let map = MappedFile::open(&path);
        assert_eq!(map.is_ok(), writer, "beside {bytes:?}");
        assert!(matches!(map, Ok(_) | Err(MapError::Open(OpenError::Locked(_)))));
        drop(map);
        drop(other);
        assert_eq!(locks(&path), [0; 0], "who is refused leaves no lock");
        assert!(Lane::open(Kind::File, &path).is_ok(), "and the disk is free");
    }
}

#[test]
fn a_byte_that_is_locked_for_writing_is_a_refusal_too() {
    let place = scratch();
    let path = place.path().join("disk");
    std::fs::write(&path, vec![0; 8192]).expect("room for a file");
    let other = std::fs::OpenOptions::new().read(true).write(true).open(&path).expect("a file");
    byte_lock(&other, libc::F_OFD_SETLK, libc::F_WRLCK, 100);
    for kind in KINDS {
        let refused = Lane::open(kind, &path).err().expect("it is locked");
        assert!(matches!(refused, OpenError::Locked(_)), "{kind:?}: {refused}");
    }
}
