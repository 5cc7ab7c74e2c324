//! Putting the file system over a file, and taking it away.
//!
//! # Who holds the connection
//!
//! The process that serves the file system also uses it. If such a process is killed while it has a
//! request of its own in hand, the thread that asked waits for an answer in the kernel, and cannot
//! end; and the connection is not closed before all threads have ended. So the serving threads have
//! a table of descriptors to themselves, and nobody else holds the connection: when they end, it
//! closes, and whoever waits is told.
//!
//! What is left of a killed process is a mount that answers nothing; see [`MountError::Stale`].

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

/// Why there is no file system.
#[derive(Debug)]
pub enum MountError {
    /// The kernel, or whoever has set up this machine, offers no FUSE.
    NoFuse(io::Error),
    /// These files are still under mounts of a process that has died.
    Stale(Vec<PathBuf>),
    /// There is no such file.
    NoFile(PathBuf, io::Error),
    /// The kernel refused the mount, or the threads for it.
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

/// The file system over one file, until it is dropped.
#[derive(Debug)]
pub struct Mount {
    path: PathBuf,
    power: Power,
    server: Option<JoinHandle<()>>,
    _listed: Listed,
}

impl Mount {
    /// Covers a file that is there. What it holds is not seen, and not touched; the one over it is
    /// empty, until the owner [puts something there](Power::fill).
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn over(path: &Path) -> Result<Mount, MountError> {
        Mount::cover(path, false)
    }

    /// The same, of a file that is to be mapped: the kernel keeps its pages, and writes them when
    /// it is asked to sync, when the file is closed, and whenever it likes.
    ///
    /// # Errors
    /// See [`MountError`].
    pub fn over_mapped(path: &Path) -> Result<Mount, MountError> {
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

    /// The switch.
    #[must_use]
    pub fn power(&self) -> &Power {
        &self.power
    }
}

/// Takes the file system away, also from under handles that are still open: these fail from then
/// on.
impl Drop for Mount {
    fn drop(&mut self) {
        match unmount(&self.path) {
            // The server ends with the last handle.
            Ok(Unmounted::OutOfSight) => return,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            // If that failed it was taken away by somebody else, and the server has ended.
            Ok(Unmounted::Ended) | Err(_) => {}
        }
        if let Some(server) = self.server.take() {
            let _ = server.join();
        }
    }
}

/// Mounts, says how it went, and serves until there is nothing more to serve.
fn serve(served: Served, path: &Path, tell: &mpsc::Sender<io::Result<()>>) {
    // The handler of a signal may write to a descriptor, which is not in this table, or another
    // one.
    let _ = SigSet::all().thread_block();
    let session = descriptors_of_its_own().and_then(|()| {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName(MOUNTED.to_owned())];
        Session::new(served, path, &config)
    });
    match session {
        Err(error) => {
            // Nobody listens only if nobody is left to tell.
            let _ = tell.send(Err(error));
        }
        Ok(session) => {
            let _ = tell.send(Ok(()));
            // The end of the connection is how it is meant to end.
            let _ = session.run();
        }
    }
}

/// Gives this thread, and those it starts, a table of descriptors with nothing in it but the
/// standard ones.
fn descriptors_of_its_own() -> io::Result<()> {
    unshare(CloneFlags::CLONE_FILES)?;
    // They are copies. One that stayed would keep another mount's file open for as long as this one
    // is there.
    let open: Vec<i32> = std::fs::read_dir("/proc/thread-self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for descriptor in open.into_iter().filter(|&descriptor| descriptor > libc::STDERR_FILENO) {
        // The one the list was read from is closed already.
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}
