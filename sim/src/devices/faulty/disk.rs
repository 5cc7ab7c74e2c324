//! A mutant disk as a seam of our block device.

use std::collections::VecDeque;

use powerfail_device::Disk;

use super::DiskFault;
use super::below_seam::BelowSeam;
use super::lane::FaultyLane;
use super::state::{FaultyDisk, NOW_AND_THEN, Watch};
use crate::devices::registers::Registers;
use crate::devices::seam::Seam;
use crate::dut::{End, Host, Progress};
use crate::guest::memory::Ram;
use crate::host::disk::FaultHandle;

impl Seam for FaultyDisk {
    type Setup = DiskFault;

    const MANAGED: bool = false;

    fn new(fault: &DiskFault) -> FaultyDisk {
        FaultyDisk::with(*fault)
    }

    fn step<'m, L: Disk<Ram<'m>>>(
        &mut self,
        registers: &mut Registers,
        queue: u16,
        lane: L,
        ram: Ram<'m>,
    ) -> Progress {
        registers.step(queue, &mut FaultyLane::new(lane, self, queue as u8), ram)
    }

    fn step_simulated(
        &mut self,
        registers: &mut Registers,
        queue: u16,
        host: &mut Host<'_>,
    ) -> Progress {
        if !self.prepared {
            self.prepared = true;
            if self.fault == DiskFault::Shifted {
                FaultHandle::of(host.disk).shift_part(host.device);
            }
        }
        let lane = BelowSeam::new(host.disk, host.device, queue as u8, self.fault);
        self.step(registers, queue, lane, host.ram)
    }

    fn backend_lost(&mut self, end: End) {
        self.made_up.iter_mut().for_each(VecDeque::clear);
        self.held.clear();
        for (_, _, watch) in self.watched.drain(..) {
            if let (Watch::Repeat { op }, DiskFault::LateAfterKill, End::BackendKill) =
                (watch, self.fault, end)
            {
                self.held.push(op);
            }
        }
        self.additional.clear();
        self.writes.clear();
        self.unshown = self.copies.iter().map(|copy| copy.0).collect();
    }

    fn reset_begun(&mut self) {
        self.clean = true;
    }

    fn carries(&self) -> Option<u64> {
        let flags = u64::from(self.clean) << 1 | u64::from(self.prepared);
        (self.copies.is_empty() && self.held.is_empty())
            .then_some(u64::from(self.count % NOW_AND_THEN) << 2 | flags)
    }
}
