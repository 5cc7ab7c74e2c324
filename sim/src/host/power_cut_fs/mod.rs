//! Power cuts below a real file: a file system of one file that forgets what was not synced.
//!
//! [`Mount`] puts it over a file, with FUSE. Whoever opens that file uses real system calls on it,
//! and [`Power`] cuts the power beneath them.
//!
//! # The fault model
//!
//! It is the one of the [simulated disk](crate::host::disk), in units of 512 bytes: a `medium`
//! under a `cache`.
//!
//! * Reads see the cache, and so does every handle. The kernel keeps nothing back: files are open
//!   for direct transfers, so each system call arrives as it was made.
//! * A sync, of data or of all, makes stable everything that was written before it arrived. A write
//!   with `O_DSYNC` or `RWF_DSYNC` is stable when it returns. So is a hole through such a handle.
//! * Dirty sectors may be written back at any time.
//! * A sync that fails may forget, sector by sector, that data was dirty. Each open file is told
//!   once, as on Linux: the one that asked at once, others at their next sync, copies of a
//!   descriptor together. After that syncs succeed without it, and the cache shows it until the
//!   power goes.
//! * A power cut keeps any subset of the dirty sectors. Whole pages survive, or torn ones. Handles
//!   that were open fail with `EIO` from then on; new ones see the medium.
//!
//! The size is that of the content the owner [put there](Power::fill), and does not change: it
//! cannot be truncated, and a write behind its end finds no space, as on a block device.
//!
//! Not here: forgotten sectors that are evicted while the power is on, requests that fail for other
//! reasons than a sync, mapped memory.

mod contents;
mod fuse;
mod mount;
mod power;

pub use contents::IgnoredSync;
pub use mount::{Mount, MountError};
pub use power::Power;
