//! A virtio block device as a state machine: it reads and writes guest memory and leaves every
//! other effect to its caller.
//!
//! The same code runs in the simulator and in production. Below it is a [`Disk`], a handful of
//! methods over plain data; above it is a transport that owns registers and rings. The state
//! machine does everything between them: framing, validation, splitting, partial granules, short
//! transfers and retries, write-through, group commit, reset. It has no clock, no threads, no
//! randomness and no logging.
//!
//! # Map
//!
//! ```text
//! Device          registers, negotiation, configuration space     device, config, state
//!   Shared        state of all queues: mode, flushes, locks       shared, flush_group, locks
//!   BlockQueue    one request queue and its requests in flight    queue/*, chain, slots, plan
//! PmemDevice      a persistent memory over the same flush group   pmem
//!   WorkerLock    the lock around a queue with a worker thread    worker_lock
//! step, crank     join a queue and its lane of the disk           crank
//! Disk            the seam: Submission down, Completion up        disk, errno, buffer, bounce
//!   FileDisk      a file of a Linux host                          host/file
//!   UringDisk     the same over io_uring                          host/uring
//! Server          the rings of a guest in another process         host/vhost_user
//! ```
//!
//! A backend with its own registers (vhost-user) creates a [`Shared`] and its [`BlockQueue`]s
//! directly and runs each queue on a thread; an in-process transport and the simulator use a whole
//! [`Device`]. The loom tests in `tests/loom` check each claim about state that threads share; the
//! first page there lists their coverage.
//!
//! # Guarantees
//!
//! - A FLUSH answered OK means that a sync which *started* after the FLUSH was taken has ended
//!   without error (BLK-D-31, BLK-D-32). Flushes share syncs, but never one that began before them.
//! - In write-through mode, which includes a driver that declined FLUSH (rows B, D and F), OUT and
//!   WRITE_ZEROES are answered OK only when they are stable. The mode is sampled once, when the
//!   request is taken.
//! - Once a sync has failed, no FLUSH and no write-through write succeeds on that open disk, across
//!   device resets too (AMB-02). [`Device::reopened`] is the only way back. A backend that starts
//!   again syncs its disk before it creates a [`Device`], and does not start if that fails. Any
//!   other failed operation fails only its own request ([`Errno::harm`]).
//! - A request that must be refused is refused before any effect, for every segment (BLK-D-21 to
//!   BLK-D-23, AMB-15). RO counts when offered.
//! - Every published head is used exactly once (VS-16), unless a reset ends it; once a reset reads
//!   as done, nothing of the old life lands in guest memory or on the disk (ST-04, AMB-21).
//! - A device that was paused, saved and restored continues like one that was not. A saved state
//!   carries no volatile data: a save syncs first, and fails if the sync fails ([`Device::save`]).
//! - A backend that keeps an in-flight record ([`InflightRecord`]) may die under a live driver: its
//!   successor still uses each published head exactly once.
//! - An invalid chain is answered IOERR if it has a writable byte in guest memory, and returned
//!   with length 0 if not (AMB-29). An invalid ring needs a reset (ST-02).
//!
//! # Not supported
//!
//! Legacy drivers (BLK-L), packed rings (VP), IN_ORDER, LIFETIME, SECURE_ERASE, ZONED (BLK-Z),
//! SCSI, BARRIER and shrinking are neither offered nor implemented; their request types are
//! answered UNSUPP. INDIRECT is followed whether it was negotiated or not.

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
