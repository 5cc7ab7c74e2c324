//! The two kinds of device that a guest drives.

/// What a device is to its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// A block device: virtio 1.4, 5.2.
    #[default]
    Disk,
    /// A persistent memory: virtio 1.4, 5.19.
    Memory,
}

/// Where a persistent memory lies in a guest's physical memory: the first address and the length in
/// bytes.
pub const REGION: (u64, u64) = (1 << 32, 32 << 10);
