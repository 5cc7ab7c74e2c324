//! The configuration of a device, the features it offers, and the 96 bytes of its configuration
//! space.
//!
//! Everything here is fixed at creation; the variable parts, cache mode and size, are passed in.

use crate::disk::Limits;
use crate::queue_set::MAX_QUEUES;
use crate::wire::{
    F_BLK_SIZE, F_CONFIG_WCE, F_DISCARD, F_EVENT_IDX, F_FLUSH, F_INDIRECT_DESC, F_MQ, F_RING_RESET,
    F_RO, F_SEG_MAX, F_SIZE_MAX, F_TOPOLOGY, F_VERSION_1, F_WRITE_ZEROES, ID_BYTES, SECTOR,
};
use std::fmt;

/// Bytes of the configuration space (5.2.4).
pub const CONFIG_BYTES: usize = 96;
/// Offset of the cache mode, the only byte a driver may write.
pub const WRITEBACK_OFFSET: u64 = 32;

/// Every feature this device can offer; RO comes from the disk.
const KNOWN: u64 = USUAL | F_RING_RESET;

/// The features offered by default. RING_RESET needs a transport that has a register for it.
const USUAL: u64 = F_VERSION_1
    | F_INDIRECT_DESC
    | F_EVENT_IDX
    | F_FLUSH
    | F_CONFIG_WCE
    | F_DISCARD
    | F_WRITE_ZEROES
    | F_MQ
    | F_BLK_SIZE
    | F_SEG_MAX
    | F_SIZE_MAX
    | F_TOPOLOGY;

/// The configuration of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Number of request queues, 1 to 256.
    pub queues: u16,
    /// Maximum number of descriptors of one queue: a power of two, 2 to 32768.
    pub queue_size: u16,
    /// The serial that GET_ID returns, padded with zeroes.
    pub serial: [u8; ID_BYTES],
    /// The features to offer. RO is added when the disk is read-only, and may be requested for a
    /// writable disk.
    pub features: u64,
    /// The cache mode after a reset: `true` is writeback.
    pub writeback: bool,
    /// Maximum number of data segments of one request; the value shown to the driver also fits the
    /// queue. Requests with more are served.
    pub seg_max: u32,
    /// Maximum length of one data segment in bytes. Longer segments are served.
    pub size_max: u32,
    /// Maximum number of sectors of one DISCARD segment.
    pub max_discard_sectors: u32,
    /// Maximum number of segments of one DISCARD.
    pub max_discard_seg: u32,
    /// Maximum number of sectors of one WRITE_ZEROES segment.
    pub max_write_zeroes_sectors: u32,
    /// Maximum number of segments of one WRITE_ZEROES.
    pub max_write_zeroes_seg: u32,
}

impl Default for Config {
    fn default() -> Config {
        let mut serial = [0; ID_BYTES];
        serial[..9].copy_from_slice(b"powerfail");
        Config {
            queues: 1,
            queue_size: 256,
            serial,
            features: USUAL,
            writeback: true,
            seg_max: 126,
            size_max: 1 << 20,
            max_discard_sectors: 1 << 22,
            max_discard_seg: 32,
            max_write_zeroes_sectors: 1 << 22,
            max_write_zeroes_seg: 32,
        }
    }
}

/// The reason why a device cannot be created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// CONFIG_WCE is offered without FLUSH (BLK-D-02).
    ConfigWceWithoutFlush,
    /// This device cannot offer these feature bits.
    UnknownFeatures(u64),
    /// VERSION_1 is missing (FB-04).
    NotVersion1,
    /// The number of queues is 0, above 256, or above 1 without MQ.
    Queues(u16),
    /// The queue size is not a power of two from 2 to 32768.
    QueueSize(u16),
    /// This limit is zero, which some guests read as no limit and others divide by.
    ZeroLimit(&'static str),
    /// This limit of the disk does not fit its granule.
    Unaligned(&'static str),
    /// The granule is not a power of two from 512 to 4096.
    Granule(u32),
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::ConfigWceWithoutFlush => {
                write!(f, "CONFIG_WCE cannot be offered without FLUSH")
            }
            ConfigError::UnknownFeatures(bits) => {
                write!(f, "feature bits {bits:#x} cannot be offered")
            }
            ConfigError::NotVersion1 => write!(f, "VERSION_1 must be offered"),
            ConfigError::Queues(n) => {
                write!(f, "{n} queues: it must be 1, or 2 to {MAX_QUEUES} with MQ offered")
            }
            ConfigError::QueueSize(n) => {
                write!(f, "queue size {n}: it must be a power of two from 2 to 32768")
            }
            ConfigError::ZeroLimit(name) => write!(f, "{name} must not be zero"),
            ConfigError::Unaligned(name) => {
                write!(f, "{name} must be a multiple of the disk's granule")
            }
            ConfigError::Granule(n) => {
                write!(f, "granule of {n} bytes: it must be a power of two from 512 to 4096")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// The features that a device of this configuration offers over a disk with these limits.
    pub fn offered(&self, limits: &Limits) -> u64 {
        if limits.read_only { self.features | F_RO } else { self.features & !F_RO }
    }

    /// Checks that a device can be created.
    pub(crate) fn check(&self, limits: &Limits) -> Result<(), ConfigError> {
        let unknown = self.features & !(KNOWN | F_RO);
        if unknown != 0 {
            return Err(ConfigError::UnknownFeatures(unknown));
        }
        if self.features & F_VERSION_1 == 0 {
            return Err(ConfigError::NotVersion1);
        }
        if self.features & F_CONFIG_WCE != 0 && self.features & F_FLUSH == 0 {
            return Err(ConfigError::ConfigWceWithoutFlush);
        }
        let most = if self.features & F_MQ != 0 { MAX_QUEUES } else { 1 };
        if self.queues == 0 || self.queues > most {
            return Err(ConfigError::Queues(self.queues));
        }
        if !self.queue_size.is_power_of_two() || self.queue_size < 2 {
            return Err(ConfigError::QueueSize(self.queue_size));
        }
        for (name, value) in [
            ("seg_max", self.seg_max),
            ("size_max", self.size_max),
            ("max_discard_sectors", self.max_discard_sectors),
            ("max_discard_seg", self.max_discard_seg),
            ("max_write_zeroes_sectors", self.max_write_zeroes_sectors),
            ("max_write_zeroes_seg", self.max_write_zeroes_seg),
        ] {
            if value == 0 {
                return Err(ConfigError::ZeroLimit(name));
            }
        }
        check_disk(limits)
    }

    /// Maximum number of data segments of one request, as shown to the driver.
    fn seg_max(&self) -> u32 {
        self.seg_max.min(u32::from(self.queue_size) - 2).max(1)
    }

    /// Maximum number of descriptors of a chain on a ring of `size`: as many as the ring has
    /// (2.7.5.3.1) or as a request of `seg_max` segments takes, whichever is more. A driver that
    /// read `seg_max` before it chose the size of its ring keeps to the latter (Linux does).
    pub(crate) fn longest_chain(&self, size: u16) -> u32 {
        u32::from(size).max(self.seg_max() + 2)
    }

    /// The configuration space with the current size and cache mode; unused bytes are zero
    /// (BLK-D-04).
    pub(crate) fn space(
        &self,
        limits: &Limits,
        capacity: u64,
        writeback: u8,
    ) -> [u8; CONFIG_BYTES] {
        let mut space = [0; CONFIG_BYTES];
        let mut put = |offset: usize, bytes: &[u8]| {
            space[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        let physical = limits.granule / SECTOR as u32;
        let seg_max = self.seg_max();
        put(0, &(capacity / SECTOR).to_le_bytes());
        put(8, &self.size_max.to_le_bytes());
        put(12, &seg_max.to_le_bytes());
        put(20, &(SECTOR as u32).to_le_bytes());
        put(24, &[physical.trailing_zeros() as u8]);
        put(26, &(physical as u16).to_le_bytes());
        put(28, &physical.to_le_bytes());
        put(WRITEBACK_OFFSET as usize, &[writeback]);
        put(34, &self.queues.to_le_bytes());
        put(36, &self.max_discard_sectors.to_le_bytes());
        put(40, &self.max_discard_seg.to_le_bytes());
        let discard_sectors = limits.discard_granularity / SECTOR as u32;
        put(44, &discard_sectors.to_le_bytes());
        put(48, &self.max_write_zeroes_sectors.to_le_bytes());
        put(52, &self.max_write_zeroes_seg.to_le_bytes());
        put(56, &[u8::from(limits.can_discard)]);
        space
    }
}

fn check_disk(limits: &Limits) -> Result<(), ConfigError> {
    if !limits.granule.is_power_of_two() || !(512..=4096).contains(&limits.granule) {
        return Err(ConfigError::Granule(limits.granule));
    }
    for (name, value) in [
        ("capacity", limits.capacity),
        ("max_transfer", limits.max_transfer.into()),
        ("max_discard", limits.max_discard),
        ("discard_granularity", limits.discard_granularity.into()),
        ("max_write_zeroes", limits.max_write_zeroes),
        ("write_zeroes_granularity", limits.write_zeroes_granularity.into()),
    ] {
        // An empty disk is unusual but harmless: every access is beyond its end.
        if value == 0 && name != "capacity" {
            return Err(ConfigError::ZeroLimit(name));
        }
        if value % u64::from(limits.granule) != 0 {
            return Err(ConfigError::Unaligned(name));
        }
    }
    if limits.max_discard < u64::from(limits.discard_granularity) {
        return Err(ConfigError::Unaligned("max_discard"));
    }
    if limits.max_write_zeroes < u64::from(limits.write_zeroes_granularity) {
        return Err(ConfigError::Unaligned("max_write_zeroes"));
    }
    Ok(())
}
