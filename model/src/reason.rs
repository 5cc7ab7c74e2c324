//! The events that a violation rests on, as data. The report adds details that the oracle does not
//! have.

use std::fmt;

use crate::names::{Instant, Observed, RequestId};
use crate::terms::Row;

/// An event that a violation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The request was published.
    Submitted {
        /// The request.
        id: RequestId,
        /// The time of the event.
        at: Instant,
    },
    /// The request was used.
    Completed {
        /// The request.
        id: RequestId,
        /// Its status byte.
        status: u8,
        /// The time of the event.
        at: Instant,
    },
    /// The request ended unanswered: by a reset, a kill or a power loss.
    Abandoned {
        /// The request.
        id: RequestId,
        /// The time of the event.
        at: Instant,
    },
    /// The request was refused or had to be refused, so it was never a version.
    NeverAVersion {
        /// The request.
        id: RequestId,
        /// The time of its publication.
        at: Instant,
    },
    /// The write was stable when it completed, because of the cache mode.
    StableAtCompletion {
        /// The request.
        id: RequestId,
        /// Its row of the stability table.
        row: Row,
        /// The time of its completion.
        at: Instant,
    },
    /// The flush that made a write stable was published after the write had completed.
    FlushSubmitted {
        /// The flush.
        id: RequestId,
        /// The time of the event.
        at: Instant,
    },
    /// The flush that made a write stable was used with `OK`.
    FlushCompleted {
        /// The flush.
        id: RequestId,
        /// The time of the event.
        at: Instant,
    },
    /// The device was saved, so every write that had completed before the save began is stable.
    Saved {
        /// The start of the save.
        begun: Instant,
        /// The end of the save.
        at: Instant,
    },
    /// A read returned this content.
    ReadSaw {
        /// The read.
        id: RequestId,
        /// The content of the atom.
        content: Observed,
        /// The time of its publication. The atom held the content at some time since.
        from: Instant,
        /// The time of its completion.
        at: Instant,
    },
    /// The guest saw a host failure: the first, or the latest, answer of `IOERR` that no rule
    /// required.
    HostFailed {
        /// The time of the event.
        at: Instant,
    },
    /// The backend was killed.
    Kill {
        /// The time of the event.
        at: Instant,
    },
    /// The power was lost.
    PowerLoss {
        /// The time of the event.
        at: Instant,
    },
}

impl Reason {
    /// The time of the event.
    #[must_use]
    pub fn at(&self) -> Instant {
        match *self {
            Self::Submitted { at, .. }
            | Self::Completed { at, .. }
            | Self::Abandoned { at, .. }
            | Self::NeverAVersion { at, .. }
            | Self::StableAtCompletion { at, .. }
            | Self::FlushSubmitted { at, .. }
            | Self::FlushCompleted { at, .. }
            | Self::Saved { at, .. }
            | Self::ReadSaw { at, .. }
            | Self::HostFailed { at }
            | Self::Kill { at }
            | Self::PowerLoss { at } => at,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Submitted { id, at } => write!(f, "request {id} was submitted ({at})"),
            Self::Completed { id, status: 0, at } => {
                write!(f, "request {id} completed with OK ({at})")
            }
            Self::Completed { id, status: 1, at } => {
                write!(f, "request {id} completed with IOERR ({at})")
            }
            Self::Completed { id, status: 2, at } => {
                write!(f, "request {id} completed with UNSUPP ({at})")
            }
            Self::Completed { id, status, at } => {
                write!(f, "request {id} completed with status {status} ({at})")
            }
            Self::Abandoned { id, at } => write!(f, "request {id} ended unanswered ({at})"),
            Self::NeverAVersion { id, .. } => write!(f, "request {id} must have no effect"),
            Self::StableAtCompletion { id, row, .. } => {
                write!(f, "request {id} was stable when it completed (row {row})")
            }
            Self::FlushSubmitted { id, at } => write!(f, "flush {id} was submitted ({at})"),
            Self::FlushCompleted { id, at } => write!(f, "flush {id} completed with OK ({at})"),
            Self::Saved { begun, at } => write!(f, "the device was saved ({begun} to {at})"),
            Self::ReadSaw { id, content, from, at } => {
                write!(f, "read {id} ({from} to {at}) found {content}")
            }
            Self::HostFailed { at } => write!(f, "the host failed ({at})"),
            Self::Kill { at } => write!(f, "the backend was killed ({at})"),
            Self::PowerLoss { at } => write!(f, "the power was lost ({at})"),
        }
    }
}
