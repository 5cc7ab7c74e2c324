//! The events that a violation rests on, as data: whoever tells the story knows more about each of
//! them than the oracle does.

use std::fmt;

use crate::names::{Instant, Observed, RequestId};

/// An event that a violation rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The request was published.
    Submitted {
        /// Which.
        id: RequestId,
        /// When.
        at: Instant,
    },
    /// The request was used.
    Completed {
        /// Which.
        id: RequestId,
        /// With which status.
        status: u8,
        /// When.
        at: Instant,
    },
    /// The request ended unanswered: by a reset, a kill or a power loss.
    Abandoned {
        /// Which.
        id: RequestId,
        /// When.
        at: Instant,
    },
    /// The request was refused or had to be, so it was never a version.
    NeverAVersion {
        /// Which.
        id: RequestId,
        /// Since when: its publication.
        at: Instant,
    },
    /// The write was stable when it completed, for the cache mode said so.
    StableAtCompletion {
        /// Which.
        id: RequestId,
        /// Its row of the stability table.
        row: char,
        /// When it completed.
        at: Instant,
    },
    /// The flush that made a write stable was published, after the write had completed.
    FlushSubmitted {
        /// Which flush.
        id: RequestId,
        /// When.
        at: Instant,
    },
    /// That flush was used with `OK`.
    FlushCompleted {
        /// Which flush.
        id: RequestId,
        /// When.
        at: Instant,
    },
    /// The device was saved, and what had completed before that began is stable.
    Saved {
        /// When the save began.
        begun: Instant,
        /// When it ended.
        at: Instant,
    },
    /// A read returned this.
    ReadSaw {
        /// Which read.
        id: RequestId,
        /// What it found in the atom.
        content: Observed,
        /// When it was published: what it saw was there at some time since.
        from: Instant,
        /// When it completed.
        at: Instant,
    },
    /// The guest saw the host fail: the first answer of `IOERR` that no rule asked for, or the
    /// latest.
    HostFailed {
        /// When.
        at: Instant,
    },
    /// The backend was killed.
    Kill {
        /// When.
        at: Instant,
    },
    /// The power was lost.
    PowerLoss {
        /// When.
        at: Instant,
    },
}

impl Reason {
    /// When the event was.
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
            Self::NeverAVersion { id, .. } => write!(f, "request {id} was to have no effect"),
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
