//! Files and mounts that this process has made and takes away in the end.
//!
//! Their owners take them away when they are dropped. A process that a signal ends drops nothing,
//! so there is one list of them all, and whoever ends the process has [`take_away`] called first.
//! What a killed process leaves is found by the next one: see [`unmount_dead`].

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::mount::{MntFlags, umount2};

/// The name of our file systems in the list of mounts.
pub(crate) const MOUNTED: &str = "powerfail";

#[derive(Debug)]
enum Leftover {
    File(PathBuf),
    Mount(PathBuf),
}

/// What is there, by its number, and the next number.
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

/// Makes a file and lists it. No signal comes between the two.
///
/// # Errors
/// What `make` says; then nothing is listed.
pub(crate) fn file<T>(
    path: &Path,
    make: impl FnOnce() -> io::Result<T>,
) -> io::Result<(T, Listed)> {
    let mut list = list();
    let made = make()?;
    Ok((made, add(&mut list, Leftover::File(path.to_owned()))))
}

/// Lists a file system of ours that is about to be mounted here.
pub(crate) fn mount(path: &Path) -> Listed {
    add(&mut list(), Leftover::Mount(path.to_owned()))
}

/// Takes everything away, because the process ends now. Nothing can be listed any more.
pub(crate) fn take_away() {
    let list = list();
    // What is covered cannot be removed.
    for leftover in list.1.values().rev() {
        if let Leftover::Mount(path) = leftover {
            // What cannot be taken away is found by the next run.
            let _ = is_ours(path).then(|| unmount(path));
        }
    }
    for leftover in list.1.values().rev() {
        if let Leftover::File(path) = leftover {
            let _ = fs::remove_file(path);
        }
    }
    std::mem::forget(list);
}

/// How a file system was taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unmounted {
    /// Its connection has ended, and with it every open handle.
    Ended,
    /// Only from its path: it ends with the last handle.
    OutOfSight,
}

/// Takes a file system away by force, or as far as the helper `fusermount3` may.
///
/// # Errors
/// It is not ours to do, or there is none.
pub(crate) fn unmount(path: &Path) -> io::Result<Unmounted> {
    // By force, so that the connection ends now; lazily, so that no open handle can object.
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

/// Whether the last mount at this path is a file system of ours.
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

/// A path as the list of mounts has it: `\040` is a space.
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

/// Whether what is at this path is the mount of a process that has died.
pub(crate) fn is_dead(path: &Path) -> bool {
    let error = path.metadata().err().and_then(|error| error.raw_os_error());
    error == Some(libc::ENOTCONN)
}

/// Takes away the mount that a process of ours has left here when it was killed, and the empty file
/// below it, which that process had made. Whether both are gone.
pub(crate) fn unmount_dead(path: &Path) -> bool {
    // The path itself cannot be looked up: its folder can.
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
