//! What happened in a world, in order: for stories and for traces.
//!
//! A world keeps a journal only if it is asked to, for nothing that a run depends on is in it.

use crate::guest::Ask;
use crate::host::disk::OpKey;
use crate::world::action::{Action, QueueId};

/// One thing that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An action was done. What follows up to the next one came of it.
    Did(Action),
    /// A device handed an operation to the host.
    Submitted(OpKey),
    /// A request came back.
    Completed {
        /// On which queue.
        to: QueueId,
        /// Its number.
        id: u32,
        /// What it was.
        ask: Ask,
        /// Its status byte.
        status: u8,
    },
    /// The device signalled the driver of a queue.
    Signalled(QueueId),
}

/// A list of what happened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    events: Vec<Event>,
}

impl Journal {
    /// Everything since power-on.
    #[must_use]
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    pub(super) fn clear(&mut self) {
        self.events.clear();
    }

    pub(super) fn note(&mut self, event: Event) {
        self.events.push(event);
    }

    pub(super) fn take_back(&mut self, action: &Action) {
        if self.events.last() == Some(&Event::Did(*action)) {
            self.events.pop();
        }
    }
}
