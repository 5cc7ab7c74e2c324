//! Coming to rest: safety first, then liveness.
//!
//! After the last host fault, everything outstanding must finish within a bounded number of steps
//! (AMB-42). Settling draws nothing, so it is one action.

use powerfail_model::{Rule, Violation};

use super::judge::Failure;
use super::lifecycle::managed;
use super::{Outcome, World};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::dut::lifecycle::{Lifecycle, QueueState};
use crate::host::disk::{OpKind, Outcome as HostOutcome};
use crate::world::action::{Action, QueueId, Until};
use crate::world::coverage::Situation;

/// Most steps to come to rest.
const MOST_STEPS_AT_REST: u32 = 10_000;
/// Most polls of a reset in a row while nothing else moves. A reset may take long, and a device
/// that counts polls is as correct as one that waits for its host.
const POLLS: u32 = 4096;

/// Whether an action only polls a reset.
fn is_look(action: &Action) -> bool {
    let queue = matches!(action, Action::Lifecycle { what: Lifecycle::PollQueue { .. }, .. });
    queue || matches!(action, Action::PollReset { .. })
}

impl<D: DeviceUnderTest> World<D> {
    /// Does every enabled step until a request has completed.
    pub(super) fn wait_for(&mut self, device: u8, id: u32) -> Outcome {
        let mut polls = 0;
        for _ in 0..MOST_STEPS_AT_REST {
            if !self.is_out(device, id) {
                break;
            }
            let Some(action) = self.settle() else { break };
            if self.step(&action)? {
                polls = 0;
            } else {
                polls += 1;
                if polls > POLLS || !is_look(&action) {
                    break;
                }
            }
        }
        Ok(true)
    }

    pub(super) fn rest(&mut self) -> Outcome {
        let mut polls = 0;
        for _ in 0..MOST_STEPS_AT_REST {
            let Some(action) = self.settle() else { break };
            if let Action::Lifecycle { device, what: Lifecycle::Resume } = action {
                self.check_pause(device)?;
            }
            if self.step(&action)? {
                polls = 0;
            } else {
                polls += 1;
                if polls > POLLS || !is_look(&action) {
                    break;
                }
            }
        }
        self.check_rest()?;
        Ok(true)
    }

    /// Checks that a device that was paused is drained, when host and threads have nothing left to
    /// do: the virtual machine monitor waits for that.
    fn check_pause(&mut self, device: u8) -> Result<(), Box<Failure>> {
        let slot = &mut self.slots[usize::from(device)];
        let calm = slot.is_live()
            && !slot.is_saving()
            && !slot.life().malformed_sent
            && !slot.life().avail_jumped
            && slot.life().queue_states.iter().all(|state| *state == QueueState::Live);
        if calm && !managed(&mut slot.device, |part| part.is_drained()) {
            let note = "The device was paused, and its pause does not end: it is not drained, and nothing is left to do.";
            let violation = Violation::new(Rule::NeverUsed).note(note);
            return Err(Failure::boxed(device, violation));
        }
        Ok(())
    }

    /// The next step towards rest, without host faults: a thread runs, the oldest operation
    /// completes, a reset is polled, a paused device resumes, a due kick is given, or used elements
    /// are taken. `None` once none of these is enabled.
    pub(crate) fn settle(&self) -> Option<Action> {
        if let Some(action) = self.settle_paused() {
            return Some(action);
        }
        let devices = self.shape.devices;
        for device in 0..devices {
            let slot = self.slot(device);
            if slot.is_resetting() {
                return Some(Action::PollReset { device });
            }
            if slot.is_paused() {
                return Some(Action::Lifecycle { device, what: Lifecycle::Resume });
            }
            if !slot.is_live() {
                continue;
            }
            for queue in 0..slot.life().active as u8 {
                let to = QueueId { device, queue };
                match slot.life().queue_states[usize::from(queue)] {
                    QueueState::Live => {}
                    QueueState::Resetting => {
                        return Some(Action::Lifecycle {
                            device,
                            what: Lifecycle::PollQueue { queue },
                        });
                    }
                    QueueState::Down => continue,
                }
                let driver = &slot.queues[usize::from(queue)];
                if driver.kick_due() && !slot.life().avail_jumped {
                    return Some(Action::Kick { to });
                }
                if driver.back() > 0 || !driver.armed() {
                    return Some(Action::Reap { to, arm: true });
                }
            }
        }
        None
    }

    /// The next step of threads and host alone, which also move while a device is paused.
    pub(crate) fn settle_paused(&self) -> Option<Action> {
        for device in 0..self.shape.devices {
            let slot = self.slot(device);
            for queue in 0..slot.life().active.max(1) as u8 {
                let to = QueueId { device, queue };
                if slot.runnable[usize::from(queue)] {
                    return Some(Action::Crank { to, until: Until::Steps(64) });
                }
            }
            if D::BACKGROUND && slot.background {
                return Some(Action::Background { device, steps: 64 });
            }
        }
        self.oldest()
    }

    /// Completes the oldest operation in flight in full.
    pub(super) fn oldest(&self) -> Option<Action> {
        let (op, ..) = self.disk.in_flight().min_by_key(|&(_, nth, _)| nth)?;
        let landed = if op.kind == OpKind::Discard { op.range() } else { SectorSet::EMPTY };
        Some(Action::Complete { op, outcome: HostOutcome::Ok { landed } })
    }

    /// Checks that everything outstanding was answered.
    fn check_rest(&mut self) -> Result<(), Box<Failure>> {
        for device in 0..self.shape.devices {
            let slot = &mut self.slots[usize::from(device)];
            if slot.is_resetting() {
                return Err(Failure::boxed(device, Violation::new(Rule::ResetNotShown)));
            }
            if !slot.is_live() {
                continue;
            }
            self.check_reset_is_announced(device)?;
            self.check_registers_at_rest(device)?;
            let slot = &mut self.slots[usize::from(device)];
            if slot.life().avail_jumped {
                if !slot.device.needs_reset() {
                    let note = "The available index was out of range, and the device is silent.";
                    let violation = Violation::new(Rule::NeverUsed).note(note);
                    return Err(Failure::boxed(device, violation));
                }
                self.coverage.hit(Situation::QueueBroken);
                continue;
            }
            if slot.life().queue_states.contains(&QueueState::Resetting) {
                return Err(Failure::boxed(device, Violation::new(Rule::ResetNotShown)));
            }
            if slot.device.needs_reset() && slot.life().malformed_sent {
                // After an invalid chain a device may need a reset; it owes no completion then.
                continue;
            }
            if slot.device.needs_reset() {
                return Err(Failure::boxed(device, Violation::new(Rule::NeedsResetUncalled)));
            }
            slot.oracle.first().quiesce().map_err(|v| Failure::boxed(device, v))?;
            for (index, driver) in slot.queues.iter().enumerate() {
                if driver.signal_owed() {
                    let note = format!("Queue {index} waits for it.");
                    let violation = Violation::new(Rule::SignalMissing).note(note);
                    return Err(Failure::boxed(device, violation));
                }
            }
        }
        self.check_memory()?;
        if D::MEDIUM.is_simulated() {
            self.disk.witness(self.run).map_err(|seen| self.witnessed(seen))?;
        }
        Ok(())
    }

    /// Checks that no byte was written to buffers that no request uses, and the flags of the used
    /// rings.
    fn check_memory(&self) -> Result<(), Box<Failure>> {
        for (device, slot) in self.slots.iter().enumerate() {
            for (queue, driver) in slot.queues.iter().enumerate() {
                let free = driver.check_free(&self.memory);
                if let Err(breach) = free.and_then(|()| driver.check_flags(&self.memory)) {
                    let to = QueueId { device: device as u8, queue: queue as u8 };
                    return Err(self.breached(to, breach));
                }
            }
        }
        Ok(())
    }
}
