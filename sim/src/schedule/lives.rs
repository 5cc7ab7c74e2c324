//! What the monitor does to the devices while their guest works, and which queues the guest resets.

use super::Pilot;
use crate::base::choose::{Choose, Site};
use crate::dut::DeviceUnderTest;
use crate::dut::lifecycle::{Abilities, Cut, Life, Moving, QueueLife};
use crate::world::World;
use crate::world::action::{Action, QueueId};

/// How often in a life a backend is interrupted that goes on for a dead one.
const MOST_CARRIED: u32 = 2;

impl Pilot {
    /// Something of a device's life, or nothing this time.
    pub(super) fn lives<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        // What is switched off, or what no device can, draws nothing.
        let can = |device| world.station(device).device.can() != Abilities::NONE;
        if !self.options.lives.possible() || !(0..self.options.devices).any(can) {
            return None;
        }
        for device in 0..self.options.devices {
            let goes_on = self.goes_on(world, choose, device);
            if let Some(what) = goes_on.or_else(|| self.interrupts(world, choose, device)) {
                return Some(Action::Life { device, what });
            }
        }
        if !choose.chance(self.options.lives, Site::Life) {
            return None;
        }
        let to = self.any_queue(world, choose);
        let what = self.begins(world, choose, to)?;
        Some(Action::Life { device: to.device, what })
    }

    /// The next step of what was begun.
    fn goes_on<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        device: u8,
    ) -> Option<Life> {
        let station = world.station(device);
        if !station.live {
            return None;
        }
        // Stopped while it takes a dead backend's requests again: before that is over.
        let stops = station.paused && station.moving == Moving::No && station.is_carrying();
        if stops && choose.below(2, Site::Life) == 0 {
            return Some(Life::RestartRings);
        }
        if station.paused && choose.below(5, Site::Life) == 0 {
            let gives_up = choose.below(5, Site::Life) == 0;
            return Some(match station.moving {
                _ if gives_up => Life::Resume,
                Moving::No if choose.below(2, Site::Life) == 0 => Life::RestartRings,
                Moving::No => Life::Save,
                Moving::Saving => Life::Restore,
            });
        }
        for queue in 0..station.active as u8 {
            let life = station.lives[usize::from(queue)];
            if life == QueueLife::Live || choose.below(4, Site::Life) != 0 {
                continue;
            }
            if life == QueueLife::Resetting {
                return Some(Life::PollQueue { queue });
            }
            let most = self.options.spec.ring_size;
            // A request takes three descriptors.
            let size = (most >> choose.below(3, Site::Life)).max(4).min(most);
            return Some(Life::PlaceQueue { queue, size });
        }
        None
    }

    /// A backend that goes on for a dead one is stopped, left or dies as well, at any step of that.
    fn interrupts<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        device: u8,
    ) -> Option<Life> {
        let station = world.station(device);
        // Each backend that carries a write out once more is another way to explain what is read.
        let often = station.carried_again >= MOST_CARRIED;
        if !station.live || station.paused || often || !station.is_carrying() {
            return None;
        }
        if choose.below(4, Site::Life) != 0 {
            return None;
        }
        Some(match choose.below(4, Site::Life) {
            0 => Life::Pause,
            1 => Life::Leave,
            2 => Life::Reconnect { inside: None },
            _ => {
                let queue = choose.below(u32::from(station.active.max(1)), Site::Life) as u8;
                let cut = Cut::NAMES[choose.below(3, Site::Life) as usize].0;
                Life::Reconnect { inside: Some((queue, cut)) }
            }
        })
    }

    fn begins<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        to: QueueId,
    ) -> Option<Life> {
        let station = world.station(to.device);
        let can = station.device.can();
        let disk = &self.options.spec.disk;
        match choose.below(7, Site::Life) {
            0 | 1 if can.pause => Some(Life::Pause),
            2 if can.resize => {
                let sectors = station.capacity + disk.granule / 512;
                (sectors <= disk.room()).then_some(Life::Resize { sectors })
            }
            3 if can.queue_reset && station.may_reset_queues() => {
                Some(Life::ResetQueue { queue: to.queue })
            }
            6 if can.reconnect && self.options.spec.record => Some(Life::Leave),
            4 | 5 if can.reconnect && self.options.spec.record => {
                let inside = match choose.below(5, Site::Life) {
                    0 | 1 => None,
                    nth => Some((to.queue, Cut::NAMES[nth as usize - 2].0)),
                };
                Some(Life::Reconnect { inside })
            }
            _ => None,
        }
    }

    /// What has to end before everything can be read back.
    pub(super) fn back_to_work<D: DeviceUnderTest>(
        &self,
        world: &World<D>,
        device: u8,
    ) -> Option<Action> {
        let station = world.station(device);
        if !station.live {
            return None;
        }
        if station.paused {
            return Some(Action::Life { device, what: Life::Resume });
        }
        let down = (0..station.active as u8)
            .find(|&queue| station.lives[usize::from(queue)] == QueueLife::Down)?;
        let size = self.options.spec.ring_size;
        Some(Action::Life { device, what: Life::PlaceQueue { queue: down, size } })
    }
}
