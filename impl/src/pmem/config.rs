//! The configuration of a persistent memory, the features it offers, and the 16 bytes of its
//! configuration space.
//!
//! Everything here is fixed at creation. The VMM that placed the memory has decided its location.

use super::wire::{CONFIG_BYTES, F_SHMEM_REGION};
use crate::wire::{F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1};
use std::fmt;

/// Every feature this device can offer.
const KNOWN: u64 = F_VERSION_1 | F_INDIRECT_DESC | F_EVENT_IDX | F_SHMEM_REGION;

/// The smallest page size in bytes; a part of a page cannot be mapped.
const PAGE: u64 = 4096;

/// A range of guest-physical addresses, half-open: `[start, start + size)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// The first byte's address, a multiple of 4096. Linux guests need a multiple of 2 MiB.
    pub start: u64,
    /// Length in bytes, a multiple of 4096 and not zero.
    pub size: u64,
}

/// The configuration of a persistent memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PmemConfig {
    /// The location of the memory in the guest.
    pub region: Region,
    /// Maximum number of descriptors of the queue: a power of two, 2 to 32768.
    pub queue_size: u16,
    /// The features to offer.
    pub features: u64,
}

impl PmemConfig {
    /// A memory at `region`, announced in the configuration space. Add [`F_SHMEM_REGION`] to the
    /// features to announce it as a shared memory region too.
    pub const fn at(region: Region) -> PmemConfig {
        let features = F_VERSION_1 | F_INDIRECT_DESC | F_EVENT_IDX;
        PmemConfig { region, queue_size: 64, features }
    }

    pub(super) fn check(&self) -> Result<(), PmemConfigError> {
        let unknown = self.features & !KNOWN;
        if unknown != 0 {
            return Err(PmemConfigError::UnknownFeatures(unknown));
        }
        if self.features & F_VERSION_1 == 0 {
            return Err(PmemConfigError::NotVersion1);
        }
        if !self.queue_size.is_power_of_two() || self.queue_size < 2 {
            return Err(PmemConfigError::QueueSize(self.queue_size));
        }
        let Region { start, size } = self.region;
        if !start.is_multiple_of(PAGE) {
            return Err(PmemConfigError::Start(start));
        }
        if size == 0 || !size.is_multiple_of(PAGE) || start.checked_add(size).is_none() {
            return Err(PmemConfigError::Size(size));
        }
        Ok(())
    }

    /// The configuration space with these features negotiated.
    ///
    /// # Spec
    /// 5.19.5.1: where the range is a shared memory region, `start` and `size` are zero (PM-D-02);
    /// otherwise they are the range (PM-D-03).
    pub(super) fn space(&self, negotiated: u64) -> [u8; CONFIG_BYTES] {
        let mut space = [0; CONFIG_BYTES];
        if negotiated & F_SHMEM_REGION == 0 {
            space[..8].copy_from_slice(&self.region.start.to_le_bytes());
            space[8..].copy_from_slice(&self.region.size.to_le_bytes());
        }
        space
    }
}

/// The reason why a persistent memory cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PmemConfigError {
    /// This device cannot offer these feature bits.
    UnknownFeatures(u64),
    /// VERSION_1 is not offered.
    NotVersion1,
    /// The queue size is not a power of two, or less than two.
    QueueSize(u16),
    /// The memory cannot start at this address.
    Start(u64),
    /// The memory cannot have this length: zero, not whole pages, or past the end of the address
    /// space.
    Size(u64),
}

impl fmt::Display for PmemConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PmemConfigError::UnknownFeatures(bits) => {
                write!(f, "feature bits {bits:#x} cannot be offered")
            }
            PmemConfigError::NotVersion1 => write!(f, "VERSION_1 must be offered"),
            PmemConfigError::QueueSize(size) => {
                write!(f, "queue size {size} is no power of two, or less than 2")
            }
            PmemConfigError::Start(start) => {
                write!(f, "the memory cannot start at {start:#x}, which is no multiple of {PAGE}")
            }
            PmemConfigError::Size(size) => write!(
                f,
                "the memory cannot be {size:#x} bytes long: that is no multiple of {PAGE}, or \
                 nothing, or more than there are addresses"
            ),
        }
    }
}

impl std::error::Error for PmemConfigError {}
