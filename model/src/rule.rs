//! The rules that a device can break, each with its promise, requirement and clause.
//!
//! The oracle finds violations of the first four groups. Checks of the ring, the registers and the
//! medium find those of the fifth. The last group concerns persistent memory.

/// A rule a device can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// A write that a flush had made stable was lost.
    StableWriteLost,
    /// A write completed under `writeback = 0` was lost.
    WriteThroughLost,
    /// A write completed where FLUSH was offered and refused was lost.
    FlushlessWriteLost,
    /// A power loss changed an atom that no request had written.
    UntouchedChanged,
    /// Content found after a power loss changed without a write.
    ImageChanged,
    /// A read returned content that a completed write had replaced.
    StaleRead,
    /// No single order of the writes explains two reads.
    ReadsDisagree,
    /// A request took effect after its end.
    LateEffect,
    /// A request that was refused took effect.
    RefusedEffect,
    /// A completed write-zeroes does not read as zeroes.
    NotZeroed,
    /// One atom mixes versions.
    TornAtom,
    /// An atom holds content that was written to another atom.
    Misplaced,
    /// An atom holds content of another run or another device.
    ForeignContent,
    /// An atom holds content that no request wrote to it.
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
    /// A request whose segment list ends within a segment succeeded.
    PartialSegmentServed,
    /// A request whose feature was not negotiated succeeded.
    UnnegotiatedServed,
    /// A request of an unknown type succeeded.
    UnknownTypeServed,
    /// A request was refused with the wrong status.
    WrongRefusal,
    /// A legal request failed without a host failure.
    LegalRequestFailed,
    /// The status byte is not `OK`, `IOERR` or `UNSUPP`.
    UnknownStatus,

    /// A request was used more often than published.
    UsedTwice,
    /// A request was used that was never published.
    UsedUnpublished,
    /// A request was used after the device's life had ended.
    UsedAfterEnd,
    /// A published request was never used.
    NeverUsed,

    /// The used `len` exceeds the bytes that the device wrote.
    UsedLength,
    /// A device-readable buffer was written.
    WroteReadable,
    /// Guest memory outside every buffer in flight was written.
    WroteOutside,
    /// Guest memory was written after the request's end.
    WroteAfterEnd,
    /// A required signal was not sent.
    SignalMissing,
    /// A signal was sent after the reset had completed.
    SignalAfterReset,
    /// The used ring is invalid: the index jumps, or a head is out of range.
    UsedRingBroken,
    /// The device set DEVICE_NEEDS_RESET without an error.
    NeedsResetUncalled,
    /// The device set DEVICE_NEEDS_RESET and sent no configuration change notification.
    NeedsResetSilent,
    /// The status never became zero after a reset.
    ResetNotShown,
    /// `writeback` does not read back as the cache mode in force.
    WritebackUntrue,
    /// `writeback` does not start at zero where CONFIG_WCE was negotiated without FLUSH.
    WritebackStart,
    /// The configuration changed and the generation did not.
    GenerationStale,
    /// A reserved configuration field is not zero.
    ReservedNotZero,
    /// A configuration field changes with the time or the width of the read, or has a value that no
    /// device can have.
    ConfigUntrue,
    /// A feature was offered without the features it requires.
    OfferBroken,
    /// A valid subset of the offered features was refused.
    FeaturesRefused,
    /// A feature that was not offered was accepted.
    UnofferedAccepted,
    /// The identity is not the configured one.
    WrongIdentity,
    /// The medium holds a sector's content at another offset.
    MediumMisplaced,
    /// The medium of a read-only device changed.
    MediumReadOnlyChanged,
    /// The medium changed outside the device's capacity.
    MediumOutside,
    /// The device panicked.
    DevicePanicked,

    /// A store that a flush had made persistent was lost.
    FlushedStoreLost,
    /// A load returned content that a store had replaced.
    StaleLoad,
    /// A request of an unknown type returned 0.
    UnknownPmemTypeServed,
    /// A flush failed without a host failure.
    LegalFlushFailed,
    /// The response is neither 0 nor -1.
    NoSuchReturn,
    /// `start` and `size` are wrong: they do not describe the memory, or are not zero where they
    /// must be.
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
        Self::NeedsResetSilent,
        Self::ResetNotShown,
        Self::WritebackUntrue,
        Self::WritebackStart,
        Self::GenerationStale,
        Self::ReservedNotZero,
        Self::ConfigUntrue,
        Self::OfferBroken,
        Self::FeaturesRefused,
        Self::UnofferedAccepted,
        Self::WrongIdentity,
        Self::MediumMisplaced,
        Self::MediumReadOnlyChanged,
        Self::MediumOutside,
        Self::DevicePanicked,
    ];

    /// The rules that only a persistent memory can break. Its content and its rings are judged by
    /// the rules of a disk.
    pub const OF_PMEM: &[Self] = &[
        Self::FlushedStoreLost,
        Self::StaleLoad,
        Self::UnknownPmemTypeServed,
        Self::LegalFlushFailed,
        Self::NoSuchReturn,
        Self::RegionUntrue,
    ];

    /// The rule's name, in kebab-case, as it stands in traces and signatures.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts()[0]
    }

    /// The promise, as one clause without a full stop.
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
