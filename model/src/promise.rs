//! The facts of each rule: its name, the promise, the requirement and the clause of the
//! specification.
//!
//! The requirements are listed in [`law`](crate::law): `BLK`, `PM`, `VS`, `ST`, `FB` and `CF`
//! number statements of the specification; `AMB` numbers decisions where it is silent.

use crate::rule::Rule;

impl Rule {
    /// Name, promise, requirement and clause.
    pub(crate) fn facts(self) -> [&'static str; 4] {
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
                ["untouched-changed", "unwritten data must not change", "BLK-D-32", "5.2.6.2"]
            }
            Self::ImageChanged => [
                "image-changed",
                "content found after a power loss must not change by itself",
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
                ["late-effect", "a request must not take effect after its end", "ST-04", "2.4.1"]
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
                ["misplaced", "content must stay where it was written", "BLK-D-43", "5.2.6"]
            }
            Self::ForeignContent => {
                ["foreign-content", "content of another device must not appear", "AMB-09", "5.2.6"]
            }
            Self::NeverWritten => [
                "never-written",
                "a read must return content that was written there",
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
                "a request beyond the capacity must fail",
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
                ["partial-sector-served", "a partial sector must be refused", "BLK-R-13", "5.2.6.1"]
            }
            Self::PartialSegmentServed => [
                "partial-segment-served",
                "a partial segment must be refused",
                "BLK-R-14",
                "5.2.6.1",
            ],
            Self::UnnegotiatedServed => [
                "unnegotiated-served",
                "a request whose feature was not negotiated must be refused",
                "AMB-28",
                "5.2.6",
            ],
            Self::UnknownTypeServed => {
                ["unknown-type-served", "an unknown type must be refused", "BLK-D-41", "5.2.6"]
            }
            Self::WrongRefusal => [
                "wrong-refusal",
                "a refusal must carry the specified status",
                "BLK-D-41",
                "5.2.6.2",
            ],
            Self::LegalRequestFailed => [
                "legal-request-failed",
                "a legal request must succeed unless the host fails",
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
                ["used-unpublished", "only a published request may be used", "VS-16", "2.7.8"]
            }
            Self::UsedAfterEnd => {
                ["used-after-end", "no request may be used after a reset", "ST-04", "2.4.1"]
            }
            Self::NeverUsed => {
                ["never-used", "every published request must be used", "AMB-42", "2.7.8"]
            }

            Self::UsedLength => [
                "used-length",
                "the device must write at least the used length",
                "VS-13",
                "2.7.8.2",
            ],
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
                "a request must not write memory after its end",
                "ST-04",
                "2.4.1",
            ],
            Self::SignalMissing => [
                "signal-missing",
                "a used buffer must be signalled unless the driver suppresses it",
                "VS-12",
                "2.7.7.2",
            ],
            Self::SignalAfterReset => {
                ["signal-after-reset", "no signal may be sent after a reset", "ST-04", "2.4.1"]
            }
            Self::UsedRingBroken => {
                ["used-ring-broken", "the used ring must be well formed", "VS-16", "2.7.8"]
            }
            Self::NeedsResetUncalled => [
                "needs-reset-uncalled",
                "DEVICE_NEEDS_RESET may be set only after an error",
                "ST-02",
                "2.1.2",
            ],
            Self::NeedsResetSilent => [
                "needs-reset-silent",
                "DEVICE_NEEDS_RESET must come with a configuration change notification",
                "ST-02",
                "2.1.2",
            ],
            Self::ResetNotShown => {
                ["reset-not-shown", "a reset must end with status zero", "ST-04", "2.4.1"]
            }
            Self::WritebackUntrue => [
                "writeback-untrue",
                "writeback must read back the cache mode in force",
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
                "a configuration change must change the generation",
                "CF-02",
                "2.5",
            ],
            Self::ReservedNotZero => {
                ["reserved-not-zero", "reserved fields must be zero", "BLK-D-04", "5.2.5.2"]
            }
            Self::ConfigUntrue => [
                "config-untrue",
                "every configuration field must read true at any time and in any width",
                "CF-01",
                "2.5.2",
            ],
            Self::OfferBroken => [
                "offer-broken",
                "a feature must be offered with the features it requires",
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
                "sector s must be stored at byte 512 s of the medium",
                "BLK-D-43",
                "5.2.6",
            ],
            Self::MediumReadOnlyChanged => [
                "medium-read-only-changed",
                "a read-only medium must not change",
                "BLK-D-21",
                "5.2.6.2",
            ],
            Self::MediumOutside => [
                "medium-outside",
                "the medium beyond the capacity must not change",
                "BLK-R-10",
                "5.2.6.1",
            ],
            Self::DevicePanicked => [
                "device-panicked",
                "the device must not panic, whatever the guest and the host do",
                "BLK-D-41",
                "5.2.6",
            ],

            Self::FlushedStoreLost => [
                "flushed-store-lost",
                "a flushed store must survive power loss",
                "PM-D-04",
                "5.19.7.1",
            ],
            Self::StaleLoad => {
                ["stale-load", "a load must return the last store or a later one", "AMB-09", "5.19"]
            }
            Self::UnknownPmemTypeServed => [
                "unknown-pmem-type-served",
                "a request of an unknown type must not return 0",
                "AMB-36",
                "5.19.7.3",
            ],
            Self::LegalFlushFailed => [
                "legal-flush-failed",
                "a flush must succeed unless the host fails",
                "PM-D-05",
                "5.19.7.3",
            ],
            Self::NoSuchReturn => {
                ["no-such-return", "a request must return 0 or -1", "PM-D-05", "5.19.7.3"]
            }
            Self::RegionUntrue => [
                "region-untrue",
                "start and size must describe the memory, or be zero if it is a shared memory region",
                "PM-D-02",
                "5.19.5.1",
            ],
        }
    }
}
