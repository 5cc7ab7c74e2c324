//! Deterministic simulation of virtio storage: a real device, a scheduler that owns every
//! uncertainty, power cuts at the worst moments, and an independent oracle.
//!
//! A [`Pilot`](pilot::Pilot) draws numbers from a [`Choose`](choose::Choose) and turns them into
//! [`Action`](action::Action)s; a [`World`](world::World) does them, one at a time, and draws
//! nothing. The device under test is anything that implements
//! [`DeviceUnderTest`](dut::DeviceUnderTest); ours is [`Blk`](blk::Blk), the code that ships. What
//! the guest sees is judged by `powerfail_model`, which knows neither the device nor the disk.

// What is printed goes through one place in `cli`, where it cannot fail.
#![cfg_attr(not(test), deny(clippy::print_stdout, clippy::print_stderr))]

pub mod action;
pub mod blk;
pub mod both;
pub mod campaign;
mod caught;
pub mod choose;
mod cli;
pub mod coverage;
pub mod cuts;
pub mod demon;
pub mod disk;
pub mod dut;
pub mod explore;
pub mod export;
mod files;
pub mod guest;
pub mod hash;
pub mod inevitable;
mod known;
mod leftovers;
pub mod life;
pub mod memory;
pub mod on_cuts;
pub mod on_file;
pub mod on_map;
pub mod payload;
pub mod pilot;
pub mod plug;
pub mod pmem;
pub mod prng;
pub mod rebase;
mod record;
mod replay_dir;
pub mod run;
pub mod sectors;
mod shell;
pub mod shrink;
pub mod spec;
pub mod story;
mod threads;
pub mod trace;
pub mod wire;
pub mod world;
pub mod wrong;

pub use cli::{builtin, main};
pub use replay_dir::{ReplayedTrace, ReplayedTraces, replay_dir};
