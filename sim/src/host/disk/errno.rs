//! What a failed operation may have done all the same: the simulated disk's promise for every error
//! number.
//!
//! It is stated here on its own and not taken from the device, which relies on a promise of the
//! same kind; a test holds the two against each other. Of a write that fails any part may have
//! landed, whatever the error; of one that was put off, or that the disk does not know, none has.
//! No failed write takes anything along that completed before it. A failed sync may: whatever the
//! error, unless it was only put off.

use super::operation::OpKind;

/// Interrupted; ask again.
const EINTR: i32 = 4;
/// Input/output error.
pub(crate) const EIO: i32 = 5;
/// Not now; ask again.
const EAGAIN: i32 = 11;
/// No memory for the operation.
const ENOMEM: i32 = 12;
/// Guest memory is not there.
const EFAULT: i32 = 14;
/// The operation makes no sense to the host.
const EINVAL: i32 = 22;
/// The file would be too large.
const EFBIG: i32 = 27;
/// No space.
const ENOSPC: i32 = 28;
/// The host knows no such operation.
const EOPNOTSUPP: i32 = 95;
/// No space for this user.
const EDQUOT: i32 = 122;

/// The errors a host puts an operation off with.
pub(crate) const PUT_OFF: [i32; 2] = [EINTR, EAGAIN];
/// The errors a host fails an operation with.
pub(crate) const FAILED: [i32; 8] =
    [EIO, EFAULT, EINVAL, EFBIG, ENOSPC, EDQUOT, ENOMEM, EOPNOTSUPP];

/// What a failed operation may have done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// Nothing.
    None,
    /// Any of its own sectors may have been changed.
    Landed,
    /// Any dirty sector may have been forgotten.
    Forgot,
}

/// What an operation of a kind that failed with an error number may have done.
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
