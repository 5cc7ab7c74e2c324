//! The parameters that a backend is started with, and the features of the devices in this
//! repository.

use crate::guest::wire::{feature, memory};
use crate::host::disk::DiskShape;

/// The most queues of one device.
pub const MAX_QUEUES: usize = 8;

/// The parameters of a device: everything a backend needs to start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Number of request queues.
    pub queues: u16,
    /// Descriptors in each ring.
    pub ring_size: u16,
    /// The features to offer, if the device can.
    pub offer: u64,
    /// The cache mode at the start: true is write-back.
    pub writeback: bool,
    /// The serial number.
    pub serial: [u8; 20],
    /// The largest segment of a DISCARD or WRITE_ZEROES, in sectors.
    pub max_segment_sectors: u32,
    /// The most segments of a DISCARD or WRITE_ZEROES.
    pub max_segments: u32,
    /// Whether the backend keeps a record of what is in flight, for who comes after it.
    pub record: bool,
    /// The disk below.
    pub disk: DiskShape,
}

/// Everything our device can offer by itself.
pub const ALL_FEATURES: u64 = feature::VERSION_1
    | feature::INDIRECT_DESC
    | feature::EVENT_IDX
    | feature::FLUSH
    | feature::CONFIG_WCE
    | feature::DISCARD
    | feature::WRITE_ZEROES
    | feature::MQ
    | feature::BLK_SIZE
    | feature::SEG_MAX
    | feature::SIZE_MAX
    | feature::TOPOLOGY;

/// Everything our persistent memory can offer.
pub const MEMORY_FEATURES: u64 =
    feature::VERSION_1 | feature::INDIRECT_DESC | feature::EVENT_IDX | memory::SHMEM_REGION;
