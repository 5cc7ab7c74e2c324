//! The kind of defect in an observation: the coarse half of a failure's signature.

use crate::rule::Rule;

/// The kind of defect in an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Content that should be there is missing.
    Lost,
    /// Newer content should be there.
    Stale,
    /// The content mixes versions.
    Torn,
    /// The content belongs elsewhere.
    Misdirected,
    /// The event happened more than once.
    Duplicated,
    /// A request took effect after its end.
    Resurrected,
    /// The content belongs to another run or device.
    Foreign,
    /// No request wrote the content.
    Garbage,
    /// A wrong refusal or failure, or a success that should be a refusal.
    Refused,
    /// An error in the ring, the registers or guest memory, not in the data.
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

    /// The class of a rule when no more is known.
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
            | Rule::NeedsResetSilent
            | Rule::ResetNotShown
            | Rule::WritebackUntrue
            | Rule::WritebackStart
            | Rule::GenerationStale
            | Rule::ReservedNotZero
            | Rule::ConfigUntrue
            | Rule::OfferBroken
            | Rule::FeaturesRefused
            | Rule::UnofferedAccepted
            | Rule::WrongIdentity
            | Rule::DevicePanicked => Self::Protocol,
        }
    }
}
