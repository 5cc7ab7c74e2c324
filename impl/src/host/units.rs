//! What a host asks of offsets, lengths and memory: of direct I/O, and of deallocation on a block
//! device.

use crate::bounce::BOUNCE_ALIGN;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

/// Units of direct I/O in bytes, all powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alignment {
    /// Of offsets and lengths; 512 to 4096.
    pub(super) granule: u32,
    /// Of addresses; at most that of a bounce.
    pub(super) memory: usize,
}

/// What a file opened for direct I/O asks for; `None` if there is none it can be satisfied with.
pub(super) fn of_direct_io(file: &File) -> io::Result<Option<Alignment>> {
    let stat = statx(file)?;
    let (granule, memory) = if stat.stx_mask & libc::STATX_DIOALIGN != 0 {
        (stat.stx_dio_offset_align, stat.stx_dio_mem_align)
    } else {
        let unit = logical_block(file)?.unwrap_or(4096);
        (unit, unit)
    };
    // The host says zero where it can do no direct I/O.
    let usable = granule.is_power_of_two()
        && memory.is_power_of_two()
        && granule <= 4096
        && memory as usize <= BOUNCE_ALIGN;
    Ok(usable.then(|| Alignment { granule: granule.max(512), memory: memory as usize }))
}

fn statx(file: &File) -> io::Result<libc::statx> {
    let mut stat = MaybeUninit::<libc::statx>::zeroed();
    let flags = libc::AT_EMPTY_PATH;
    // SAFETY: the descriptor is open, the path is an empty string, and `stat` has room for what is
    // written.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), flags, libc::STATX_DIOALIGN, stat.as_mut_ptr())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all its fields are integers, for which zero bytes are a value.
    Ok(unsafe { stat.assume_init() })
}

/// The bytes that the host handles as one when it punches or zeroes a range of a file: at least a
/// block of the file system and a page; a power of two. For a block device its logical block.
pub(super) fn block(file: &File) -> io::Result<u32> {
    if let Some(unit) = logical_block(file)? {
        return Ok(unit);
    }
    let block = u32::try_from(file.metadata()?.blksize()).unwrap_or(1 << 20);
    Ok(block.max(rustix::param::page_size() as u32).next_power_of_two())
}

/// The unit in which a block device can be discarded and zeroed; `None` for a file, where any bytes
/// can.
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
