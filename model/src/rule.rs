//! The rules a device can break, each with the promise it stands for and the place it comes from.
//!
//! The oracle finds the first four groups; the last is for whoever watches the ring, the registers and the medium.

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
}

impl Rule {
    /// Every rule, in the order of the groups above.
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
        Self::ALL.iter().copied().find(|rule| rule.name() == name)
    }

    /// Name, promise, requirement and clause.
    fn facts(self) -> [&'static str; 4] {
        match self {
            Self::StableWriteLost => [
                "stable-write-lost",
                "a stable write must survive power loss",
                "BLK-D-31",
                "5.2.6.2 (3)",
            ],
            Self::WriteThroughLost => [
                "write-through-lost",
                "a write completed in write-through mode must survive power loss",
                "BLK-D-30",
                "5.2.6.2 (2)",
            ],
            Self::FlushlessWriteLost => [
                "flushless-write-lost",
                "where FLUSH was offered and refused, a completed write must survive power loss",
                "BLK-D-29",
                "5.2.6.2 (1)",
            ],
            Self::UntouchedChanged => {
                ["untouched-changed", "what nobody wrote must not change", "BLK-D-32", "5.2.6.2"]
            }
            Self::ImageChanged => [
                "image-changed",
                "what was found after a power loss must stay",
                "AMB-41",
                "5.2.6.2",
            ],
            Self::StaleRead => [
                "stale-read",
                "a read must return the last completed write or a later one",
                "AMB-09",
                "5.2.6",
            ],
            Self::ReadsDisagree => {
                ["reads-disagree", "all reads must agree on one order of writes", "AMB-07", "5.2.6"]
            }
            Self::LateEffect => {
                ["late-effect", "a request must not take effect after its end", "ST-04", "2.1.2"]
            }
            Self::RefusedEffect => {
                ["refused-effect", "a refused request must have no effect", "AMB-15", "5.2.6.2"]
            }
            Self::NotZeroed => [
                "not-zeroed",
                "a completed write-zeroes must read as zeroes",
                "BLK-D-26",
                "5.2.6.2",
            ],
            Self::TornAtom => ["torn-atom", "an atom must not mix versions", "AMB-05", "5.2.6"],
            Self::Misplaced => {
                ["misplaced", "content must stay where it was written", "BLK-D-32", "5.2.6"]
            }
            Self::ForeignContent => {
                ["foreign-content", "nothing of another device may appear", "BLK-D-32", "5.2.6"]
            }
            Self::NeverWritten => [
                "never-written",
                "a read must return something that was written there",
                "AMB-09",
                "5.2.6",
            ],

            Self::ReadOnlyServed => [
                "read-only-served",
                "a read-only device must fail every write",
                "BLK-D-21",
                "5.2.6.2",
            ],
            Self::UnknownFlagServed => {
                ["unknown-flag-served", "an unknown flag must be refused", "BLK-D-22", "5.2.6.2"]
            }
            Self::DiscardUnmapServed => [
                "discard-unmap-served",
                "a discard with unmap set must be refused",
                "BLK-D-23",
                "5.2.6.2",
            ],
            Self::BeyondCapacityServed => [
                "beyond-capacity-served",
                "nothing beyond the capacity may succeed",
                "BLK-R-10",
                "5.2.6.1",
            ],
            Self::OverLimitServed => [
                "over-limit-served",
                "a segment above the limit must be refused",
                "AMB-15",
                "5.2.6",
            ],
            Self::TooManySegmentsServed => [
                "too-many-segments-served",
                "too many segments must be refused",
                "BLK-R-16",
                "5.2.6.1",
            ],
            Self::PartialSectorServed => {
                ["partial-sector-served", "part of a sector must be refused", "BLK-R-13", "5.2.6.1"]
            }
            Self::PartialSegmentServed => [
                "partial-segment-served",
                "part of a segment must be refused",
                "BLK-R-14",
                "5.2.6.1",
            ],
            Self::UnnegotiatedServed => [
                "unnegotiated-served",
                "what was not negotiated must be refused",
                "AMB-28",
                "5.2.6",
            ],
            Self::UnknownTypeServed => {
                ["unknown-type-served", "an unknown type must be refused", "BLK-D-41", "5.2.6"]
            }
            Self::WrongRefusal => [
                "wrong-refusal",
                "a refusal must carry the status the rule names",
                "BLK-D-41",
                "5.2.6.2",
            ],
            Self::LegalRequestFailed => [
                "legal-request-failed",
                "a legal request must succeed while the host does",
                "BLK-D-41",
                "5.2.6",
            ],
            Self::UnknownStatus => {
                ["unknown-status", "the status must be OK, IOERR or UNSUPP", "BLK-D-41", "5.2.6"]
            }

            Self::UsedTwice => {
                ["used-twice", "a published request must be used exactly once", "VS-16", "2.7.8"]
            }
            Self::UsedUnpublished => {
                ["used-unpublished", "only what was published may be used", "VS-16", "2.7.8"]
            }
            Self::UsedAfterEnd => {
                ["used-after-end", "after a reset nothing may be used", "ST-04", "2.1.2"]
            }
            Self::NeverUsed => {
                ["never-used", "every published request must be used", "AMB-42", "2.7.8"]
            }

            Self::UsedLength => {
                ["used-length", "the used length must have been written", "VS-13", "2.7.8.2"]
            }
            Self::WroteReadable => [
                "wrote-readable",
                "a device-readable buffer must not be written",
                "VS-03",
                "2.7.5.1",
            ],
            Self::WroteOutside => [
                "wrote-outside",
                "only writable buffers in flight may be written",
                "VS-04",
                "2.7.5.1",
            ],
            Self::WroteAfterEnd => [
                "wrote-after-end",
                "after its end a request must not touch memory",
                "ST-04",
                "2.1.2",
            ],
            Self::SignalMissing => [
                "signal-missing",
                "a used buffer the driver waits for must be signalled",
                "VS-12",
                "2.7.7.2",
            ],
            Self::SignalAfterReset => {
                ["signal-after-reset", "after a reset nothing may be signalled", "ST-04", "2.1.2"]
            }
            Self::UsedRingBroken => {
                ["used-ring-broken", "the used ring must be well formed", "VS-16", "2.7.8"]
            }
            Self::NeedsResetUncalled => [
                "needs-reset-uncalled",
                "a device may need a reset only after an error",
                "ST-02",
                "2.1.2",
            ],
            Self::ResetNotShown => {
                ["reset-not-shown", "a reset must end with status zero", "ST-04", "2.4.1"]
            }
            Self::WritebackUntrue => [
                "writeback-untrue",
                "writeback must read back what is in force",
                "BLK-D-42",
                "5.2.5",
            ],
            Self::WritebackStart => [
                "writeback-start",
                "without FLUSH, writeback must start at zero",
                "BLK-D-03",
                "5.2.5.2",
            ],
            Self::GenerationStale => [
                "generation-stale",
                "a changed configuration needs a new generation",
                "CF-02",
                "2.5.2",
            ],
            Self::ReservedNotZero => {
                ["reserved-not-zero", "reserved fields must be zero", "BLK-D-04", "5.2.5.2"]
            }
            Self::OfferBroken => [
                "offer-broken",
                "a feature must be offered with what it requires",
                "FB-01",
                "2.2.2",
            ],
            Self::FeaturesRefused => [
                "features-refused",
                "a valid subset of features must be accepted",
                "FB-02",
                "2.2.2",
            ],
            Self::UnofferedAccepted => [
                "unoffered-accepted",
                "a feature that was not offered must be refused",
                "FB-02",
                "2.2.2",
            ],
            Self::WrongIdentity => {
                ["wrong-identity", "the identity must be the configured one", "BLK-R-15", "5.2.6"]
            }
            Self::MediumMisplaced => [
                "medium-misplaced",
                "sector s lives at byte 512 s of the medium",
                "BLK-D-32",
                "5.2.6",
            ],
            Self::MediumReadOnlyChanged => [
                "medium-read-only-changed",
                "a read-only medium must not change",
                "BLK-D-21",
                "5.2.6.2",
            ],
            Self::MediumOutside => {
                ["medium-outside", "nothing beyond the capacity may change", "BLK-R-10", "5.2.6.1"]
            }
            Self::DevicePanicked => [
                "device-panicked",
                "no guest and no host may make the device panic",
                "BLK-D-41",
                "5.2.6",
            ],
        }
    }
}
