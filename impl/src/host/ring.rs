//! An io_uring and the operations the kernel has of it.
//!
//! This is where addresses are handed out, so this is where it is made sure that they stay good: an
//! operation keeps its slot, which owns its memory or holds it, from before the kernel can see it
//! until the kernel has answered. A ring that is dropped waits for that.

use super::inline_io::InlineIo;
use super::open::{OpenError, OpenFile};
use super::uring_op::{Landed, UringOp};
use crate::disk::{Completion, Submission};
use io_uring::{IoUring, opcode};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use vm_memory::GuestMemory;

/// How many operations a ring has at a time; a power of two. Its submission queue is as long, and
/// its completion queue twice as long, so neither is ever full.
const ROOM: u32 = 128;

/// Creates an io_uring of `entries` submissions and has the kernel complete an empty operation on
/// it.
///
/// A filter of system calls may allow `io_uring_setup` and refuse `io_uring_enter`: the first
/// request is too late to learn of it.
///
/// # Errors
/// The error of the system call that the host refuses.
pub(super) fn working_uring(entries: u32) -> io::Result<IoUring> {
    let mut uring = IoUring::new(entries)?;
    let nothing = opcode::Nop::new().build();
    // SAFETY: the operation refers to no memory.
    let pushed = unsafe { uring.submission().push(&nothing) };
    pushed.expect("a new ring is empty");
    while let Err(error) = uring.submit_and_wait(1) {
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    uring.completion().for_each(drop);
    Ok(uring)
}

/// A ring whose operations each hold an `H` until they are done.
pub(super) struct Ring<H> {
    uring: IoUring,
    file: OpenFile,
    /// An element is there iff its operation was pushed and its answer not taken. They never move.
    ops: Box<[Option<UringOp<H>>]>,
    /// The elements that are not there.
    free: Vec<u32>,
    /// What was over when it was accepted, because it was refused or done on the spot.
    over: VecDeque<Completion>,
    inline_io: InlineIo,
}

impl<H> Ring<H> {
    pub(super) fn new(file: OpenFile) -> Result<Ring<H>, OpenError> {
        let refused = |error| OpenError::Uring(file.path().to_owned(), error);
        let uring = working_uring(ROOM).map_err(refused)?;
        let files = [file.file(), file.syncs()].map(AsRawFd::as_raw_fd);
        uring.submitter().register_files(&files).map_err(refused)?;
        Ok(Ring {
            uring,
            inline_io: InlineIo::new(&file),
            file,
            ops: (0..ROOM).map(|_| None).collect(),
            free: (0..ROOM).rev().collect(),
            over: VecDeque::new(),
        })
    }

    pub(super) fn file(&self) -> &OpenFile {
        &self.file
    }

    pub(super) fn room(&self) -> u32 {
        (self.free.len() - self.over.len()) as u32
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.uring.as_fd()
    }

    /// Whether the kernel has nothing, and will not be given anything at the next
    /// [`enter`](Ring::enter).
    fn is_idle(&self) -> bool {
        self.free.len() == self.ops.len()
    }

    /// Accepts an operation. The kernel sees it when it is [entered](Ring::enter).
    ///
    /// # Safety
    /// The slices that `memory` lends for the operation stay mapped until `hold` is dropped or
    /// [`reap`](Ring::reap) has returned it.
    pub(super) unsafe fn push<M: GuestMemory>(
        &mut self,
        memory: &M,
        hold: H,
        submission: Submission,
    ) {
        assert!(self.room() > 0, "submissions need room");
        let op = match UringOp::new(&self.file, memory, hold, submission) {
            Ok(op) => op,
            Err(completion) => return self.over.push_back(completion),
        };
        if let Some(answer) = self.inline_io.make(&self.file, &op) {
            let (_, landed) = op.land(answer);
            return self.over.push_back(landed.settle(memory));
        }
        let slot = self.free.pop().expect("there was room");
        let entry = self.ops[slot as usize].insert(op).entry().user_data(slot.into());
        // SAFETY: the entry has addresses of the slot, which stays until the operation was reaped
        // (`Drop` sees to it if need be), and of memory that the slot owns or, by this function's
        // contract, that stays mapped as long.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        pushed.expect("the queue is as long as there are slots");
    }

    /// How many operations were pushed and not handed over.
    pub(super) fn pushed(&mut self) -> usize {
        self.uring.submission().len()
    }

    /// Hands over what was pushed, and returns when `want` answers are there to be reaped.
    ///
    /// # Errors
    /// Only for what no operation can cause; then it is not known what the kernel has.
    pub(super) fn enter(&mut self, want: usize) -> io::Result<()> {
        loop {
            match self.uring.submit_and_wait(want) {
                // The kernel stops at an operation it does not take, and answers that one.
                Ok(_) if !self.uring.submission().is_empty() => {}
                Ok(_) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The kernel is short of memory for a moment.
                    Some(libc::EAGAIN | libc::EBUSY) => std::thread::yield_now(),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Sleeps until something can be taken; not if there is nothing to come.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        if self.over.is_empty() && !self.is_idle() { self.enter(1) } else { Ok(()) }
    }

    /// Takes an operation that was over when it was accepted.
    pub(super) fn take_over(&mut self) -> Option<Completion> {
        self.over.pop_front()
    }

    /// Takes an answer, with what its operation held.
    pub(super) fn reap(&mut self) -> Option<(H, Landed)> {
        let answer = self.uring.completion().next()?;
        let slot = answer.user_data() as u32;
        let op = self.ops[slot as usize].take().expect("the kernel answers once");
        self.free.push(slot);
        Some(op.land(answer.result()))
    }
}

/// Carries out what was accepted, and waits for all of it: until then the kernel reads and writes
/// memory that is about to be freed.
impl<H> Drop for Ring<H> {
    fn drop(&mut self) {
        while !self.is_idle() {
            if self.reap().is_none() && self.enter(1).is_err() {
                // Better to lose the memory, and the file with its lock, than to free what is
                // written to.
                std::mem::forget(std::mem::take(&mut self.ops));
                self.file.stay_locked();
                return;
            }
        }
    }
}
