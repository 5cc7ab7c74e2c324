//! The register surface of a persistent memory: status, features, configuration space and queue
//! set-up.
//!
//! It implements the lives of the queue and its ring like a [`Device`](crate::Device), and moves no
//! data: the caller lends them, the memory and a backing to [`step`](super::step) or
//! [`crank`](super::crank()).

use super::config::{PmemConfig, PmemConfigError, Region};
use super::queue::PmemQueue;
use super::shared::PmemShared;
use crate::sync::Arc;
use crate::virtio::{Parts, QueueError, QueueLayout, Registers, Ring};
use crate::wire::{F_EVENT_IDX, STATUS_DRIVER_OK, STATUS_FEATURES_OK};

/// A virtio persistent memory.
///
/// A clone shares nothing with the original, and the same steps have the same results on both.
#[derive(Debug)]
pub struct PmemDevice {
    shared: Arc<PmemShared>,
    queue: PmemQueue,
    ring: Ring,
    registers: Registers,
}

impl PmemDevice {
    /// A device in its reset state.
    ///
    /// # Errors
    /// The configuration contradicts itself.
    pub fn new(config: PmemConfig) -> Result<PmemDevice, PmemConfigError> {
        let size = config.queue_size;
        let shared = Arc::new(PmemShared::new(config)?);
        Ok(PmemDevice {
            queue: PmemQueue::new(Arc::clone(&shared)),
            ring: Ring::new(size),
            shared,
            registers: Registers::default(),
        })
    }

    /// The state that the queue and the registers share.
    pub fn shared(&self) -> &PmemShared {
        &self.shared
    }

    /// Reads the configuration space; bytes past its end are zero. Nothing in it can be written.
    ///
    /// # Spec
    /// CF-01: at any time, also before FEATURES_OK. Until then `start` and `size` are the range
    /// (PM-D-03).
    pub fn config_read(&self, offset: u64, out: &mut [u8]) {
        self.shared.config_read(offset, out);
    }

    /// The region that the transport announces as shared memory region `id`; see
    /// [`PmemShared::shared_memory`].
    pub fn shared_memory(&self, id: u8) -> Option<Region> {
        self.shared.shared_memory(id)
    }

    /// Places the queue, the only one.
    ///
    /// # Errors
    /// It is the wrong time, it is another queue, or the layout is impossible; nothing changes
    /// then.
    ///
    /// # Spec
    /// VS-20.
    pub fn set_queue(&mut self, index: u16, layout: QueueLayout) -> Result<(), QueueError> {
        self.catch_up();
        let negotiated = self.registers.has(STATUS_FEATURES_OK);
        let live = self.registers.has(STATUS_DRIVER_OK);
        if !negotiated || live || self.registers.is_resetting() {
            return Err(QueueError::NotNow);
        }
        if index > 0 {
            return Err(QueueError::NoSuchQueue);
        }
        self.ring.place(layout)?;
        self.ring.set_event_idx(self.shared.negotiated() & F_EVENT_IDX != 0);
        Ok(())
    }

    /// The queue and its ring, for stepping: from DRIVER_OK on until its last sync after a reset
    /// has come back.
    pub fn queue_mut(&mut self) -> Option<(&mut PmemQueue, &mut Ring)> {
        let live = self.registers.has(STATUS_DRIVER_OK);
        let stepped = if self.registers.is_resetting() { !self.queue.is_idle() } else { live };
        let stepped = stepped && self.ring.is_ready();
        stepped.then_some((&mut self.queue, &mut self.ring))
    }

    /// Records that the backing was reopened and synced without error: earlier failed syncs no
    /// longer count.
    ///
    /// # Panics
    /// If flushes are in flight.
    pub fn reopened(&mut self) {
        self.shared.reopened();
    }

    fn finish_reset(&mut self) {
        self.queue.restart();
        self.ring.reset();
        self.shared.forget_negotiation();
        self.registers.end_reset();
    }

    /// Asserts the invariants that hold between any two steps.
    ///
    /// # Panics
    /// If registers, queue and ring are inconsistent; see [`PmemQueue::check`].
    pub fn check(&self) {
        self.registers.check();
        self.queue.check();
        let negotiated = self.shared.negotiated() != 0;
        assert_eq!(negotiated, self.registers.has(STATUS_FEATURES_OK), "FB-02");
        assert!(!self.ring.is_ready() || negotiated, "a ring is placed after FEATURES_OK");
    }
}

impl Parts for PmemDevice {
    type Shared = PmemShared;

    fn shared(&self) -> &PmemShared {
        &self.shared
    }

    fn registers(&self) -> &Registers {
        &self.registers
    }

    fn registers_mut(&mut self) -> &mut Registers {
        &mut self.registers
    }

    fn begin_reset(&mut self) {
        self.registers.begin_reset();
        self.queue.stop();
    }

    fn catch_up(&mut self) {
        if self.registers.is_resetting() {
            if self.queue.is_idle() {
                self.finish_reset();
            }
        } else if self.queue.is_broken() {
            self.registers.need_reset();
        }
    }
}

impl Clone for PmemDevice {
    fn clone(&self) -> PmemDevice {
        let shared = Arc::new(PmemShared::clone(&self.shared));
        let queue = self.queue.fork(Arc::clone(&shared));
        PmemDevice { queue, ring: self.ring.clone(), registers: self.registers.clone(), shared }
    }
}
