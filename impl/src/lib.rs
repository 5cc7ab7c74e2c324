//! A virtio block device: a state machine that reads and writes guest memory and otherwise only *asks*.

mod bounce;
mod buffer;
mod chain;
mod config;
mod crank;
mod device;
mod disk;
mod gate;
#[cfg(all(target_os = "linux", not(loom)))]
pub mod host;
mod locks;
mod plan;
mod queue;
mod shared;
mod slots;
mod sync;
mod wakes;
pub mod wire;

pub use bounce::{BOUNCE_ALIGN, Bounce};
pub use buffer::{Buffer, GuestRange, Ranges};
pub use config::{CONFIG_BYTES, Config, ConfigError, WRITEBACK_OFFSET};
pub use crank::{Step, crank, step};
pub use device::{Device, QueueError, QueueLayout};
pub use disk::{Completion, Disk, Errno, Limits, Op, Submission, Token};
pub use queue::BlockQueue;
pub use shared::{Refused, Shared};
pub use virtio_queue::{Queue, QueueT};
pub use vm_memory;
pub use wakes::{MAX_QUEUES, QueueIndex};
