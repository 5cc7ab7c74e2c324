//! A file as a disk: `preadv`, `pwritev`, `fdatasync` and `fallocate`, each run when it is submitted.
//!
//! Transfers go straight between the page cache and the guest's memory. Nothing is split, retried or repaired here: a short transfer is a
//! short transfer, an errno is an errno, and `EOPNOTSUPP` from a file system without holes is passed on as what it is.

use crate::buffer::Buffer;
use crate::disk::{Completion, Disk, Errno, Limits, Op, Submission};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use vm_memory::bitmap::{BS, Bitmap};
use vm_memory::{GuestMemory, GuestMemoryError, Permissions, VolatileSlice};

/// Most pieces of memory one system call takes; a transfer that has more is short.
const MOST_PIECES: usize = 1024;
/// How many completions may wait to be taken.
const ROOM: usize = 128;

/// Why a file cannot be a disk.
#[derive(Debug)]
pub enum OpenError {
    /// The host refused to open it or to tell its size.
    Host(PathBuf, io::Error),
    /// Its size in bytes is not a whole number of sectors.
    Size(PathBuf, u64),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Host(path, error) => write!(f, "{}: {error}", path.display()),
            OpenError::Size(path, size) => write!(
                f,
                "{}: a disk is a whole number of 512-byte sectors, not {size} bytes",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

/// One lane onto a file or block device.
#[derive(Debug)]
pub struct FileDisk {
    file: Arc<File>,
    limits: Limits,
    done: VecDeque<Completion>,
}

impl FileDisk {
    /// Opens `path`, whose size is the disk's capacity, and makes stable what an earlier backend may have left volatile.
    ///
    /// # Errors
    /// It cannot be opened or synced, or its size is not a multiple of 512 bytes.
    pub fn open(path: &Path, read_only: bool) -> Result<FileDisk, OpenError> {
        let host = |error| OpenError::Host(path.to_owned(), error);
        let mut file = OpenOptions::new().read(true).write(!read_only).open(path).map_err(host)?;
        // Unlike its metadata, the end of a block device tells its size.
        let capacity = file.seek(SeekFrom::End(0)).map_err(host)?;
        if capacity % 512 != 0 {
            return Err(OpenError::Size(path.to_owned(), capacity));
        }
        // A backend that starts on what a failed sync left behind would promise what is not there.
        file.sync_data().map_err(host)?;
        let limits = Limits { read_only, ..Limits::plain(capacity) };
        Ok(FileDisk { file: Arc::new(file), limits, done: VecDeque::new() })
    }

    /// Another lane onto the same open file.
    pub fn lane(&self) -> FileDisk {
        FileDisk { file: Arc::clone(&self.file), limits: self.limits, done: VecDeque::new() }
    }

    fn run<M: GuestMemory>(&self, memory: &M, op: Op) -> (Result<u32, Errno>, Option<Buffer>) {
        match op {
            Op::Read { offset, mut into } => {
                let result = self
                    .bounded(offset, into.len().into())
                    .and_then(|at| self.read(memory, at, &mut into));
                (result, Some(into))
            }
            Op::Write { offset, mut from, stable } => {
                let written = self
                    .bounded(offset, from.len().into())
                    .and_then(|at| self.write(memory, at, &mut from));
                let result = match written {
                    Ok(moved) if stable => self.sync().map(|_| moved),
                    other => other,
                };
                (result, Some(from))
            }
            Op::Sync => (self.sync(), None),
            Op::Discard { offset, len } => {
                (self.fallocate(libc::FALLOC_FL_PUNCH_HOLE, offset, len), None)
            }
            Op::WriteZeroes { offset, len, may_unmap } => {
                let mode =
                    if may_unmap { libc::FALLOC_FL_PUNCH_HOLE } else { libc::FALLOC_FL_ZERO_RANGE };
                (self.fallocate(mode, offset, len), None)
            }
        }
    }

    /// The file offset of `offset`, if the `len` bytes from there on are on the disk.
    fn bounded(&self, offset: u64, len: u64) -> Result<libc::off_t, Errno> {
        match offset.checked_add(len) {
            Some(end) if end <= self.limits.capacity => {
                libc::off_t::try_from(offset).map_err(|_| Errno::EINVAL)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    fn read<M: GuestMemory>(
        &self,
        memory: &M,
        offset: libc::off_t,
        into: &mut Buffer,
    ) -> Result<u32, Errno> {
        let ranges = match into {
            Buffer::Bounce(bounce) => {
                let slice = VolatileSlice::from(bounce.as_mut_slice());
                return vectored(libc::preadv, &self.file, &[slice], offset);
            }
            Buffer::Guest(ranges) => ranges,
        };
        let mut slices = Slices::<M>::new();
        for range in ranges {
            push_slices(memory, range.addr, range.len, Permissions::Write, &mut slices)?;
        }
        let moved = vectored(libc::preadv, &self.file, &slices, offset)?;
        let mut left = moved as usize;
        for slice in &slices {
            slice.bitmap().mark_dirty(0, slice.len().min(left));
            left = left.saturating_sub(slice.len());
        }
        Ok(moved)
    }

    fn write<M: GuestMemory>(
        &self,
        memory: &M,
        offset: libc::off_t,
        from: &mut Buffer,
    ) -> Result<u32, Errno> {
        let ranges = match from {
            Buffer::Bounce(bounce) => {
                let slice = VolatileSlice::from(bounce.as_mut_slice());
                return vectored(libc::pwritev, &self.file, &[slice], offset);
            }
            Buffer::Guest(ranges) => ranges,
        };
        let mut slices = Slices::<M>::new();
        for range in ranges {
            push_slices(memory, range.addr, range.len, Permissions::Read, &mut slices)?;
        }
        vectored(libc::pwritev, &self.file, &slices, offset)
    }

    fn sync(&self) -> Result<u32, Errno> {
        // SAFETY: the descriptor is open for as long as `self.file` is.
        match unsafe { libc::fdatasync(self.file.as_raw_fd()) } {
            0 => Ok(0),
            _ => Err(last_errno()),
        }
    }

    fn fallocate(&self, mode: libc::c_int, offset: u64, len: u64) -> Result<u32, Errno> {
        let at = self.bounded(offset, len)?;
        let len = libc::off_t::try_from(len).map_err(|_| Errno::EINVAL)?;
        let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open for as long as `self.file` is.
        match unsafe { libc::fallocate(self.file.as_raw_fd(), mode, at, len) } {
            0 => Ok(0),
            _ => Err(last_errno()),
        }
    }
}

impl<M: GuestMemory> Disk<M> for FileDisk {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn room(&self) -> u32 {
        (ROOM - self.done.len()) as u32
    }

    fn submit(&mut self, memory: &M, submission: Submission) {
        assert!(self.done.len() < ROOM, "submissions need room");
        let (result, buffer) = self.run(memory, submission.op);
        self.done.push_back(Completion { token: submission.token, result, buffer });
    }

    fn complete(&mut self, _: &M) -> Option<Completion> {
        self.done.pop_front()
    }
}

type Slices<'a, M> = SmallVec<[VolatileSlice<'a, BS<'a, <M as GuestMemory>::Bitmap>>; 8]>;

fn push_slices<'a, M: GuestMemory>(
    memory: &'a M,
    addr: vm_memory::GuestAddress,
    len: u32,
    access: Permissions,
    slices: &mut Slices<'a, M>,
) -> Result<(), Errno> {
    let gone = |_: GuestMemoryError| Errno::EFAULT;
    for slice in memory.get_slices(addr, len as usize, access).map_err(gone)? {
        slices.push(slice.map_err(gone)?);
    }
    Ok(())
}

/// `preadv` or `pwritev`.
type Vectored = unsafe extern "C" fn(
    libc::c_int,
    *const libc::iovec,
    libc::c_int,
    libc::off_t,
) -> libc::ssize_t;

fn vectored<B: vm_memory::bitmap::BitmapSlice>(
    call: Vectored,
    file: &File,
    slices: &[VolatileSlice<'_, B>],
    offset: libc::off_t,
) -> Result<u32, Errno> {
    let slices = &slices[..slices.len().min(MOST_PIECES)];
    let guards: SmallVec<[_; 8]> = slices.iter().map(VolatileSlice::ptr_guard_mut).collect();
    let pieces: SmallVec<[libc::iovec; 8]> = guards
        .iter()
        .map(|guard| libc::iovec { iov_base: guard.as_ptr().cast(), iov_len: guard.len() })
        .collect();
    let count = pieces.len() as libc::c_int;
    // SAFETY: each piece is a slice of mapped memory held by a guard that outlives the call, and `count` is the number of pieces.
    let moved = unsafe { call(file.as_raw_fd(), pieces.as_ptr(), count, offset) };
    u32::try_from(moved).map_err(|_| last_errno())
}

fn last_errno() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(Errno::EIO.0))
}
