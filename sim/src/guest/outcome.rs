//! How a request comes back, and what about that no device may do.

use crate::guest::request::{GuestRequest, Malformation};

/// A request that came back.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Its number.
    pub id: u32,
    /// What was asked.
    pub ask: GuestRequest,
    /// How it was spoiled.
    pub malformation: Malformation,
    /// The status byte found; of a persistent memory, 0 iff it returned 0.
    pub status: u8,
    /// What a persistent memory returned, if it wrote any of its response.
    pub ret: Option<u32>,
    /// The length the device claims to have written.
    pub len: u32,
    /// Guest address of the data.
    pub data: u32,
    /// Whether the completion owes the guest a signal.
    pub wants_signal: bool,
}

/// Something about the ring or the buffers that no device may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// A used element names a head that is not out.
    NotOutstanding {
        /// The id in the used element.
        head: u32,
    },
    /// A used element names a head that was never published in this life.
    NotPublished {
        /// The id in the used element.
        head: u32,
    },
    /// The status byte was not written.
    NoStatus {
        /// The request.
        id: u32,
    },
    /// The used length is more than what was written.
    Length {
        /// The request.
        id: u32,
        /// What the device claims.
        claimed: u32,
        /// What it can have written at most.
        written: u32,
    },
    /// A byte outside the writable part changed.
    Outside {
        /// The request whose surroundings changed, or zero for a free buffer.
        id: u32,
        /// The guest address of the change.
        at: u32,
    },
    /// A readable buffer was written.
    Readable {
        /// The request.
        id: u32,
    },
    /// The used index moved by more than what is out.
    UsedIndex {
        /// Where it stands now.
        index: u16,
    },
}
