//! The disk seam: the operations that the device submits, and their completions.
//!
//! Everything that crosses it is plain data. A disk executes operations with borrowed memory and
//! reports the number of bytes moved: short transfers, errors and full queues are visible here and
//! handled above. A disk does *not* split, handle partial granules, resume, retry or write through.
//!
//! The promises of a disk:
//!
//! - Every accepted submission completes exactly once. No effect lands after the completion was
//!   taken.
//! - Later reads see a completed write; power loss may undo it unless a later sync completed
//!   without error.
//! - A sync that completes without error made stable every effect whose completion was taken, on
//!   any lane, before the sync was submitted.
//! - A write takes effect at most once per granule; a short transfer of `n` bytes touched nothing
//!   at or after `n`.
//! - An operation that fails has lost at most the data that [`Errno::harm`] names: any operation
//!   but a sync harms no byte outside its own range and no stable data. A disk whose host reports
//!   an earlier failed write-back through a later write keeps that error for its next sync.
//!
//! There is no operation that writes *and* makes stable. Linux has one (RWF_DSYNC), but it returns
//! one error for two steps: an ENOSPC of the write lost nothing, an ENOSPC of the sync behind it
//! (delayed allocation, thin provisioning, NFS) may have dropped other dirty pages, and the two are
//! indistinguishable. The device writes first and syncs next, so that every error has one meaning.

use crate::buffer::Buffer;
use crate::errno::{Errno, OpKind};
use vm_memory::GuestMemory;

/// The name of an operation from its submission to its completion; opaque to disks.
///
/// A slot is reused with another generation, so a repeated completion, and one for a request that
/// was ended, is detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token {
    slot: u32,
    generation: u32,
}

impl Token {
    /// The token of a slot in one generation; for queues and for tests of disks.
    pub const fn new(slot: u32, generation: u32) -> Token {
        Token { slot, generation }
    }

    /// The slot in the queue that created it.
    pub const fn slot(self) -> u32 {
        self.slot
    }

    /// Number of earlier uses of that slot.
    pub const fn generation(self) -> u32 {
        self.generation
    }
}

/// Static limits of an open disk, except for the capacity, which may grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Size in bytes, a multiple of `granule`.
    pub capacity: u64,
    /// The unit of every offset and length, in bytes: a power of two, 512 to 4096.
    pub granule: u32,
    /// Maximum length of one read or write in bytes, a multiple of `granule`.
    pub max_transfer: u32,
    /// Maximum length of one discard in bytes.
    pub max_discard: u64,
    /// Alignment of a discard's offset and length in bytes, a multiple of `granule`.
    pub discard_granularity: u32,
    /// Maximum length of one write-zeroes in bytes.
    pub max_write_zeroes: u64,
    /// Alignment of a write-zeroes' offset and length in bytes, a multiple of `granule`.
    pub write_zeroes_granularity: u32,
    /// Whether a discard, or a write-zeroes that may unmap, can deallocate anything.
    pub can_discard: bool,
    /// Whether the disk accepts no writes.
    pub read_only: bool,
}

impl Limits {
    /// A writable disk of `capacity` bytes without special limits: granules of 512 bytes, transfers
    /// up to 1 MiB, discards up to 1 GiB.
    pub const fn plain(capacity: u64) -> Limits {
        Limits {
            capacity,
            granule: 512,
            max_transfer: 1 << 20,
            max_discard: 1 << 30,
            discard_granularity: 512,
            max_write_zeroes: 1 << 30,
            write_zeroes_granularity: 512,
            can_discard: true,
            read_only: false,
        }
    }
}

/// One operation for a disk. Offsets and lengths are in bytes and multiples of the granule; no
/// length is zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads `into.len()` bytes from `offset` on.
    Read {
        /// First byte on the disk.
        offset: u64,
        /// The destination of the bytes.
        into: Buffer,
    },
    /// Writes `from.len()` bytes from `offset` on.
    Write {
        /// First byte on the disk.
        offset: u64,
        /// The source of the bytes.
        from: Buffer,
    },
    /// Makes stable every effect whose completion was taken before now, on any lane.
    Sync,
    /// Declares the bytes unneeded; they may read as anything afterwards, or as before.
    Discard {
        /// First byte on the disk.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
    /// Makes the bytes read as zero.
    WriteZeroes {
        /// First byte on the disk.
        offset: u64,
        /// Number of bytes.
        len: u64,
        /// Whether the disk may deallocate them.
        may_unmap: bool,
    },
}

impl Op {
    /// The kind of the operation.
    pub fn kind(&self) -> OpKind {
        match self {
            Op::Read { .. } => OpKind::Read,
            Op::Write { .. } => OpKind::Write,
            Op::Sync => OpKind::Sync,
            Op::Discard { .. } => OpKind::Discard,
            Op::WriteZeroes { .. } => OpKind::WriteZeroes,
        }
    }
}

/// One operation on its way to a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Its name until it completes.
    pub token: Token,
    /// The operation.
    pub op: Op,
}

/// The result of one operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completion {
    /// The name of the operation.
    pub token: Token,
    /// Bytes moved, from the start, for a read or write (fewer than requested is a short transfer);
    /// 0 for every other kind.
    pub result: Result<u32, Errno>,
    /// The buffer of a read or write. A bounce buffer must be returned; guest ranges may be, and
    /// are then reused.
    pub buffer: Option<Buffer>,
}

/// One lane of a disk: one queue submits to it and takes completions from it.
pub trait Disk<M: GuestMemory> {
    /// The limits of the disk; the same on every lane.
    fn limits(&self) -> Limits;

    /// Number of further operations that may be submitted now.
    fn room(&self) -> u32;

    /// Accepts one operation; it may run at once, later, or not before the
    /// [`doorbell`](Disk::doorbell).
    ///
    /// # Panics
    /// If there is no [`room`](Disk::room).
    fn submit(&mut self, memory: &M, submission: Submission);

    /// Announces that no more submissions follow for now.
    fn doorbell(&mut self) {}

    /// Takes one completion of this lane, in any order.
    fn complete(&mut self, memory: &M) -> Option<Completion>;
}

/// A borrowed lane.
impl<M: GuestMemory, D: Disk<M>> Disk<M> for &mut D {
    fn limits(&self) -> Limits {
        (**self).limits()
    }

    fn room(&self) -> u32 {
        (**self).room()
    }

    fn submit(&mut self, memory: &M, submission: Submission) {
        (**self).submit(memory, submission);
    }

    fn doorbell(&mut self) {
        (**self).doorbell();
    }

    fn complete(&mut self, memory: &M) -> Option<Completion> {
        (**self).complete(memory)
    }
}
