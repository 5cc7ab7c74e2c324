//! The events of a world in order, for reports and traces.
//!
//! A journal is optional, because no run depends on it.

use crate::dut::Remark;
use crate::guest::wire::Status;
use crate::guest::{Change, GuestRequest};
use crate::host::disk::OpKey;
use crate::world::action::{Action, QueueId};

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// An action was done. The events up to the next action are its effects.
    Did(Action),
    /// A device submitted an operation to the host.
    Submitted(OpKey),
    /// A request completed.
    Completed {
        /// The queue.
        to: QueueId,
        /// Its number.
        id: u32,
        /// The request itself.
        ask: GuestRequest,
        /// Its status byte.
        status: Status,
    },
    /// The guest changed a request that it had published.
    Altered {
        /// The queue.
        to: QueueId,
        /// Its number.
        id: u32,
        /// The change.
        change: Change,
    },
    /// The device signalled the driver of a queue.
    Signalled(QueueId),
    /// The device explained itself.
    Remarked {
        /// The device.
        device: u8,
        /// Its words.
        text: Remark,
    },
    /// The device took a choice of its own.
    Chose {
        /// The device.
        device: u8,
        /// The choice, below `of`.
        number: u16,
        /// The number of possibilities.
        of: u32,
    },
}

/// A list of events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    events: Vec<Event>,
}

impl Journal {
    /// All events since power-on.
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
