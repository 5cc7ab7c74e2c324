//! The effects of each action of a run: the requests that came back, the operations submitted, and
//! the choices of devices.

use super::case::Case;
use crate::dut::DeviceUnderTest;
use crate::host::disk::OpKey;
use crate::run::guarded;
use crate::world::action::Action;
use crate::world::{Event, World};

/// The effects of one action.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// Requests that came back, with their devices.
    pub(super) back: Vec<(u8, u32)>,
    /// Operations that were submitted to the host.
    pub(super) submitted: Vec<OpKey>,
    /// Choices that devices took, with their devices.
    pub(super) chosen: Vec<(u8, u16)>,
}

/// The effects of every action, in order; none for those after the failure.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline(Vec<Moment>);

impl Timeline {
    pub(super) fn of<D: DeviceUnderTest>(world: &mut World<D>, case: &Case) -> Timeline {
        let mut moments = Vec::with_capacity(case.actions.len());
        world.keep_journal();
        let verdict = guarded(world, |world| {
            world.restart(case.shape, case.run);
            let mut seen = 0;
            for action in &case.actions {
                let result = world.step(action);
                let events = world.journal().map(|j| &j.events()[seen..]).unwrap_or_default();
                seen += events.len();
                let mut moment = Moment::default();
                for event in events {
                    match *event {
                        // An access is not waited for: it ends at once.
                        Event::Completed { ask, .. } if ask.is_access() => {}
                        Event::Completed { to, id, .. } => moment.back.push((to.device, id)),
                        Event::Submitted(op) => moment.submitted.push(op),
                        Event::Chose { device, number, .. } => {
                            moment.chosen.push((device, number));
                        }
                        Event::Did(_)
                        | Event::Altered { .. }
                        | Event::Signalled(_)
                        | Event::Remarked { .. } => {}
                    }
                }
                moments.push(moment);
                result?;
            }
            Ok(false)
        });
        world.forget_journal();
        world.refresh(verdict.failure.as_deref());
        Timeline(moments)
    }

    /// The effects of the action at this index.
    pub(super) fn at(&self, place: usize) -> Moment {
        self.0.get(place).cloned().unwrap_or_default()
    }

    /// The choices that a device took of those given at this index.
    pub(super) fn chosen(&self, place: usize, actions: &[Action], device: u8) -> Vec<u16> {
        let given = |action: &Action| matches!(action, Action::Choose { device: other, .. } if *other == device);
        let until = (place + 1..actions.len()).find(|&at| given(&actions[at]));
        let end = until.unwrap_or(self.0.len()).min(self.0.len());
        let moments = self.0.get(place..end).unwrap_or_default();
        let chosen = moments.iter().flat_map(|moment| &moment.chosen);
        chosen.filter(|chosen| chosen.0 == device).map(|chosen| chosen.1).collect()
    }

    /// The index of the action at which a request came back.
    pub(super) fn back(&self, device: u8, id: u32) -> Option<usize> {
        self.0.iter().position(|moment| moment.back.contains(&(device, id)))
    }
}
