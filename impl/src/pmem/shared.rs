//! The state that a persistent memory's queue and registers share: the configuration, the
//! negotiated features and the flush group.
//!
//! The two may be on different threads, like those of a disk.

use super::config::{PmemConfig, PmemConfigError, Region};
use super::wire::{F_SHMEM_REGION, SHMEM_ID};
use crate::flush_group::SharedFlushGroup;
use crate::virtio::{Negotiates, Negotiation, Refused, read_space};

/// The state common to the queue and the registers of a persistent memory.
#[derive(Clone, Debug)]
pub struct PmemShared {
    config: PmemConfig,
    negotiation: Negotiation,
    pub(super) flush_group: SharedFlushGroup,
}

impl Negotiates for PmemShared {
    fn negotiation(&self) -> &Negotiation {
        &self.negotiation
    }

    fn accepts(&self, features: u64) -> bool {
        self.negotiate(features).is_ok()
    }
}

impl PmemShared {
    /// The shared state of a device.
    ///
    /// # Errors
    /// The configuration contradicts itself.
    pub fn new(config: PmemConfig) -> Result<PmemShared, PmemConfigError> {
        config.check()?;
        Ok(PmemShared {
            negotiation: Negotiation::new(config.features),
            config,
            flush_group: SharedFlushGroup::new(),
        })
    }

    /// How the device was set up.
    pub fn config(&self) -> &PmemConfig {
        &self.config
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
    /// FB-02, FB-04, FB-05.
    pub fn negotiate(&self, features: u64) -> Result<(), Refused> {
        self.negotiation.judge(features)?;
        self.set_negotiated(features);
        Ok(())
    }

    /// Ends a life: nothing is negotiated.
    pub fn forget_negotiation(&self) {
        self.set_negotiated(0);
    }

    /// Whether a sync has failed since the backing was opened.
    pub fn sync_failed(&self) -> bool {
        self.flush_group.has_failed()
    }

    /// Records that the backing was reopened and synced without error, so earlier failures no
    /// longer count.
    ///
    /// # Panics
    /// If flushes are in flight.
    pub fn reopened(&self) {
        self.flush_group.reopened();
    }

    /// Reads the configuration space from `offset` on; bytes past its end are zero.
    pub fn config_read(&self, offset: u64, out: &mut [u8]) {
        read_space(&self.config.space(self.negotiated()), offset, out);
    }

    /// The generation of the configuration space: it changes whenever the content may have changed.
    pub fn generation(&self) -> u32 {
        self.negotiation.generation()
    }

    /// The region that the transport announces as shared memory region `id`; `None` for any other
    /// ID, and unless SHMEM_REGION is offered.
    ///
    /// # Spec
    /// 5.19.5.1, PM-D-01: "the device MUST use shared memory region ID 0".
    pub fn shared_memory(&self, id: u8) -> Option<Region> {
        let announced = id == SHMEM_ID && self.offered() & F_SHMEM_REGION != 0;
        announced.then_some(self.config.region)
    }

    fn set_negotiated(&self, features: u64) {
        let before = self.negotiation.set(features);
        if (before ^ features) & F_SHMEM_REGION != 0 {
            self.negotiation.config_changed();
        }
    }
}
