//! A log-structured disk on the simulated disk, as an example of a device whose medium is not
//! plain, with four twins that have one mistake each.

mod device;
mod record;

pub use device::{LogDisk, Twin};
