//! The host below a device: the simulated disk, and the power-cut file system.

pub mod disk;
pub mod power_cut_fs;
