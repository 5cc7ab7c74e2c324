//! Claims on an open file that other programs respect: `flock`, taken by every server of this
//! crate, and QEMU's byte locks.
//!
//! QEMU ignores `flock`. It describes a user of an image by read locks on single bytes that belong
//! to the open file description: byte 100 + n means that this user has permission n, byte 200 + n
//! that no other user may have it (`locking=auto`, block/file-posix.c). Each user takes its own
//! locks first and then checks for conflicting locks of others, so of two that start together at
//! least one is refused. Here a writer shares nothing, not even consistent reads, and readers share
//! only those; QEMU's own writers let others read a raw image.
//!
//! On a file system without such locks, the file is used without them, as in QEMU.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// First byte of the permissions in use.
const USED: libc::off_t = 100;
/// First byte of the permissions that are not shared.
const UNSHARED: libc::off_t = 200;
/// Number of QEMU's permissions.
const PERMISSIONS: u8 = 4;

/// Read consistent data.
const CONSISTENT_READ: u8 = 1 << 0;
/// Change data.
const WRITE: u8 = 1 << 1;
/// Change the length.
const RESIZE: u8 = 1 << 3;

/// The reason why a file cannot be claimed.
#[derive(Debug)]
pub(super) enum Denied {
    /// Another server holds it.
    Server,
    /// A program with QEMU's locks holds it.
    Program,
    /// The host failed to lock it.
    Host(io::Error),
}

/// Claims a file until its last descriptor is closed, or [`release`] is called.
///
/// # Errors
/// A claim of another program conflicts with this one. Part of this claim may remain: close the
/// file.
pub(super) fn claim(file: &File, read_only: bool) -> Result<(), Denied> {
    let lock = if read_only { libc::LOCK_SH } else { libc::LOCK_EX };
    flock(file, lock | libc::LOCK_NB).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Denied::Server,
        _ => Denied::Host(error),
    })?;
    let all = CONSISTENT_READ | WRITE | RESIZE;
    let (used, unshared) = if read_only { (CONSISTENT_READ, WRITE | RESIZE) } else { (all, all) };
    match lock_bytes(file, used, unshared) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Denied::Program),
        Err(_) => {
            release_bytes(file);
            Ok(())
        }
    }
}

/// Releases a claim before the file is closed.
pub(super) fn release(file: &File) {
    release_bytes(file);
    // If this fails, the claim ends when the file is closed.
    let _ = flock(file, libc::LOCK_UN);
}

/// Takes the locks of these permissions, then checks for conflicts. `false` if there is one.
///
/// # Errors
/// The file system has no such locks.
fn lock_bytes(file: &File, used: u8, unshared: u8) -> io::Result<bool> {
    is_locked(file, USED)?;
    for byte in bytes(USED, used).chain(bytes(UNSHARED, unshared)) {
        match byte_lock(file, libc::F_OFD_SETLK, libc::F_RDLCK, byte, 1) {
            Ok(_) => {}
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        }
    }
    for byte in bytes(UNSHARED, used).chain(bytes(USED, unshared)) {
        if is_locked(file, byte)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn release_bytes(file: &File) {
    let length = UNSHARED + libc::off_t::from(PERMISSIONS) - USED;
    // If this fails, the locks end when the file is closed.
    let _ = byte_lock(file, libc::F_OFD_SETLK, libc::F_UNLCK, USED, length);
}

/// The bytes from `first` on for these permissions.
fn bytes(first: libc::off_t, permissions: u8) -> impl Iterator<Item = libc::off_t> {
    (0..PERMISSIONS)
        .filter(move |n| permissions & 1 << n != 0)
        .map(move |n| first + libc::off_t::from(n))
}

/// Whether another open file description has a lock on this byte.
fn is_locked(file: &File, byte: libc::off_t) -> io::Result<bool> {
    let found = byte_lock(file, libc::F_OFD_GETLK, libc::F_WRLCK, byte, 1)?;
    Ok(found != libc::F_UNLCK)
}

/// `fcntl` with a lock of the open file description; returns the lock type that the host leaves in
/// the structure.
fn byte_lock(
    file: &File,
    command: libc::c_int,
    kind: libc::c_int,
    start: libc::off_t,
    length: libc::off_t,
) -> io::Result<libc::c_int> {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: length,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open as long as `file` is, and these commands read and write one
    // such structure.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(lock.l_type.into()),
    }
}

fn flock(file: &File, operation: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open as long as `file` is.
    match unsafe { libc::flock(file.as_raw_fd(), operation) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file that is open only for writing takes no read locks; it stands for a file system
    /// without locks.
    #[test]
    fn a_file_without_byte_locks_is_claimed_by_flock_alone() {
        let place = tempfile::tempdir().expect("a folder");
        let path = place.path().join("disk");
        let open =
            || std::fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path);
        let file = open().expect("a file");
        assert!(lock_bytes(&file, WRITE, WRITE).is_err());
        claim(&file, false).expect("no other process has it");
        let other = open().expect("a file");
        assert!(matches!(claim(&other, false), Err(Denied::Server)));
        release(&file);
        claim(&other, false).expect("it was given back");
    }
}
