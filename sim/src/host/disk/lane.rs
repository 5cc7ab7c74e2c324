//! The view of one queue on the simulated disk.

use powerfail_device::{Completion, Disk, Limits, Submission};

use super::{BACKGROUND_LANE, SimDisk};
use crate::guest::memory::Ram;

/// A lane: the simulated disk as one queue of one device sees it.
#[derive(Debug)]
pub struct Lane<'a> {
    disk: &'a mut SimDisk,
    device: u8,
    lane: u8,
}

impl<'a> Lane<'a> {
    /// The lane of a device's queue.
    #[must_use]
    pub fn new(disk: &'a mut SimDisk, device: u8, lane: u8) -> Lane<'a> {
        Lane { disk, device, lane }
    }

    /// The lane of a device's [background work](crate::dut::DeviceUnderTest::background).
    #[must_use]
    pub fn background(disk: &'a mut SimDisk, device: u8) -> Lane<'a> {
        Lane { disk, device, lane: BACKGROUND_LANE }
    }
}

impl Disk<Ram<'_>> for Lane<'_> {
    fn limits(&self) -> Limits {
        self.disk.limits(self.device)
    }

    #[inline]
    fn room(&self) -> u32 {
        self.disk.room()
    }

    #[inline]
    fn submit(&mut self, _memory: &Ram<'_>, submission: Submission) {
        let base = self.disk.shape().base(self.device);
        self.disk.submit(self.device, self.lane, base, submission);
    }

    #[inline]
    fn complete(&mut self, _memory: &Ram<'_>) -> Option<Completion> {
        self.disk.take(self.device, self.lane)
    }
}
