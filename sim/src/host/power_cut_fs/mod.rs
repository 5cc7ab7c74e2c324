//! Power cuts below a real file: a file system of one file that loses unsynced data.
//!
//! [`Mount`] mounts it over a file, with FUSE. Users of that file make real system calls, and
//! [`Power`] cuts the power below them.
//!
//! # The fault model
//!
//! The model is that of the [simulated disk](crate::host::disk), in units of 512 bytes: a `medium`
//! under a `cache`.
//!
//! * Reads through every handle see the cache. The kernel caches nothing: files are open for direct
//!   I/O, so each system call arrives unchanged.
//! * `fsync` and `fdatasync` make stable every write before them. A write with `O_DSYNC` or
//!   `RWF_DSYNC`, or a hole punched through such a handle, is stable when it returns.
//! * Dirty sectors may be written back at any time.
//! * A sync that fails may forget dirty sectors: they are marked clean. As on Linux, each open file
//!   reports the error once: the syncing one at once, others at their next sync, duplicated
//!   descriptors together. Later syncs succeed without the forgotten sectors, and the cache holds
//!   them until the power is cut.
//! * A power cut keeps any subset of the dirty sectors, so pages may be torn. Open handles fail
//!   with `EIO` from then on; new ones see the medium.
//!
//! The size of the file is that of the [initial content](Power::fill) and does not change:
//! truncation fails, and a write at or after the end returns ENOSPC, as on a block device.
//!
//! Not here: eviction of forgotten sectors while the power is on, and failing reads.

mod contents;
mod fuse;
mod mount;
mod power;

pub use contents::IgnoredSync;
pub use mount::{Mount, MountError};
pub use power::Power;
