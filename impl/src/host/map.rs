//! A file or block device as a persistent memory: mapped, and shared with all who map it.
//!
//! It is opened as a disk is: whoever has it open has it alone, and what an earlier backend left
//! volatile is made stable first. Each mapping has an open file description of its own, for Linux
//! tells of a failed sync once for each of them, and `msync` asks that of the mapping.
//!
//! The length is fixed when it is opened, for the guest has been told it. A file that is longer or
//! shorter than what was announced is refused. One that grows later is served as far as it was; one
//! that shrinks takes memory away under the guest: what is gone reads as zeroes,
//! [`MappedFile::is_shrunk`] says so, and no flush succeeds any more. That it shrank and grew back
//! between two flushes is only noticed if somebody looked meanwhile.
//!
//! What is *not* here: where the guest finds the memory. A VMM that maps the file into a guest
//! itself has the same pages, and its stores are made stable from here; but a fault in a guest's
//! own mapping is the VMM's to mend.

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

/// Why a file cannot be a persistent memory.
#[derive(Debug)]
pub enum MapError {
    /// It cannot be opened, locked or synced.
    Open(OpenError),
    /// Its size in bytes is zero or no whole number of pages of this many bytes.
    Size(PathBuf, u64, u64),
    /// Its size in bytes is not the one that was announced.
    OtherSize {
        /// Which file.
        path: PathBuf,
        /// How long it is.
        size: u64,
        /// How long the guest was told it is.
        announced: u64,
    },
    /// The host does not map it, or does not say what is done about memory that is taken away.
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
                "{}: is {size} bytes long, and the guest was told {announced}; a persistent \
                 memory neither grows nor shrinks, so resize the file or announce it anew",
                Shown(path)
            ),
            MapError::Host(path, error) => {
                write!(f, "{}: cannot be mapped ({error})", Shown(path))
            }
        }
    }
}

impl std::error::Error for MapError {}

/// A file, mapped from its beginning to its end, shared.
#[derive(Debug)]
pub struct MappedFile {
    /// Before the mapping goes, nobody mends it any more.
    watch: Watch,
    mapping: Mapping,
    file: OpenFile,
}

impl MappedFile {
    /// Opens and maps `path`, and makes stable what an earlier backend may have left volatile. It
    /// is locked until the last mapping is gone.
    ///
    /// # Errors
    /// It cannot be opened, locked, synced or mapped, or is no whole number of pages.
    pub fn open(path: &Path) -> Result<MappedFile, MapError> {
        let access = Access { read_only: false, direct: false };
        MappedFile::map(OpenFile::open(path, access).map_err(MapError::Open)?)
    }

    /// The same, of a memory that was announced to be `announced` bytes long.
    ///
    /// # Errors
    /// It has another size, besides.
    pub fn open_as(path: &Path, announced: u64) -> Result<MappedFile, MapError> {
        let map = MappedFile::open(path)?;
        let size = map.size();
        if size == announced {
            Ok(map)
        } else {
            Err(MapError::OtherSize { path: path.to_owned(), size, announced })
        }
    }

    /// Another mapping of the same file, which is told of a failed sync by itself.
    ///
    /// # Errors
    /// The host does not open or map it once more.
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

    /// The memory. Others see what is stored to it, and it changes when they store.
    pub fn memory(&self) -> VolatileSlice<'_> {
        // SAFETY: the range stays mapped for as long as it is borrowed, and nobody makes references
        // into it.
        unsafe { VolatileSlice::new(self.mapping.start.as_ptr(), self.mapping.len) }
    }

    /// Whether a part of the file was taken away.
    pub fn is_shrunk(&self) -> bool {
        let end = self.file.file().seek(SeekFrom::End(0));
        self.watch.is_shrunk() || end.is_ok_and(|end| end < self.size())
    }

    /// Makes stable every store that was visible before, and waits for that.
    ///
    /// # Errors
    /// The host's, or `EIO` where the file has shrunk: what was stored there is gone.
    pub fn sync(&self) -> Result<(), Errno> {
        let start = self.mapping.start.as_ptr().cast();
        // SAFETY: the range is mapped for as long as `self` is, and nothing in it changes.
        if unsafe { libc::msync(start, self.mapping.len, libc::MS_SYNC) } != 0 {
            return Err(Errno(io::Error::last_os_error().raw_os_error().unwrap_or(Errno::EIO.0)));
        }
        if self.is_shrunk() { Err(Errno::EIO) } else { Ok(()) }
    }
}

/// A range of addresses that is a file.
#[derive(Debug)]
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is an address, good on every thread, of memory that is only accessed as what others
// may change at any time.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn of(file: &OpenFile, size: u64) -> io::Result<Mapping> {
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let fd = file.file().as_raw_fd();
        // SAFETY: the host chooses a range that nobody has, and the descriptor is open.
        let at = unsafe { libc::mmap(ptr::null_mut(), len, access, libc::MAP_SHARED, fd, 0) };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Mapping { start: NonNull::new(at.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped here, and whoever borrows from it borrows this.
        let unmapped = unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
        assert_eq!(unmapped, 0, "what was mapped can be unmapped");
    }
}

fn page_size() -> io::Result<u64> {
    // SAFETY: it takes a number and returns one.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(page).map_err(|_| io::Error::last_os_error())
}
