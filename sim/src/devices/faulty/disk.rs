//! The mutants of a disk.

use powerfail_model::Rule;

/// The mistake of a mutant disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// A sync completes without any effect.
    EarlyFlush,
    /// A sync omits one dirty sector.
    SyncMissesSector,
    /// Some writes complete but are dropped.
    DroppedWrite,
    /// Some writes land one granule too high.
    MisdirectedUp,
    /// Some writes land one granule too low.
    MisdirectedDown,
    /// All reads and writes are off by one sector.
    Shifted,
    /// Some operations never complete.
    NeverCompletes,
    /// A discard also discards the adjacent granules.
    DiscardRoundsOut,
    /// A write-zeroes completes without zeroing anything.
    ZeroesNothing,
    /// A write-zeroes with the unmap flag only discards, and old data may stay.
    UnmapForZeroes,
    /// A failed sync is retried, and the result of the retry is reported.
    SyncRetried,
    /// Later reads of a sector return the content of its first read.
    StaleRead,
    /// A short transfer is reported as complete.
    ShortBelieved,
    /// Some writes stop halfway and are reported as complete.
    CutShort,
    /// Some writes tear their last sector in half.
    TornSector,
    /// Some reads return data of the other device's part.
    CrossedDevices,
    /// A failed sync is reported as successful.
    SyncErrorSwallowed,
    /// A write lands a second time after its completion.
    WriteRepeated,
    /// Some reads return garbage.
    GarbageRead,
    /// After a restart the first read of a sector returns the last write, the next one the real
    /// content.
    ImageFlickers,
    /// The first read after the submission of a write sees it before it lands, the next one may
    /// not.
    SeesAhead,
    /// A write up to the end of the disk also changes the sector after it.
    SpillsOver,
    /// A sync omits sectors that hold zeroes.
    ZeroesNotSynced,
    /// A discard completes at once and takes effect later.
    LateDiscard,
    /// After a reset a sync has no effect until the next write.
    CleanAfterReset,
}

/// The rules for a lost stable write. The row decides which one applies, because writes that must
/// be stable at their completion are synced too.
const LOST: [Rule; 3] = [Rule::StableWriteLost, Rule::WriteThroughLost, Rule::FlushlessWriteLost];

impl DiskFault {
    /// Every mistake.
    pub const ALL: [DiskFault; 25] = [
        DiskFault::EarlyFlush,
        DiskFault::SyncMissesSector,
        DiskFault::DroppedWrite,
        DiskFault::MisdirectedUp,
        DiskFault::MisdirectedDown,
        DiskFault::Shifted,
        DiskFault::NeverCompletes,
        DiskFault::DiscardRoundsOut,
        DiskFault::ZeroesNothing,
        DiskFault::UnmapForZeroes,
        DiskFault::SyncRetried,
        DiskFault::StaleRead,
        DiskFault::ShortBelieved,
        DiskFault::CutShort,
        DiskFault::TornSector,
        DiskFault::CrossedDevices,
        DiskFault::SyncErrorSwallowed,
        DiskFault::WriteRepeated,
        DiskFault::GarbageRead,
        DiskFault::ImageFlickers,
        DiskFault::SeesAhead,
        DiskFault::SpillsOver,
        DiskFault::ZeroesNotSynced,
        DiskFault::LateDiscard,
        DiskFault::CleanAfterReset,
    ];

    fn facts(self) -> (&'static str, &'static str, &'static [Rule]) {
        use Rule::{
            FlushlessWriteLost, ForeignContent, MediumMisplaced, Misplaced, NeverUsed, NotZeroed,
            ReadsDisagree, StableWriteLost, StaleRead, TornAtom, UntouchedChanged,
            WriteThroughLost,
        };
        match self {
            DiskFault::EarlyFlush => ("early-flush", "a sync completes without any effect", &LOST),
            DiskFault::SyncMissesSector => (
                "sync-misses-sector",
                "a sync omits one dirty sector",
                &[StableWriteLost, WriteThroughLost],
            ),
            DiskFault::DroppedWrite => (
                "dropped-write",
                "some writes complete but are dropped",
                &[StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost],
            ),
            DiskFault::MisdirectedUp => (
                "misdirected-up",
                "some writes land one granule too high",
                &[Misplaced, MediumMisplaced, StaleRead],
            ),
            DiskFault::MisdirectedDown => (
                "misdirected-down",
                "some writes land one granule too low",
                &[Misplaced, MediumMisplaced, StaleRead],
            ),
            DiskFault::Shifted => {
                ("shifted", "all reads and writes are off by one sector", &[MediumMisplaced])
            }
            DiskFault::NeverCompletes => (
                "never-completes",
                "some operations never complete",
                &[NeverUsed, Rule::ResetNotShown],
            ),
            DiskFault::DiscardRoundsOut => (
                "discard-rounds-out",
                "a discard also discards the adjacent granules",
                &[UntouchedChanged, StaleRead, ReadsDisagree, StableWriteLost, Rule::NeverWritten],
            ),
            DiskFault::ZeroesNothing => (
                "zeroes-nothing",
                "a write-zeroes completes without zeroing anything",
                &[NotZeroed, StableWriteLost, WriteThroughLost],
            ),
            DiskFault::UnmapForZeroes => (
                "unmap-for-zeroes",
                "a write-zeroes with unmap only discards, and old data may stay",
                &[NotZeroed, StableWriteLost, WriteThroughLost],
            ),
            DiskFault::SyncRetried => (
                "sync-retried",
                "a failed sync is retried, and the result of the retry is reported",
                &LOST,
            ),
            DiskFault::StaleRead => (
                "stale-read",
                "later reads of a sector return the content of its first read",
                &[StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost, NotZeroed],
            ),
            DiskFault::ShortBelieved => (
                "short-believed",
                "a short transfer is reported as complete",
                &[Rule::UsedLength, StaleRead, UntouchedChanged, Misplaced, StableWriteLost],
            ),
            DiskFault::CutShort => (
                "cut-short",
                "some writes stop halfway and are reported as complete",
                &[StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost],
            ),
            DiskFault::TornSector => {
                ("torn-sector", "some writes tear their last sector in half", &[TornAtom])
            }
            DiskFault::CrossedDevices => (
                "crossed-devices",
                "some reads return data of the other device's part",
                &[ForeignContent],
            ),
            DiskFault::SyncErrorSwallowed => {
                ("sync-error-swallowed", "a failed sync is reported as successful", &LOST)
            }
            DiskFault::WriteRepeated => (
                "write-repeated",
                "a write lands a second time after its completion",
                &[
                    StaleRead,
                    ReadsDisagree,
                    StableWriteLost,
                    WriteThroughLost,
                    FlushlessWriteLost,
                    NotZeroed,
                ],
            ),
            DiskFault::GarbageRead => {
                ("garbage-read", "some reads return garbage", &[Rule::NeverWritten])
            }
            DiskFault::ImageFlickers => (
                "image-flickers",
                "after a restart the first read of a sector returns the last write, the next the real content",
                &[Rule::ImageChanged],
            ),
            DiskFault::SeesAhead => (
                "sees-ahead",
                "the first read sees a write before it lands, the next may not",
                &[ReadsDisagree, Rule::LateEffect, Rule::ImageChanged, NotZeroed],
            ),
            DiskFault::SpillsOver => (
                "spills-over",
                "a write up to the end of the disk also changes the sector after it",
                &[Rule::MediumOutside],
            ),
            DiskFault::ZeroesNotSynced => (
                "zeroes-not-synced",
                "a sync omits sectors that hold zeroes",
                &[StableWriteLost, WriteThroughLost, FlushlessWriteLost],
            ),
            DiskFault::LateDiscard => (
                "late-discard",
                "a discard completes at once and takes effect later",
                &[StaleRead, ReadsDisagree, StableWriteLost, FlushlessWriteLost, UntouchedChanged],
            ),
            DiskFault::CleanAfterReset => (
                "clean-after-reset",
                "after a reset a sync has no effect until the next write",
                &[StableWriteLost],
            ),
        }
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The mistake, in one line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.facts().1
    }

    /// The rules that should catch it.
    #[must_use]
    pub fn caught_by(self) -> &'static [Rule] {
        self.facts().2
    }
}
