//! The result of a request, and breaches of the ring's rules.

use crate::guest::Kind;
use crate::guest::request::{GuestRequest, Malformation};
use crate::guest::wire::Status;

/// A completed request.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// Its number.
    pub id: u32,
    /// The request itself.
    pub ask: GuestRequest,
    /// How its chain was malformed, if at all.
    pub malformation: Malformation,
    /// The status byte found; of a persistent memory, OK iff it returned 0, or else IOERR.
    pub status: Status,
    /// The response of a persistent memory; `None` if none of it was written.
    pub ret: Option<u32>,
    /// The used length, in bytes.
    pub len: u32,
    /// Guest address of the data.
    pub data: u32,
    /// Whether the completion requires a signal to the guest.
    pub wants_signal: bool,
}

impl Done {
    /// Whether its chain was malformed, so that any answer will do.
    #[inline]
    pub(crate) fn is_malformed(&self, kind: Kind) -> bool {
        match kind {
            Kind::Disk => !self.malformation.is_framed(),
            Kind::Memory => self.malformation != Malformation::None,
        }
    }
}

/// A breach of the rules of the ring or the buffers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Breach {
    /// A used element names a head that is not outstanding.
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
    /// The used length is larger than the number of bytes written.
    Length {
        /// The request.
        id: u32,
        /// The used length, in bytes.
        claimed: u32,
        /// The most bytes that the device can have written.
        written: u32,
    },
    /// A byte outside the writable part changed.
    Outside {
        /// The request whose surroundings changed, or zero for a free buffer.
        id: u32,
        /// The guest address of the change.
        at: u32,
    },
    /// An area of the driver was written: the descriptor table, the available ring, or an indirect
    /// table.
    Driver {
        /// The guest address.
        at: u32,
        /// The name of the area.
        area: &'static str,
    },
    /// `used.flags` is neither 0 nor 1, or not 0 with EVENT_IDX: virtio 1.4, 2.7.10 (VS-17).
    UsedFlags {
        /// The value.
        flags: u16,
    },
    /// A part of the used ring was written in which no outstanding request can be used.
    UsedElement {
        /// The guest address.
        at: u32,
    },
    /// A readable buffer was written.
    Readable {
        /// The request.
        id: u32,
    },
    /// The used index moved by more than the number of outstanding heads.
    UsedIndex {
        /// The used index.
        index: u16,
    },
}
