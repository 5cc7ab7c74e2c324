//! Temporary files and mounts of this process, removed when it ends.
//!
//! Their owners remove them on drop. A process that a signal ends drops nothing, so a global list
//! holds all of them, and the signal handler calls [`take_away`] first. The next process removes
//! the mount of a killed one: see [`unmount_dead`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// The source name of powerfail's file systems in the list of mounts.
pub(crate) const MOUNTED: &str = "powerfail";

#[derive(Debug)]
enum Leftover {
    File(PathBuf),
    /// A folder with everything in it.
    Folder(PathBuf),
    Mount(PathBuf),
}

/// The last number, and the leftovers by number.
static LIST: Mutex<(u64, BTreeMap<u64, Leftover>)> = Mutex::new((0, BTreeMap::new()));

fn list() -> MutexGuard<'static, (u64, BTreeMap<u64, Leftover>)> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An entry of the list, for as long as it is held.
#[derive(Debug)]
pub(crate) struct Listed(u64);

impl Drop for Listed {
    fn drop(&mut self) {
        list().1.remove(&self.0);
    }
}

fn add(list: &mut (u64, BTreeMap<u64, Leftover>), what: Leftover) -> Listed {
    list.0 += 1;
    let number = list.0;
    list.1.insert(number, what);
    Listed(number)
}

/// Makes a file and lists it. [`take_away`] cannot run between the two.
///
/// # Errors
/// The error of `make`; then nothing is listed.
pub(crate) fn file<T>(
    path: &Path,
    make: impl FnOnce() -> io::Result<T>,
) -> io::Result<(T, Listed)> {
    let mut list = list();
    let made = make()?;
    Ok((made, add(&mut list, Leftover::File(path.to_owned()))))
}

/// As [`file`], for a folder.
///
/// # Errors
/// As [`file`].
pub(crate) fn folder<T>(
    path: &Path,
    make: impl FnOnce() -> io::Result<T>,
) -> io::Result<(T, Listed)> {
    let mut list = list();
    let made = make()?;
    Ok((made, add(&mut list, Leftover::Folder(path.to_owned()))))
}

/// Lists a file system of this process that is about to be mounted at `path`.
pub(crate) fn mount(path: &Path) -> Listed {
    add(&mut list(), Leftover::Mount(path.to_owned()))
}

/// Removes every leftover, because the process ends now. Keeps the list locked, so that nothing can
/// be listed any more.
pub(crate) fn take_away() {
    let list = list();
    // Mounts first, because a file below a mount cannot be removed.
    for leftover in list.1.values().rev() {
        if let Leftover::Mount(path) = leftover {
            // The next run finds a mount that cannot be removed now.
            let _ = is_ours(path).then(|| unmount(path));
        }
    }
    for leftover in list.1.values().rev() {
        match leftover {
            Leftover::File(path) => drop(fs::remove_file(path)),
            Leftover::Folder(path) => drop(fs::remove_dir_all(path)),
            Leftover::Mount(_) => {}
        }
    }
    std::mem::forget(list);
}

/// The way a file system was unmounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmounted {
    /// Its connection was aborted, and with it every open handle.
    Ended,
    /// It was only detached from its path; it ends with the last handle.
    OutOfSight,
}

/// Unmounts a file system by force, or lazily through the helper `fusermount3`.
///
/// # Errors
/// The process lacks the permission, or nothing is mounted there.
pub(crate) fn unmount(path: &Path) -> io::Result<Unmounted> {
    // By force, so that the connection ends now; lazily, so that open handles do not prevent it.
    match umount2(path, MntFlags::MNT_FORCE | MntFlags::MNT_DETACH) {
        Err(Errno::EPERM) => {
            let helper =
                Command::new("fusermount3").args(["-u", "-z", "-q", "--"]).arg(path).status();
            match helper {
                Ok(status) if status.success() => Ok(Unmounted::OutOfSight),
                _ => Err(Errno::EPERM.into()),
            }
        }
        done => done.map(|()| Unmounted::Ended).map_err(io::Error::from),
    }
}

/// Whether the last mount at this path is one of powerfail's file systems.
fn is_ours(path: &Path) -> bool {
    let mounts = fs::read("/proc/self/mounts").unwrap_or_default();
    let at = |line: &[u8]| -> Option<bool> {
        let mut words = line.split(|&byte| byte == b' ');
        let (source, place, kind) = (words.next()?, words.next()?, words.next()?);
        let here = unescaped(place) == path.as_os_str().as_bytes();
        here.then(|| source == MOUNTED.as_bytes() && kind.starts_with(b"fuse"))
    };
    mounts.split(|&byte| byte == b'\n').rev().find_map(at) == Some(true)
}

/// Undoes the escapes of a path in the list of mounts: `\040` is a space.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, more)) = rest.split_first() {
        let octal = more.get(..3).filter(|_| first == b'\\');
        let byte =
            octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        match byte {
            Some(byte) => {
                out.push(byte);
                rest = &more[3..];
            }
            None => {
                out.push(first);
                rest = more;
            }
        }
    }
    out
}

/// Whether this path is the mount of a dead FUSE process.
pub(crate) fn is_dead(path: &Path) -> bool {
    let error = path.metadata().err().and_then(|error| error.raw_os_error());
    error == Some(libc::ENOTCONN)
}

/// Removes the mount that a killed powerfail process has left here, and the empty file below it,
/// which that process had created. Returns whether both are gone.
pub(crate) fn unmount_dead(path: &Path) -> bool {
    // The path itself cannot be resolved, but its folder can.
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new(".")).canonicalize();
    let (Ok(folder), Some(name)) = (folder, path.file_name()) else { return false };
    let path = folder.join(name);
    while is_dead(&path) {
        if !is_ours(&path) || unmount(&path).is_err() {
            return false;
        }
    }
    match path.symlink_metadata() {
        Ok(found) if found.is_file() && found.len() == 0 => fs::remove_file(&path).is_ok(),
        Ok(_) => false,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_in_the_list_of_mounts_are_unescaped() {
        assert_eq!(unescaped(b"/a\\040b\\134c"), b"/a b\\c");
        assert_eq!(unescaped(b"/plain\\"), b"/plain\\");
        assert_eq!(unescaped(b"\\9"), b"\\9");
    }
}
