//! Disks of a Linux host. They do what they are told and report how it went; whatever can be wrong lies above the seam.

mod file;
mod flight;
mod memory;
mod open;
mod ring;
mod slices;
mod units;
mod uring;

pub use file::FileDisk;
pub use memory::ArcMemory;
pub use open::{Access, OpenError};
pub use uring::{SerialUring, UringDisk};
