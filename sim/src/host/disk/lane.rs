//! The view of one queue on the simulated disk.

use powerfail_device::{Completion, Disk, Limits, Op, Submission};

use super::SimDisk;
use crate::guest::memory::Ram;

/// The fault of a lane that belongs to a mutant disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum BelowSeam {
    /// No fault.
    #[default]
    None,
    /// Every operation is off by one sector.
    Shifted,
    /// A sync omits one sector that it must persist.
    MissesSector,
    /// A sync omits sectors that hold zeroes.
    LeavesZeroes,
    /// A write up to the end of the part also changes the sector after it.
    Spills,
    /// A read goes to the other device's part if the number of operations submitted so far is a
    /// multiple of 8.
    Crossed,
}

/// A lane: the simulated disk as one queue of one device sees it.
#[derive(Debug)]
pub struct Lane<'a> {
    disk: &'a mut SimDisk,
    device: u8,
    lane: u8,
    fault: BelowSeam,
}

impl<'a> Lane<'a> {
    /// The lane of a device's queue.
    #[must_use]
    pub fn new(disk: &'a mut SimDisk, device: u8, lane: u8) -> Lane<'a> {
        Lane { disk, device, lane, fault: BelowSeam::None }
    }

    /// The same lane with a fault.
    #[must_use]
    pub fn with_fault(mut self, fault: BelowSeam) -> Lane<'a> {
        self.fault = fault;
        self
    }

    #[cold]
    fn submit_faulty(&mut self, base: u32, submission: Submission) {
        let syncs = submission.op == Op::Sync;
        let last = u64::from(self.disk.capacity(self.device)) * 512;
        let spills = matches!(&submission.op,
            Op::Write { offset, from, .. } if offset + u64::from(from.len()) == last);
        self.disk.submit(self.device, self.lane, base, submission);
        match self.fault {
            BelowSeam::MissesSector if syncs => self.disk.neglect_one(),
            BelowSeam::LeavesZeroes if syncs => self.disk.neglect_zeroes(),
            BelowSeam::Spills if spills => self.disk.spill(self.device),
            _ => {}
        }
    }

    #[cold]
    fn twisted_base(&self, op: &Op) -> u32 {
        let shape = self.disk.shape();
        match self.fault {
            BelowSeam::Shifted => shape.base(self.device) + 1,
            BelowSeam::Crossed
                if shape.devices == 2
                    && matches!(op, Op::Read { .. })
                    && self.disk.submitted().is_multiple_of(8) =>
            {
                shape.base(1 - self.device)
            }
            _ => shape.base(self.device),
        }
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
        let base = match self.fault {
            BelowSeam::None => self.disk.shape().base(self.device),
            _ => self.twisted_base(&submission.op),
        };
        if self.fault != BelowSeam::None {
            return self.submit_faulty(base, submission);
        }
        self.disk.submit(self.device, self.lane, base, submission);
    }

    #[inline]
    fn complete(&mut self, _memory: &Ram<'_>) -> Option<Completion> {
        self.disk.take(self.device, self.lane)
    }
}
