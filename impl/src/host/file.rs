//! A file as a disk: `preadv`, `pwritev`, `fdatasync` and `fallocate`, each executed at submission.
//!
//! Transfers go directly between the page cache and guest memory, except for writes in which a kill
//! could tear a sector. Nothing is split, retried or repaired here: short transfers and error
//! numbers are reported unchanged, and so is `EOPNOTSUPP` from a file system without holes.

use super::open::{Access, Growth, OpenError, OpenFile};
use super::slices::{MOST_PIECES, keep_sectors_whole, mark_dirty, slices};
use crate::bounce::Bounce;
use crate::buffer::Buffer;
use crate::disk::{Completion, Disk, Limits, Op, Submission};
use crate::errno::Errno;
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use vm_memory::{GuestMemory, Permissions, VolatileSlice};

/// Maximum number of completions that wait to be taken.
const ROOM: usize = 128;

/// One lane onto a file or block device.
#[derive(Debug)]
pub struct FileDisk {
    file: OpenFile,
    done: VecDeque<Completion>,
}

impl FileDisk {
    /// Opens `path`, whose size is the disk's capacity, and makes stable the data that an earlier
    /// backend may have left volatile. A writable disk is locked until its last lane is dropped.
    ///
    /// # Errors
    /// It cannot be opened, locked or synced, or its size is not a multiple of 512 bytes.
    pub fn open(path: &Path, read_only: bool) -> Result<FileDisk, OpenError> {
        let file = OpenFile::open(path, Access { read_only, direct: false })?;
        Ok(FileDisk { file, done: VecDeque::new() })
    }

    /// Another lane onto the same file. Each has an open file description of its own, so that each
    /// receives the report of a failed sync.
    ///
    /// # Errors
    /// The host does not reopen the file.
    pub fn lane(&self) -> Result<FileDisk, OpenError> {
        Ok(FileDisk { file: self.file.again()?, done: VecDeque::new() })
    }

    /// The size of the disk, for a caller that is informed of growth.
    pub fn growth(&self) -> Growth {
        Growth::of(&self.file)
    }

    /// Copies the waiting completions of the other lane, for a copy of a machine in the middle of
    /// its work.
    pub fn copy_waiting(&mut self, other: &FileDisk) {
        self.done.clone_from(&other.done);
    }

    fn run<M: GuestMemory>(&self, memory: &M, op: Op) -> (Result<u32, Errno>, Option<Buffer>) {
        match op {
            Op::Read { offset, mut into } => {
                let result = self
                    .file
                    .place(offset, into.len().into())
                    .and_then(|at| self.read(memory, at, &mut into));
                (result, Some(into))
            }
            Op::Write { offset, mut from } => {
                let result = self
                    .file
                    .place(offset, from.len().into())
                    .and_then(|at| self.write(memory, at, &mut from));
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

    fn read<M: GuestMemory>(
        &self,
        memory: &M,
        offset: libc::off_t,
        into: &mut Buffer,
    ) -> Result<u32, Errno> {
        let ranges = match into {
            Buffer::Bounce(bounce) => {
                let slice = VolatileSlice::from(bounce.as_mut_slice());
                return vectored(libc::preadv, self.file.file(), &[slice], offset);
            }
            Buffer::Guest(ranges) => ranges,
        };
        let slices = slices(memory, ranges, Permissions::Write)?;
        let moved = vectored(libc::preadv, self.file.file(), &slices, offset)?;
        mark_dirty(&slices, moved);
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
                return vectored(libc::pwritev, self.file.file(), &[slice], offset);
            }
            Buffer::Guest(ranges) => ranges,
        };
        let slices = slices(memory, ranges, Permissions::Read)?;
        if keep_sectors_whole(&slices) {
            return vectored(libc::pwritev, self.file.file(), &slices, offset);
        }
        let mut whole = Bounce::zeroed(from.len() as usize);
        from.read_at(memory, 0, whole.as_mut_slice()).map_err(|_| Errno::EFAULT)?;
        let slice = VolatileSlice::from(whole.as_mut_slice());
        vectored(libc::pwritev, self.file.file(), &[slice], offset)
    }

    fn sync(&self) -> Result<u32, Errno> {
        // SAFETY: the descriptor is open as long as `self.file` is.
        match unsafe { libc::fdatasync(self.file.syncs().as_raw_fd()) } {
            0 => Ok(0),
            _ => Err(last_errno()),
        }
    }

    fn fallocate(&self, mode: libc::c_int, offset: u64, len: u64) -> Result<u32, Errno> {
        let at = self.file.place(offset, len)?;
        let len = libc::off_t::try_from(len).map_err(|_| Errno::EINVAL)?;
        let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: the descriptor is open as long as `self.file` is.
        match unsafe { libc::fallocate(self.file.file().as_raw_fd(), mode, at, len) } {
            0 => Ok(0),
            _ => Err(last_errno()),
        }
    }
}

impl<M: GuestMemory> Disk<M> for FileDisk {
    fn limits(&self) -> Limits {
        self.file.limits()
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
    // SAFETY: each piece is a slice of mapped memory held by a guard that outlives the call, and
    // `count` is the number of pieces.
    let moved = unsafe { call(file.as_raw_fd(), pieces.as_ptr(), count, offset) };
    u32::try_from(moved).map_err(|_| last_errno())
}

fn last_errno() -> Errno {
    Errno(io::Error::last_os_error().raw_os_error().unwrap_or(Errno::EIO.0))
}
