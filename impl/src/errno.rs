//! What a failed operation may have lost: one table, for every error number and every operation.
//!
//! Two questions follow each failure. What became of the operation's own range? And is what
//! completed before it still on its way to the medium, so that a later sync proves something? The
//! first is answered to the guest with a status. The second decides whether any promise can be kept
//! from then on, for this front-end and all that follow it, so it must not be answered "no" without
//! cause.
//!
//! ```text
//!                            Read     Write, Discard, WriteZeroes     Sync
//! EINTR, EAGAIN              Nothing  Nothing                         Nothing
//! EOPNOTSUPP                 Nothing  Nothing                         Unsynced
//! every other, known or not  Nothing  OwnRange                        Unsynced
//! ```
//!
//! - *Why no write loses what completed before it, not even by `EIO`.* A write moves bytes into the
//!   cache or to the device; it drops no dirty page and ends no write-back. `EFAULT`, `EINVAL`,
//!   `EBADF`, `EFBIG`, `ENOSPC`, `EDQUOT` and `ENOMEM` are mostly found before anything was moved.
//!   A front-end whose memory is gone, or a full file system, harms its own request and nothing
//!   else.
//! - *Why its own range may hold anything all the same.* Direct I/O that meets `ENOSPC` or `EFAULT`
//!   in its second half has written the first.
//! - *Why every error of a sync counts, `ENOSPC` too.* A file system that allocates late, a thin
//!   volume and NFS find out in the sync that there is no room, drop the pages, and report that
//!   once. The next sync succeeds without them (AMB-02).
//! - *Why put off is not failed.* `EINTR` and `EAGAIN` leave everything as it was. A flush whose
//!   sync was put off too often is answered IOERR, and the next one may succeed.
//!
//! The table rests on one thing that a host disk has to see to: an error of a write tells of that
//! write only. Hosts also report *earlier* failed write-back through a later write (NFS does, with
//! `ENOSPC`; so does a mount with `sync`), and then never again on that descriptor.
//! [`OpenFile`](crate::host) therefore syncs through a descriptor of its own.

use std::fmt;

/// Why the host refused or failed an operation: a positive `errno`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

/// What kind of operation failed; [`Op::kind`](crate::Op::kind).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKind {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A sync.
    Sync,
    /// A discard.
    Discard,
    /// A write-zeroes.
    WriteZeroes,
}

/// What a failed operation may have lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Nothing: all is as if it had not been asked for.
    Nothing,
    /// Any part of its own range may have been changed. What completed earlier is still to be made
    /// stable by the next sync.
    OwnRange,
    /// Anything that completed and was not stable may be lost, and a later sync may succeed without
    /// it.
    Unsynced,
}

impl Errno {
    /// Interrupted before anything was touched.
    pub const EINTR: Errno = Errno(4);
    /// Input/output error.
    pub const EIO: Errno = Errno(5);
    /// Not now; nothing was touched.
    pub const EAGAIN: Errno = Errno(11);
    /// Guest memory that was to be read or written is not there.
    pub const EFAULT: Errno = Errno(14);
    /// The operation's shape is wrong.
    pub const EINVAL: Errno = Errno(22);
    /// The file would be larger than it may be.
    pub const EFBIG: Errno = Errno(27);
    /// No space left.
    pub const ENOSPC: Errno = Errno(28);
    /// This disk cannot do that; nothing was touched.
    pub const EOPNOTSUPP: Errno = Errno(95);
    /// More space than the user may have.
    pub const EDQUOT: Errno = Errno(122);

    /// Whether nothing was touched and asking again is the answer.
    pub fn is_transient(self) -> bool {
        matches!(self, Errno::EINTR | Errno::EAGAIN)
    }

    /// What an operation of this kind that ended so may have lost.
    pub fn harm(self, kind: OpKind) -> Harm {
        match (self, kind) {
            (Errno::EINTR | Errno::EAGAIN, _) | (_, OpKind::Read) => Harm::Nothing,
            (_, OpKind::Sync) => Harm::Unsynced,
            (Errno::EOPNOTSUPP, _) => Harm::Nothing,
            (_, OpKind::Write | OpKind::Discard | OpKind::WriteZeroes) => Harm::OwnRange,
        }
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Errno::EINTR => "EINTR",
            Errno::EIO => "EIO",
            Errno::EAGAIN => "EAGAIN",
            Errno::EFAULT => "EFAULT",
            Errno::EINVAL => "EINVAL",
            Errno::EFBIG => "EFBIG",
            Errno::ENOSPC => "ENOSPC",
            Errno::EOPNOTSUPP => "EOPNOTSUPP",
            Errno::EDQUOT => "EDQUOT",
            Errno(other) => return write!(f, "Errno({other})"),
        };
        f.write_str(name)
    }
}
