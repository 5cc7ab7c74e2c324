//! Deterministic simulation of virtio storage: a real device, a scheduler that owns every
//! uncertainty, power cuts at the worst moments, and an independent oracle.
//!
//! A [`Scheduler`](schedule::Scheduler) draws numbers from a [`Choose`](base::choose::Choose) and
//! turns them into [`Action`](world::action::Action)s; a [`World`](world::World) does them, one at
//! a time, and draws nothing. The device under test implements
//! [`DeviceUnderTest`](dut::DeviceUnderTest); [`Blk`](devices::blk::Blk) is the block device of
//! this repository, with the code that ships. The oracle in `powerfail_model` judges the guest's
//! observations and depends on neither the device nor the disk.

// All output goes through `cli::say`, which cannot fail.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod attach;
pub mod base;
mod check;
mod cli;
pub mod devices;
pub mod dut;
pub mod explore;
pub mod export;
pub mod guest;
pub mod host;
mod replay_dir;
pub mod report;
pub mod run;
pub mod schedule;
pub mod shrink;
pub mod trace;
pub mod world;

pub use check::{Check, Checked, CheckedFinding, check};
pub use cli::{builtin, main, main_with};
pub use replay_dir::{ReplayedTrace, ReplayedTraces, replay_dir};
