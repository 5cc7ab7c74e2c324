//! The listening socket in the file system: only a stale socket is replaced, and only the server's
//! own is removed.
//!
//! Another server may start on the same path at the same moment. A stale socket, one without a
//! listener, is first moved aside, then checked once more, and put back if it has a listener by
//! then. So a live socket is never removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use powerfail_device::host::Shown;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::place::missing_folder;

/// A bound socket. It is removed on drop, unless the path leads to another file by then.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    /// Device and inode, if they could be read.
    id: Option<(u64, u64)>,
    /// Keeps the inode in use, so that no other file gets its number.
    _listener: UnixListener,
}

impl Bound {
    /// Binds the path, and replaces a socket there if it is `stale`.
    ///
    /// # Errors
    /// One line: the path is in use or cannot be bound.
    pub(super) fn bind(path: &Path, stale: bool) -> Result<(UnixListener, Bound), String> {
        let shown = Shown(path);
        let said = |error: io::Error| format!("{shown}: {error}");
        if stale {
            remove_stale(path)?;
        }
        let listener = UnixListener::bind(path).map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => in_use(path),
            io::ErrorKind::NotFound => missing_folder(path).unwrap_or_else(|| said(error)),
            _ => said(error),
        })?;
        let id = fs::symlink_metadata(path).ok().map(|found| (found.dev(), found.ino()));
        let kept = listener.try_clone().inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_file(path);
        });
        let bound = Bound { path: path.to_owned(), id, _listener: kept.map_err(said)? };
        Ok((listener, bound))
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).ok().map(|found| (found.dev(), found.ino()));
        if found.is_some() && found == self.id {
            // If it is gone already, that is fine.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether the path is a stale socket; false if nothing is there.
///
/// # Errors
/// One line: a server listens there, or the path is not a socket.
pub(super) fn is_stale(path: &Path) -> Result<bool, String> {
    let shown = Shown(path);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("{shown}: {error}")),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(format!("{shown} is not a socket: choose another path"));
        }
        Ok(_) => {}
    }
    match knock(path) {
        Err(rustix::io::Errno::CONNREFUSED) => Ok(true),
        Err(error @ (rustix::io::Errno::ACCESS | rustix::io::Errno::NAMETOOLONG)) => {
            Err(format!("{shown}: {}", io::Error::from(error)))
        }
        _ => Err(in_use(path)),
    }
}

fn in_use(path: &Path) -> String {
    format!("{} is in use by another server", Shown(path))
}

/// Connects without waiting for room in the backlog of a busy server.
fn knock(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Removes a socket that was stale a moment ago.
fn remove_stale(path: &Path) -> Result<(), String> {
    let said = |error: io::Error| format!("{}: {error}", Shown(path));
    // A name next to it that only this process uses, short enough for a socket address.
    let aside = path.with_file_name(format!(".{}", std::process::id()));
    let moved = match SocketAddrUnix::new(&aside) {
        Ok(_) => renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE),
        Err(error) => Err(error),
    };
    match moved {
        Ok(()) => {}
        // Another server removed it first; `bind` reports what is there now.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        // The name is too long, or the file system has no such rename: check first, then remove.
        Err(_) if is_stale(path)? => return fs::remove_file(path).map_err(said),
        Err(_) => return Ok(()),
    }
    if is_stale(&aside) == Ok(true) {
        return fs::remove_file(&aside).map_err(said);
    }
    // Another server listens on it by now, so put it back.
    match renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Err(in_use(path)),
        Err(error) => Err(format!(
            "{} is in use by another server, and was renamed to {} ({})",
            Shown(path),
            Shown(&aside),
            io::Error::from(error)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_with_a_new_listener_is_put_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        drop(UnixListener::bind(&path).expect("a socket"));
        assert_eq!(is_stale(&path), Ok(true));
        // Another server replaces it in between.
        fs::remove_file(&path).expect("it was there");
        let other = UnixListener::bind(&path).expect("a socket");
        assert!(Bound::bind(&path, true).is_err_and(|said| said.contains("another server")));
        assert!(is_stale(&path).is_err_and(|said| said.contains("another server")));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 1);
        drop(other);
        let (listener, bound) = Bound::bind(&path, true).expect("it has no listener");
        assert!(is_stale(&path).is_err());
        drop((listener, bound));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn another_servers_socket_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let bound = Bound::bind(&path, false).expect("a socket");
        fs::remove_file(&path).expect("it was there");
        let other = Bound::bind(&path, false).expect("a socket");
        drop(bound);
        assert!(path.exists(), "it is another server's");
        drop(other);
        assert!(!path.exists());
    }
}
