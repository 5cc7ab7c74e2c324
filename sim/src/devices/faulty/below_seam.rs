//! The faults of a mutant disk that are inside the simulated disk: a lane of it that breaks its
//! promises.

use powerfail_device::{Completion, Disk, Limits, Op, Submission};

use super::DiskFault;
use crate::guest::memory::Ram;
use crate::host::disk::{FaultHandle, Lane, SimDisk};

/// The simulated disk as one queue of one device sees it, with a fault. Faults that are above the
/// seam make no difference here.
#[derive(Debug)]
pub(super) struct BelowSeam<'a> {
    disk: &'a mut SimDisk,
    device: u8,
    lane: u8,
    fault: DiskFault,
}

impl<'a> BelowSeam<'a> {
    pub(super) fn new(
        disk: &'a mut SimDisk,
        device: u8,
        lane: u8,
        fault: DiskFault,
    ) -> BelowSeam<'a> {
        BelowSeam { disk, device, lane, fault }
    }

    /// The first sector of the part that an operation goes to.
    fn base(&self, op: &Op) -> u32 {
        let shape = self.disk.shape();
        let crosses = matches!(op, Op::Read { .. })
            && shape.devices == 2
            && self.disk.submitted().is_multiple_of(8);
        match self.fault {
            DiskFault::Shifted => shape.base(self.device) + 1,
            DiskFault::CrossedDevices if crosses => shape.base(1 - self.device),
            _ => shape.base(self.device),
        }
    }
}

impl Disk<Ram<'_>> for BelowSeam<'_> {
    fn limits(&self) -> Limits {
        self.disk.limits(self.device)
    }

    fn room(&self) -> u32 {
        self.disk.room()
    }

    fn submit(&mut self, _memory: &Ram<'_>, submission: Submission) {
        let last = u64::from(self.disk.capacity(self.device)) * 512;
        let syncs = submission.op == Op::Sync;
        let spills = matches!(&submission.op,
            Op::Write { offset, from, .. } if offset + u64::from(from.len()) == last);
        let base = self.base(&submission.op);
        let mut disk = FaultHandle::of(self.disk);
        disk.submit_at(self.device, self.lane, base, submission);
        match self.fault {
            DiskFault::SyncMissesSector if syncs => disk.neglect_one(),
            DiskFault::ZeroesNotSynced if syncs => disk.neglect_zeroes(),
            DiskFault::SpillsOver if spills => disk.spill(self.device),
            _ => {}
        }
    }

    fn complete(&mut self, memory: &Ram<'_>) -> Option<Completion> {
        Lane::new(self.disk, self.device, self.lane).complete(memory)
    }
}
