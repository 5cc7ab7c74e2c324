//! One queue's view of the simulated disk: the device's side of the seam.

use powerfail_device::{Completion, Disk, Limits, Op, Submission};

use super::SimDisk;
use crate::guest::memory::Ram;

/// How a lane of a wrong disk is wrong below the seam.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Twist {
    /// It is not.
    #[default]
    None,
    /// Every operation is off by one sector.
    Shifted,
    /// A sync leaves out one sector it owes.
    MissesSector,
    /// A sync leaves out what holds zeroes.
    LeavesZeroes,
    /// A write up to the end of the part changes the sector behind it too.
    Spills,
    /// Every eighth read goes to the other device's part.
    Crossed,
}

/// A lane: the simulated disk as one queue of one device sees it.
#[derive(Debug)]
pub struct Lane<'a> {
    disk: &'a mut SimDisk,
    device: u8,
    lane: u8,
    twist: Twist,
}

impl<'a> Lane<'a> {
    /// The lane of a device's queue.
    #[must_use]
    pub fn new(disk: &'a mut SimDisk, device: u8, lane: u8) -> Lane<'a> {
        Lane { disk, device, lane, twist: Twist::None }
    }

    /// The same, wrong in this way.
    #[must_use]
    pub fn twisted(mut self, twist: Twist) -> Lane<'a> {
        self.twist = twist;
        self
    }

    #[cold]
    fn submit_twisted(&mut self, base: u32, submission: Submission) {
        let syncs = submission.op == Op::Sync;
        let last = u64::from(self.disk.capacity(self.device)) * 512;
        let spills = matches!(&submission.op,
            Op::Write { offset, from, .. } if offset + u64::from(from.len()) == last);
        self.disk.submit(self.device, self.lane, base, submission);
        match self.twist {
            Twist::MissesSector if syncs => self.disk.neglect_one(),
            Twist::LeavesZeroes if syncs => self.disk.neglect_zeroes(),
            Twist::Spills if spills => self.disk.spill(self.device),
            _ => {}
        }
    }

    #[cold]
    fn twisted_base(&self, op: &Op) -> u32 {
        let shape = self.disk.shape();
        match self.twist {
            Twist::Shifted => shape.base(self.device) + 1,
            Twist::Crossed
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
        let base = match self.twist {
            Twist::None => self.disk.shape().base(self.device),
            _ => self.twisted_base(&submission.op),
        };
        if self.twist != Twist::None {
            return self.submit_twisted(base, submission);
        }
        self.disk.submit(self.device, self.lane, base, submission);
    }

    #[inline]
    fn complete(&mut self, _memory: &Ram<'_>) -> Option<Completion> {
        self.disk.take(self.device, self.lane)
    }
}
