//! Guest memory in the form of a system call: pieces of this process's memory.

use crate::buffer::GuestRange;
use crate::errno::Errno;
use crate::wire::SECTOR;
use smallvec::SmallVec;
use vm_memory::bitmap::{BS, BitmapSlice};
use vm_memory::{GuestMemory, GuestMemoryError, Permissions, VolatileSlice};

/// Maximum number of memory pieces per system call; a transfer with more is short.
pub(super) const MOST_PIECES: usize = 1024;

pub(super) type Slices<'a, M> =
    SmallVec<[VolatileSlice<'a, BS<'a, <M as GuestMemory>::Bitmap>>; 8]>;

/// The mapped memory of the ranges, in order. `access` is the access of the *host*, which writes
/// for a read.
pub(super) fn slices<'a, M: GuestMemory>(
    memory: &'a M,
    ranges: &[GuestRange],
    access: Permissions,
) -> Result<Slices<'a, M>, Errno> {
    let gone = |_: GuestMemoryError| Errno::EFAULT;
    let mut all = Slices::<M>::new();
    for range in ranges {
        let len = range.len as usize;
        for slice in memory.get_slices(range.addr, len, access).map_err(gone)? {
            all.push(slice.map_err(gone)?);
        }
    }
    Ok(all)
}

/// Marks the first `moved` bytes as written by the host, for live migration.
pub(super) fn mark_dirty<B: BitmapSlice>(slices: &[VolatileSlice<'_, B>], moved: u32) {
    let mut left = moved as usize;
    for slice in slices {
        slice.bitmap().mark_dirty(0, slice.len().min(left));
        left = left.saturating_sub(slice.len());
    }
}

/// Whether each piece begins at a multiple of `align` and has a length that is a multiple of
/// `unit`.
pub(super) fn are_aligned<B: BitmapSlice>(
    slices: &[VolatileSlice<'_, B>],
    align: usize,
    unit: usize,
) -> bool {
    slices.iter().all(|slice| {
        let address = slice.ptr_guard_mut().as_ptr().addr();
        address.is_multiple_of(align) && slice.len().is_multiple_of(unit)
    })
}

/// Whether a write from this memory leaves whole sectors if its process is killed.
///
/// The page cache copies page by page of this memory, and a kill may come before any page that must
/// be faulted in first. A sector within one page is copied or not; a sector across two could be
/// torn, and a sector must never tear.
pub(super) fn keep_sectors_whole<B: BitmapSlice>(slices: &[VolatileSlice<'_, B>]) -> bool {
    are_aligned(slices, SECTOR as usize, SECTOR as usize)
}
