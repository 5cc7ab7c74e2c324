//! A file as a disk over io_uring: one ring per lane, and transfers directly between the disk and
//! guest memory.
//!
//! [`UringDisk`] is for a queue's worker thread: it batches submissions until the doorbell, never
//! blocks in between, and has a descriptor to sleep on. [`SerialUring`] is for sequential callers:
//! every operation is done when its submission returns, in borrowed memory.
//!
//! As with every disk, nothing is split, retried or repaired. A bounce buffer is used only for
//! memory that direct I/O does not accept as it lies, or from which a kill could tear a sector.
//! Writes to the page cache that the kernel would hand to a worker thread are executed at
//! submission.

use super::memory::ArcMemory;
use super::open::{Access, Growth, OpenError, OpenFile};
use super::ring::Ring;
use super::uring_op::Landed;
use crate::disk::{Completion, Disk, Limits, Submission};
use std::collections::VecDeque;
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::path::Path;
use std::sync::Arc;
use vm_memory::GuestMemory;

/// Number of pushed operations that are submitted without waiting for the doorbell. A device that
/// receives all operations at once may answer all at once and then idle; with a part submitted
/// early it works while the driver prepares more.
const BATCH: usize = 4;

/// One lane onto a file or block device, with a ring of its own.
///
/// Each operation holds the guest memory of its submission until its completion is taken. Dropping
/// a lane executes the accepted operations and waits for them. One thread at a time may drive a
/// lane; the kernel may cancel a thread's operations when that thread ends.
pub struct UringDisk<M> {
    ring: Ring<Arc<M>>,
}

impl<M: GuestMemory + 'static> UringDisk<M> {
    /// Opens `path`, whose size is the disk's capacity, and makes stable the data that an earlier
    /// backend may have left volatile. A writable disk is locked until its last lane is dropped.
    ///
    /// # Errors
    /// It cannot be opened, locked or synced; its size is not a multiple of 512 bytes or, for
    /// direct I/O, of the unit that the host requires; or the host provides no ring.
    pub fn open(path: &Path, access: Access) -> Result<UringDisk<M>, OpenError> {
        Ok(UringDisk { ring: Ring::new(OpenFile::open(path, access)?)? })
    }

    /// Another lane onto the same open file.
    ///
    /// # Errors
    /// The host provides no ring.
    pub fn lane(&self) -> Result<UringDisk<M>, OpenError> {
        Ok(UringDisk { ring: Ring::new(self.ring.file().again()?)? })
    }

    /// The size of the disk, for a caller that is informed of growth.
    pub fn growth(&self) -> Growth {
        Growth::of(self.ring.file())
    }

    /// Rings the doorbell and sleeps until a completion can be taken; returns at once if none is to
    /// come.
    pub fn wait(&mut self) {
        if let Err(error) = self.ring.wait() {
            panic!("the ring cannot be waited for: {error}");
        }
    }
}

impl<M: GuestMemory + 'static> Disk<ArcMemory<M>> for UringDisk<M> {
    fn limits(&self) -> Limits {
        self.ring.file().limits()
    }

    fn room(&self) -> u32 {
        self.ring.room()
    }

    fn submit(&mut self, memory: &ArcMemory<M>, submission: Submission) {
        // SAFETY: slices are valid as long as their lender is borrowed and not moved. The slot
        // holds the lender, and no other code can move it or access it exclusively meanwhile; it
        // has no borrows of its own that could end.
        unsafe { self.ring.push(memory, memory.hold(), submission) };
        if self.ring.pushed() >= BATCH {
            Disk::<ArcMemory<M>>::doorbell(self);
        }
    }

    fn doorbell(&mut self) {
        if let Err(error) = self.ring.enter(0) {
            panic!("the ring cannot be entered: {error}");
        }
    }

    fn complete(&mut self, _: &ArcMemory<M>) -> Option<Completion> {
        let reap = |ring: &mut Ring<Arc<M>>| {
            let (memory, landed) = ring.reap()?;
            Some(landed.settle(&*memory))
        };
        self.ring.take_over().or_else(|| reap(&mut self.ring))
    }
}

/// Readable whenever a completion can be taken, except for an operation that ended at submission
/// (refused, or done inline): take completions until there is none, then sleep.
impl<M> AsFd for UringDisk<M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.fd()
    }
}

impl<M> AsRawFd for UringDisk<M> {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl<M> fmt::Debug for UringDisk<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UringDisk({})", self.ring.file().path().display())
    }
}

/// One lane that executes each operation at submission, and completes in that order.
pub struct SerialUring {
    ring: Ring<()>,
    done: VecDeque<Completion>,
}

/// Maximum number of completions that wait to be taken.
const MOST_DONE: usize = 128;

impl SerialUring {
    /// Opens `path` as [`UringDisk::open`] does.
    ///
    /// # Errors
    /// The same as of [`UringDisk::open`].
    pub fn open(path: &Path, access: Access) -> Result<SerialUring, OpenError> {
        Ok(SerialUring { ring: Ring::new(OpenFile::open(path, access)?)?, done: VecDeque::new() })
    }

    /// Another lane onto the same open file.
    ///
    /// # Errors
    /// The host provides no ring.
    pub fn lane(&self) -> Result<SerialUring, OpenError> {
        let ring = Ring::new(self.ring.file().again()?)?;
        Ok(SerialUring { ring, done: VecDeque::new() })
    }

    /// Copies the waiting completions of the other lane, for a copy of a machine in the middle of
    /// its work.
    pub fn copy_waiting(&mut self, other: &SerialUring) {
        self.done.clone_from(&other.done);
    }
}

impl<M: GuestMemory> Disk<M> for SerialUring {
    fn limits(&self) -> Limits {
        self.ring.file().limits()
    }

    fn room(&self) -> u32 {
        (MOST_DONE - self.done.len()) as u32
    }

    fn submit(&mut self, memory: &M, submission: Submission) {
        assert!(self.done.len() < MOST_DONE, "submissions need room");
        // SAFETY: `memory` is borrowed until this function returns, which happens after the
        // operation was reaped.
        unsafe { self.ring.push(memory, (), submission) };
        let completion = match self.ring.take_over() {
            Some(completion) => completion,
            None => answer(&mut self.ring).settle(memory),
        };
        self.done.push_back(completion);
    }

    fn complete(&mut self, _: &M) -> Option<Completion> {
        self.done.pop_front()
    }
}

/// Waits for the only operation of the ring. Does not return or unwind without its answer, because
/// its memory is only borrowed.
fn answer(ring: &mut Ring<()>) -> Landed {
    loop {
        if let Some(((), landed)) = ring.reap() {
            return landed;
        }
        if ring.wait().is_err() {
            std::process::abort();
        }
    }
}

impl fmt::Debug for SerialUring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerialUring({})", self.ring.file().path().display())
    }
}
