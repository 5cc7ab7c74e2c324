//! Guest memory as a host's system call wants it: pieces of this process's memory.

use crate::buffer::GuestRange;
use crate::disk::Errno;
use smallvec::SmallVec;
use vm_memory::bitmap::{BS, BitmapSlice};
use vm_memory::{GuestMemory, GuestMemoryError, Permissions, VolatileSlice};

/// Most pieces of memory one system call takes; a transfer that has more is short.
pub(super) const MOST_PIECES: usize = 1024;

pub(super) type Slices<'a, M> =
    SmallVec<[VolatileSlice<'a, BS<'a, <M as GuestMemory>::Bitmap>>; 8]>;

/// The mapped memory of the ranges, in order. `access` is what the *host* does: it writes for a read.
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

/// Notes that the host has written the first `moved` bytes, which live migration has to know.
pub(super) fn mark_dirty<B: BitmapSlice>(slices: &[VolatileSlice<'_, B>], moved: u32) {
    let mut left = moved as usize;
    for slice in slices {
        slice.bitmap().mark_dirty(0, slice.len().min(left));
        left = left.saturating_sub(slice.len());
    }
}
