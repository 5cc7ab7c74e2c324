//! Opening a file or block device as a disk, for every I/O backend.
//!
//! A writer has exclusive access: two servers on one file would each break the promises of the
//! other (see `claim` for files; a block device is opened exclusively, so a mounted one is
//! refused). Data that an earlier server left volatile is made stable first, because no later
//! server could know of it.
//!
//! The file type is checked before the file is opened, because opening other types may block
//! indefinitely or have side effects.

use super::claim::{self, Denied};
use super::shown::Shown;
use super::units;
use crate::disk::Limits;
use crate::errno::Errno;
use std::fmt;
use std::fs::{File, FileType, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The mode in which a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Access {
    /// Nothing is written. Such a file may have several readers.
    pub read_only: bool,
    /// Bypass the host's page cache, with the granule that the host requires.
    pub direct: bool,
}

/// The reason why a file cannot be a disk.
#[derive(Debug)]
pub enum OpenError {
    /// The host failed to open it, to lock it or to report its size.
    Host(PathBuf, io::Error),
    /// It is neither a file nor a block device, but of this type.
    NoDisk(PathBuf, &'static str),
    /// Its size in bytes is not a multiple of 512.
    Size(PathBuf, u64),
    /// Another server has it open.
    InUse(PathBuf),
    /// Another program has it open, with locks like QEMU's.
    Locked(PathBuf),
    /// The host itself uses this block device.
    Busy(PathBuf),
    /// Its data cannot be made stable.
    Sync(PathBuf, io::Error),
    /// The host does not support direct I/O on it.
    NoDirect(PathBuf),
    /// Its size in bytes is not a multiple of the unit of direct I/O, the last field.
    DirectSize(PathBuf, u64, u32),
    /// It cannot be reopened for another lane.
    Reopen(PathBuf, io::Error),
    /// The host provides no io_uring.
    Uring(PathBuf, io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Host(path, error) => write!(f, "{}: {error}", Shown(path)),
            OpenError::NoDisk(path, kind) => write!(
                f,
                "{}: is a {kind}, but a disk must be a file or a block device; name another",
                Shown(path)
            ),
            OpenError::Size(path, size) => write!(
                f,
                "{}: a disk is a whole number of 512-byte sectors, not {size} bytes",
                Shown(path)
            ),
            OpenError::InUse(path) => write!(
                f,
                "{}: another server has it open; end that one, or name another file",
                Shown(path)
            ),
            OpenError::Locked(path) => write!(
                f,
                "{}: QEMU, or another program that locks images as QEMU does, has it open; end that \
                 one, or name another file",
                Shown(path)
            ),
            OpenError::Busy(path) => write!(
                f,
                "{}: the host uses this block device: it is mounted, swap, part of another device, \
                 or served; unmount it, or name another",
                Shown(path)
            ),
            OpenError::Sync(path, error) => write!(
                f,
                "{}: data of an earlier server cannot be made stable ({error}); repair the \
                 host's storage, then check the data on the disk",
                Shown(path)
            ),
            OpenError::NoDirect(path) => write!(
                f,
                "{}: the host has no direct I/O for this file; open it without direct I/O",
                Shown(path)
            ),
            OpenError::DirectSize(path, size, unit) => write!(
                f,
                "{}: direct I/O requires a multiple of {unit} bytes here, not {size} bytes; \
                 resize the file, or open it without direct I/O",
                Shown(path)
            ),
            OpenError::Reopen(path, error) => {
                write!(f, "{}: cannot be opened once for each queue ({error})", Shown(path))?;
                match error.kind() {
                    io::ErrorKind::NotFound => f.write_str("; is /proc mounted?"),
                    _ => Ok(()),
                }
            }
            OpenError::Uring(path, error) => write!(
                f,
                "{}: the host provides no io_uring ({error}); see the sysctl \
                 kernel.io_uring_disabled, or open it as a plain file",
                Shown(path)
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// State shared by all lanes of a disk: the file, locked and synced. No lane does I/O through it.
#[derive(Debug)]
struct Locked {
    path: PathBuf,
    file: File,
    access: Access,
    /// The limits when it was opened; `capacity` is newer.
    limits: Limits,
    /// Capacity in bytes; it only grows.
    capacity: AtomicU64,
    /// Required alignment of memory addresses; `Some` iff I/O is direct.
    memory_align: Option<usize>,
}

/// A lane's own open files: one for reads and writes, one for syncs.
///
/// Linux reports a failed write-back once per open file description, and not only to `fdatasync`:
/// NFS reports it to the next write, and so does any file system mounted with `sync`. If lanes
/// shared a description, the failed sync of one lane could be followed by a successful one of
/// another before the failure is processed. If a lane wrote and synced through the same
/// description, a write could consume the error report of the sync, and lost data would be
/// promised. Therefore only syncs use `syncs`, and a failed write implies nothing about any other.
#[derive(Debug)]
pub(super) struct OpenFile {
    file: File,
    syncs: File,
    shared: Arc<Locked>,
}

impl OpenFile {
    pub(super) fn open(path: &Path, access: Access) -> Result<OpenFile, OpenError> {
        let Access { read_only, direct } = access;
        let host = |error| OpenError::Host(path.to_owned(), error);
        let mut file = access.open(path)?;
        claim::claim(&file, read_only).map_err(|denied| match denied {
            Denied::Server => OpenError::InUse(path.to_owned()),
            Denied::Program => OpenError::Locked(path.to_owned()),
            Denied::Host(error) => host(io::Error::other(format!("cannot be locked ({error})"))),
        })?;
        // The end of a block device gives its size; its metadata does not.
        let capacity = file.seek(SeekFrom::End(0)).map_err(host)?;
        if capacity % 512 != 0 {
            return Err(OpenError::Size(path.to_owned(), capacity));
        }
        // A backend that starts on the remains of a failed sync would promise data that is not
        // there.
        file.sync_data().map_err(|error| OpenError::Sync(path.to_owned(), error))?;
        let mut limits = Limits { read_only, ..Limits::plain(capacity) };
        if let Some(unit) = units::logical_block(&file).map_err(host)? {
            limits.discard_granularity = unit.max(512);
            limits.write_zeroes_granularity = unit.max(512);
        }
        let mut memory_align = None;
        if direct {
            let align = units::of_direct_io(&file).map_err(host)?;
            let align = align.ok_or_else(|| OpenError::NoDirect(path.to_owned()))?;
            if capacity % u64::from(align.granule) != 0 {
                return Err(OpenError::DirectSize(path.to_owned(), capacity, align.granule));
            }
            memory_align = Some(align.memory);
            limits.granule = align.granule;
            // The host zeroes part of a block through its page cache. A later write-back of that
            // page would undo a direct write to the rest of the block.
            let block = units::block(&file).map_err(host)?.max(align.granule);
            limits.discard_granularity = limits.discard_granularity.max(block);
            limits.write_zeroes_granularity = limits.write_zeroes_granularity.max(block);
        }
        let path = path.to_owned();
        let capacity = AtomicU64::new(capacity);
        Locked { path, file, access, limits, capacity, memory_align }.lane()
    }

    /// Opens the same file for another lane.
    pub(super) fn again(&self) -> Result<OpenFile, OpenError> {
        Locked::open_again(&self.shared)
    }

    /// Keeps the lock for the life of the process.
    pub(super) fn stay_locked(&self) {
        std::mem::forget(Arc::clone(&self.shared));
    }

    pub(super) fn path(&self) -> &Path {
        &self.shared.path
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    /// The same file, for syncs.
    pub(super) fn syncs(&self) -> &File {
        &self.syncs
    }

    pub(super) fn limits(&self) -> Limits {
        // Relaxed: the capacity is stored before it is announced.
        Limits { capacity: self.shared.capacity.load(Ordering::Relaxed), ..self.shared.limits }
    }

    /// Required alignment of memory addresses; `None` unless I/O is direct.
    pub(super) fn memory_align(&self) -> Option<usize> {
        self.shared.memory_align
    }

    /// The file offset of `offset`, if the `len` bytes from there are on the disk.
    pub(super) fn place(&self, offset: u64, len: u64) -> Result<libc::off_t, Errno> {
        match offset.checked_add(len) {
            Some(end) if end <= self.limits().capacity => {
                libc::off_t::try_from(offset).map_err(|_| Errno::EINVAL)
            }
            _ => Err(Errno::EINVAL),
        }
    }
}

/// The size of an open disk, for a caller that is informed of growth.
#[derive(Clone, Debug)]
pub struct Growth(Arc<Locked>);

impl Growth {
    pub(super) fn of(file: &OpenFile) -> Growth {
        Growth(Arc::clone(&file.shared))
    }

    /// Reads the current size. Every lane accepts operations up to it. A disk that has shrunk keeps
    /// its size for the lanes, and the host fails operations beyond the end. Returns the size in
    /// bytes, in whole granules.
    ///
    /// # Errors
    /// The host does not report the size.
    pub fn look(&self) -> io::Result<u64> {
        let size = (&self.0.file).seek(SeekFrom::End(0))?;
        let capacity = size - size % u64::from(self.0.limits.granule);
        Ok(self.0.capacity.fetch_max(capacity, Ordering::Relaxed).max(capacity))
    }
}

impl Access {
    /// Opens `path`, if it is a file or a block device.
    ///
    /// A block device is opened exclusively: the host refuses that if it uses the device itself,
    /// and does not mount the device while it is open. With `read_only` this is only checked and
    /// then given up, because readers share.
    fn open(self, path: &Path) -> Result<File, OpenError> {
        let host = |error| OpenError::Host(path.to_owned(), error);
        let mut look = OpenOptions::new();
        let found = look.read(true).custom_flags(libc::O_PATH).open(path).map_err(host)?;
        let kind = found.metadata().map_err(host)?.file_type();
        if let Some(name) = no_disk(kind) {
            return Err(OpenError::NoDisk(path.to_owned(), name));
        }
        let open = |flags| {
            let opened = self.options(flags).open(by_descriptor(&found));
            opened.map_err(|error| match error.raw_os_error() {
                Some(libc::EINVAL) if self.direct => OpenError::NoDirect(path.to_owned()),
                Some(libc::EBUSY) if kind.is_block_device() => OpenError::Busy(path.to_owned()),
                // The file was found, so the missing file is in /proc.
                Some(libc::ENOENT) => OpenError::Reopen(path.to_owned(), error),
                _ => host(error),
            })
        };
        if !kind.is_block_device() {
            return open(0);
        }
        let alone = open(libc::O_EXCL)?;
        if self.read_only { open(0) } else { Ok(alone) }
    }

    fn options(self, flags: libc::c_int) -> OpenOptions {
        let direct = if self.direct { libc::O_DIRECT } else { 0 };
        let mut options = OpenOptions::new();
        options.read(true).write(!self.read_only).custom_flags(direct | flags);
        options
    }
}

/// The name of a kind of file that cannot be a disk.
fn no_disk(kind: FileType) -> Option<&'static str> {
    if kind.is_file() || kind.is_block_device() {
        None
    } else if kind.is_dir() {
        Some("directory")
    } else if kind.is_fifo() {
        Some("FIFO")
    } else if kind.is_socket() {
        Some("socket")
    } else {
        Some("character device")
    }
}

/// A path to an open file, as opposed to the path it was opened by, which may lead to another file
/// by now.
fn by_descriptor(file: &File) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

impl Locked {
    fn lane(self) -> Result<OpenFile, OpenError> {
        Locked::open_again(&Arc::new(self))
    }

    /// Not exclusive, unlike the first descriptor.
    fn open_again(this: &Arc<Locked>) -> Result<OpenFile, OpenError> {
        let open = || {
            let opened = this.access.options(0).open(by_descriptor(&this.file));
            opened.map_err(|error| OpenError::Reopen(this.path.clone(), error))
        };
        Ok(OpenFile { file: open()?, syncs: open()?, shared: Arc::clone(this) })
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // The kernel may hold the file of a dropped ring for a while, and the claim with it.
        claim::release(&self.file);
    }
}
