//! Mounting the file system over a file, and unmounting it.
//!
//! # The connection
//!
//! The process that serves the file system also uses it. If it is killed with a request in flight,
//! the requesting thread waits in the kernel and cannot end, and a shared connection would stay
//! open until all threads have ended. Therefore the serving threads have their own descriptor
//! table, and no other thread holds the connection: it closes when they end, and waiting requests
//! fail.
//!
//! A killed process leaves a dead mount behind; see [`MountError::Stale`].

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::JoinHandle;

use fuser::{Config, MountOption, Session};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;
use powerfail_device::host::Shown;

use super::fuse::Served;
use super::power::Power;
use crate::base::leftovers::{self, Listed, MOUNTED, Unmounted, is_dead, unmount};
use crate::base::shell;

/// The reason why a mount failed.
#[derive(Debug)]
pub enum MountError {
    /// FUSE is not available on this machine.
    NoFuse(io::Error),
    /// These files are still covered by the mounts of a dead process.
    Stale(Vec<PathBuf>),
    /// The file does not exist.
    NoFile(PathBuf, io::Error),
    /// The kernel refused the mount, or its thread.
    Refused(PathBuf, io::Error),
}

impl fmt::Display for MountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MountError::NoFuse(error) => {
                write!(f, "power cuts need FUSE, and /dev/fuse cannot be opened: {error}")
            }
            MountError::Stale(paths) => {
                let all = paths.iter().map(|path| shell::word(path));
                let all = all.collect::<Vec<_>>().join(" ");
                write!(f, "a process has died and left its mounts: `umount {all} && rm {all}`")
            }
            MountError::NoFile(path, error) => write!(f, "{}: {error}", Shown(path)),
            MountError::Refused(path, error) => write!(
                f,
                "cannot mount over {}: {error}; it takes root, or fusermount3",
                Shown(path)
            ),
        }
    }
}

impl std::error::Error for MountError {}

/// A mounted file system over one file. Dropping it unmounts it.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    power: Power,
    server: Option<JoinHandle<()>>,
    _listed: Listed,
}

impl Mount {
    /// Mounts over an existing file, whose content is hidden and unchanged. The new file is empty
    /// until [`Power::fill`].
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn over(path: &Path) -> Result<Mount, MountError> {
        Mount::cover(path, false)
    }

    /// As [`over`](Self::over), for a file that is to be mapped: the kernel caches its pages, and
    /// writes them at a sync, when the file is closed, and at any other time.
    ///
    /// # Errors
    /// See [`MountError`].
    pub(crate) fn over_mapped(path: &Path) -> Result<Mount, MountError> {
        Mount::cover(path, true)
    }

    fn cover(path: &Path, mapped: bool) -> Result<Mount, MountError> {
        if is_dead(path) {
            return Err(MountError::Stale(vec![path.to_owned()]));
        }
        let path = path.canonicalize().map_err(|e| MountError::NoFile(path.to_owned(), e))?;
        let fuse = OpenOptions::new().read(true).write(true).open("/dev/fuse");
        drop(fuse.map_err(MountError::NoFuse)?);
        let power = Power::default();
        let (tell, told) = mpsc::channel();
        let listed = leftovers::mount(&path);
        let served = Served { power: power.clone(), mapped };
        let place = path.clone();
        let server = std::thread::Builder::new()
            .name("power-cuts".to_owned())
            .spawn(move || serve(served, &place, &tell))
            .map_err(|e| MountError::Refused(path.clone(), e))?;
        let begun = told.recv().unwrap_or_else(|_| Err(io::Error::other("its thread has ended")));
        begun.map_err(|e| MountError::Refused(path.clone(), e))?;
        Ok(Mount { path, power, server: Some(server), _listed: listed })
    }

    /// The power switch.
    #[must_use]
    pub fn power(&self) -> &Power {
        &self.power
    }
}

/// Unmounts the file system, even with open handles, which fail from then on.
impl Drop for Mount {
    fn drop(&mut self) {
        match unmount(&self.path) {
            // The server ends with the last handle.
            Ok(Unmounted::OutOfSight) => return,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            // If the unmount failed, the file system was already unmounted, and the server has
            // ended.
            Ok(Unmounted::Ended) | Err(_) => {}
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Mounts, sends the result to `tell`, and serves requests until the unmount.
fn serve(served: Served, path: &Path, tell: &mpsc::Sender<io::Result<()>>) {
    // A signal handler may write to a descriptor that this table lacks, or has for another file.
    let _ = SigSet::all().thread_block();
    let session = descriptors_of_its_own().and_then(|()| {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(MOUNTED.to_owned())];
        Session::new(served, path, &config)
    });
    match session {
        Err(error) => {
            // Sending fails only if the receiver has been dropped.
            let _ = tell.send(Err(error));
        }
        Ok(session) => {
            let _ = tell.send(Ok(()));
            // The session is expected to end with its connection.
            let _ = session.run();
        }
    }
}

/// Gives this thread, and those it starts, a descriptor table with only the standard descriptors.
fn descriptors_of_its_own() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    // These are copies. One left open would keep another mount's file open as long as this mount
    // lives.
    let open: Vec<i32> = std::fs::read_dir("/proc/thread-self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > libc::STDERR_FILENO) {
        // The descriptor of the directory itself is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
