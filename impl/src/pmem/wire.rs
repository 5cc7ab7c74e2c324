//! The constants of the persistent memory's wire format, as the standard defines them (5.19).
//!
//! Constants only: the simulator's guest keeps its own copy, and a test compares this one with the
//! Linux headers.

/// The device ID.
pub const DEVICE_ID: u32 = 27;

/// Feature bit 0: the range is a shared memory region instead of `start` and `size`.
pub const F_SHMEM_REGION: u64 = 1 << 0;

/// The ID of the shared memory region that is the range.
pub const SHMEM_ID: u8 = 0;

/// Bytes of the configuration space: `le64 start`, `le64 size`.
pub const CONFIG_BYTES: usize = 16;

/// Bytes of a request: `le32 type`.
pub const REQUEST_BYTES: usize = 4;
/// Bytes of a response: `le32 ret`.
pub const RESPONSE_BYTES: usize = 4;

/// Request type: make earlier stores persistent.
pub const T_FLUSH: u32 = 0;

/// Response: done.
pub const R_OK: u32 = 0;
/// Response: failed; "-1".
pub const R_FAILED: u32 = u32::MAX;
