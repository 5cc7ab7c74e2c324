//! One operation in io_uring, with all memory that the kernel has an address of.
//!
//! Transfers go directly between the disk and guest memory. A bounce buffer is used only if direct
//! I/O does not accept the memory as it lies, or if a kill could tear a sector written from it; it
//! is filled when a write is submitted and emptied when a read completes.

use super::open::OpenFile;
use super::slices::{MOST_PIECES, are_aligned, keep_sectors_whole, mark_dirty, slices};
use crate::bounce::Bounce;
use crate::buffer::Buffer;
use crate::disk::{Completion, Op, Submission, Token};
use crate::errno::Errno;
use io_uring::{opcode, squeue, types};
use smallvec::SmallVec;
use vm_memory::bitmap::BitmapSlice;
use vm_memory::volatile_memory::PtrGuardMut;
use vm_memory::{GuestMemory, Permissions, VolatileSlice};

/// Indices in the ring's table of registered files: for reads and writes, and for syncs.
const FILE: types::Fixed = types::Fixed(0);
const SYNCS: types::Fixed = types::Fixed(1);

/// The system call of an operation.
#[derive(Clone, Copy)]
enum Call {
    Readv { offset: u64 },
    Writev { offset: u64 },
    Fdatasync,
    Fallocate { mode: libc::c_int, offset: u64, len: u64 },
}

/// The direction of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    Reads,
    Writes,
}

/// The memory of a transfer.
#[derive(Default)]
struct Pieces {
    iovecs: SmallVec<[libc::iovec; 4]>,
    /// Keeps memory mapped that is mapped only while it is in use.
    guards: SmallVec<[PtrGuardMut; 4]>,
    /// The buffer that the kernel uses in place of guest memory.
    staged: Option<Bounce>,
}

/// An operation from its submission to its completion. Fields are dropped in this order: mapped
/// memory before the holder of the mapping.
pub(super) struct UringOp<H> {
    token: Token,
    call: Call,
    pieces: Pieces,
    buffer: Option<Buffer>,
    hold: H,
}

// SAFETY: only the addresses prevent `Send`, and they point to memory that the operation or `hold`
// owns and that is not thread-local.
unsafe impl<H: Send> Send for UringOp<H> {}

impl<H> UringOp<H> {
    /// Checks an operation and finds its memory; an invalid operation completes here.
    pub(super) fn new<M: GuestMemory>(
        file: &OpenFile,
        memory: &M,
        hold: H,
        submission: Submission,
    ) -> Result<UringOp<H>, Completion> {
        let Submission { token, op } = submission;
        let (call, mut buffer) = match op {
            Op::Read { offset, into } => (Call::Readv { offset }, Some(into)),
            Op::Write { offset, from } => (Call::Writev { offset }, Some(from)),
            Op::Sync => (Call::Fdatasync, None),
            Op::Discard { offset, len } => {
                (Call::Fallocate { mode: libc::FALLOC_FL_PUNCH_HOLE, offset, len }, None)
            }
            Op::WriteZeroes { offset, len, may_unmap: true } => {
                (Call::Fallocate { mode: libc::FALLOC_FL_PUNCH_HOLE, offset, len }, None)
            }
            Op::WriteZeroes { offset, len, may_unmap: false } => {
                (Call::Fallocate { mode: libc::FALLOC_FL_ZERO_RANGE, offset, len }, None)
            }
        };
        match Pieces::of(file, memory, call, buffer.as_mut()) {
            Ok(pieces) => Ok(UringOp { token, call, pieces, buffer, hold }),
            Err(errno) => Err(Completion { token, result: Err(errno), buffer }),
        }
    }

    /// The operation as a submission queue entry. The entry contains addresses of this value, which
    /// must not move.
    pub(super) fn entry(&self) -> squeue::Entry {
        let iovecs = self.pieces.iovecs.as_ptr();
        let count = self.pieces.iovecs.len() as u32;
        match self.call {
            Call::Readv { offset } => {
                opcode::Readv::new(FILE, iovecs, count).offset(offset).build()
            }
            Call::Writev { offset } => {
                opcode::Writev::new(FILE, iovecs, count).offset(offset).build()
            }
            Call::Fdatasync => opcode::Fsync::new(SYNCS).flags(types::FsyncFlags::DATASYNC).build(),
            Call::Fallocate { mode, offset, len } => {
                let mode = mode | libc::FALLOC_FL_KEEP_SIZE;
                opcode::Fallocate::new(FILE, len).offset(offset).mode(mode).build()
            }
        }
    }

    /// Memory, offset and direction of a transfer.
    pub(super) fn transfer(&self) -> Option<(&[libc::iovec], u64, Access)> {
        let (offset, access) = match self.call {
            Call::Readv { offset } => (offset, Access::Reads),
            Call::Writev { offset } => (offset, Access::Writes),
            _ => return None,
        };
        Some((&self.pieces.iovecs, offset, access))
    }

    /// Completes the operation with the kernel's result: the number of bytes or a negative errno.
    pub(super) fn land(self, answer: i32) -> (H, Landed) {
        let result = u32::try_from(answer).map_err(|_| Errno(answer.saturating_neg()));
        let staged = self.pieces.staged;
        let reads = matches!(self.call, Call::Readv { .. });
        (self.hold, Landed { token: self.token, reads, staged, buffer: self.buffer, result })
    }
}

/// An operation that the kernel has finished.
pub(super) struct Landed {
    token: Token,
    reads: bool,
    staged: Option<Bounce>,
    buffer: Option<Buffer>,
    result: Result<u32, Errno>,
}

impl Landed {
    /// Copies the data of a read to its destination, in the memory of the submission.
    pub(super) fn settle<M: GuestMemory>(mut self, memory: &M) -> Completion {
        if self.reads {
            self.result = self.result.and_then(|moved| {
                self.deliver(memory, moved)?;
                Ok(moved)
            });
        }
        Completion { token: self.token, result: self.result, buffer: self.buffer }
    }

    fn deliver<M: GuestMemory>(&mut self, memory: &M, moved: u32) -> Result<(), Errno> {
        match (&mut self.buffer, &self.staged) {
            (Some(buffer), Some(staged)) => {
                let bytes = &staged.as_slice()[..moved as usize];
                buffer.write_at(memory, 0, bytes).map_err(|_| Errno::EFAULT)
            }
            (Some(Buffer::Guest(ranges)), None) => {
                mark_dirty(&slices(memory, ranges, Permissions::Write)?, moved);
                Ok(())
            }
            (Some(Buffer::Bounce(_)) | None, _) => Ok(()),
        }
    }
}

impl Pieces {
    fn of<M: GuestMemory>(
        file: &OpenFile,
        memory: &M,
        call: Call,
        buffer: Option<&mut Buffer>,
    ) -> Result<Pieces, Errno> {
        let (offset, access) = match call {
            Call::Fdatasync => return Ok(Pieces::default()),
            Call::Fallocate { offset, len, .. } => {
                return file.place(offset, len).map(|_| Pieces::default());
            }
            Call::Readv { offset } => (offset, Permissions::Write),
            Call::Writev { offset } => (offset, Permissions::Read),
        };
        let buffer = buffer.expect("transfers have memory");
        file.place(offset, buffer.len().into())?;
        let ranges = match buffer {
            Buffer::Bounce(bounce) => return Ok(Pieces::of_bounce(bounce)),
            Buffer::Guest(ranges) => ranges,
        };
        let slices = slices(memory, ranges, access)?;
        if takes(file, access, &slices) {
            return Ok(Pieces::of_slices(&slices));
        }
        let mut staged = Bounce::zeroed(buffer.len() as usize);
        if access == Permissions::Read {
            let filled = buffer.read_at(memory, 0, staged.as_mut_slice());
            filled.map_err(|_| Errno::EFAULT)?;
        }
        let pieces = Pieces::of_bounce(&mut staged);
        Ok(Pieces { staged: Some(staged), ..pieces })
    }

    /// The whole of a bounce buffer, whose bytes do not move with it.
    fn of_bounce(bounce: &mut Bounce) -> Pieces {
        Pieces::of_slices(&[VolatileSlice::from(bounce.as_mut_slice())])
    }

    fn of_slices<B: BitmapSlice>(slices: &[VolatileSlice<'_, B>]) -> Pieces {
        let mut pieces = Pieces::default();
        for slice in slices.iter().take(MOST_PIECES) {
            let guard = slice.ptr_guard_mut();
            let iov_base = guard.as_ptr().cast();
            pieces.iovecs.push(libc::iovec { iov_base, iov_len: guard.len() });
            pieces.guards.push(guard);
        }
        pieces
    }
}

/// Whether the kernel accepts this memory as it lies, and a write from it is safe.
fn takes<B: BitmapSlice>(
    file: &OpenFile,
    access: Permissions,
    slices: &[VolatileSlice<'_, B>],
) -> bool {
    match file.memory_align() {
        None => access == Permissions::Write || keep_sectors_whole(slices),
        Some(align) => {
            let granule = file.limits().granule as usize;
            slices.len() <= MOST_PIECES && are_aligned(slices, align, granule)
        }
    }
}
