//! The effects that a failed operation may still have: the simulated disk's promise for every error
//! number.
//!
//! The promise is stated here independently of the device, which relies on one of the same kind; a
//! test compares the two. Any part of a failed write may have landed, except with EINTR, EAGAIN or
//! EOPNOTSUPP: then no part has. A failed write never affects data that completed before it. A
//! failed sync may do so with every error except EINTR and EAGAIN.

use super::op_kind::OpKind;

/// A positive error number of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Errno(pub i32);

impl Errno {
    /// Interrupted; try again.
    pub const EINTR: Errno = Errno(4);
    /// Input/output error.
    pub const EIO: Errno = Errno(5);
    /// Not now; try again.
    pub const EAGAIN: Errno = Errno(11);
    /// No memory for the operation.
    pub const ENOMEM: Errno = Errno(12);
    /// Guest memory is not accessible.
    pub const EFAULT: Errno = Errno(14);
    /// The operation is invalid for the host.
    pub const EINVAL: Errno = Errno(22);
    /// The file would be too large.
    pub const EFBIG: Errno = Errno(27);
    /// No space.
    pub const ENOSPC: Errno = Errno(28);
    /// The host does not support the operation.
    pub const EOPNOTSUPP: Errno = Errno(95);
    /// The user's disk quota is exceeded.
    pub const EDQUOT: Errno = Errno(122);

    /// Errors with which a host refuses an operation for now.
    pub const PUT_OFF: [Errno; 2] = [Errno::EINTR, Errno::EAGAIN];
    /// Errors with which a host fails an operation.
    pub const FAILED: [Errno; 8] = [
        Errno::EIO,
        Errno::EFAULT,
        Errno::EINVAL,
        Errno::EFBIG,
        Errno::ENOSPC,
        Errno::EDQUOT,
        Errno::ENOMEM,
        Errno::EOPNOTSUPP,
    ];

    /// Whether the host refused the operation for now.
    #[must_use]
    pub fn is_put_off(self) -> bool {
        Errno::PUT_OFF.contains(&self)
    }

    /// The effects that an operation of this kind may have had when it fails with this error.
    #[must_use]
    pub fn damage(self, kind: OpKind) -> Damage {
        match kind {
            OpKind::Read => Damage::None,
            OpKind::Sync if self.is_put_off() => Damage::None,
            OpKind::Sync => Damage::Forgot,
            _ if self.is_put_off() || self == Errno::EOPNOTSUPP => Damage::None,
            OpKind::Write | OpKind::Discard | OpKind::WriteZeroes => Damage::Landed,
        }
    }
}

/// The effects that a failed operation may have had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// None.
    None,
    /// Any of its own sectors may have been changed.
    Landed,
    /// Any dirty sector may have been marked clean.
    Forgot,
}
