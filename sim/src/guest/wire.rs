//! The wire constants of a driver, written from the specification.
//!
//! The device has its own copy and the model a third, so that an error in one copy shows as a
//! disagreement. A test compares these with `virtio-bindings`.

/// Feature bits of a block device: virtio 1.4, 5.2.3, and the reserved bits of chapter 6.
pub mod feature {
    /// Bits of 5.2.3 that a device must not offer: legacy barriers and SCSI commands, and two bits
    /// without a meaning.
    pub const NEVER: u64 = 1 << 0 | 1 << 3 | 1 << 7 | 1 << 8;
    /// The largest data segment is in `size_max`.
    pub const SIZE_MAX: u64 = 1 << 1;
    /// The most data segments of a request are in `seg_max`.
    pub const SEG_MAX: u64 = 1 << 2;
    /// The device is read-only. The offer of the bit already forbids writes.
    pub const RO: u64 = 1 << 5;
    /// The preferred block size is in `blk_size`.
    pub const BLK_SIZE: u64 = 1 << 6;
    /// The device accepts FLUSH.
    pub const FLUSH: u64 = 1 << 9;
    /// Topology hints are in the configuration space.
    pub const TOPOLOGY: u64 = 1 << 10;
    /// The cache mode is in `writeback`, and may be written.
    pub const CONFIG_WCE: u64 = 1 << 11;
    /// The number of queues is in `num_queues`.
    pub const MQ: u64 = 1 << 12;
    /// The device accepts DISCARD.
    pub const DISCARD: u64 = 1 << 13;
    /// The device accepts WRITE_ZEROES.
    pub const WRITE_ZEROES: u64 = 1 << 14;
    /// Descriptors may refer to tables of descriptors.
    pub const INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications are suppressed by index.
    pub const EVENT_IDX: u64 = 1 << 29;
    /// The device follows version 1 of the standard.
    pub const VERSION_1: u64 = 1 << 32;
    /// Single queues can be reset.
    pub const RING_RESET: u64 = 1 << 40;
}

/// The wire constants of a persistent memory: virtio 1.4, 5.19.
pub mod memory {
    /// Feature bit: the memory is a shared memory region, and the configuration space does not hold
    /// its address.
    pub const SHMEM_REGION: u64 = 1 << 0;
    /// Request type: make completed stores persistent.
    pub const FLUSH: u32 = 0;
    /// Bytes of a request: its type.
    pub const REQUEST: u32 = 4;
    /// Bytes of a response: its result.
    pub const RESPONSE: u32 = 4;
    /// `start` in the configuration space, 8 bytes.
    pub const START: u64 = 0;
    /// `size` in the configuration space, 8 bytes.
    pub const SIZE: u64 = 8;
}

/// Request types: virtio 1.4, 5.2.6.
pub mod request {
    /// Read sectors.
    pub const IN: u32 = 0;
    /// Write sectors.
    pub const OUT: u32 = 1;
    /// Make completed writes stable.
    pub const FLUSH: u32 = 4;
    /// Read the serial number.
    pub const GET_ID: u32 = 8;
    /// Discard ranges.
    pub const DISCARD: u32 = 11;
    /// Zero ranges.
    pub const WRITE_ZEROES: u32 = 13;
    /// The request types above.
    pub const KNOWN_TYPES: [u32; 6] = [IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES];
    /// The zone requests, from ZONE_APPEND to ZONE_RESET_ALL.
    pub const ZONE_TYPES: [u32; 7] = [15, 16, 18, 20, 22, 24, 26];
    /// The flag of a WRITE_ZEROES segment that allows deallocation.
    pub const UNMAP: u32 = 1;
    /// Bytes of a request header.
    pub const HEADER: u32 = 16;
    /// Bytes of a DISCARD or WRITE_ZEROES segment.
    pub const SEGMENT: u32 = 16;
    /// Bytes of an answer to GET_ID.
    pub const ID: u32 = 20;
}

/// Offsets in the configuration space: virtio 1.4, 5.2.4.
pub mod config {
    use super::feature;

    /// A field of the configuration space.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Field {
        /// Its name in the specification.
        pub name: &'static str,
        /// Its offset.
        pub offset: u64,
        /// Its length in bytes: 1, 2, 4 or 8, or 3 of the unused bytes at the end.
        pub width: usize,
        /// The feature that it belongs to; 0 if it is always there.
        pub feature: u64,
    }

    const fn field(name: &'static str, offset: u64, width: usize, feature: u64) -> Field {
        Field { name, offset, width, feature }
    }

    /// The fields that belong to no feature or to one that a driver of this repository accepts, in
    /// the order of their offsets.
    pub const FIELDS: [Field; 19] = [
        field("capacity", CAPACITY, 8, 0),
        field("size_max", SIZE_MAX, 4, feature::SIZE_MAX),
        field("seg_max", SEG_MAX, 4, feature::SEG_MAX),
        field("blk_size", BLK_SIZE, 4, feature::BLK_SIZE),
        field("physical_block_exp", 24, 1, feature::TOPOLOGY),
        field("alignment_offset", 25, 1, feature::TOPOLOGY),
        field("min_io_size", 26, 2, feature::TOPOLOGY),
        field("opt_io_size", 28, 4, feature::TOPOLOGY),
        field("writeback", WRITEBACK, 1, feature::CONFIG_WCE),
        field("unused0", 33, 1, 0),
        field("num_queues", NUM_QUEUES, 2, feature::MQ),
        field("max_discard_sectors", MAX_DISCARD_SECTORS, 4, feature::DISCARD),
        field("max_discard_seg", MAX_DISCARD_SEG, 4, feature::DISCARD),
        field("discard_sector_alignment", 44, 4, feature::DISCARD),
        field("max_write_zeroes_sectors", MAX_WRITE_ZEROES_SECTORS, 4, feature::WRITE_ZEROES),
        field("max_write_zeroes_seg", MAX_WRITE_ZEROES_SEG, 4, feature::WRITE_ZEROES),
        field("write_zeroes_may_unmap", MAY_UNMAP, 1, feature::WRITE_ZEROES),
        field("unused1", 57, 1, 0),
        field("unused1", 58, 2, 0),
    ];
    /// The end of the last of them.
    pub const END: usize = 60;

    /// `size_max`, 4 bytes: the most bytes of one data segment.
    pub const SIZE_MAX: u64 = 8;
    /// `seg_max`, 4 bytes: the most data segments of one request.
    pub const SEG_MAX: u64 = 12;
    /// `blk_size`, 4 bytes.
    pub const BLK_SIZE: u64 = 20;
    /// `num_queues`, 2 bytes.
    pub const NUM_QUEUES: u64 = 34;
    /// `write_zeroes_may_unmap`, 1 byte.
    pub const MAY_UNMAP: u64 = 56;
    /// `capacity`, 8 bytes, in sectors.
    pub const CAPACITY: u64 = 0;
    /// `writeback`, 1 byte: 0 is write-through, 1 is write-back.
    pub const WRITEBACK: u64 = 32;
    /// The bytes `unused0` and `unused1`, which are zero.
    pub const UNUSED: [u64; 4] = [33, 57, 58, 59];
    /// `max_discard_sectors`, 4 bytes.
    pub const MAX_DISCARD_SECTORS: u64 = 36;
    /// `max_discard_seg`, 4 bytes.
    pub const MAX_DISCARD_SEG: u64 = 40;
    /// `max_write_zeroes_sectors`, 4 bytes.
    pub const MAX_WRITE_ZEROES_SECTORS: u64 = 48;
    /// `max_write_zeroes_seg`, 4 bytes.
    pub const MAX_WRITE_ZEROES_SEG: u64 = 52;
}

/// The status byte of a block request: virtio 1.4, 5.2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Status(pub u8);

impl Status {
    /// The request succeeded.
    pub const OK: Status = Status(0);
    /// The request failed.
    pub const IOERR: Status = Status(1);
    /// The device does not support the request.
    pub const UNSUPP: Status = Status(2);

    /// Whether the request succeeded.
    #[inline]
    #[must_use]
    pub fn is_ok(self) -> bool {
        self == Status::OK
    }

    /// Whether the specification defines this status.
    #[must_use]
    pub(crate) fn is_known(self) -> bool {
        self <= Status::UNSUPP
    }
}

/// Bits of the device status: virtio 1.4, 2.1.
pub mod device_status {
    /// The driver has noticed the device.
    pub const ACKNOWLEDGE: u8 = 1;
    /// The driver can drive the device.
    pub const DRIVER: u8 = 2;
    /// The driver has set up the device.
    pub const DRIVER_OK: u8 = 4;
    /// The driver has accepted features, and the device agrees.
    pub const FEATURES_OK: u8 = 8;
    /// The device asks for a reset.
    pub const NEEDS_RESET: u8 = 64;
    /// All bits of a driver whose features are to be confirmed.
    pub const NEGOTIATED: u8 = ACKNOWLEDGE | DRIVER | FEATURES_OK;
    /// All bits of a driver that uses the device.
    pub const LIVE: u8 = NEGOTIATED | DRIVER_OK;
}

/// The split ring: virtio 1.4, 2.7.
pub mod ring {
    /// The chain continues at `next`.
    pub const NEXT: u16 = 1;
    /// The device writes this buffer.
    pub const WRITE: u16 = 2;
    /// The buffer is a table of descriptors.
    pub const INDIRECT: u16 = 4;
    /// In `avail.flags`: the driver suppresses signals.
    pub const NO_INTERRUPT: u16 = 1;
    /// In `used.flags`: the device suppresses kicks.
    pub const NO_NOTIFY: u16 = 1;
    /// Bytes of a descriptor.
    pub const DESCRIPTOR: u32 = 16;
}

#[cfg(test)]
mod tests {
    use super::*;
    use virtio_bindings::{virtio_blk as blk, virtio_config as core, virtio_ring as vring};

    #[test]
    fn constants_agree_with_a_third_party() {
        for (ours, bit) in [
            (feature::SIZE_MAX, blk::VIRTIO_BLK_F_SIZE_MAX),
            (feature::SEG_MAX, blk::VIRTIO_BLK_F_SEG_MAX),
            (feature::RO, blk::VIRTIO_BLK_F_RO),
            (feature::BLK_SIZE, blk::VIRTIO_BLK_F_BLK_SIZE),
            (feature::FLUSH, blk::VIRTIO_BLK_F_FLUSH),
            (feature::TOPOLOGY, blk::VIRTIO_BLK_F_TOPOLOGY),
            (feature::CONFIG_WCE, blk::VIRTIO_BLK_F_CONFIG_WCE),
            (feature::MQ, blk::VIRTIO_BLK_F_MQ),
            (feature::DISCARD, blk::VIRTIO_BLK_F_DISCARD),
            (feature::WRITE_ZEROES, blk::VIRTIO_BLK_F_WRITE_ZEROES),
            (feature::INDIRECT_DESC, vring::VIRTIO_RING_F_INDIRECT_DESC),
            (feature::EVENT_IDX, vring::VIRTIO_RING_F_EVENT_IDX),
            (feature::VERSION_1, core::VIRTIO_F_VERSION_1),
        ] {
            assert_eq!(ours, 1 << bit);
        }
        for (ours, theirs) in [
            (Status::OK, blk::VIRTIO_BLK_S_OK),
            (Status::IOERR, blk::VIRTIO_BLK_S_IOERR),
            (Status::UNSUPP, blk::VIRTIO_BLK_S_UNSUPP),
        ] {
            assert_eq!(u32::from(ours.0), theirs);
        }
        for (ours, theirs) in [
            (device_status::ACKNOWLEDGE, core::VIRTIO_CONFIG_S_ACKNOWLEDGE),
            (device_status::DRIVER, core::VIRTIO_CONFIG_S_DRIVER),
            (device_status::DRIVER_OK, core::VIRTIO_CONFIG_S_DRIVER_OK),
            (device_status::FEATURES_OK, core::VIRTIO_CONFIG_S_FEATURES_OK),
            (device_status::NEEDS_RESET, core::VIRTIO_CONFIG_S_NEEDS_RESET),
        ] {
            assert_eq!(u32::from(ours), theirs);
        }
        assert_eq!(request::IN, blk::VIRTIO_BLK_T_IN);
        assert_eq!(request::OUT, blk::VIRTIO_BLK_T_OUT);
        assert_eq!(request::FLUSH, blk::VIRTIO_BLK_T_FLUSH);
        assert_eq!(request::GET_ID, blk::VIRTIO_BLK_T_GET_ID);
        assert_eq!(request::DISCARD, blk::VIRTIO_BLK_T_DISCARD);
        assert_eq!(request::WRITE_ZEROES, blk::VIRTIO_BLK_T_WRITE_ZEROES);
        assert_eq!(request::UNMAP, blk::VIRTIO_BLK_WRITE_ZEROES_FLAG_UNMAP);
        assert_eq!(u32::from(ring::NEXT), vring::VRING_DESC_F_NEXT);
        assert_eq!(u32::from(ring::WRITE), vring::VRING_DESC_F_WRITE);
        assert_eq!(u32::from(ring::INDIRECT), vring::VRING_DESC_F_INDIRECT);
        assert_eq!(u32::from(ring::NO_INTERRUPT), vring::VRING_AVAIL_F_NO_INTERRUPT);
        assert_eq!(u32::from(ring::NO_NOTIFY), vring::VRING_USED_F_NO_NOTIFY);
    }

    #[test]
    fn config_offsets_agree_with_a_third_party() {
        type Config = blk::virtio_blk_config;
        assert_eq!(config::CAPACITY as usize, std::mem::offset_of!(Config, capacity));
        assert_eq!(config::WRITEBACK as usize, std::mem::offset_of!(Config, wce));
        assert_eq!(config::SIZE_MAX as usize, std::mem::offset_of!(Config, size_max));
        assert_eq!(config::SEG_MAX as usize, std::mem::offset_of!(Config, seg_max));
        assert_eq!(config::BLK_SIZE as usize, std::mem::offset_of!(Config, blk_size));
        assert_eq!(config::NUM_QUEUES as usize, std::mem::offset_of!(Config, num_queues));
        assert_eq!(
            config::MAY_UNMAP as usize,
            std::mem::offset_of!(Config, write_zeroes_may_unmap)
        );
        assert_eq!(
            config::MAX_DISCARD_SECTORS as usize,
            std::mem::offset_of!(Config, max_discard_sectors)
        );
        assert_eq!(config::MAX_DISCARD_SEG as usize, std::mem::offset_of!(Config, max_discard_seg));
        assert_eq!(
            config::MAX_WRITE_ZEROES_SECTORS as usize,
            std::mem::offset_of!(Config, max_write_zeroes_sectors)
        );
        assert_eq!(
            config::MAX_WRITE_ZEROES_SEG as usize,
            std::mem::offset_of!(Config, max_write_zeroes_seg)
        );
    }
}
