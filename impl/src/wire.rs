//! The constants of the block device's wire format, as the standard defines them.
//!
//! Constants only: the simulator's guest keeps its own copy, and a test compares this one with
//! `virtio-bindings`.

/// Bytes in a sector, the unit of every address and limit of the protocol (5.2.5).
pub const SECTOR: u64 = 512;

/// Feature bit 1: `size_max` is valid.
pub const F_SIZE_MAX: u64 = 1 << 1;
/// Feature bit 2: `seg_max` is valid.
pub const F_SEG_MAX: u64 = 1 << 2;
/// Feature bit 5: the device is read-only; its effect is keyed on being *offered* (BLK-D-21).
pub const F_RO: u64 = 1 << 5;
/// Feature bit 6: `blk_size` is valid.
pub const F_BLK_SIZE: u64 = 1 << 6;
/// Feature bit 9: FLUSH requests are available.
pub const F_FLUSH: u64 = 1 << 9;
/// Feature bit 10: `topology` is valid.
pub const F_TOPOLOGY: u64 = 1 << 10;
/// Feature bit 11: the driver may read and write the cache mode.
pub const F_CONFIG_WCE: u64 = 1 << 11;
/// Feature bit 12: more than one request queue.
pub const F_MQ: u64 = 1 << 12;
/// Feature bit 13: DISCARD requests are available.
pub const F_DISCARD: u64 = 1 << 13;
/// Feature bit 14: WRITE_ZEROES requests are available.
pub const F_WRITE_ZEROES: u64 = 1 << 14;
/// Feature bit 28: descriptors may point at tables of descriptors.
pub const F_INDIRECT_DESC: u64 = 1 << 28;
/// Feature bit 29: `used_event` and `avail_event` replace the suppression flags.
pub const F_EVENT_IDX: u64 = 1 << 29;
/// Feature bit 32: the device is not a legacy device.
pub const F_VERSION_1: u64 = 1 << 32;
/// Feature bit 40: one queue can be reset alone.
pub const F_RING_RESET: u64 = 1 << 40;

/// Request type: read.
pub const T_IN: u32 = 0;
/// Request type: write.
pub const T_OUT: u32 = 1;
/// Request type: make completed writes stable.
pub const T_FLUSH: u32 = 4;
/// Request type: return the serial, 20 bytes.
pub const T_GET_ID: u32 = 8;
/// Request type: the ranges are no longer needed.
pub const T_DISCARD: u32 = 11;
/// Request type: the ranges shall read as zeroes.
pub const T_WRITE_ZEROES: u32 = 13;

/// Bytes of a request's header: `le32 type`, `le32 reserved`, `le64 sector`.
pub const HEADER_BYTES: usize = 16;
/// Bytes of one DISCARD or WRITE_ZEROES segment: `le64 sector`, `le32 num_sectors`, `le32 flags`.
pub const SEGMENT_BYTES: usize = 16;
/// Bytes of the serial a GET_ID returns.
pub const ID_BYTES: usize = 20;
/// Segment flag: WRITE_ZEROES may deallocate.
pub const SEGMENT_UNMAP: u32 = 1;

/// Request status: done.
pub const S_OK: u8 = 0;
/// Request status: device or driver error.
pub const S_IOERR: u8 = 1;
/// Request status: unsupported by this device.
pub const S_UNSUPP: u8 = 2;

/// Device status: the driver saw the device.
pub const STATUS_ACKNOWLEDGE: u8 = 1;
/// Device status: the driver can drive the device.
pub const STATUS_DRIVER: u8 = 2;
/// Device status: the queues are live.
pub const STATUS_DRIVER_OK: u8 = 4;
/// Device status: negotiation is over.
pub const STATUS_FEATURES_OK: u8 = 8;
/// Device status: only a reset helps.
pub const STATUS_NEEDS_RESET: u8 = 64;
/// Device status: the driver gave up.
pub const STATUS_FAILED: u8 = 128;

/// `avail.flags` bit 0: the driver asks for no signals (only without EVENT_IDX).
pub const AVAIL_NO_INTERRUPT: u16 = 1;
