//! A virtio persistent memory: the guest stores to memory that is mapped from the host, and
//! requests a flush when the stores must be stable.
//!
//! The device sees no store. Its only request is a flush, so its only operation on the host is a
//! sync, through a small seam ([`Backing`]). Flushes share syncs through the same group commit as
//! those of a disk, and never one that began before them.
//!
//! ```text
//!   PmemDevice        registers, negotiation, configuration space           device
//!     └ PmemShared    negotiated features, location, flush group            shared, config
//!     └ PmemQueue     flushes in flight: ring → sync → answer               queue, chain
//!   step, crank       join the queue and its backing                        crank
//!   Backing           the seam: a token down, the result of a sync up       backing
//!     └ MappedFile    a file of a Linux host, mapped                        host/map
//! ```
//!
//! # Guarantees
//!
//! - A flush that returns 0 means that a sync which *started* after the flush was taken has ended
//!   without error (PM-D-04).
//! - Once a sync has failed, no flush returns 0, across device resets too, until the backing is
//!   reopened ([`PmemDevice::reopened`]).
//! - The result is 0 for success and -1 for failure (PM-D-05), as four little-endian bytes. An
//!   unknown type is a failure and no flush.
//! - An invalid chain is answered -1 if its first four writable bytes are in guest memory, and
//!   returned with length 0 if not. How bytes are cut into descriptors carries no meaning, and
//!   surplus bytes are allowed.
//! - Every published head is used exactly once, unless a reset ends it.
//!
//! # Not supported
//!
//! The device maps nothing. The VMM must map the backing's memory at the announced address, shared
//! with all other mappings of it, in a shared memory region or not. The section after the following
//! table lists the VMMs that can do so today.
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
