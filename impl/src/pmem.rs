//! A virtio persistent memory: the guest stores to memory that lies on the host's, and asks for a
//! flush when the stores have to last.
//!
//! The device sees no store. All it is asked for is to flush, so all it asks of what is below is to
//! sync, through a seam as small ([`Backing`]). Flushes share syncs at the same gate as those of a
//! disk, and never one that began before them.
//!
//! ```text
//!   PmemDevice        registers, negotiation, configuration space, lives    device
//!     └ PmemShared    negotiated features, where the memory is, the gate    shared, config
//!     └ PmemQueue     flushes in flight: ring → gate → sync → answer        queue, chain
//!   step, crank       join the queue and its backing                        crank
//!   Backing           the seam: a token down, how its sync went up          backing
//!     └ MappedFile    a file of a Linux host, mapped                        host/map
//! ```
//!
//! # What it promises
//!
//! - A flush that returns 0 means that a sync which *started* after the flush was taken has ended
//!   without error (PM-D-04).
//! - Once a sync has failed no flush returns 0, across device resets too, until the backing was
//!   opened again ([`PmemDevice::reopened`]).
//! - 0 for success and -1 for failure (PM-D-05), as four bytes of little endian. An unknown type is
//!   a failure and no flush.
//! - A chain that makes no sense is answered -1 if its first four writable bytes are in guest
//!   memory, and returned with length 0 if not. How bytes are cut into descriptors carries no
//!   meaning, and there may be more of them than are needed.
//! - Every head published is used exactly once, unless a reset ends it.
//!
//! # What it does not do
//!
//! It maps nothing: that the memory at the announced address is the backing's, shared with all who
//! map it, is the VMM's part; so is placing it, in a shared memory region or not. Who that can be
//! today is said at the end of the table.
#![doc = include_str!("pmem/SENTENCES.md")]

mod backing;
mod chain;
mod config;
mod crank;
mod device;
mod queue;
mod shared;
pub mod wire;

pub use backing::{Backing, Synced};
pub use config::{PmemConfig, PmemConfigError, Region};
pub use crank::{crank, settle, step};
pub use device::PmemDevice;
pub use queue::PmemQueue;
pub use shared::PmemShared;
