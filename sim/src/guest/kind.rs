//! The two kinds of device that a guest drives.

/// The type of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// A block device: virtio 1.4, 5.2.
    #[default]
    Disk,
    /// A persistent memory: virtio 1.4, 5.19.
    Memory,
}

/// The place of a persistent memory in guest physical memory: its first address and its length in
/// bytes.
pub const REGION: (u64, u64) = (1 << 32, 32 << 10);
