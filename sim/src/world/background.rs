//! The background work of a device, which belongs to no queue, and its choices.

use super::{Event, Outcome, World};
use crate::dut::caught::of_device;
use crate::dut::{Choices, DeviceUnderTest, Host, Progress};
use crate::world::action::QueueId;

impl<D: DeviceUnderTest> World<D> {
    /// Runs the background work of a device, which goes on whether a driver runs it or not.
    pub(super) fn background(&mut self, device: u8, steps: u8) -> Outcome {
        if !D::BACKGROUND {
            return Ok(false);
        }
        let may_fail = self.shape.host_may_fail;
        for _ in 0..steps {
            let World { memory, disk, slots, .. } = self;
            let slot = &mut slots[usize::from(device)];
            let submitted = disk.submitted();
            let link = &mut slot.link;
            let mut host = Host { ram: memory.ram(), disk, device, may_fail, link };
            let progress = slot.device.background(&mut host);
            if let Some(journal) = &mut self.journal
                && let Some(op) = disk.newest().filter(|_| disk.submitted() > submitted)
            {
                journal.note(Event::Submitted(op));
            }
            self.stats.steps += 1;
            self.heed(device);
            self.look_at_memory(device)?;
            let slot = &mut self.slots[usize::from(device)];
            slot.background = progress != Progress::Idle;
            match progress {
                Progress::Idle | Progress::Busy => {}
                Progress::Woke(queue) => {
                    if let Some(runnable) = slot.runnable.get_mut(usize::from(queue)) {
                        *runnable = true;
                    }
                }
                Progress::Signal => of_device(|| {
                    panic!("background work has no queue to signal: wake one, whose step signals")
                }),
            }
            for queue in 0..self.slot(device).life().active as u8 {
                self.observe(QueueId { device, queue })?;
            }
            if progress == Progress::Idle {
                break;
            }
        }
        Ok(true)
    }

    /// Sets the next choices of a device.
    pub(super) fn give_choices(&mut self, device: u8, choices: Choices) -> bool {
        if D::CHOOSES {
            self.slots[usize::from(device)].link.give(choices);
        }
        D::CHOOSES
    }
}
