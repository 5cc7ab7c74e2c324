//! The rules a device can break, each with the promise it stands for and the place it comes from.
//!
//! The oracle finds the first four groups; the fifth is for whoever watches the ring, the registers
//! and the medium. The last is about persistent memory.

/// A rule a device can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A write that a flush had made stable was lost.
    StableWriteLost,
    /// A write completed under `writeback = 0` was lost.
    WriteThroughLost,
    /// A write completed where FLUSH was offered and refused was lost.
    FlushlessWriteLost,
    /// A power loss left something where nobody had written.
    UntouchedChanged,
    /// What was found after a power loss became something else by itself.
    ImageChanged,
    /// A read returned what a completed write had replaced.
    StaleRead,
    /// Two reads cannot both be explained by one order of writes.
    ReadsDisagree,
    /// A request took effect after its end.
    LateEffect,
    /// A request that was refused took effect.
    RefusedEffect,
    /// A completed write-zeroes does not read as zeroes.
    NotZeroed,
    /// One atom mixes versions.
    TornAtom,
    /// Content turned up in a place it was not written for.
    Misplaced,
    /// Content of another run or another device turned up.
    ForeignContent,
    /// Something turned up that nobody wrote there.
    NeverWritten,

    /// A write request succeeded on a read-only device.
    ReadOnlyServed,
    /// A request with an unknown flag succeeded.
    UnknownFlagServed,
    /// A discard with the unmap flag succeeded.
    DiscardUnmapServed,
    /// A request beyond the capacity succeeded.
    BeyondCapacityServed,
    /// A segment above the limit of sectors succeeded.
    OverLimitServed,
    /// A request with more segments than allowed succeeded.
    TooManySegmentsServed,
    /// A read or write of part of a sector succeeded.
    PartialSectorServed,
    /// A list of segments whose length is no whole number of them succeeded.
    PartialSegmentServed,
    /// A request whose feature was not negotiated succeeded.
    UnnegotiatedServed,
    /// A request of an unknown type succeeded.
    UnknownTypeServed,
    /// A request was refused with the wrong status.
    WrongRefusal,
    /// A legal request failed though the host did not.
    LegalRequestFailed,
    /// The status byte is none of the three.
    UnknownStatus,

    /// A request was used more often than published.
    UsedTwice,
    /// A request was used that was never published.
    UsedUnpublished,
    /// A request was used after its life had ended.
    UsedAfterEnd,
    /// A published request was never used.
    NeverUsed,

    /// `len` claims more than was written.
    UsedLength,
    /// A device-readable buffer was written.
    WroteReadable,
    /// Guest memory outside every buffer in flight was written.
    WroteOutside,
    /// Guest memory was written after the request's end.
    WroteAfterEnd,
    /// A signal that was owed did not come.
    SignalMissing,
    /// A signal came after the reset had shown.
    SignalAfterReset,
    /// The used ring is out of bounds: an index that jumps, or a head out of range.
    UsedRingBroken,
    /// The device asked for a reset without cause.
    NeedsResetUncalled,
    /// A reset never showed as done.
    ResetNotShown,
    /// `writeback` does not read back what is in force.
    WritebackUntrue,
    /// `writeback` does not start at zero where CONFIG_WCE was negotiated without FLUSH.
    WritebackStart,
    /// The configuration changed and the generation did not.
    GenerationStale,
    /// A reserved configuration field is not zero.
    ReservedNotZero,
    /// A feature was offered without what it requires.
    OfferBroken,
    /// A valid subset of the offered features was refused.
    FeaturesRefused,
    /// A feature that was not offered was accepted.
    UnofferedAccepted,
    /// The identity is not the configured one.
    WrongIdentity,
    /// The medium holds a sector's content in another place.
    MediumMisplaced,
    /// The medium of a read-only device changed.
    MediumReadOnlyChanged,
    /// The medium changed outside the device's capacity.
    MediumOutside,
    /// The device panicked.
    DevicePanicked,

    /// A store that a flush had made persistent was lost.
    FlushedStoreLost,
    /// A load returned what a store had replaced.
    StaleLoad,
    /// A request of an unknown type returned 0.
    UnknownPmemTypeServed,
    /// A flush failed though the host did not.
    LegalFlushFailed,
    /// The response is neither 0 nor -1.
    NoSuchReturn,
    /// The configuration space does not say where the memory is, or says it where it must not.
    RegionUntrue,
}

impl Rule {
    /// Every rule that a disk can break, in the order of the groups above.
    pub const ALL: &[Self] = &[
        Self::StableWriteLost,
        Self::WriteThroughLost,
        Self::FlushlessWriteLost,
        Self::UntouchedChanged,
        Self::ImageChanged,
        Self::StaleRead,
        Self::ReadsDisagree,
        Self::LateEffect,
        Self::RefusedEffect,
        Self::NotZeroed,
        Self::TornAtom,
        Self::Misplaced,
        Self::ForeignContent,
        Self::NeverWritten,
        Self::ReadOnlyServed,
        Self::UnknownFlagServed,
        Self::DiscardUnmapServed,
        Self::BeyondCapacityServed,
        Self::OverLimitServed,
        Self::TooManySegmentsServed,
        Self::PartialSectorServed,
        Self::PartialSegmentServed,
        Self::UnnegotiatedServed,
        Self::UnknownTypeServed,
        Self::WrongRefusal,
        Self::LegalRequestFailed,
        Self::UnknownStatus,
        Self::UsedTwice,
        Self::UsedUnpublished,
        Self::UsedAfterEnd,
        Self::NeverUsed,
        Self::UsedLength,
        Self::WroteReadable,
        Self::WroteOutside,
        Self::WroteAfterEnd,
        Self::SignalMissing,
        Self::SignalAfterReset,
        Self::UsedRingBroken,
        Self::NeedsResetUncalled,
        Self::ResetNotShown,
        Self::WritebackUntrue,
        Self::WritebackStart,
        Self::GenerationStale,
        Self::ReservedNotZero,
        Self::OfferBroken,
        Self::FeaturesRefused,
        Self::UnofferedAccepted,
        Self::WrongIdentity,
        Self::MediumMisplaced,
        Self::MediumReadOnlyChanged,
        Self::MediumOutside,
        Self::DevicePanicked,
    ];

    /// The rules that only a persistent memory can break. What it holds and how it keeps its ring
    /// is judged by the rules of a disk.
    pub const OF_PMEM: &[Self] = &[
        Self::FlushedStoreLost,
        Self::StaleLoad,
        Self::UnknownPmemTypeServed,
        Self::LegalFlushFailed,
        Self::NoSuchReturn,
        Self::RegionUntrue,
    ];

    /// The rule's name, in kebab-case, as traces and signatures carry it.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts()[0]
    }

    /// The promise it stands for, as one clause without a full stop.
    #[must_use]
    pub fn promise(self) -> &'static str {
        self.facts()[1]
    }

    /// The requirement's identifier.
    #[must_use]
    pub fn requirement(self) -> &'static str {
        self.facts()[2]
    }

    /// The section of the VIRTIO specification.
    #[must_use]
    pub fn clause(self) -> &'static str {
        self.facts()[3]
    }

    /// The rule with that [`name`](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().chain(Self::OF_PMEM).copied().find(|rule| rule.name() == name)
    }
}
