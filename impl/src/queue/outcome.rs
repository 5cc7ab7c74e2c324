//! The effect of one completion on its request: arithmetic on the result, and the copies from and
//! to a bounce buffer.
//!
//! Queues, locks and the flush group are not here; `progress` acts on the outcome.

use crate::bounce::Bounce;
use crate::buffer::{Buffer, copy_in, copy_out};
use crate::errno::Errno;
use crate::plan::Move;
use crate::slots::{Kind, Request};
use vm_memory::GuestMemory;

/// The effect of a completion on its request.
pub(super) enum Outcome {
    /// This number of further bytes of the extent is done.
    Done(u64),
    /// The same operation must be repeated.
    Retry,
    /// The granule is patched and must be written back.
    WriteBack,
    /// The request is complete as far as the disk supports it.
    Enough,
    /// The disk does not support write-zeroes: the zeroes must be written as data.
    WriteZeroesOut,
    /// The request fails with IOERR.
    Failed,
}

/// The effect of `result` on `request`; returns the buffer unless the request needs it.
pub(super) fn outcome<M: GuestMemory>(
    request: &mut Request,
    memory: &M,
    granule: u32,
    result: Result<u32, Errno>,
    buffer: Option<Buffer>,
) -> (Outcome, Option<Buffer>) {
    let moved = match result {
        Ok(moved) => moved,
        Err(errno) => return refusal(request, errno, buffer),
    };
    let outcome = match request.doing {
        Move::Direct { len, .. } | Move::ZeroWrite { len, .. } => transferred(moved, len, granule),
        Move::Around { offset, len } => match transferred(moved, len, granule) {
            Outcome::Done(bytes) => copy_wanted(request, memory, offset, bytes, bounced(&buffer)),
            other => other,
        },
        Move::PatchRead { offset, skip, len } => match whole(moved, granule) {
            Outcome::Done(_) => {
                let mut bounce = owned(buffer);
                if !overlay(request, memory, &mut bounce, skip, len) {
                    return (Outcome::Failed, Some(Buffer::Bounce(bounce)));
                }
                request.patch = Some(bounce);
                request.doing = Move::PatchWrite { offset, skip, len };
                return (Outcome::WriteBack, None);
            }
            other => other,
        },
        Move::PatchWrite { len, .. } => match whole(moved, granule) {
            Outcome::Done(_) => Outcome::Done(len.into()),
            Outcome::Retry => {
                request.patch = Some(owned(buffer));
                return (Outcome::Retry, None);
            }
            other => other,
        },
        Move::Zeroes { len, .. } | Move::Discard { len, .. } => {
            assert_eq!(moved, 0, "neither zeroes nor discards move bytes");
            Outcome::Done(len)
        }
        Move::Sync => unreachable!("syncs come back to the flush group"),
    };
    (outcome, buffer)
}

fn refusal(
    request: &mut Request,
    errno: Errno,
    buffer: Option<Buffer>,
) -> (Outcome, Option<Buffer>) {
    if errno.is_transient() {
        if let Move::PatchWrite { .. } = request.doing {
            request.patch = Some(owned(buffer));
            return (Outcome::Retry, None);
        }
        return (Outcome::Retry, buffer);
    }
    let outcome = match request.doing {
        // A discard is a hint.
        Move::Discard { .. } if errno == Errno::EOPNOTSUPP => Outcome::Enough,
        Move::Zeroes { .. } if errno == Errno::EOPNOTSUPP => Outcome::WriteZeroesOut,
        _ => Outcome::Failed,
    };
    (outcome, buffer)
}

/// A transfer of `len` bytes that moved `moved`. A partial granule at its end is not counted, so
/// that the rest starts on a granule.
fn transferred(moved: u32, len: u32, granule: u32) -> Outcome {
    assert!(moved <= len, "the disk moved {moved} bytes of {len}");
    assert!(granule.is_power_of_two(), "a granule is a power of two");
    match moved & !(granule - 1) {
        // Nothing moved, without an error: the end of the medium, or a disk that is gone.
        0 if moved == 0 => Outcome::Failed,
        0 => Outcome::Retry,
        whole => Outcome::Done(whole.into()),
    }
}

/// A transfer of exactly one granule.
fn whole(moved: u32, granule: u32) -> Outcome {
    transferred(moved, granule, granule)
}

/// Copies the requested part of the `bytes` bytes read from `offset` on; the outcome has its
/// length.
fn copy_wanted<M: GuestMemory>(
    request: &Request,
    memory: &M,
    offset: u64,
    bytes: u64,
    bounce: &Bounce,
) -> Outcome {
    let extent = &request.extents[request.at];
    let from = extent.start + request.done;
    let to = extent.end().min(offset + bytes);
    assert!(offset <= from && from <= to, "a read around a range begins before it");
    let wanted = &bounce.as_slice()[(from - offset) as usize..(to - offset) as usize];
    match copy_in(&request.data, memory, request.done as u32, wanted) {
        Ok(()) => Outcome::Done(to - from),
        Err(_) => Outcome::Failed,
    }
}

/// Overwrites the part `[skip, skip + len)` of a granule; `false` if the guest's memory is gone.
fn overlay<M: GuestMemory>(
    request: &Request,
    memory: &M,
    bounce: &mut Bounce,
    skip: u32,
    len: u32,
) -> bool {
    assert!(len > 0, "a patch changes something");
    let part = &mut bounce.as_mut_slice()[skip as usize..(skip + len) as usize];
    if request.kind == Kind::WriteZeroes {
        part.fill(0);
        return true;
    }
    copy_out(&request.data, memory, request.done as u32, part).is_ok()
}

fn bounced(buffer: &Option<Buffer>) -> &Bounce {
    match buffer {
        Some(Buffer::Bounce(bounce)) => bounce,
        _ => panic!("the disk kept a bounce"),
    }
}

fn owned(buffer: Option<Buffer>) -> Bounce {
    match buffer {
        Some(Buffer::Bounce(bounce)) => bounce,
        _ => panic!("the disk kept a bounce"),
    }
}
