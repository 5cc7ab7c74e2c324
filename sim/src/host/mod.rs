//! The host below a device: the simulated disk, and a real file system that loses power.

pub mod disk;
pub mod power_cut_fs;
