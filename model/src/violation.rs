//! A broken rule, as data: what was promised, what was allowed, what was seen, and the events that say so.
//!
//! Nothing here decides anything. The sentence a person reads is made from the fields and can be made differently by whoever holds them.

use std::fmt;

use crate::names::{Atom, Content, Instant, Observed, RequestId};
use crate::request::Kind;
use crate::rule::Rule;
use crate::terms::Profile;

/// What is wrong with what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// It should be there and is not.
    Lost,
    /// Something newer should be there.
    Stale,
    /// It mixes versions.
    Torn,
    /// It belongs elsewhere.
    Misdirected,
    /// It came more than once.
    Duplicated,
    /// It was over and came back.
    Resurrected,
    /// It belongs to someone else.
    Foreign,
    /// Nobody wrote it.
    Garbage,
    /// A refusal or a failure that should not be, or a success that should be a refusal.
    Refused,
    /// The ring, the registers or the memory, not the data.
    Protocol,
}

impl Class {
    /// Every class.
    pub const ALL: &[Self] = &[
        Self::Lost,
        Self::Stale,
        Self::Torn,
        Self::Misdirected,
        Self::Duplicated,
        Self::Resurrected,
        Self::Foreign,
        Self::Garbage,
        Self::Refused,
        Self::Protocol,
    ];

    /// The class's name in lower case.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Stale => "stale",
            Self::Torn => "torn",
            Self::Misdirected => "misdirected",
            Self::Duplicated => "duplicated",
            Self::Resurrected => "resurrected",
            Self::Foreign => "foreign",
            Self::Garbage => "garbage",
            Self::Refused => "refused",
            Self::Protocol => "protocol",
        }
    }

    /// The class with that [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|class| class.name() == name)
    }

    /// The class a rule is broken in when nothing more is known.
    #[must_use]
    pub fn of(rule: Rule) -> Self {
        match rule {
            Rule::StableWriteLost
            | Rule::WriteThroughLost
            | Rule::FlushlessWriteLost
            | Rule::UntouchedChanged => Self::Lost,
            Rule::StaleRead | Rule::ReadsDisagree | Rule::NotZeroed => Self::Stale,
            Rule::ImageChanged | Rule::LateEffect => Self::Resurrected,
            Rule::TornAtom => Self::Torn,
            Rule::Misplaced | Rule::MediumMisplaced | Rule::MediumOutside => Self::Misdirected,
            Rule::ForeignContent => Self::Foreign,
            Rule::NeverWritten => Self::Garbage,
            Rule::UsedTwice => Self::Duplicated,
            Rule::RefusedEffect
            | Rule::ReadOnlyServed
            | Rule::UnknownFlagServed
            | Rule::DiscardUnmapServed
            | Rule::BeyondCapacityServed
            | Rule::OverLimitServed
            | Rule::TooManySegmentsServed
            | Rule::PartialSectorServed
            | Rule::PartialSegmentServed
            | Rule::UnnegotiatedServed
            | Rule::UnknownTypeServed
            | Rule::WrongRefusal
            | Rule::LegalRequestFailed
            | Rule::MediumReadOnlyChanged => Self::Refused,
            Rule::UnknownStatus
            | Rule::UsedUnpublished
            | Rule::UsedAfterEnd
            | Rule::NeverUsed
            | Rule::UsedLength
            | Rule::WroteReadable
            | Rule::WroteOutside
            | Rule::WroteAfterEnd
            | Rule::SignalMissing
            | Rule::SignalAfterReset
            | Rule::UsedRingBroken
            | Rule::NeedsResetUncalled
            | Rule::ResetNotShown
            | Rule::WritebackUntrue
            | Rule::WritebackStart
            | Rule::GenerationStale
            | Rule::ReservedNotZero
            | Rule::OfferBroken
            | Rule::FeaturesRefused
            | Rule::UnofferedAccepted
            | Rule::WrongIdentity
            | Rule::DevicePanicked => Self::Protocol,
        }
    }
}

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
    },
    /// The write was stable when it completed, for the cache mode said so.
    StableAtCompletion {
        /// Which.
        id: RequestId,
        /// Its row of the stability table.
        row: char,
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
    /// The guest saw the host fail: the first answer of `IOERR` that no rule asked for, or the latest.
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
            Self::NeverAVersion { id } => write!(f, "request {id} was to have no effect"),
            Self::StableAtCompletion { id, row } => {
                write!(f, "request {id} was stable when it completed (row {row})")
            }
            Self::FlushSubmitted { id, at } => write!(f, "flush {id} was submitted ({at})"),
            Self::FlushCompleted { id, at } => write!(f, "flush {id} completed with OK ({at})"),
            Self::ReadSaw { id, content, from, at } => {
                write!(f, "read {id} ({from} to {at}) found {content}")
            }
            Self::HostFailed { at } => write!(f, "the host failed ({at})"),
            Self::Kill { at } => write!(f, "the backend was killed ({at})"),
            Self::PowerLoss { at } => write!(f, "the power was lost ({at})"),
        }
    }
}

/// A broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: Rule,
    /// What is wrong with what was seen.
    pub class: Class,
    /// The kind of the request whose promise was broken: the write that was lost, the request that was wrongly served.
    pub kind: Option<Kind>,
    /// The row of the stability table under which that request was served, if it was a write.
    pub row: Option<char>,
    /// By which reading.
    pub profile: Profile,
    /// The request at which it came to light.
    pub request: Option<RequestId>,
    /// The status it was answered with.
    pub status: Option<u8>,
    /// Where, if the rule is about content.
    pub atom: Option<Atom>,
    /// What the atom could have held, sorted.
    pub allowed: Vec<Content>,
    /// What was found instead.
    pub observed: Option<Observed>,
    /// The events that say so, in order.
    pub because: Vec<Reason>,
    /// What else there is to say, as a sentence.
    pub note: Option<String>,
}

impl Violation {
    /// A violation of which nothing is known but the rule; the profile is Strict until told otherwise.
    #[must_use]
    pub fn new(rule: Rule) -> Self {
        Self {
            rule,
            class: Class::of(rule),
            kind: None,
            row: None,
            profile: Profile::Strict,
            request: None,
            status: None,
            atom: None,
            allowed: Vec::new(),
            observed: None,
            because: Vec::new(),
            note: None,
        }
    }

    /// The same, in this class.
    #[must_use]
    pub fn class(mut self, class: Class) -> Self {
        self.class = class;
        self
    }

    /// The same, about a promise to a request of this kind.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = Some(kind);
        self
    }

    /// The same, under this row of the stability table.
    #[must_use]
    pub fn row(mut self, row: char) -> Self {
        self.row = Some(row);
        self
    }

    /// The same, by this reading.
    #[must_use]
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// The same, come to light at this request.
    #[must_use]
    pub fn request(mut self, request: RequestId) -> Self {
        self.request = Some(request);
        self
    }

    /// The same, answered with this status.
    #[must_use]
    pub fn status(mut self, status: u8) -> Self {
        self.status = Some(status);
        self
    }

    /// The same, in this atom.
    #[must_use]
    pub fn atom(mut self, atom: Atom) -> Self {
        self.atom = Some(atom);
        self
    }

    /// The same, where these contents were allowed.
    #[must_use]
    pub fn allowed(mut self, allowed: Vec<Content>) -> Self {
        self.allowed = allowed;
        self
    }

    /// The same, where this was found.
    #[must_use]
    pub fn observed(mut self, observed: Observed) -> Self {
        self.observed = Some(observed);
        self
    }

    /// The same, resting on one more event.
    #[must_use]
    pub fn because(mut self, reason: Reason) -> Self {
        self.because.push(reason);
        self
    }

    /// The same, with a sentence more.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.atom, self.observed) {
            (Some(atom), Some(observed)) => {
                write!(f, "Sector {atom} must hold ")?;
                match self.allowed.split_last() {
                    None => f.write_str("something else")?,
                    Some((last, [])) => write!(f, "{last}")?,
                    Some((last, rest)) => {
                        for content in rest {
                            write!(f, "{content}, ")?;
                        }
                        write!(f, "or {last}")?;
                    }
                }
                write!(f, ". It holds {observed}.")?;
            }
            _ => {
                let promise = self.rule.promise();
                let (head, tail) = promise.split_at(1);
                write!(f, "{}{tail}", head.to_uppercase())?;
                match (self.request, self.status) {
                    (Some(id), Some(status)) => {
                        write!(f, "; request {id} was answered with {}.", status_name(status))?
                    }
                    (Some(id), None) => write!(f, "; request {id} was not.")?,
                    (None, _) => f.write_str(".")?,
                }
            }
        }
        match &self.note {
            Some(note) => write!(f, " {note}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Violation {}

/// A status in the specification's words.
fn status_name(status: u8) -> String {
    match status {
        0 => "OK".to_owned(),
        1 => "IOERR".to_owned(),
        2 => "UNSUPP".to_owned(),
        other => format!("status {other}"),
    }
}
