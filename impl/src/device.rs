//! The register surface: status, features, configuration space and queue set-up, as a memory-mapped
//! transport shows them.
//!
//! A [`Device`] owns the rings and the queues of one device and leads them through their lives:
//! negotiation, the live time between DRIVER_OK and reset, and the drain after a reset was asked
//! for. What goes on behind the driver's back is in `lives`. It moves no data: the caller lends a
//! queue, its ring, the memory and a disk to [`step`](crate::step) or [`crank`](crate::crank).

mod lifecycle;

pub use lifecycle::{RestoreError, SaveError};

use crate::config::{Config, ConfigError};
use crate::disk::Limits;
use crate::queue::BlockQueue;
use crate::queue_set::QueueIndex;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::wire::{
    F_EVENT_IDX, F_MQ, F_RING_RESET, STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK,
    STATUS_FAILED, STATUS_FEATURES_OK, STATUS_NEEDS_RESET,
};
use std::fmt;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestAddress;

/// Where a driver put one queue: guest-physical addresses of its three parts and the number of
/// descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLayout {
    /// Number of descriptors: a power of two, at most the offered size.
    pub size: u16,
    /// The descriptor table, 16-byte aligned.
    pub descriptors: u64,
    /// The available ring (the driver's area), 2-byte aligned, not at address 0.
    pub available: u64,
    /// The used ring (the device's area), 4-byte aligned.
    pub used: u64,
}

/// Why a queue cannot be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// Only between FEATURES_OK and DRIVER_OK; or later, after a reset of the queue. To be reset, a
    /// queue must be in use, and RING_RESET negotiated.
    NotNow,
    /// There is no such queue, or not without MQ negotiated.
    NoSuchQueue,
    /// Not a power of two, or more than was offered.
    Size(u16),
    /// An address is misaligned, or the available ring is at 0, where `virtio-queue` takes it for
    /// missing.
    Address(u64),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueError::NotNow => {
                write!(f, "this is not the time to set up or reset that queue")
            }
            QueueError::NoSuchQueue => write!(f, "no such queue"),
            QueueError::Size(size) => {
                write!(f, "queue size {size} is no power of two or above the offer")
            }
            QueueError::Address(address) => {
                write!(f, "a part of a queue cannot be at {address:#x}")
            }
        }
    }
}

impl std::error::Error for QueueError {}

/// A virtio block device.
///
/// Its clone shares nothing with it: stepped alike, both do the same. It keeps no record of what is
/// in flight, though: that is the original's.
#[derive(Debug)]
pub struct Device {
    shared: Arc<Shared>,
    queues: Vec<Lane>,
    /// What the driver accepted so far; judged at FEATURES_OK.
    accepted: u64,
    status: u8,
    /// A reset was asked for and some queue has work in the host's hands.
    resetting: bool,
    /// The queues are paused iff this is so.
    paused: bool,
    config_signal: bool,
}

/// The status of a device that is at work.
const LIVE: u8 = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;

/// One queue and the ring it lives on.
#[derive(Debug)]
struct Lane {
    block: BlockQueue,
    ring: Queue,
    /// A reset of this queue alone was asked for, and it has work in the host's hands.
    resetting: bool,
}

impl Device {
    /// A device in its reset state over a disk with `limits`.
    ///
    /// # Errors
    /// The configuration contradicts itself or the disk.
    ///
    /// # Spec
    /// BLK-D-02, FB-01.
    pub fn new(config: Config, limits: Limits) -> Result<Device, ConfigError> {
        let (queues, size) = (config.queues, config.queue_size);
        let shared = Arc::new(Shared::new(config, limits)?);
        let lane = |index| Lane {
            block: BlockQueue::new(QueueIndex(index), Arc::clone(&shared), size),
            ring: Queue::new(size).expect("the configuration was checked"),
            resetting: false,
        };
        Ok(Device {
            queues: (0..queues).map(lane).collect(),
            shared,
            accepted: 0,
            status: 0,
            resetting: false,
            paused: false,
            config_signal: false,
        })
    }

    /// What the queues share.
    pub fn shared(&self) -> &Shared {
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

    /// The device status. After a reset it reads 0 only once nothing of the old life is in the
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
            self.begin_reset();
        } else if !self.resetting {
            self.raise(value);
        }
    }

    /// Reads the configuration space; bytes past its end are zero.
    ///
    /// # Spec
    /// CF-01: at any time, also before FEATURES_OK.
    pub fn config_read(&self, offset: u64, out: &mut [u8]) {
        self.shared.config_read(offset, out);
    }

    /// Writes the configuration space; only a one-byte write of `writeback` with CONFIG_WCE
    /// negotiated has an effect.
    pub fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        if !self.resetting {
            self.shared.config_write(offset, bytes);
        }
    }

    /// The generation of the configuration space: it differs whenever the content may (CF-02,
    /// CF-03).
    pub fn config_generation(&self) -> u32 {
        self.shared.generation()
    }

    /// Whether a configuration change notification is due; asking takes it.
    pub fn take_config_signal(&mut self) -> bool {
        self.notice();
        std::mem::take(&mut self.config_signal)
    }

    /// Places a queue: before DRIVER_OK, or after it was [reset](Device::reset_queue).
    ///
    /// # Errors
    /// At the wrong time, no such queue, or an impossible layout; nothing changes then.
    ///
    /// # Spec
    /// VS-20; 2.6.1 for a queue that was reset.
    pub fn set_queue(&mut self, index: u16, layout: QueueLayout) -> Result<(), QueueError> {
        self.notice();
        let negotiated = self.negotiated();
        if self.status & STATUS_FEATURES_OK == 0 || self.resetting {
            return Err(QueueError::NotNow);
        }
        if index > 0 && negotiated & F_MQ == 0 {
            return Err(QueueError::NoSuchQueue);
        }
        let lane = self.queues.get_mut(usize::from(index)).ok_or(QueueError::NoSuchQueue)?;
        let anew = negotiated & F_RING_RESET != 0 && !lane.ring.ready();
        if self.status & STATUS_DRIVER_OK != 0 && !anew {
            return Err(QueueError::NotNow);
        }
        lane.place(layout)?;
        lane.ring.set_event_idx(negotiated & F_EVENT_IDX != 0);
        Ok(())
    }

    /// A queue and its ring, for stepping: from DRIVER_OK on until its last operation after a reset
    /// has come back. While the device is paused, also before that: queue 0 may have a sync to do,
    /// and then until that has ended.
    pub fn queue_mut(&mut self, index: u16) -> Option<(&mut BlockQueue, &mut Queue)> {
        let live = self.status & STATUS_DRIVER_OK != 0;
        let lane = self.queues.get_mut(usize::from(index))?;
        let stepped = if self.resetting {
            !lane.block.is_idle()
        } else {
            // Whatever becomes of this queue, others may wait for a sync it has promised or for
            // what it gives up.
            (live && lane.ring.ready() && !lane.resetting)
                || self.paused
                || !lane.block.is_settled()
        };
        stepped.then_some((&mut lane.block, &mut lane.ring))
    }

    /// How many request queues there are.
    pub fn queues(&self) -> u16 {
        self.queues.len() as u16
    }

    /// The disk was opened afresh and synced without error: earlier failed syncs do not count any
    /// more.
    ///
    /// # Panics
    /// If requests are in flight.
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

    fn begin_reset(&mut self) {
        self.resetting = true;
        self.config_signal = false;
        for lane in &mut self.queues {
            lane.block.stop();
        }
        self.notice();
    }

    /// Catches up with what happened in the queues since a register was last touched.
    fn notice(&mut self) {
        if self.resetting {
            if self.queues.iter().all(|lane| lane.block.is_idle()) {
                self.finish_reset();
            }
            return;
        }
        for lane in &mut self.queues {
            if lane.resetting && lane.block.is_settled() {
                lane.begin_anew();
            }
        }
        if self.status & STATUS_NEEDS_RESET == 0
            && self.queues.iter().any(|lane| lane.block.is_broken())
        {
            self.status |= STATUS_NEEDS_RESET;
            self.config_signal = self.status & STATUS_DRIVER_OK != 0;
        }
    }

    fn finish_reset(&mut self) {
        for lane in &mut self.queues {
            lane.begin_anew();
        }
        self.shared.forget_negotiation();
        self.accepted = 0;
        self.status = 0;
        self.resetting = false;
    }
}

impl Lane {
    /// A reset has ended.
    fn begin_anew(&mut self) {
        self.block.restart();
        self.ring.reset();
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

impl Clone for Device {
    fn clone(&self) -> Device {
        let shared = Arc::new(self.shared.fork());
        let lane = |lane: &Lane| Lane {
            block: lane.block.fork(Arc::clone(&shared)),
            resetting: lane.resetting,
            ring: Queue::try_from(lane.ring.state()).expect("a queue's own state is valid"),
        };
        Device {
            queues: self.queues.iter().map(lane).collect(),
            accepted: self.accepted,
            status: self.status,
            resetting: self.resetting,
            paused: self.paused,
            config_signal: self.config_signal,
            shared,
        }
    }
}
