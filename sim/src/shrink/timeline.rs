//! The effects of each action of a run: the requests that came back and the operations submitted.

use super::case::Case;
use crate::dut::DeviceUnderTest;
use crate::host::disk::OpKey;
use crate::run::guarded;
use crate::world::{Event, World};

/// The effects of one action.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// Requests that came back, with their devices.
    pub(super) back: Vec<(u8, u32)>,
    /// Operations that were submitted to the host.
    pub(super) submitted: Vec<OpKey>,
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
                        Event::Did(_) | Event::Signalled(_) | Event::Remarked { .. } => {}
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

    /// The index of the action at which a request came back.
    pub(super) fn back(&self, device: u8, id: u32) -> Option<usize> {
        self.0.iter().position(|moment| moment.back.contains(&(device, id)))
    }
}
