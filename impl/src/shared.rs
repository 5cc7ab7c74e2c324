//! The state that all queues of one device share: the configuration, the negotiated features, the
//! cache mode, the flush group and the range locks.
//!
//! Each queue may run on its own thread. Constant fields are read freely; the cache mode and the
//! negotiated features are atomics; the flush group and the range locks each have a lock, the first
//! taken only by requests that wait for a sync, the second only on disks with partial granules. A
//! production backend that does not use the register surface creates a [`Shared`] and its queues
//! directly.

use crate::config::{Config, ConfigError, WRITEBACK_OFFSET};
use crate::disk::Limits;
use crate::errno::Errno;
use crate::flush_group::FlushGroup;
use crate::flush_group::SharedFlushGroup;
use crate::locks::RangeLocks;
use crate::queue_set::{QueueIndex, QueueSet};
use crate::state::DeviceState;
use crate::sync::{AtomicBool, AtomicU8, AtomicU64, DeepCopy, Mutex, MutexGuard, Ordering, lock};
use crate::virtio::{Negotiates, Negotiation, Refused, read_space};
use crate::wire::{F_CONFIG_WCE, F_FLUSH};
use std::fmt;

/// The state common to all queues of a device.
#[derive(Clone, Debug)]
pub struct Shared {
    config: Config,
    limits: Limits,
    /// The size shown to the driver in bytes; it may grow, and the disk is at least as large.
    capacity: DeepCopy<AtomicU64>,
    negotiation: Negotiation,
    /// The byte `writeback` of the configuration space: 0 or 1.
    writeback: DeepCopy<AtomicU8>,
    /// Derived from the two above (5.2.6.2, rows A to H): whether a write must be stable when it
    /// completes.
    write_through: DeepCopy<AtomicBool>,
    flush_group: SharedFlushGroup,
    locks: DeepCopy<Mutex<RangeLocks>>,
}

/// The reason why a device cannot be resized.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResizeError {
    /// The new size is smaller than the current one, which is this number of bytes.
    Shrinks(u64),
    /// The size is not a multiple of the disk's granule, which has this number of bytes.
    Unaligned(u32),
}

impl fmt::Display for ResizeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ResizeError::Shrinks(bytes) => write!(f, "a disk of {bytes} bytes does not shrink"),
            ResizeError::Unaligned(granule) => {
                write!(f, "the size must be a multiple of the disk's granule, {granule} bytes")
            }
        }
    }
}

impl std::error::Error for ResizeError {}

impl Negotiates for Shared {
    fn negotiation(&self) -> &Negotiation {
        &self.negotiation
    }

    fn accepts(&self, features: u64) -> bool {
        self.negotiate(features).is_ok()
    }
}

impl Shared {
    /// The shared state of a device over a disk with `limits`.
    ///
    /// # Errors
    /// The configuration contradicts itself or the disk.
    pub fn new(config: Config, limits: Limits) -> Result<Shared, ConfigError> {
        config.check(&limits)?;
        let shared = Shared {
            negotiation: Negotiation::new(config.offered(&limits)),
            writeback: DeepCopy(AtomicU8::new(u8::from(config.writeback))),
            write_through: DeepCopy(AtomicBool::new(false)),
            flush_group: SharedFlushGroup::new(),
            locks: DeepCopy(Mutex::new(RangeLocks::new(limits.granule))),
            capacity: DeepCopy(AtomicU64::new(limits.capacity)),
            config,
            limits,
        };
        shared.set_mode(0, shared.start_mode(0));
        Ok(shared)
    }

    /// How the device was set up.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Static disk limits. `limits.capacity` is the size at creation;
    /// [`capacity`](Shared::capacity) is the current size.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The size shown to the driver, in bytes.
    pub fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Acquire)
    }

    /// Shows the driver a disk of `capacity` bytes, which the disk must already have; returns
    /// whether that is a change.
    ///
    /// The caller must send the driver of a live device a configuration change notification.
    ///
    /// # Errors
    /// The new size is smaller or unaligned; nothing changes then.
    ///
    /// # Spec
    /// CF-02.
    pub fn grow(&self, capacity: u64) -> Result<bool, ResizeError> {
        let granule = self.limits.granule;
        if !capacity.is_multiple_of(u64::from(granule)) {
            return Err(ResizeError::Unaligned(granule));
        }
        // Sizes only grow, so of two threads that resize, the larger size wins, and the smaller one
        // is never seen after it.
        let before = self.capacity.fetch_max(capacity, Ordering::AcqRel);
        if capacity < before {
            return Err(ResizeError::Shrinks(before));
        }
        // After the size: a driver that reads the new size with the old generation has still read a
        // size that was valid.
        if capacity > before {
            self.negotiation.config_changed();
        }
        Ok(capacity > before)
    }

    /// Takes over the state of a saved device, except for its negotiation. No other thread may use
    /// this one meanwhile.
    pub(crate) fn adopt(&self, state: &DeviceState) {
        self.set_mode(self.negotiated(), u8::from(state.writeback));
        self.capacity.store(state.capacity, Ordering::Release);
        self.negotiation.set_generation(state.generation);
        if state.failed {
            self.flush_group.adopt_failure();
        }
    }

    /// The offered features.
    pub fn offered(&self) -> u64 {
        self.negotiation.offered()
    }

    /// The negotiated features; 0 before negotiation is over.
    pub fn negotiated(&self) -> u64 {
        self.negotiation.negotiated()
    }

    /// Checks the features that the driver accepted and, if they are valid, makes them the
    /// negotiated ones until the next reset.
    ///
    /// # Errors
    /// A bit was accepted that was not offered, or VERSION_1 was not; nothing changes then.
    ///
    /// # Spec
    /// FB-02, FB-04, FB-05; BLK-D-03 for the cache mode.
    pub fn negotiate(&self, features: u64) -> Result<(), Refused> {
        self.negotiation.judge(features)?;
        self.set_mode(features, self.start_mode(features));
        Ok(())
    }

    /// Ends a life: nothing is negotiated, and the cache mode has its start value.
    pub fn forget_negotiation(&self) {
        self.set_mode(0, self.start_mode(0));
    }

    /// Whether a write taken now must be stable when it completes.
    pub fn write_through(&self) -> bool {
        self.write_through.load(Ordering::Acquire)
    }

    /// Whether a sync has failed since the disk was opened.
    pub fn sync_failed(&self) -> bool {
        self.flush_group.has_failed()
    }

    /// Records that the disk was reopened and synced without error, so earlier failures no longer
    /// count.
    ///
    /// # Panics
    /// If requests are in flight.
    pub fn reopened(&self) {
        self.flush_group.reopened();
    }

    /// Reads the configuration space from `offset` on; bytes past its end are zero.
    pub fn config_read(&self, offset: u64, out: &mut [u8]) {
        let space = self.config.space(&self.limits, self.capacity(), self.writeback());
        read_space(&space, offset, out);
    }

    /// Writes the configuration space. Only a one-byte write of `writeback`, with CONFIG_WCE
    /// negotiated, has an effect.
    ///
    /// # Spec
    /// 5.2.5 (BLK-R-17); values other than 0 count as 1 (AMB-20).
    pub fn config_write(&self, offset: u64, bytes: &[u8]) {
        let negotiated = self.negotiated();
        let negotiated_wce = negotiated & F_CONFIG_WCE != 0;
        match (offset, bytes) {
            (WRITEBACK_OFFSET, &[value]) if negotiated_wce => {
                self.set_mode(negotiated, u8::from(value != 0));
            }
            _ => {}
        }
    }

    /// The generation of the configuration space: it changes whenever the content may have changed.
    pub fn generation(&self) -> u32 {
        self.negotiation.generation()
    }

    pub(crate) fn flush_group(&self) -> MutexGuard<'_, FlushGroup> {
        self.flush_group.lock()
    }

    pub(crate) fn locks(&self) -> MutexGuard<'_, RangeLocks> {
        lock(&self.locks)
    }

    /// Records that the sync in `queue`'s lane has ended, or is not tried again; returns the queues
    /// that must look at the flush group again.
    pub(crate) fn end_sync<T>(&self, queue: QueueIndex, result: &Result<T, Errno>) -> QueueSet {
        self.flush_group.end_sync(queue, result)
    }

    /// Whether partial granules exist, so that requests need range locks.
    pub(crate) fn has_partial_granules(&self) -> bool {
        u64::from(self.limits.granule) > crate::wire::SECTOR
    }

    /// The byte `writeback` of the configuration space.
    pub(crate) fn writeback(&self) -> u8 {
        self.writeback.load(Ordering::Acquire)
    }

    /// "If VIRTIO_BLK_F_CONFIG_WCE is negotiated but VIRTIO_BLK_F_FLUSH is not, writeback is
    /// initially 0" (BLK-D-03).
    fn start_mode(&self, features: u64) -> u8 {
        let pinned = features & F_CONFIG_WCE != 0 && features & F_FLUSH == 0;
        u8::from(self.config.writeback && !pinned)
    }

    fn set_mode(&self, negotiated: u64, writeback: u8) {
        let write_through = if negotiated & F_CONFIG_WCE != 0 {
            writeback == 0
        } else {
            // A guest that was offered FLUSH and declined it relies on every completed write
            // (BLK-D-29, row B).
            self.offered() & F_FLUSH != 0 && negotiated & F_FLUSH == 0
        };
        // A queue may see the features before their mode. Until then every write is stable where
        // FLUSH is offered, and volatile where it is not, which is then the final mode too.
        self.negotiation.set(negotiated);
        // A guest may rely on every write that it sends and sees answered while `writeback` reads
        // 0. So `write_through` is set before the byte reads 0 and cleared after it no longer does.
        // A queue that sees it cleared, and takes a write as volatile, also sees the byte that
        // permits that.
        if write_through {
            self.write_through.store(true, Ordering::Release);
        }
        let changed = self.writeback.swap(writeback, Ordering::AcqRel) != writeback;
        if !write_through {
            self.write_through.store(false, Ordering::Release);
        }
        if changed {
            self.negotiation.config_changed();
        }
    }
}
