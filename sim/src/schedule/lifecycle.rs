//! Lifecycle events while the guest works: those of the VMM, and queue resets of the guest.

use super::Scheduler;
use crate::base::choose::{Choose, Site};
use crate::dut::DeviceUnderTest;
use crate::dut::lifecycle::{Abilities, Cut, Lifecycle, QueueState};
use crate::world::action::{Action, QueueId};
use crate::world::{DeviceSlot, World};

/// The most interruptions, in one life, of backends that continue for a dead one.
const MOST_CARRIED: u32 = 2;

/// Whether another backend may take over. Each that carries out a write again adds an explanation
/// for later reads.
fn may_take_over<D>(slot: &DeviceSlot<D>) -> bool {
    slot.life().carried_again < MOST_CARRIED || !slot.is_carrying()
}

impl Scheduler {
    /// A lifecycle event, if one is drawn.
    pub(super) fn lifecycle<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        // Draws nothing if the option is off or no device supports any event.
        let can = |device| world.slot(device).can != Abilities::NONE;
        if !self.options.lifecycle.possible() || !(0..self.options.shape.devices).any(can) {
            return None;
        }
        for device in 0..self.options.shape.devices {
            let goes_on = self.goes_on(world, choose, device);
            if let Some(what) = goes_on.or_else(|| self.interrupts(world, choose, device)) {
                return Some(Action::Lifecycle { device, what });
            }
        }
        if !choose.chance(self.options.lifecycle, Site::Lifecycle) {
            return None;
        }
        let to = self.any_queue(world, choose);
        let what = self.begins(world, choose, to)?;
        Some(Action::Lifecycle { device: to.device, what })
    }

    /// The next step of an event in progress.
    fn goes_on<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        device: u8,
    ) -> Option<Lifecycle> {
        let slot = world.slot(device);
        if !slot.is_live() {
            return None;
        }
        // Stops the rings before all requests of a dead backend are resubmitted.
        let stops = slot.is_paused() && !slot.is_saving() && slot.is_carrying();
        if stops && choose.below(2, Site::Lifecycle) == 0 {
            return Some(Lifecycle::RestartRings);
        }
        if slot.is_paused() && choose.below(5, Site::Lifecycle) == 0 {
            let gives_up = choose.below(5, Site::Lifecycle) == 0;
            return Some(match slot.is_saving() {
                _ if gives_up => Lifecycle::Resume,
                true => Lifecycle::Restore,
                false if choose.below(2, Site::Lifecycle) == 0 => Lifecycle::RestartRings,
                false => Lifecycle::Save,
            });
        }
        for queue in 0..slot.life().active as u8 {
            let life = slot.life().queue_states[usize::from(queue)];
            if life == QueueState::Live || choose.below(4, Site::Lifecycle) != 0 {
                continue;
            }
            if life == QueueState::Resetting {
                return Some(Lifecycle::PollQueue { queue });
            }
            let most = self.options.shape.spec.ring_size;
            // A request needs three descriptors.
            let size = (most >> choose.below(3, Site::Lifecycle)).max(4).min(most);
            return Some(Lifecycle::PlaceQueue { queue, size });
        }
        None
    }

    /// An interruption of a backend that continues for a dead one: at any step it is paused, left
    /// or killed.
    fn interrupts<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        device: u8,
    ) -> Option<Lifecycle> {
        let slot = world.slot(device);
        if !slot.is_live() || slot.is_paused() || !slot.is_carrying() || !may_take_over(slot) {
            return None;
        }
        if choose.below(4, Site::Lifecycle) != 0 {
            return None;
        }
        Some(match choose.below(4, Site::Lifecycle) {
            0 => Lifecycle::Pause,
            1 => Lifecycle::Leave,
            2 => Lifecycle::Reconnect { inside: None },
            _ => {
                let queue =
                    choose.below(u32::from(slot.life().active.max(1)), Site::Lifecycle) as u8;
                let cut = Cut::NAMES[choose.below(3, Site::Lifecycle) as usize].0;
                Lifecycle::Reconnect { inside: Some((queue, cut)) }
            }
        })
    }

    fn begins<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        to: QueueId,
    ) -> Option<Lifecycle> {
        let slot = world.slot(to.device);
        let can = slot.can;
        let spec = &self.options.shape.spec;
        let disk = &spec.disk;
        let takes_over = can.reconnect && spec.record && may_take_over(slot);
        match choose.below(7, Site::Lifecycle) {
            0 | 1 if can.pause => Some(Lifecycle::Pause),
            2 if can.resize => {
                let sectors = slot.capacity + disk.granule / 512;
                (sectors <= disk.room()).then_some(Lifecycle::Resize { sectors })
            }
            3 if can.queue_reset && slot.may_reset_queues() => {
                Some(Lifecycle::ResetQueue { queue: to.queue })
            }
            6 if takes_over => Some(Lifecycle::Leave),
            4 | 5 if takes_over => {
                let inside = match choose.below(5, Site::Lifecycle) {
                    0 | 1 => None,
                    nth => Some((to.queue, Cut::NAMES[nth as usize - 2].0)),
                };
                Some(Lifecycle::Reconnect { inside })
            }
            _ => None,
        }
    }

    /// The action that ends a pause or a queue reset, so that everything can be read back.
    pub(super) fn back_to_work<D: DeviceUnderTest>(
        &self,
        world: &World<D>,
        device: u8,
    ) -> Option<Action> {
        let slot = world.slot(device);
        if !slot.is_live() {
            return None;
        }
        if slot.is_paused() {
            return Some(Action::Lifecycle { device, what: Lifecycle::Resume });
        }
        let down = (0..slot.life().active as u8)
            .find(|&queue| slot.life().queue_states[usize::from(queue)] == QueueState::Down)?;
        let size = self.options.shape.spec.ring_size;
        Some(Action::Lifecycle { device, what: Lifecycle::PlaceQueue { queue: down, size } })
    }
}
