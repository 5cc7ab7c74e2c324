//! Adapters to a Linux host: files as disks and as memory, and guests in other processes.
//!
//! A disk executes operations and reports their results; everything else lies above the seam.

mod claim;
mod file;
#[expect(clippy::disallowed_types, reason = "how a write is made depends on it, not what it does")]
mod inline_io;
#[expect(clippy::disallowed_types, reason = "a sync takes too long for a queue's own thread")]
mod map;
mod memory;
mod open;
mod regions;
mod ring;
mod shown;
mod sigbus;
mod slices;
mod units;
mod uring;
mod uring_op;
pub mod vhost_user;

pub use file::FileDisk;
pub use map::{MapError, MapLane, MappedFile};
pub use memory::ArcMemory;
pub use open::{Access, Growth, OpenError};
pub use regions::Regions;
pub use shown::Shown;
pub use uring::{SerialUring, UringDisk};
