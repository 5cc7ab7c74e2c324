//! The register surface of a persistent memory: status, features, configuration space and queue
//! set-up.
//!
//! It leads the queue and its ring through their lives as a [`Device`](crate::Device) does, and
//! moves no data: the caller lends them, the memory and a backing to [`step`](super::step) or
//! [`crank`](super::crank()).

use super::config::{PmemConfig, PmemConfigError, Region};
use super::queue::PmemQueue;
use super::shared::PmemShared;
use crate::device::{QueueError, QueueLayout};
use crate::sync::Arc;
use crate::wire::{
    F_EVENT_IDX, STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FAILED,
    STATUS_FEATURES_OK, STATUS_NEEDS_RESET,
};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

/// A virtio persistent memory.
///
/// Its clone shares nothing with it: stepped alike, both do the same.
#[derive(Debug)]
pub struct PmemDevice {
    shared: Arc<PmemShared>,
    queue: PmemQueue,
    ring: Queue,
    /// What the driver accepted so far; judged at FEATURES_OK.
    accepted: u64,
    status: u8,
    /// A reset was asked for and a sync is in the host's hands.
    resetting: bool,
    config_signal: bool,
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
            ring: Queue::new(size).expect("the configuration was checked"),
            shared,
            accepted: 0,
            status: 0,
            resetting: false,
            config_signal: false,
        })
    }

    /// What the queue and the registers share.
    pub fn shared(&self) -> &PmemShared {
        &self.shared
    }

    /// The offered features.
    pub fn offered(&self) -> u64 {
        self.shared.offered()
    }

    /// Notes the features the driver accepts; without effect once FEATURES_OK is set.
    pub fn set_driver_features(&mut self, features: u64) {
        if self.status & STATUS_FEATURES_OK == 0 {
            self.accepted = features;
        }
    }

    /// The negotiated features; 0 before FEATURES_OK.
    pub fn negotiated(&self) -> u64 {
        self.shared.negotiated()
    }

    /// The device status. After a reset it reads 0 only once no sync of the old life is in the
    /// host's hands.
    ///
    /// # Spec
    /// ST-02, ST-04, AMB-21.
    pub fn status(&mut self) -> u8 {
        self.notice();
        self.status
    }

    /// The driver writes the status: 0 asks for a reset, anything else sets bits.
    ///
    /// FEATURES_OK stays clear if the features were not acceptable, DRIVER_OK without FEATURES_OK.
    /// While a reset goes on only another 0 is heard.
    ///
    /// # Spec
    /// ST-01, FB-02, FB-03.
    pub fn set_status(&mut self, value: u8) {
        self.notice();
        if value == 0 {
            self.resetting = true;
            self.config_signal = false;
            self.queue.stop();
            self.notice();
        } else if !self.resetting {
            self.raise(value);
        }
    }

    /// Reads the configuration space; bytes past its end are zero. Nothing in it can be written.
    ///
    /// # Spec
    /// CF-01: at any time, also before FEATURES_OK. Then `start` and `size` say where the memory is
    /// (PM-D-03).
    pub fn config_read(&self, offset: u64, out: &mut [u8]) {
        self.shared.config_read(offset, out);
    }

    /// The generation of the configuration space: it differs whenever the content may (CF-02,
    /// CF-03).
    pub fn config_generation(&self) -> u32 {
        self.shared.generation()
    }

    /// What the transport announces as shared memory region `id`; see
    /// [`PmemShared::shared_memory`].
    pub fn shared_memory(&self, id: u8) -> Option<Region> {
        self.shared.shared_memory(id)
    }

    /// Whether a configuration change notification is due; asking takes it.
    pub fn take_config_signal(&mut self) -> bool {
        self.notice();
        std::mem::take(&mut self.config_signal)
    }

    /// Places the queue, the only one.
    ///
    /// # Errors
    /// At the wrong time, another queue, or an impossible layout; nothing changes then.
    ///
    /// # Spec
    /// VS-20.
    pub fn set_queue(&mut self, index: u16, layout: QueueLayout) -> Result<(), QueueError> {
        self.notice();
        let phase = self.status & (STATUS_FEATURES_OK | STATUS_DRIVER_OK);
        if phase != STATUS_FEATURES_OK || self.resetting {
            return Err(QueueError::NotNow);
        }
        if index > 0 {
            return Err(QueueError::NoSuchQueue);
        }
        self.place(layout)?;
        self.ring.set_event_idx(self.negotiated() & F_EVENT_IDX != 0);
        Ok(())
    }

    /// The queue and its ring, for stepping: from DRIVER_OK on until its last sync after a reset
    /// has come back.
    pub fn queue_mut(&mut self) -> Option<(&mut PmemQueue, &mut Queue)> {
        let live = self.status & STATUS_DRIVER_OK != 0;
        let draining = self.resetting && !self.queue.is_idle();
        let stepped = self.ring.ready() && if self.resetting { draining } else { live };
        stepped.then_some((&mut self.queue, &mut self.ring))
    }

    /// The backing was opened afresh and synced without error: earlier failed syncs do not count
    /// any more.
    ///
    /// # Panics
    /// If flushes are in flight.
    pub fn reopened(&mut self) {
        self.shared.reopened();
    }

    fn raise(&mut self, value: u8) {
        let mut raised = value & (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FAILED);
        self.status |= raised;
        if value & STATUS_FEATURES_OK & !self.status != 0
            && self.status & STATUS_DRIVER != 0
            && self.shared.negotiate(self.accepted).is_ok()
        {
            raised |= STATUS_FEATURES_OK;
        }
        self.status |= raised;
        if value & STATUS_DRIVER_OK != 0 && self.status & STATUS_FEATURES_OK != 0 {
            self.status |= STATUS_DRIVER_OK;
        }
    }

    /// Catches up with what happened in the queue since a register was last touched.
    fn notice(&mut self) {
        if self.resetting {
            if self.queue.is_idle() {
                self.finish_reset();
            }
        } else if self.status & STATUS_NEEDS_RESET == 0 && self.queue.is_broken() {
            self.status |= STATUS_NEEDS_RESET;
            self.config_signal = self.status & STATUS_DRIVER_OK != 0;
        }
    }

    fn finish_reset(&mut self) {
        self.queue.restart();
        self.ring.reset();
        self.shared.forget_negotiation();
        self.accepted = 0;
        self.status = 0;
        self.resetting = false;
    }

    fn place(&mut self, layout: QueueLayout) -> Result<(), QueueError> {
        if !layout.size.is_power_of_two() || layout.size > self.ring.max_size() {
            return Err(QueueError::Size(layout.size));
        }
        for (address, align) in [(layout.descriptors, 16), (layout.available, 2), (layout.used, 4)]
        {
            if address % align != 0 {
                return Err(QueueError::Address(address));
            }
        }
        if layout.available == 0 {
            return Err(QueueError::Address(0));
        }
        self.ring.set_size(layout.size);
        let placed = self
            .ring
            .try_set_desc_table_address(GuestAddress(layout.descriptors))
            .and_then(|()| self.ring.try_set_avail_ring_address(GuestAddress(layout.available)))
            .and_then(|()| self.ring.try_set_used_ring_address(GuestAddress(layout.used)));
        placed.expect("the alignment was checked");
        self.ring.set_ready(true);
        Ok(())
    }
}

impl Clone for PmemDevice {
    fn clone(&self) -> PmemDevice {
        let shared = Arc::new(self.shared.fork());
        PmemDevice {
            queue: self.queue.fork(Arc::clone(&shared)),
            ring: Queue::try_from(self.ring.state()).expect("a queue's own state is valid"),
            shared,
            accepted: self.accepted,
            status: self.status,
            resetting: self.resetting,
            config_signal: self.config_signal,
        }
    }
}
