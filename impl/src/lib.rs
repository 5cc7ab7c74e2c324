//! A virtio block device as a state machine: it reads and writes guest memory and otherwise only
//! *asks*.
//!
//! The device does not know whether it is simulated. What lies below it is a [`Disk`], a handful of
//! methods over plain data; what lies above is a transport that owns registers and rings.
//! Everything that can be wrong about a block device is in between, and here: framing, validation,
//! splitting, partial granules, short transfers and retries, write-through, the flush gate, reset.
//! There is no clock, no thread, no randomness and no logging in it.
//!
//! # The map
//!
//! ```text
//! Device          registers, negotiation, configuration space     device, config, state
//!   Shared        what queues share: cache mode, flushes, locks   shared, flush_group, locks
//!   BlockQueue    one request queue and its requests in flight    queue/*, chain, slots, plan
//! PmemDevice      a persistent memory over the same flush group   pmem
//! WorkerLock      who steps a queue that has a thread of its own  worker_lock
//! step, crank     join a queue and its lane of the disk           crank
//! Disk            the seam: Submission down, Completion up        disk, errno, buffer, bounce
//!   FileDisk      a file of a Linux host                          host/file
//!   UringDisk     the same over io_uring                          host/uring
//! Server          the rings of a guest in another process         host/vhost_user
//! ```
//!
//! A backend with registers of its own (vhost-user) makes a [`Shared`] and its [`BlockQueue`]s
//! directly and runs each queue on a thread; an in-process transport and the simulator use
//! [`Device`] whole. What threads share is tried claim by claim in `tests/loom`, whose first page
//! says what that covers.
//!
//! # What it promises
//!
//! - A FLUSH answered OK means that a sync which *started* after the FLUSH was taken has ended
//!   without error (BLK-D-31, BLK-D-32). Flushes share syncs; they never share one that began
//!   before them.
//! - In write-through mode, which includes a driver that declined FLUSH (rows B, D and F), OUT and
//!   WRITE_ZEROES are answered OK only when they are stable. The mode is sampled once, when the
//!   request is taken.
//! - Once a sync has failed, no FLUSH and no write-through write succeeds on that open disk, across
//!   device resets too (AMB-02). [`Device::reopened`] is the only way back. A backend that starts
//!   again syncs its disk before it makes a [`Device`], and does not start if that fails. Nothing
//!   else has that effect: an operation that fails otherwise fails its own request
//!   ([`Errno::harm`]).
//! - What must be refused is refused before any effect, for every segment (BLK-D-21 to BLK-D-23,
//!   AMB-15). RO counts when offered.
//! - Every head published is used exactly once (VS-16), unless a reset ends it; after a reset shows
//!   done nothing of the old life lands in guest memory or on the disk (ST-04, AMB-21).
//! - A device that was paused, saved and restored goes on as one that was not. A saved state
//!   carries nothing volatile: saving syncs, and fails where that does ([`Device::save`]).
//! - A backend that keeps a record of what is in flight ([`InflightRecord`]) may die under a live
//!   driver: its successor uses each head that was published exactly once all the same.
//! - A chain that makes no sense is answered IOERR if it has a writable byte in guest memory, and
//!   returned with length 0 if not (AMB-29). A ring that makes no sense needs a reset (ST-02).
//!
//! # What it does not do
//!
//! Legacy drivers (BLK-L), packed rings (VP), IN_ORDER, LIFETIME, SECURE_ERASE, ZONED (BLK-Z),
//! SCSI, BARRIER and shrinking are neither offered nor done; their request types are answered
//! UNSUPP. INDIRECT is followed whether it was negotiated or not.

mod bounce;
mod buffer;
mod chain;
mod config;
mod crank;
mod device;
mod disk;
mod errno;
mod flush_group;

#[cfg(all(target_os = "linux", not(any(loom, shuttle))))]
pub mod host;
mod inflight;
mod locks;
mod plan;
pub mod pmem;
mod queue;
mod queue_set;
mod shared;
mod slots;
mod state;
mod sync;
mod virtio;
pub mod wire;
pub mod worker_lock;

pub use bounce::{BOUNCE_ALIGN, Bounce};
pub use buffer::{Buffer, GuestRange, Ranges};
pub use config::{CONFIG_BYTES, Config, ConfigError, WRITEBACK_OFFSET};
pub use crank::{Step, crank, settle, step};
pub use device::{Device, RestoreError, SaveError};
pub use disk::{Completion, Disk, Limits, Op, Submission, Token};
pub use errno::{Errno, Harm, OpKind};
pub use inflight::{InflightError, InflightMemory, InflightRecord};
pub use queue::BlockQueue;
pub use queue_set::{MAX_QUEUES, QueueIndex};
pub use shared::{ResizeError, Shared};
pub use state::{DeviceState, RingState, StateError};
pub use virtio::{QueueError, QueueLayout, Refused, RegisterSurface, Ring};
pub use vm_memory;
