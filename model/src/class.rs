//! What is wrong with what was seen, in one word: the coarse half of a failure's signature.

use crate::rule::Rule;

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
            | Rule::UntouchedChanged
            | Rule::FlushedStoreLost => Self::Lost,
            Rule::StaleRead | Rule::ReadsDisagree | Rule::NotZeroed | Rule::StaleLoad => {
                Self::Stale
            }
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
            | Rule::UnknownPmemTypeServed
            | Rule::LegalFlushFailed
            | Rule::MediumReadOnlyChanged => Self::Refused,
            Rule::UnknownStatus
            | Rule::NoSuchReturn
            | Rule::RegionUntrue
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
