//! The effects that a failed operation may still have: the simulated disk's promise for every error
//! number.
//!
//! The promise is stated here independently of the device, which relies on one of the same kind; a
//! test compares the two. Any part of a failed write may have landed, except with EINTR, EAGAIN or
//! EOPNOTSUPP: then no part has. A failed write never affects data that completed before it. A
//! failed sync may do so with every error except EINTR and EAGAIN.

use super::operation::OpKind;

/// Interrupted; try again.
const EINTR: i32 = 4;
/// Input/output error.
pub(crate) const EIO: i32 = 5;
/// Not now; try again.
const EAGAIN: i32 = 11;
/// No memory for the operation.
const ENOMEM: i32 = 12;
/// Guest memory is not accessible.
const EFAULT: i32 = 14;
/// The operation is invalid for the host.
const EINVAL: i32 = 22;
/// The file would be too large.
const EFBIG: i32 = 27;
/// No space.
const ENOSPC: i32 = 28;
/// The host does not support the operation.
const EOPNOTSUPP: i32 = 95;
/// The user's disk quota is exceeded.
const EDQUOT: i32 = 122;

/// Errors with which a host refuses an operation for now.
pub(crate) const PUT_OFF: [i32; 2] = [EINTR, EAGAIN];
/// Errors with which a host fails an operation.
pub(crate) const FAILED: [i32; 8] =
    [EIO, EFAULT, EINVAL, EFBIG, ENOSPC, EDQUOT, ENOMEM, EOPNOTSUPP];

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

/// The effects that an operation of this kind may have had when it fails with `errno` (positive).
#[must_use]
pub fn damage(kind: OpKind, errno: i32) -> Damage {
    let put_off = PUT_OFF.contains(&errno);
    match kind {
        OpKind::Read => Damage::None,
        OpKind::Sync if put_off => Damage::None,
        OpKind::Sync => Damage::Forgot,
        _ if put_off || errno == EOPNOTSUPP => Damage::None,
        OpKind::Write | OpKind::Discard | OpKind::WriteZeroes => Damage::Landed,
    }
}
