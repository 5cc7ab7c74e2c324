//! The memory of one disk operation: ranges of guest memory, or a bounce buffer.
//!
//! A disk copies between itself and a [`Buffer`] by byte offset, independent of its kind. A host
//! disk that passes addresses to the kernel inspects it instead. Guest addresses were in range when
//! the request was taken; the memory may have been swapped since, so every copy can still fail.

use crate::bounce::Bounce;
use smallvec::SmallVec;
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryError};

/// `len` bytes of guest memory from `addr` on; never empty, never past the end of the address
/// space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GuestRange {
    /// The first byte's guest-physical address.
    pub addr: GuestAddress,
    /// Length in bytes.
    pub len: u32,
}

/// Guest memory in the order of the operation's bytes; up to four pieces need no allocation.
pub type Ranges = SmallVec<[GuestRange; 4]>;

/// The memory side of one disk operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Buffer {
    /// The guest's own memory.
    Guest(Ranges),
    /// Memory of the device, returned with the completion.
    Bounce(Bounce),
}

impl Buffer {
    /// Length in bytes.
    pub fn len(&self) -> u32 {
        match self {
            Buffer::Guest(ranges) => ranges.iter().map(|range| range.len).sum(),
            Buffer::Bounce(bounce) => bounce.len() as u32,
        }
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `out.len()` bytes from byte `offset` on out of the buffer, as a disk does for a
    /// write.
    ///
    /// # Errors
    /// A part is not (or no longer) in guest memory; `out` may be partly filled.
    ///
    /// # Panics
    /// If the requested bytes are not all inside the buffer.
    pub fn read_at<M: GuestMemory>(
        &self,
        memory: &M,
        offset: u32,
        out: &mut [u8],
    ) -> Result<(), GuestMemoryError> {
        match self {
            Buffer::Guest(ranges) => copy_out(ranges, memory, offset, out),
            Buffer::Bounce(bounce) => {
                let from = offset as usize;
                out.copy_from_slice(&bounce.as_slice()[from..from + out.len()]);
                Ok(())
            }
        }
    }

    /// Copies `bytes` into the buffer from byte `offset` on, as a disk does for a read.
    ///
    /// # Errors
    /// A part is not (or no longer) in guest memory; a prefix may have been written.
    ///
    /// # Panics
    /// If the bytes do not all fit inside the buffer.
    pub fn write_at<M: GuestMemory>(
        &mut self,
        memory: &M,
        offset: u32,
        bytes: &[u8],
    ) -> Result<(), GuestMemoryError> {
        match self {
            Buffer::Guest(ranges) => copy_in(ranges, memory, offset, bytes),
            Buffer::Bounce(bounce) => {
                let from = offset as usize;
                bounce.as_mut_slice()[from..from + bytes.len()].copy_from_slice(bytes);
                Ok(())
            }
        }
    }
}

/// Copies `out.len()` bytes from byte `offset` of `ranges` on.
pub(crate) fn copy_out<M: GuestMemory>(
    ranges: &[GuestRange],
    memory: &M,
    offset: u32,
    out: &mut [u8],
) -> Result<(), GuestMemoryError> {
    let mut done = 0;
    each_piece(ranges, offset, out.len(), |addr, len| {
        let piece = &mut out[done..done + len];
        done += len;
        memory.read_slice(piece, addr)
    })
}

/// Copies `bytes` to byte `offset` of `ranges` on.
pub(crate) fn copy_in<M: GuestMemory>(
    ranges: &[GuestRange],
    memory: &M,
    offset: u32,
    bytes: &[u8],
) -> Result<(), GuestMemoryError> {
    let mut done = 0;
    each_piece(ranges, offset, bytes.len(), |addr, len| {
        let piece = &bytes[done..done + len];
        done += len;
        memory.write_slice(piece, addr)
    })
}

/// Appends the part `[offset, offset + len)` of `ranges` to `out`.
pub(crate) fn cut(ranges: &[GuestRange], offset: u32, len: u32, out: &mut Ranges) {
    let all = each_piece(ranges, offset, len as usize, |addr, len| {
        out.push(GuestRange { addr, len: len as u32 });
        Ok::<(), std::convert::Infallible>(())
    });
    let Ok(()) = all;
}

/// Calls `visit` for each contiguous piece of `[offset, offset + len)` of `ranges`, in order.
#[inline]
fn each_piece<E>(
    ranges: &[GuestRange],
    offset: u32,
    len: usize,
    mut visit: impl FnMut(GuestAddress, usize) -> Result<(), E>,
) -> Result<(), E> {
    let mut skip = offset as usize;
    let mut left = len;
    for range in ranges {
        if left == 0 {
            break;
        }
        let here = range.len as usize;
        if skip >= here {
            skip -= here;
            continue;
        }
        let piece = (here - skip).min(left);
        visit(GuestAddress(range.addr.0 + skip as u64), piece)?;
        left -= piece;
        skip = 0;
    }
    assert!(left == 0, "{left} of {len} bytes lie outside the buffer");
    Ok(())
}
