//! The ways a disk is wrong.

use powerfail_model::Rule;

/// A promise a disk breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// A sync is answered before it is done: it never is.
    EarlyFlush,
    /// A sync leaves one sector out.
    SyncMissesSector,
    /// Now and then a write is answered and dropped.
    DroppedWrite,
    /// Now and then a write lands one granule further up.
    MisdirectedUp,
    /// Now and then a write lands one granule further down.
    MisdirectedDown,
    /// Everything, reads and writes alike, is off by one sector.
    Shifted,
    /// Now and then an operation is never answered.
    NeverCompletes,
    /// A discard is rounded outward to the next granules.
    DiscardRoundsOut,
    /// Zeroing does nothing.
    ZeroesNothing,
    /// Zeroing that may deallocate only deallocates.
    UnmapForZeroes,
    /// After a failed sync the next attempt is believed.
    SyncRetried,
    /// What was read once is served from memory for ever.
    StaleRead,
    /// A short transfer is reported as whole.
    ShortBelieved,
    /// Now and then a write stops halfway and is reported as whole.
    CutShort,
    /// Now and then the last half of a sector is not written.
    TornSector,
    /// Now and then a read is served from the other device's part.
    CrossedDevices,
    /// A failed sync is reported as done.
    SyncErrorSwallowed,
    /// A write lands a second time, after it was answered.
    WriteRepeated,
    /// Now and then a read returns noise.
    GarbageRead,
    /// After a restart the first read of a sector shows what was last written, the next what is
    /// there.
    ImageFlickers,
    /// The first read after a write was submitted sees it before it lands.
    SeesAhead,
    /// A write up to the end of the disk changes the sector behind it too.
    SpillsOver,
    /// A sync leaves out what was zeroed.
    ZeroesNotSynced,
    /// A discard is answered at once and done later.
    LateDiscard,
    /// After a reset a sync does nothing until something is written.
    CleanAfterReset,
}

/// The rules that a stable write is lost by: which one depends on the row, for a write that must be
/// stable when it completes is synced too.
const LOST: [Rule; 3] = [Rule::StableWriteLost, Rule::WriteThroughLost, Rule::FlushlessWriteLost];

impl DiskFault {
    /// All of them.
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
            DiskFault::EarlyFlush => ("early-flush", "a flush is answered without any sync", &LOST),
            DiskFault::SyncMissesSector => (
                "sync-misses-sector",
                "a sync leaves one dirty sector out",
                &[StableWriteLost, WriteThroughLost],
            ),
            DiskFault::DroppedWrite => (
                "dropped-write",
                "now and then a write is answered and dropped",
                &[StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost],
            ),
            DiskFault::MisdirectedUp => (
                "misdirected-up",
                "now and then a write lands one granule too high",
                &[Misplaced, MediumMisplaced, StaleRead],
            ),
            DiskFault::MisdirectedDown => (
                "misdirected-down",
                "now and then a write lands one granule too low",
                &[Misplaced, MediumMisplaced, StaleRead],
            ),
            DiskFault::Shifted => {
                ("shifted", "reads and writes alike are off by one sector", &[MediumMisplaced])
            }
            DiskFault::NeverCompletes => (
                "never-completes",
                "now and then an operation is never answered",
                &[NeverUsed, Rule::ResetNotShown],
            ),
            DiskFault::DiscardRoundsOut => (
                "discard-rounds-out",
                "a discard takes its neighbours along",
                &[UntouchedChanged, StaleRead, ReadsDisagree, StableWriteLost, Rule::NeverWritten],
            ),
            DiskFault::ZeroesNothing => (
                "zeroes-nothing",
                "write-zeroes is answered and nothing is zeroed",
                &[NotZeroed, StableWriteLost, WriteThroughLost],
            ),
            DiskFault::UnmapForZeroes => (
                "unmap-for-zeroes",
                "write-zeroes with unmap only deallocates, and old data stays",
                &[NotZeroed, StableWriteLost, WriteThroughLost],
            ),
            DiskFault::SyncRetried => {
                ("sync-retried", "a failed sync is tried again and believed", &LOST)
            }
            DiskFault::StaleRead => (
                "stale-read",
                "what was read once is served from memory for ever",
                &[StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost, NotZeroed],
            ),
            DiskFault::ShortBelieved => (
                "short-believed",
                "a short transfer is reported as whole",
                &[Rule::UsedLength, StaleRead, UntouchedChanged, Misplaced, StableWriteLost],
            ),
            DiskFault::CutShort => (
                "cut-short",
                "now and then a write stops halfway and is reported as whole",
                &[StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost],
            ),
            DiskFault::TornSector => {
                ("torn-sector", "now and then half a sector is not written", &[TornAtom])
            }
            DiskFault::CrossedDevices => (
                "crossed-devices",
                "now and then a read is served from the other device's part",
                &[ForeignContent],
            ),
            DiskFault::SyncErrorSwallowed => {
                ("sync-error-swallowed", "a failed sync is reported as done", &LOST)
            }
            DiskFault::WriteRepeated => (
                "write-repeated",
                "now and then a write lands once more after it was answered",
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
                ("garbage-read", "now and then a read returns noise", &[Rule::NeverWritten])
            }
            DiskFault::ImageFlickers => (
                "image-flickers",
                "after a restart the first read of a sector shows what was last written there",
                &[Rule::ImageChanged],
            ),
            DiskFault::SeesAhead => (
                "sees-ahead",
                "the first read sees a write before it lands, the next does not",
                &[ReadsDisagree, Rule::LateEffect, Rule::ImageChanged, NotZeroed],
            ),
            DiskFault::SpillsOver => (
                "spills-over",
                "a write up to the end of the disk changes the sector behind it too",
                &[Rule::MediumOutside],
            ),
            DiskFault::ZeroesNotSynced => (
                "zeroes-not-synced",
                "a sync leaves out what was zeroed",
                &[StableWriteLost, WriteThroughLost, FlushlessWriteLost],
            ),
            DiskFault::LateDiscard => (
                "late-discard",
                "a discard is answered at once and done later",
                &[StaleRead, ReadsDisagree, StableWriteLost, FlushlessWriteLost, UntouchedChanged],
            ),
            DiskFault::CleanAfterReset => (
                "clean-after-reset",
                "after a reset a sync does nothing until something is written",
                &[StableWriteLost],
            ),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// What is wrong, in a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.facts().1
    }

    /// The rules that should notice.
    #[must_use]
    pub fn caught_by(self) -> &'static [Rule] {
        self.facts().2
    }
}
