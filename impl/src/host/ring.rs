//! An io_uring and its operations in flight.
//!
//! This file passes addresses to the kernel, so it also keeps them valid: an operation keeps its
//! slot, which owns or holds its memory, from before the kernel can see it until the kernel has
//! answered. Dropping a ring waits for that.

use super::inline_io::InlineIo;
use super::open::{OpenError, OpenFile};
use super::uring_op::{Landed, UringOp};
use crate::disk::{Completion, Submission};
use io_uring::{IoUring, opcode};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use vm_memory::GuestMemory;

/// Maximum number of operations in flight; a power of two. The submission queue has this length and
/// the completion queue twice as much, so neither is ever full.
const ROOM: u32 = 128;

/// Creates an io_uring of `entries` submissions and completes an empty operation on it.
///
/// A system call filter may allow `io_uring_setup` and refuse `io_uring_enter`; without this check
/// the first request would be the one to fail.
///
/// # Errors
/// The error of the refused system call.
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
    /// An element is `Some` iff its operation was pushed and its answer not taken. Elements never
    /// move.
    ops: Box<[Option<UringOp<H>>]>,
    /// The indices of the `None` elements.
    free: Vec<u32>,
    /// Operations that ended when they were accepted, because they were refused or done inline.
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

    /// Whether the kernel has no operation, and the next [`enter`](Ring::enter) will submit none.
    fn is_idle(&self) -> bool {
        self.free.len() == self.ops.len()
    }

    /// Accepts an operation. The kernel sees it at the next [`enter`](Ring::enter).
    ///
    /// # Safety
    /// The slices that `memory` lends for the operation must stay mapped until `hold` is dropped or
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
        // (`Drop` waits if need be), and of memory that the slot owns or, by this function's
        // contract, that stays mapped as long.
        let pushed = unsafe { self.uring.submission().push(&entry) };
        pushed.expect("the queue is as long as there are slots");
    }

    /// Number of operations pushed and not yet submitted.
    pub(super) fn pushed(&mut self) -> usize {
        self.uring.submission().len()
    }

    /// Submits the pushed operations, and returns when `want` answers can be reaped.
    ///
    /// # Errors
    /// Only for causes that no operation can have; it is then unknown which operations the kernel
    /// has.
    pub(super) fn enter(&mut self, want: usize) -> io::Result<()> {
        loop {
            match self.uring.submit_and_wait(want) {
                // The kernel stops at an operation that it does not accept, and answers that one.
                Ok(_) if !self.uring.submission().is_empty() => {}
                Ok(_) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EINTR) => {}
                    // The kernel is temporarily short of memory.
                    Some(libc::EAGAIN | libc::EBUSY) => std::thread::yield_now(),
                    _ => return Err(error),
                },
            }
        }
    }

    /// Sleeps until a completion can be taken; returns at once if none is to come.
    pub(super) fn wait(&mut self) -> io::Result<()> {
        if self.over.is_empty() && !self.is_idle() { self.enter(1) } else { Ok(()) }
    }

    /// Takes an operation that ended when it was accepted.
    pub(super) fn take_over(&mut self) -> Option<Completion> {
        self.over.pop_front()
    }

    /// Takes an answer, with the value that its operation held.
    pub(super) fn reap(&mut self) -> Option<(H, Landed)> {
        let answer = self.uring.completion().next()?;
        let slot = answer.user_data() as u32;
        let op = self.ops[slot as usize].take().expect("the kernel answers once");
        self.free.push(slot);
        Some(op.land(answer.result()))
    }
}

/// Submits all accepted operations and waits for them: until then the kernel accesses memory that
/// is about to be freed.
impl<H> Drop for Ring<H> {
    fn drop(&mut self) {
        while !self.is_idle() {
            if self.reap().is_none() && self.enter(1).is_err() {
                // Leaking the memory, and the locked file, is better than freeing memory that the
                // kernel writes to.
                std::mem::forget(std::mem::take(&mut self.ops));
                self.file.stay_locked();
                return;
            }
        }
    }
}
