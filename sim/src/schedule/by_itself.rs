//! The choices and the background work of a device.

use super::{Phase, Scheduler};
use crate::base::choose::{Choose, Site};
use crate::dut::{Choices, DeviceUnderTest};
use crate::world::World;
use crate::world::action::Action;

/// One move in so many is background work, if there is some to do.
const BUSY: u32 = 6;
/// One move in so many is background work, if there is none to do: a timer may expire.
const IDLE: u32 = 48;

impl Scheduler {
    /// Draws new choices for a device that has used all of its own, or lets background work run.
    pub(super) fn by_itself<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        for device in 0..self.options.shape.devices {
            let slot = world.slot(device);
            if D::CHOOSES && slot.link.is_spent() {
                return Some(Action::Choose { device, choices: choices(choose) });
            }
            let goes_on = !matches!(self.phase, Phase::Rest | Phase::Crash | Phase::Done);
            if D::BACKGROUND && goes_on {
                let one_in = if slot.background { BUSY } else { IDLE };
                if choose.below(one_in, Site::Device) == 0 {
                    let burst = self.options.burst;
                    let steps = if burst == 1 { 1 } else { 1 + choose.below(burst, Site::Device) };
                    return Some(Action::Background { device, steps: steps as u8 });
                }
            }
        }
        None
    }
}

/// Numbers of all magnitudes, because their ranges are unknown yet; zero most often.
fn choices<C: Choose>(choose: &mut C) -> Choices {
    Choices::new((0..Choices::MOST).map(|_| {
        let most = choose.pick(&[1, 2, 4, 16, 256, 1 << 16], Site::Device);
        choose.below(most, Site::Device) as u16
    }))
}
