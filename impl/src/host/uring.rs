//! A file as a disk over io_uring: one ring for each lane, transfers straight between the disk and
//! the guest's memory.
//!
//! [`UringDisk`] is for a queue's thread: it gathers submissions until the doorbell, never waits in
//! between, and has a descriptor to sleep on. [`SerialUring`] is for whoever wants one thing after
//! the other: every operation is done when its submission returns, in memory that is only borrowed.
//!
//! As below every seam, nothing is split, retried or repaired. Only memory that direct I/O does not
//! take as it lies, or from which a kill could tear a sector, passes through a bounce; and writes
//! to the page cache that the kernel would hand to a worker thread are made when they are
//! submitted.

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

/// So many operations do not wait for the doorbell. A device that is given all at once may answer
/// all at once, and idle until it is given the next; with a part in hand it works while the driver
/// thinks.
const BATCH: usize = 4;

/// One lane onto a file or block device, with a ring of its own.
///
/// Each operation holds the guest memory it was submitted with until its completion was taken. A
/// lane that is dropped carries out what it has accepted, and waits for that. A lane is driven by
/// one thread at a time; the kernel may cancel what a thread has going when it ends.
pub struct UringDisk<M> {
    ring: Ring<Arc<M>>,
}

impl<M: GuestMemory + 'static> UringDisk<M> {
    /// Opens `path`, whose size is the disk's capacity, and makes stable what an earlier backend
    /// may have left volatile. Unless it is read only it is locked until the last lane is gone.
    ///
    /// # Errors
    /// It cannot be opened, locked or synced, its size is not a multiple of 512 bytes, or, for
    /// direct I/O, of what the host asks for; or the host gives no ring.
    pub fn open(path: &Path, access: Access) -> Result<UringDisk<M>, OpenError> {
        Ok(UringDisk { ring: Ring::new(OpenFile::open(path, access)?)? })
    }

    /// Another lane onto the same open file.
    ///
    /// # Errors
    /// The host gives no ring.
    pub fn lane(&self) -> Result<UringDisk<M>, OpenError> {
        Ok(UringDisk { ring: Ring::new(self.ring.file().again()?)? })
    }

    /// How large it is, for whoever is told that it has grown.
    pub fn growth(&self) -> Growth {
        Growth::of(self.ring.file())
    }

    /// Rings the doorbell and sleeps until there is a completion to take; not if nothing is to
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
        // SAFETY: slices are good for as long as what lends them is borrowed and not moved. The
        // slot holds it, and nobody can move it or have it to themselves meanwhile; it has no
        // borrows of its own that could end.
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

/// Readable whenever a completion can be taken, except one of an operation that was over when it
/// was submitted (refused, or written on the spot): take until there is none, then sleep.
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

/// One lane that runs each operation when it is submitted, and completes in that order.
pub struct SerialUring {
    ring: Ring<()>,
    done: VecDeque<Completion>,
}

/// How many completions may wait to be taken.
const MOST_DONE: usize = 128;

impl SerialUring {
    /// Opens `path` as [`UringDisk::open`] does.
    ///
    /// # Errors
    /// As there.
    pub fn open(path: &Path, access: Access) -> Result<SerialUring, OpenError> {
        Ok(SerialUring { ring: Ring::new(OpenFile::open(path, access)?)?, done: VecDeque::new() })
    }

    /// Another lane onto the same open file.
    ///
    /// # Errors
    /// The host gives no ring.
    pub fn lane(&self) -> Result<SerialUring, OpenError> {
        let ring = Ring::new(self.ring.file().again()?)?;
        Ok(SerialUring { ring, done: VecDeque::new() })
    }

    /// What waits to be taken from the other lane waits here too: for a copy of a machine in the
    /// middle of its work.
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
        // SAFETY: `memory` is borrowed until this function ends, which it does not before the
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

/// Waits for the one operation of the ring. Does not return, and does not unwind, without its
/// answer: its memory is only borrowed.
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
