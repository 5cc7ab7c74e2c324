//! What came of each action of a run: which requests came back, which operations were submitted.

use super::case::Case;
use crate::dut::DeviceUnderTest;
use crate::host::disk::OpKey;
use crate::run::guarded;
use crate::world::{Event, World};

/// What came of one action.
#[derive(Clone, Debug, Default)]
pub(super) struct Moment {
    /// Requests that came back, with their devices.
    pub(super) back: Vec<(u8, u32)>,
    /// Operations that were handed to the host.
    pub(super) submitted: Vec<OpKey>,
}

/// What came of every action, in order; nothing for those after the one that failed.
#[derive(Clone, Debug, Default)]
pub(super) struct Timeline(Vec<Moment>);

impl Timeline {
    pub(super) fn of<D: DeviceUnderTest>(world: &mut World<D>, case: &Case) -> Timeline {
        let mut moments = Vec::with_capacity(case.actions.len());
        world.keep_journal();
        let verdict = guarded(world, |world| {
            world.restart(case.options, case.run);
            let mut seen = 0;
            for action in &case.actions {
                let result = world.step(action);
                let events = world.journal().map(|j| &j.events()[seen..]).unwrap_or_default();
                seen += events.len();
                let mut moment = Moment::default();
                for event in events {
                    match *event {
                        // Nobody waits for an access: it is over at once.
                        Event::Completed { ask, .. } if ask.is_access() => {}
                        Event::Completed { to, id, .. } => moment.back.push((to.device, id)),
                        Event::Submitted(op) => moment.submitted.push(op),
                        Event::Did(_) | Event::Signalled(_) => {}
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

    /// What came of the action at this place.
    pub(super) fn at(&self, place: usize) -> Moment {
        self.0.get(place).cloned().unwrap_or_default()
    }

    /// Where a request came back.
    pub(super) fn back(&self, device: u8, id: u32) -> Option<usize> {
        self.0.iter().position(|moment| moment.back.contains(&(device, id)))
    }
}
