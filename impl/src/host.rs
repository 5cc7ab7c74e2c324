//! Disks of a Linux host. They do what they are told and report how it went; whatever can be wrong lies above the seam.

mod file;

pub use file::{FileDisk, OpenError};
