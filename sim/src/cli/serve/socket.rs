//! The socket in the file system that a server listens on: only what nobody listens on is replaced,
//! and only the server's own is removed.
//!
//! Another server may start on the same path at the same moment. A socket that nobody listens on is
//! first moved aside, then looked at once more, and put back if somebody has begun to listen; so it
//! is never a live one that is removed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use powerfail_device::host::Shown;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

use super::place::missing_folder;

/// A socket that is bound. It is removed when this is dropped, unless the path leads to something
/// else by then.
#[derive(Debug)]
pub(super) struct Bound {
    path: PathBuf,
    /// Device and inode, if the host told them.
    id: Option<(u64, u64)>,
    /// It keeps the inode, whose number another file would have otherwise.
    _listener: UnixListener,
}

impl Bound {
    /// Binds the path, and replaces a socket there if it is `stale`.
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
            // It was bound a moment ago, and the error is what matters.
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
            // Whoever has tidied up already has done no harm.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a socket is there that nobody listens on.
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

/// Connects, but does not wait for room in the queue of a server that is busy.
fn knock(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}

/// Removes a socket that nobody listened on a moment ago.
fn remove_stale(path: &Path) -> Result<(), String> {
    let said = |error: io::Error| format!("{}: {error}", Shown(path));
    // A name beside it that is this process's own, and no longer than it must be for the address of
    // a socket.
    let aside = path.with_file_name(format!(".{}", std::process::id()));
    let moved = match SocketAddrUnix::new(&aside) {
        Ok(_) => renameat_with(CWD, path, CWD, &aside, RenameFlags::NOREPLACE),
        Err(error) => Err(error),
    };
    match moved {
        Ok(()) => {}
        // Somebody was quicker, and what is there now is seen when it is bound.
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        // The name is too long, or the file system moves nothing like this: the look comes first
        // then.
        Err(_) if is_stale(path)? => return fs::remove_file(path).map_err(said),
        Err(_) => return Ok(()),
    }
    if is_stale(&aside) == Ok(true) {
        return fs::remove_file(&aside).map_err(said);
    }
    // Somebody has begun to listen meanwhile: this is theirs.
    match renameat_with(CWD, &aside, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Err(in_use(path)),
        Err(error) => Err(format!(
            "{} is in use by another server, and is called {} now ({})",
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
    fn what_somebody_listens_on_by_now_is_put_back() {
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
        let (listener, bound) = Bound::bind(&path, true).expect("nobody listens any more");
        assert!(is_stale(&path).is_err());
        drop((listener, bound));
        assert_eq!(fs::read_dir(dir.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn what_is_no_longer_ones_own_stays() {
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
