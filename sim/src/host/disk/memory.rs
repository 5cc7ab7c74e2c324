//! The view of a persistent memory on the simulated disk: its only operation is a sync of its part.

use powerfail_device::pmem::{Backing, Synced};
use powerfail_device::{Op, Submission, Token};

use super::SimDisk;

/// The backing of a persistent memory: a device's part of the simulated disk.
#[derive(Debug)]
pub struct MemoryLane<'a> {
    disk: &'a mut SimDisk,
    device: u8,
}

impl<'a> MemoryLane<'a> {
    /// The backing of a device.
    #[must_use]
    pub fn new(disk: &'a mut SimDisk, device: u8) -> MemoryLane<'a> {
        MemoryLane { disk, device }
    }

    /// The disk below.
    pub(crate) fn disk(&mut self) -> &mut SimDisk {
        self.disk
    }
}

impl Backing for MemoryLane<'_> {
    #[inline]
    fn room(&self) -> u32 {
        self.disk.room()
    }

    #[inline]
    fn submit(&mut self, token: Token) {
        let base = self.disk.shape().base(self.device);
        self.disk.submit(self.device, 0, base, Submission { token, op: Op::Sync });
    }

    #[inline]
    fn complete(&mut self) -> Option<Synced> {
        let done = self.disk.take(self.device, 0)?;
        Some(Synced { token: done.token, result: done.result.map(|_| ()) })
    }
}
