//! The register surface: status, features, configuration space and queue set-up, as a memory-mapped
//! transport shows them.
//!
//! A [`Device`] owns the rings and the queues of one device and implements their lives:
//! negotiation, the live time between DRIVER_OK and reset, and the wait for operations in flight
//! after a reset was requested. Operations of the VMM, which the driver does not see, are in
//! `lifecycle`. A device moves no data: the caller lends a queue, its ring, the memory and a disk
//! to [`step`](crate::step) or [`crank`](crate::crank).

mod lifecycle;

pub use lifecycle::{RestoreError, SaveError};

use crate::config::{Config, ConfigError};
use crate::disk::Limits;
use crate::queue::BlockQueue;
use crate::queue_set::QueueIndex;
use crate::shared::Shared;
use crate::sync::Arc;
use crate::virtio::{Parts, QueueError, QueueLayout, RegisterSurface, Registers, Ring};
use crate::wire::{F_EVENT_IDX, F_MQ, F_RING_RESET, STATUS_DRIVER_OK, STATUS_FEATURES_OK};

/// A virtio block device.
///
/// A clone shares nothing with the original, and the same steps have the same results on both. The
/// clone keeps no in-flight record, because the record belongs to the original.
#[derive(Debug)]
pub struct Device {
    shared: Arc<Shared>,
    queues: Vec<QueueAndRing>,
    registers: Registers,
    /// True iff the queues are paused.
    paused: bool,
}

/// One queue and its ring.
#[derive(Clone, Debug)]
struct QueueAndRing {
    block: BlockQueue,
    ring: Ring,
    /// True iff a reset of this queue alone was requested and has not ended.
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
        let lane = |index| QueueAndRing {
            block: BlockQueue::new(QueueIndex(index), Arc::clone(&shared), size),
            ring: Ring::new(size),
            resetting: false,
        };
        Ok(Device {
            queues: (0..queues).map(lane).collect(),
            shared,
            registers: Registers::default(),
            paused: false,
        })
    }

    /// The state that the queues share.
    pub fn shared(&self) -> &Shared {
        &self.shared
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
        if !self.registers.is_resetting() {
            self.shared.config_write(offset, bytes);
        }
    }

    /// Places a queue: before DRIVER_OK, or after [its reset](Device::reset_queue).
    ///
    /// # Errors
    /// It is the wrong time, there is no such queue, or the layout is impossible; nothing changes
    /// then.
    ///
    /// # Spec
    /// VS-20; 2.6.1 for a queue that was reset.
    pub fn set_queue(&mut self, index: u16, layout: QueueLayout) -> Result<(), QueueError> {
        self.catch_up();
        let negotiated = self.negotiated();
        if !self.registers.has(STATUS_FEATURES_OK) || self.registers.is_resetting() {
            return Err(QueueError::NotNow);
        }
        if index > 0 && negotiated & F_MQ == 0 {
            return Err(QueueError::NoSuchQueue);
        }
        let lane = self.queues.get_mut(usize::from(index)).ok_or(QueueError::NoSuchQueue)?;
        let anew = negotiated & F_RING_RESET != 0 && !lane.ring.is_ready();
        if self.registers.has(STATUS_DRIVER_OK) && !anew {
            return Err(QueueError::NotNow);
        }
        lane.ring.place(layout)?;
        lane.ring.set_event_idx(negotiated & F_EVENT_IDX != 0);
        Ok(())
    }

    /// A queue and its ring, for stepping: from DRIVER_OK on, until the last operation after a
    /// reset has come back. Also before DRIVER_OK while the device is paused, because queue 0 may
    /// have a sync to run, and until that sync has ended.
    pub fn queue_mut(&mut self, index: u16) -> Option<(&mut BlockQueue, &mut Ring)> {
        let live = self.registers.has(STATUS_DRIVER_OK);
        let lane = self.queues.get_mut(usize::from(index))?;
        let stepped = if self.registers.is_resetting() {
            !lane.block.is_idle()
        } else {
            // Whatever the state of this queue, others may wait for a sync that it leads or for a
            // resource that it releases.
            (live && lane.ring.is_ready() && !lane.resetting)
                || self.paused
                || !lane.block.is_settled()
        };
        stepped.then_some((&mut lane.block, &mut lane.ring))
    }

    /// Number of request queues.
    pub fn queues(&self) -> u16 {
        self.queues.len() as u16
    }

    /// Records that the disk was reopened and synced without error: earlier failed syncs no longer
    /// count.
    ///
    /// # Panics
    /// If requests are in flight.
    pub fn reopened(&mut self) {
        self.shared.reopened();
    }

    /// Asserts the invariants that hold between any two steps.
    ///
    /// # Panics
    /// If registers, queues or rings are inconsistent with themselves or each other; see
    /// [`BlockQueue::check`].
    pub fn check(&self) {
        self.registers.check();
        let negotiated = self.shared.negotiated() != 0;
        assert_eq!(negotiated, self.registers.has(STATUS_FEATURES_OK), "FB-02");
        for lane in &self.queues {
            lane.block.check();
            assert!(!lane.ring.is_ready() || negotiated, "a ring is placed after FEATURES_OK");
            assert_eq!(lane.block.is_paused(), self.paused, "queues are paused together");
        }
    }

    fn finish_reset(&mut self) {
        for lane in &mut self.queues {
            lane.begin_anew();
        }
        self.shared.forget_negotiation();
        self.registers.end_reset();
    }
}

impl Parts for Device {
    type Shared = Shared;

    fn shared(&self) -> &Shared {
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
        for lane in &mut self.queues {
            lane.block.stop();
        }
    }

    fn catch_up(&mut self) {
        if self.registers.is_resetting() {
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
        if self.queues.iter().any(|lane| lane.block.is_broken()) {
            self.registers.need_reset();
        }
    }
}

impl QueueAndRing {
    /// Returns the queue and the ring to their initial state at the end of a reset.
    fn begin_anew(&mut self) {
        self.block.restart();
        self.ring.reset();
        self.resetting = false;
    }
}

impl Clone for Device {
    fn clone(&self) -> Device {
        let shared = Arc::new(Shared::clone(&self.shared));
        let fork = |lane: &QueueAndRing| QueueAndRing {
            block: lane.block.fork(Arc::clone(&shared)),
            ..lane.clone()
        };
        let queues = self.queues.iter().map(fork).collect();
        Device { queues, registers: self.registers.clone(), paused: self.paused, shared }
    }
}
