//! The table of mutants: the name of each, its mistake, and the rules that should catch it.
//!
//! Not here: what a mutant does. Disks are in [`lane`](super::lane), devices in
//! [`wrapper`](super::wrapper), [`answer`](super::answer) and [`lifecycle`](super::lifecycle),
//! memories in [`memory`](super::memory).

use powerfail_model::Rule;

/// Defines one family of mutants by its rows: the variant, its name, its mistake and the rules that
/// should catch it. A family can contain others.
macro_rules! mutants {
    (
        $(#[$about:meta])*
        pub enum $family:ident {
            $($variant:ident, $name:literal, $mistake:literal, [$($rule:ident),+];)+
        }
        $(contains { $($inner:ident($other:ident)),+ })?
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $family {
            $(#[doc = $mistake] $variant,)+
            $($(#[doc = concat!("A mistake of the family [`", stringify!($other), "`].")]
            $inner($other),)+)?
        }

        impl $family {
            /// Every mistake, in the order of the table.
            pub fn all() -> impl Iterator<Item = $family> {
                let all = [$($family::$variant),+].into_iter();
                $($(let all = all.chain($other::all().map($family::$inner));)+)?
                all
            }

            fn facts(self) -> (&'static str, &'static str, &'static [Rule]) {
                match self {
                    $($family::$variant => ($name, $mistake, &[$(Rule::$rule),+]),)+
                    $($($family::$inner(fault) => fault.facts(),)+)?
                }
            }

            /// The name, as `wrong:NAME` selects it.
            #[must_use]
            pub fn name(self) -> &'static str {
                self.facts().0
            }

            /// The mistake, in one line.
            #[must_use]
            pub fn summary(self) -> &'static str {
                self.facts().1
            }

            /// The rules that should catch it; usually the first one does.
            #[must_use]
            pub fn caught_by(self) -> &'static [Rule] {
                self.facts().2
            }
        }

        /// The first row.
        impl Default for $family {
            fn default() -> $family {
                [$($family::$variant),+][0]
            }
        }
    };
}

mutants! {
    /// The mistake of a mutant disk.
    pub enum DiskFault {
        EarlyFlush, "early-flush",
            "a sync completes without any effect",
            [StableWriteLost, WriteThroughLost, FlushlessWriteLost];
        SyncMissesSector, "sync-misses-sector",
            "a sync omits one dirty sector",
            [StableWriteLost, WriteThroughLost, FlushlessWriteLost];
        DroppedWrite, "dropped-write",
            "some writes complete but are dropped",
            [StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost];
        MisdirectedUp, "misdirected-up",
            "some writes land one granule too high",
            [Misplaced, MediumMisplaced, StaleRead];
        MisdirectedDown, "misdirected-down",
            "some writes land one granule too low",
            [Misplaced, MediumMisplaced, StaleRead];
        Shifted, "shifted", "all reads and writes are off by one sector", [MediumMisplaced];
        NeverCompletes, "never-completes",
            "some operations never complete",
            [NeverUsed, ResetNotShown];
        DiscardRoundsOut, "discard-rounds-out",
            "a discard also discards the adjacent granules",
            [UntouchedChanged, StaleRead, ReadsDisagree, StableWriteLost, NeverWritten];
        ZeroesNothing, "zeroes-nothing",
            "a write-zeroes completes without zeroing anything",
            [NotZeroed, StableWriteLost, WriteThroughLost];
        UnmapForZeroes, "unmap-for-zeroes",
            "a write-zeroes with unmap only discards, and old data may stay",
            [NotZeroed, StableWriteLost, WriteThroughLost];
        SyncRetried, "sync-retried",
            "a failed sync is retried, and the result of the retry is reported",
            [StableWriteLost, WriteThroughLost, FlushlessWriteLost];
        StaleRead, "stale-read",
            "later reads of a sector return the content of its first read",
            [StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost, NotZeroed];
        ShortBelieved, "short-believed",
            "a short transfer is reported as complete",
            [UsedLength, StaleRead, UntouchedChanged, Misplaced, StableWriteLost];
        CutShort, "cut-short",
            "some writes stop halfway and are reported as complete",
            [StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost];
        TornSector, "torn-sector", "some writes tear their last sector in half", [TornAtom];
        CrossedDevices, "crossed-devices",
            "some reads return data of the other device's part",
            [ForeignContent];
        SyncErrorSwallowed, "sync-error-swallowed",
            "a failed sync is reported as successful",
            [StableWriteLost, WriteThroughLost, FlushlessWriteLost];
        WriteRepeated, "write-repeated",
            "a write lands a second time after its completion",
            [StaleRead, ReadsDisagree, StableWriteLost, WriteThroughLost, FlushlessWriteLost,
             NotZeroed];
        GarbageRead, "garbage-read", "some reads return garbage", [NeverWritten];
        ImageFlickers, "image-flickers",
            "after a restart the first read of a sector returns the last write, the next the real content",
            [ImageChanged, LateEffect, UntouchedChanged];
        SeesAhead, "sees-ahead",
            "the first read sees a write before it lands, the next may not",
            [ReadsDisagree, LateEffect, ImageChanged, NotZeroed];
        SpillsOver, "spills-over",
            "a write up to the end of the disk also changes the sector after it",
            [MediumOutside];
        ZeroesNotSynced, "zeroes-not-synced",
            "a sync omits sectors that hold zeroes",
            [StableWriteLost, WriteThroughLost, FlushlessWriteLost];
        LateDiscard, "late-discard",
            "a discard completes at once and takes effect later",
            [StaleRead, ReadsDisagree, StableWriteLost, FlushlessWriteLost, UntouchedChanged];
        LateAfterFailure, "late-after-failure",
            "a write that failed takes effect later",
            [
                StaleRead, StableWriteLost, ReadsDisagree, WriteThroughLost, FlushlessWriteLost,
                LateEffect, NotZeroed
            ];
        LateAfterKill, "late-after-kill",
            "writes of a killed backend take effect when its successor is at work",
            [
                LateEffect, ImageChanged, StaleRead, ReadsDisagree, StableWriteLost,
                WriteThroughLost, FlushlessWriteLost
            ];
        CleanAfterReset, "clean-after-reset",
            "after a reset a sync has no effect until the next write",
            [StableWriteLost];
    }
}

mutants! {
    /// The mistake of a mutant block device.
    pub enum DeviceFault {
        LateAfterReset, "late-after-reset",
            "a reset completes while writes are in flight; they land later",
            [LateEffect, StaleRead, StableWriteLost, WriteThroughLost, FlushlessWriteLost];
        DmaAfterReset, "dma-after-reset",
            "a reset completes while reads are in flight; they write to guest memory later",
            [WroteOutside, WroteReadable, WroteAfterEnd, TornAtom];
        ResetDropsCache, "reset-drops-cache",
            "a reset loses the dirty sectors of the host cache",
            [StaleRead, StableWriteLost, NotZeroed];
        FlushRefusalIgnored, "flush-refusal-ignored",
            "a guest that refuses FLUSH gets a write-back cache nevertheless",
            [FlushlessWriteLost];
        WritebackIgnored, "writeback-ignored",
            "writeback reads back as written, but the cache mode does not change",
            [WriteThroughLost];
        WritebackNotReset, "writeback-not-reset",
            "after a reset writeback keeps its value 0, but the cache mode is write-back again",
            [WriteThroughLost];
        LostKick, "lost-kick", "some kicks are lost", [NeverUsed];
        LostSignal, "lost-signal", "some signals are lost", [SignalMissing];
        SignalsAfterReset, "signals-after-reset",
            "a signal is sent after a reset has completed",
            [SignalAfterReset];
        UsedAfterReset, "used-after-reset",
            "a used element is written after a reset has completed",
            [UsedAfterEnd];
        UsedTwice, "used-twice", "some heads are used twice", [UsedTwice, UsedRingBroken];
        UsedUnpublished, "used-unpublished",
            "some used elements name a head that was never published",
            [UsedUnpublished, UsedRingBroken];
        UsedIndexJumps, "used-index-jumps",
            "sometimes the used index moves by more than the ring size",
            [UsedRingBroken];
        FailureForgottenAtReset, "failure-forgotten-at-reset",
            "a failed sync is forgotten at a reset",
            [StableWriteLost, StaleRead, NotZeroed];
        FailureForgotten, "failed-sync-forgotten",
            "a failed sync fails only the flushes that waited for it; the next flush succeeds",
            [StableWriteLost, WriteThroughLost, FlushlessWriteLost, StaleRead, NotZeroed];
        PoisonedByWrite, "poisoned-by-write",
            "a failed write-through write makes every later flush fail",
            [LegalRequestFailed];
        LengthOneMore, "length-one-more", "the used length is too large by one", [UsedLength];
        StatusTooWide, "status-too-wide", "the status is written as four bytes", [WroteOutside];
        HeaderWritten, "header-written", "the device writes to the request header", [WroteReadable];
        StatusWrittenAgain, "status-written-again",
            "the status of a write is written again when the next request is used",
            [WroteAfterEnd];
        FirstRegionOnly, "first-region-only",
            "a read fills its buffer up to the end of a region of guest memory, the rest is zero",
            [TornAtom, StaleRead, NeverWritten];
        KeepsAddress, "keeps-address",
            "guest memory is always taken to be where it was first",
            [
                NeedsResetUncalled, NeverUsed, MediumMisplaced, UnknownStatus, UsedTwice,
                NeverWritten, UsedLength
            ];
        ReadOnlyServed, "read-only-served", "writes to a read-only disk succeed", [ReadOnlyServed];
        AcceptsAnything, "accepts-anything",
            "features that were not offered are accepted",
            [UnofferedAccepted];
        DemandsAll, "demands-all",
            "a driver that does not accept every offered feature is refused",
            [FeaturesRefused];
        WritebackStuck, "writeback-stuck",
            "writeback always reads 1",
            [WritebackUntrue, WritebackStart];
        WritebackStartsOn, "writeback-starts-on",
            "writeback starts at 1, even if FLUSH was refused",
            [WritebackStart];
        ReservedSet, "reserved-set",
            "a reserved field of the configuration space is not zero",
            [ReservedNotZero];
        OfferUnclosed, "offer-unclosed", "CONFIG_WCE is offered without FLUSH", [OfferBroken];
        ResetNeverShows, "reset-never-shows", "a reset never completes", [ResetNotShown];
        WantsReset, "wants-reset",
            "after some steps the device asks for a reset without a reason",
            [NeedsResetUncalled];
        NeedsResetSilent, "needs-reset-silent",
            "NEEDS_RESET is set without a configuration change notification",
            [NeedsResetSilent];
        NarrowReads, "narrow-reads",
            "reads of the configuration space that are narrower than the field return zeroes",
            [ConfigUntrue];
        OtherIdentity, "other-identity", "GET_ID returns another serial number", [WrongIdentity];
        Panics, "panics", "the device panics at GET_ID", [DevicePanicked];
    }
    contains { Answer(AnswerFault), Lifecycle(LifecycleFault) }
}

mutants! {
    /// The mistake of a mutant block device in an answer: it serves a request that it must refuse,
    /// refuses one that it must serve, or carries out one that it refuses.
    pub enum AnswerFault {
        ServesUnknownFlag, "serves-unknown-flag",
            "unknown flags of a segment are ignored",
            [UnknownFlagServed];
        ServesDiscardUnmap, "serves-discard-unmap",
            "a discard with the unmap flag is served",
            [DiscardUnmapServed];
        ServesBeyondCapacity, "serves-beyond-capacity",
            "a request that ends beyond the capacity is served",
            [BeyondCapacityServed];
        ServesOverLimit, "serves-over-limit",
            "a segment over the length limit is served",
            [OverLimitServed];
        ServesTooManySegments, "serves-too-many-segments",
            "a request with too many segments is served",
            [TooManySegmentsServed];
        ServesLongZeroes, "serves-long-zeroes",
            "a segment over the length limit is served in a write-zeroes, not in a discard",
            [OverLimitServed];
        ServesManyDiscards, "serves-many-discards",
            "a discard with too many segments is served, a write-zeroes is not",
            [TooManySegmentsServed];
        ServesFlagBeforeLast, "serves-flag-before-last",
            "unknown flags are looked for in the last segment only",
            [UnknownFlagServed];
        ServesOverflow, "serves-overflow",
            "the end of a segment is computed modulo two to the 32",
            [BeyondCapacityServed];
        ZonesFail, "zones-fail",
            "zone requests are answered IOERR",
            [WrongRefusal];
        ServesPartialSector, "serves-partial-sector",
            "a length is rounded down to sectors",
            [PartialSectorServed];
        ServesPartialSegment, "serves-partial-segment",
            "a length is rounded down to segments",
            [PartialSegmentServed];
        ServesUnnegotiated, "serves-unnegotiated",
            "discards and write-zeroes are served even if not negotiated",
            [UnnegotiatedServed];
        ServesUnknownType, "serves-unknown-type",
            "unknown request types are answered with OK",
            [UnknownTypeServed];
        RefusesWithIoerr, "refuses-with-ioerr",
            "every refusal has the status IOERR",
            [WrongRefusal];
        FailsLegal, "fails-legal", "GET_ID fails", [LegalRequestFailed];
        MadeUpStatus, "made-up-status",
            "GET_ID is answered with the unknown status 3",
            [UnknownStatus];
        RefusedButWritten, "refused-but-written",
            "a write that ends beyond the capacity is refused, but its first sector is written",
            [RefusedEffect];
        ReadOnlyWritten, "read-only-written",
            "a write to a read-only disk is refused, but reaches the medium",
            [MediumReadOnlyChanged];
    }
}

mutants! {
    /// The mistake of a mutant block device about pause, save, resize, reconnection or
    /// notification.
    pub enum LifecycleFault {
        WaitsAfterRestore, "waits-after-restore",
            "a restored device waits for a kick that came before the save",
            [NeverUsed];
        PauseWithoutDrain, "pause-without-drain",
            "a device is saved with requests in flight, and forgets them",
            [NeverUsed, StableWriteLost, UntouchedChanged];
        SaveWithoutSync, "save-without-sync",
            "a save does not make completed writes stable",
            [StableWriteLost, NotZeroed];
        LateAfterQueueReset, "late-after-queue-reset",
            "a queue's reset completes while its operations are in flight; they land later",
            [LateEffect, WroteReadable, WroteOutside, WroteAfterEnd, TornAtom, StaleRead];
        SkipsInFlight, "skips-in-flight",
            "after a backend kill the next backend treats the requests in flight as completed",
            [NeverUsed];
        RepeatsUsed, "repeats-used",
            "after a backend kill the next backend resubmits the request used last",
            [UsedTwice, UsedRingBroken, UsedLength, UnknownStatus, WroteOutside, TornAtom,
             Misplaced, MediumMisplaced, NeverUsed];
        StopsWhileTakingAgain, "stops-while-taking-again",
            "a ring is stopped before all requests of a dead backend are resubmitted",
            [NeverUsed, UsedTwice, UsedRingBroken, UsedLength, UnknownStatus, WroteOutside,
             TornAtom, Misplaced, MediumMisplaced];
        ForgetsWhenLeft, "forgets-when-left",
            "a backend whose front-end leaves forgets the requests in flight",
            [NeverUsed, UsedTwice, UsedRingBroken, UsedLength, UnknownStatus, WroteOutside,
             TornAtom, Misplaced, MediumMisplaced];
        CapacityPerQueue, "capacity-per-queue",
            "after a resize all queues but the first use the old capacity",
            [LegalRequestFailed];
        GenerationKept, "generation-kept",
            "the capacity changes without a change of the configuration generation",
            [GenerationStale];
        GrowsSilently, "grows-silently",
            "no configuration change is notified",
            [SignalMissing, NeedsResetSilent];
        NoSecondLook, "no-second-look",
            "after enabling kicks the device does not check the available ring again",
            [NeverUsed];
        SignalsBeforeIndex, "signals-before-index",
            "a signal is sent before the used index is written",
            [SignalMissing];
        EventNotWrapped, "event-not-wrapped",
            "the comparison of the used index with the event ignores the wrap",
            [SignalMissing];
    }
}

mutants! {
    /// The mistake of a mutant persistent memory.
    pub enum MemoryFault {
        RangeTooShort, "range-too-short",
            "a flush syncs a range that lacks one stored word",
            [FlushedStoreLost];
        OtherFile, "other-file",
            "a flush syncs another file than the mapped one",
            [FlushedStoreLost];
        PrivateMapping, "private-mapping",
            "the mapping is private: stores never reach the file",
            [FlushedStoreLost, StaleLoad];
        AnsweredAtOnce, "answered-at-once",
            "a flush is answered without any sync",
            [FlushedStoreLost];
        AnsweredFirst, "answered-first",
            "the response to a flush is written before its sync is done",
            [FlushedStoreLost];
        EarlierSync, "earlier-sync",
            "a flush is answered after a sync that started before it",
            [FlushedStoreLost];
        TypeIgnored, "type-ignored",
            "requests of every type are answered with success",
            [UnknownPmemTypeServed];
        FailureSwallowed, "failure-swallowed",
            "a flush whose sync failed is answered with success",
            [FlushedStoreLost, StaleLoad];
        FailureRetried, "failure-retried",
            "a failed sync is retried, and the result of the retry is returned",
            [FlushedStoreLost, StaleLoad];
        FailureForgotten, "failed-flush-forgotten",
            "after a failed flush the next one may succeed",
            [FlushedStoreLost, StaleLoad];
        ForgottenAtReset, "failed-flush-forgotten-at-reset",
            "after a reset a flush may succeed although one failed before",
            [FlushedStoreLost, StaleLoad];
        ErrnoReturned, "errno-returned",
            "a failed flush returns an errno instead of -1",
            [NoSuchReturn];
        FailsForNothing, "fails-for-nothing",
            "some flushes fail although their sync succeeded",
            [LegalFlushFailed];
        NeverAnswered, "flush-never-answered",
            "some flushes are never answered",
            [NeverUsed, ResetNotShown];
        SignalLost, "flush-signal-lost", "some signals are lost", [SignalMissing];
        ResetDropsStores, "reset-drops-stores",
            "a reset loses unflushed stores",
            [StaleLoad, FlushedStoreLost];
        RegionSaidTwice, "region-said-twice",
            "start and size are not zero although SHMEM_REGION was negotiated",
            [RegionUntrue];
        SizeInPages, "size-in-pages", "size in the configuration space is in pages", [RegionUntrue];
    }
}
