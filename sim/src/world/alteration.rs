//! The change of a request that a guest has published, from the order to the end of the request.

use crate::guest::{Change, Edit, Moment};

/// The change of one request.
#[derive(Clone, Debug)]
pub(crate) struct Alteration {
    pub(super) queue: u8,
    pub(super) change: Change,
    pub(super) moment: Moment,
    pub(super) state: State,
}

#[derive(Clone, Debug)]
pub(super) enum State {
    /// The next request of the queue is the one.
    Ordered,
    /// The request was sent, and the thread of its queue has done so many steps since.
    Sent { id: u32, edit: Edit, steps: u8 },
    /// The guest has changed it.
    Done { id: u32 },
}

impl Alteration {
    /// The request, once it was sent.
    pub(super) fn id(&self) -> Option<u32> {
        match self.state {
            State::Ordered => None,
            State::Sent { id, .. } | State::Done { id } => Some(id),
        }
    }

    /// Whether the next request of a queue is the one.
    pub(super) fn is_ordered(&self, queue: u8) -> bool {
        matches!(self.state, State::Ordered) && self.queue == queue
    }

    /// The number of the write whose data takes the place of that of the request.
    pub(super) fn data(&self) -> Option<u32> {
        match self.change {
            Change::Data { id } => Some(id),
            _ => None,
        }
    }

    /// Whether the change happens at a read that has not happened yet.
    pub(super) fn has_trap(&self) -> bool {
        matches!((&self.state, self.moment), (State::Sent { .. }, Moment::Read(_)))
    }
}
