//! A file or block device as a persistent memory, mapped and shared with all other mappers.
//!
//! It is opened as a disk is: a writer has exclusive access, and data that an earlier backend left
//! volatile is made stable first. Each mapping has an open file description of its own, because
//! Linux reports a failed sync once per description, and `msync` uses that of the mapping.
//!
//! The length is fixed at opening, because the guest relies on it. A file with another length than
//! announced is refused. A file that grows later is served up to its old length. A file that
//! shrinks removes memory from the guest: the missing part reads as zeroes,
//! [`MappedFile::is_shrunk`] returns `true`, and no flush succeeds any more. A shrink that is
//! undone between two flushes is noticed only if `is_shrunk` was called, or the memory accessed,
//! meanwhile.
//!
//! Not here: the address of the memory in the guest. If a VMM maps the file into a guest itself, it
//! has the same pages, and syncs here cover its stores; but the VMM must handle faults in its own
//! mapping.

mod lane;

use super::open::{Access, OpenError, OpenFile};
use super::shown::Shown;
use super::sigbus::Watch;
use crate::errno::Errno;
use std::fmt;
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use vm_memory::VolatileSlice;

pub use lane::MapLane;

/// The reason why a file cannot be a persistent memory.
#[derive(Debug)]
pub enum MapError {
    /// It cannot be opened, locked or synced.
    Open(OpenError),
    /// Its size in bytes is zero or not a multiple of the page size, the last field.
    Size(PathBuf, u64, u64),
    /// Its size in bytes differs from the announced one.
    OtherSize {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        size: u64,
        /// The size in bytes announced to the guest.
        announced: u64,
    },
    /// The host cannot map it, or cannot report missing memory.
    Host(PathBuf, io::Error),
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MapError::Open(error) => error.fmt(f),
            MapError::Size(path, size, page) => write!(
                f,
                "{}: a persistent memory is a whole number of pages of {page} bytes, not {size} \
                 bytes; resize the file",
                Shown(path)
            ),
            MapError::OtherSize { path, size, announced } => write!(
                f,
                "{}: is {size} bytes long, but {announced} bytes were announced to the guest; a \
                 persistent memory neither grows nor shrinks, so resize the file or announce it \
                 again",
                Shown(path)
            ),
            MapError::Host(path, error) => {
                write!(f, "{}: cannot be mapped ({error})", Shown(path))
            }
        }
    }
}

impl std::error::Error for MapError {}

/// A file, mapped as a whole and shared.
#[derive(Debug)]
pub struct MappedFile {
    /// Dropped before the mapping, by field order.
    watch: Watch,
    mapping: Mapping,
    file: OpenFile,
}

impl MappedFile {
    /// Opens and maps `path`, and makes stable the data that an earlier backend may have left
    /// volatile. The file is locked until its last mapping is dropped.
    ///
    /// # Errors
    /// It cannot be opened, locked, synced or mapped, or its size is not a multiple of the page
    /// size.
    pub fn open(path: &Path) -> Result<MappedFile, MapError> {
        let access = Access { read_only: false, direct: false };
        MappedFile::map(OpenFile::open(path, access).map_err(MapError::Open)?)
    }

    /// Like [`open`](Self::open), for a memory that was announced with `announced` bytes.
    ///
    /// # Errors
    /// Also if its size differs.
    pub fn open_as(path: &Path, announced: u64) -> Result<MappedFile, MapError> {
        let map = MappedFile::open(path)?;
        let size = map.size();
        if size == announced {
            Ok(map)
        } else {
            Err(MapError::OtherSize { path: path.to_owned(), size, announced })
        }
    }

    /// Another mapping of the same file, which receives its own report of a failed sync.
    ///
    /// # Errors
    /// The host does not reopen or map the file.
    pub fn again(&self) -> Result<MappedFile, MapError> {
        MappedFile::map(self.file.again().map_err(MapError::Open)?)
    }

    fn map(file: OpenFile) -> Result<MappedFile, MapError> {
        let (path, size) = (file.path(), file.limits().capacity);
        let host = |error| MapError::Host(path.to_owned(), error);
        let page = page_size().map_err(host)?;
        if size == 0 || !size.is_multiple_of(page) {
            return Err(MapError::Size(path.to_owned(), size, page));
        }
        let mapping = Mapping::of(&file, size).map_err(host)?;
        let start = mapping.start.addr().get();
        let watch = Watch::over(start..start + mapping.len).map_err(host)?;
        Ok(MappedFile { watch, mapping, file })
    }

    /// Length in bytes.
    pub fn size(&self) -> u64 {
        self.mapping.len as u64
    }

    /// The memory. Other mappers see stores to it, and it changes when they store.
    pub fn memory(&self) -> VolatileSlice<'_> {
        // SAFETY: the range stays mapped as long as it is borrowed, and no code creates references
        // into it.
        unsafe { VolatileSlice::new(self.mapping.start.as_ptr(), self.mapping.len) }
    }

    /// Whether part of the file is missing.
    pub fn is_shrunk(&self) -> bool {
        let end = self.file.file().seek(SeekFrom::End(0));
        self.watch.is_shrunk() || end.is_ok_and(|end| end < self.size())
    }

    /// Makes stable every store that was visible before the call, and waits until that is done.
    ///
    /// # Errors
    /// The host's error, or `EIO` if the file has shrunk, because stores to the missing part are
    /// lost.
    pub fn sync(&self) -> Result<(), Errno> {
        let start = self.mapping.start.as_ptr().cast();
        // SAFETY: the range is mapped for as long as `self` is, and nothing in it changes.
        if unsafe { libc::msync(start, self.mapping.len, libc::MS_SYNC) } != 0 {
            return Err(Errno(io::Error::last_os_error().raw_os_error().unwrap_or(Errno::EIO.0)));
        }
        if self.is_shrunk() { Err(Errno::EIO) } else { Ok(()) }
    }
}

/// An address range that maps a file.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is an address, valid on every thread, of memory that is only accessed as volatile
// memory, which others may change at any time.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(file: &OpenFile, size: u64) -> io::Result<Mapping> {
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.file().as_raw_fd();
        // SAFETY: the host chooses an unused range, and the descriptor is open.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, access, libc::MAP_SHARED, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped here, and every borrower of it borrows this value.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        assert_eq!(unmapped, 0, "what was mapped can be unmapped");
    }
}

fn page_size() -> io::Result<u64> {
    // SAFETY: the call takes a number and returns one.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(page).map_err(|_| io::Error::last_os_error())
}
