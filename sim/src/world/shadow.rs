//! The expected content of guest memory, and the bound on a device's writes to it.
//!
//! In a run that is [watched](super::WorldShape::watch) a byte of guest memory may change in a step
//! of a device, or when one of its operations lands, iff it lies
//!
//! * in a device-writable buffer of a request that is outstanding then;
//! * in an element of the used ring in which an outstanding request can be used next;
//! * in `used.flags`, `used.idx` or, with EVENT_IDX, `avail_event`.
//!
//! Elements that were seen used, the descriptors, the available ring, headers and the data of
//! writes never change (VS-03, VS-04, VS-16). A write that is undone within the same step, or that
//! writes the bytes that are there, does not show.

use std::ops::Range;

use super::judge::Failure;
use super::{DeviceSlot, World};
use crate::dut::DeviceUnderTest;
use crate::guest::memory::Memory;
use crate::guest::{Breach, Edit, QueueDriver};
use crate::world::action::{Action, QueueId};
use powerfail_model::{Rule, Violation};

/// Memory is compared in blocks, and those that differ in lines of so many bytes.
const BLOCK: usize = 4096;
const LINE: usize = 64;

/// The content of guest memory after the last step.
#[derive(Clone, Debug)]
pub(super) struct Shadow(Vec<u8>);

impl Shadow {
    pub(super) fn new(memory: &Memory) -> Shadow {
        Shadow(memory.all().to_vec())
    }

    /// Takes over the content of a part of memory, after the guest has written there.
    pub(super) fn refresh(&mut self, memory: &Memory, part: Range<usize>) {
        self.0[part.clone()].copy_from_slice(&memory.all()[part]);
    }

    /// Takes over one write of the guest.
    pub(super) fn write(&mut self, edit: &Edit) {
        let at = edit.at as usize;
        self.0[at..at + edit.bytes.len()].copy_from_slice(&edit.bytes);
    }

    /// Takes over the changes that a device has made.
    ///
    /// # Errors
    /// The first change that it must not make, and the queue that it concerns.
    fn compare<D>(&mut self, memory: &Memory, slot: &DeviceSlot<D>) -> Result<(), (u8, Breach)> {
        let now = memory.all();
        // The end of the area around the last change, in which all may change.
        let mut allowed = 0;
        let blocks = self.0.chunks_mut(BLOCK).zip(now.chunks(BLOCK));
        for (nth, (old, new)) in blocks.enumerate().filter(|(_, (old, new))| old != new) {
            let lines = old.chunks_mut(LINE).zip(new.chunks(LINE));
            for (line, (old, new)) in lines.enumerate().filter(|(_, (old, new))| old != new) {
                let start = nth * BLOCK + line * LINE;
                for (at, _) in (start..).zip(old.iter().zip(new)).filter(|(_, (o, n))| o != n) {
                    if at as u32 >= allowed {
                        allowed = may_change(slot, at as u32)?;
                    }
                }
                old.copy_from_slice(new);
            }
        }
        Ok(())
    }
}

/// Checks that a device may change a byte; returns the end of the area in which it may change all.
/// The breach comes with the queue that it concerns.
fn may_change<D>(slot: &DeviceSlot<D>, at: u32) -> Result<u32, (u8, Breach)> {
    match slot.queues.iter().position(|queue| queue.contains(at)) {
        Some(queue) => slot.queues[queue].may_change(at).map_err(|breach| (queue as u8, breach)),
        None => Err((0, Breach::Outside { id: 0, at })),
    }
}

impl<D: DeviceUnderTest> World<D> {
    /// Takes over the writes of the guest since the last step of a device, before another one.
    #[cold]
    pub(super) fn expect_memory(&mut self, action: &Action) {
        match action {
            Action::Crank { .. }
            | Action::Background { .. }
            | Action::Effect { .. }
            | Action::Complete { .. } => self.take_over(),
            Action::Send { to, .. }
            | Action::SendAgain { to, .. }
            | Action::Jump { to }
            | Action::Kick { to }
            | Action::Reap { to, .. } => {
                let queue = self.slots[usize::from(to.device)].queues.get(usize::from(to.queue));
                self.guest_may_write(queue.map(QueueDriver::share));
            }
            // The driver's part writes memory as well as the device.
            Action::Lifecycle { .. } => {
                self.take_over();
                self.guest_may_write(None);
            }
            _ => self.guest_may_write(None),
        }
    }

    fn take_over(&mut self) {
        let part = std::mem::replace(&mut self.guest_wrote, 0..0);
        if let Some(shadow) = &mut self.shadow {
            shadow.refresh(&self.memory, part);
        }
    }

    /// Notes that the guest may write a part of memory, or any.
    fn guest_may_write(&mut self, part: Option<Range<u32>>) {
        let all = 0..self.memory.len();
        let part = part.map_or(all, |part| part.start as usize..part.end as usize);
        let before = &self.guest_wrote;
        self.guest_wrote = if before.is_empty() {
            part
        } else {
            before.start.min(part.start)..before.end.max(part.end)
        };
    }

    /// Checks the changes that a step of a device has made, or one of its operations that landed,
    /// and that it has submitted no operation beyond the end of its disk.
    ///
    /// # Errors
    /// The first change that it must not make.
    #[inline]
    pub(super) fn look_at_memory(&mut self, device: u8) -> Result<(), Box<Failure>> {
        if self.memory.has_trap() {
            self.after_trap();
        }
        if let Some(stray) = self.disk.stray() {
            let what = stray.kind.words();
            let note =
                format!("The {what} reaches sector {}, and the disk ends before it.", stray.sector);
            let violation = Violation::new(Rule::MediumOutside).note(note);
            return Err(Failure::boxed(stray.device, violation));
        }
        match &mut self.shadow {
            None => Ok(()),
            Some(shadow) => {
                let slot = &self.slots[usize::from(device)];
                let told = shadow.compare(&self.memory, slot);
                told.map_err(|(queue, breach)| self.breached(QueueId { device, queue }, breach))
            }
        }
    }
}
