//! Alignment requirements of a host on offsets, lengths and memory: for direct I/O, and for
//! deallocation on a block device.

use crate::bounce::BOUNCE_ALIGN;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Units of direct I/O in bytes, all powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alignment {
    /// Unit of offsets and lengths; 512 to 4096.
    pub(super) granule: u32,
    /// Alignment of addresses; at most that of a bounce buffer.
    pub(super) memory: usize,
}

/// The requirements of a file opened for direct I/O; `None` if they cannot be met.
pub(super) fn of_direct_io(file: &File) -> io::Result<Option<Alignment>> {
    let stat = statx(file)?;
    let (granule, memory) = if stat.stx_mask & libc::STATX_DIOALIGN != 0 {
        (stat.stx_dio_offset_align, stat.stx_dio_mem_align)
    } else {
        let unit = logical_block(file)?.unwrap_or(4096);
        (unit, unit)
    };
    // Zero means that the host has no direct I/O for the file.
    let usable = granule.is_power_of_two()
        && memory.is_power_of_two()
        && granule <= 4096
        && memory as usize <= BOUNCE_ALIGN;
    Ok(usable.then(|| Alignment { granule: granule.max(512), memory: memory as usize }))
}

fn statx(file: &File) -> io::Result<libc::statx> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: the descriptor is open, the path is an empty string, and `stat` has room for the
    // result.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_DIOALIGN, stat.as_mut_ptr())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all its fields are integers, for which zero bytes are a value.
    Ok(unsafe { stat.assume_init() })
}

/// The unit in bytes in which the host punches or zeroes a range of a file: at least a block of the
/// file system and a page; a power of two. For a block device, its logical block.
pub(super) fn block(file: &File) -> io::Result<u32> {
    if let Some(unit) = logical_block(file)? {
        return Ok(unit);
    }
    let block = u32::try_from(file.metadata()?.blksize()).unwrap_or(1 << 20);
    Ok(block.max(rustix::param::page_size() as u32).next_power_of_two())
}

/// The unit in which a block device can be discarded and zeroed; `None` for a file, which has no
/// such unit.
pub(super) fn logical_block(file: &File) -> io::Result<Option<u32>> {
    if !file.metadata()?.file_type().is_block_device() {
        return Ok(None);
    }
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open, and BLKSSZGET writes one `int`.
    match unsafe { libc::ioctl(file.as_raw_fd(), libc::BLKSSZGET, &raw mut bytes) } {
        0 => Ok(u32::try_from(bytes).ok().filter(|unit| unit.is_power_of_two())),
        _ => Err(io::Error::last_os_error()),
    }
}
