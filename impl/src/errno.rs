//! The possible losses of a failed operation: one table, for every error number and operation.
//!
//! Two questions follow each failure. What is the state of the operation's own range? And is the
//! data that completed before it still on its way to the medium, so that a later sync proves
//! something? The guest receives the answer to the first as a status. The second decides whether
//! any promise can be kept from then on, for this front-end and all later ones, so it must not be
//! answered "no" without cause.
//!
//! ```text
//!                            Read     Write, Discard, WriteZeroes     Sync
//! EINTR, EAGAIN              Nothing  Nothing                         Nothing
//! EOPNOTSUPP                 Nothing  Nothing                         Unsynced
//! every other, known or not  Nothing  OwnRange                        Unsynced
//! ```
//!
//! - *No write loses data that completed before it, not even with `EIO`.* A write moves bytes into
//!   the cache or to the device; it drops no dirty page and ends no write-back. `EFAULT`, `EINVAL`,
//!   `EBADF`, `EFBIG`, `ENOSPC`, `EDQUOT` and `ENOMEM` are mostly detected before any byte is
//!   moved. A front-end whose memory is gone, or a full file system, harms only its own request.
//! - *Its own range may hold anything.* Direct I/O that meets `ENOSPC` or `EFAULT` in its second
//!   half has written the first.
//! - *Every error of a sync counts, also `ENOSPC`.* A file system with delayed allocation, a thin
//!   volume and NFS detect in the sync that there is no room, drop the pages, and report that once.
//!   The next sync succeeds without them (AMB-02).
//! - *A sync that was put off has not failed.* `EINTR` and `EAGAIN` change nothing. A flush whose
//!   sync was put off too often is answered IOERR, and the next one may succeed.
//!
//! The table relies on a property that a host disk must provide: an error of a write concerns that
//! write only. Hosts also report *earlier* failed write-back through a later write (NFS does, with
//! `ENOSPC`; so does a mount with `sync`), and then never again on that descriptor.
//! [`OpenFile`](crate::host) therefore syncs through a descriptor of its own.

use std::fmt;

/// The reason why the host refused or failed an operation: a positive `errno`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Errno(pub i32);

/// The kind of a failed operation; [`Op::kind`](crate::Op::kind).
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

/// The possible losses of a failed operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Harm {
    /// Nothing: the state is as before the submission.
    Nothing,
    /// Any part of its own range may have changed. The next sync still makes earlier completed data
    /// stable.
    OwnRange,
    /// Any completed data that was not stable may be lost, and a later sync may succeed without it.
    Unsynced,
}

impl Errno {
    /// Interrupted before anything was touched.
    pub const EINTR: Errno = Errno(4);
    /// Input/output error.
    pub const EIO: Errno = Errno(5);
    /// Try again; nothing was touched.
    pub const EAGAIN: Errno = Errno(11);
    /// The guest memory of the operation is not accessible.
    pub const EFAULT: Errno = Errno(14);
    /// The operation is invalid.
    pub const EINVAL: Errno = Errno(22);
    /// The file would exceed its maximum size.
    pub const EFBIG: Errno = Errno(27);
    /// No space left.
    pub const ENOSPC: Errno = Errno(28);
    /// The disk does not support the operation; nothing was touched.
    pub const EOPNOTSUPP: Errno = Errno(95);
    /// The disk quota is exceeded.
    pub const EDQUOT: Errno = Errno(122);

    /// Whether nothing was touched and the operation should be retried.
    pub fn is_transient(self) -> bool {
        matches!(self, Errno::EINTR | Errno::EAGAIN)
    }

    /// The possible losses of an operation of this kind that failed with this error.
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
