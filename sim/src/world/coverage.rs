//! Situations by name: a set of runs without a violation means little until it has reached them.
//!
//! Each is counted from events, never from intentions. A nightly run that misses one is not green.

use std::fmt;

use powerfail_model::Row;

use crate::guest::Kind;

/// A state or event that runs are counted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Situation {
    /// A write completed under row A of the stability table: FLUSH is not offered.
    RowA,
    /// Row B: FLUSH is offered, neither FLUSH nor CONFIG_WCE is accepted.
    RowB,
    /// Row C: FLUSH is accepted, CONFIG_WCE is not.
    RowC,
    /// Row D: CONFIG_WCE without FLUSH, write-through.
    RowD,
    /// Row E: CONFIG_WCE without FLUSH, write-back.
    RowE,
    /// Row F: both, write-through.
    RowF,
    /// Row G: both, write-back.
    RowG,
    /// Row H: the cache mode changed while the write was in flight.
    RowH,
    /// A flush completed while an older write was in flight.
    FlushOvertakesWrite,
    /// Power loss while an operation had landed in part.
    CrashInsideRequest,
    /// Power loss when one sector had three loose versions.
    CrashWithThreeLoose,
    /// Two overlapping writes were in flight on two queues.
    OverlapOnTwoQueues,
    /// `writeback` was written with a write in flight.
    WritebackInFlight,
    /// A flush was sent after a sync had failed.
    FailedSyncThenFlush,
    /// A flush succeeded after the host had failed a write.
    FailedWriteThenFlush,
    /// A failed sync marked dirty sectors clean.
    SyncForgot,
    /// A reset began with operations in flight at the host.
    ResetInFlight,
    /// A crash came before the recovery read was complete.
    CrashInRecovery,
    /// A backend was killed with operations in flight at the host.
    KillInFlight,
    /// A short transfer was resumed.
    ShortResumed,
    /// A write of part of a granule met another mutation of the same granule in flight.
    GranuleShared,
    /// A head was published twice.
    DuplicateHead,
    /// The available index wrapped.
    AvailWrapped,
    /// The used index wrapped.
    UsedWrapped,
    /// A kick was suppressed.
    KickSuppressed,
    /// A completion whose signal was suppressed.
    SignalSuppressed,
    /// The host disk's queue was full.
    DiskFull,
    /// A discard was sent over a write in flight.
    DiscardUnderWrite,
    /// A discarded range was zeroed.
    ZeroesOverDiscard,
    /// A range discarded before a power loss was zeroed after it.
    ZeroesOverDiscardAfterLoss,
    /// A request that must be refused was refused.
    Refused,
    /// An invalid chain was returned.
    MalformedAnswered,
    /// A queue broke and the device asked for a reset.
    QueueBroken,
    /// The device refused features.
    FeaturesRefused,
    /// A write to a read-only device was refused.
    ReadOnlyRefused,
    /// An indirect table was used.
    Indirect,
    /// Two devices shared one medium.
    TwoDevices,
    /// A read after a reset was judged.
    ReadAfterReset,
    /// A sector that a failed sync had marked clean was evicted.
    Evicted,
    /// A device was paused with operations in flight at the host.
    PausedInFlight,
    /// A device was restored with an unprocessed kick.
    RestoredKickPending,
    /// A device was restored while a signal to its driver was due.
    RestoredSignalPending,
    /// A save could not make completed writes stable, and reported it.
    SaveFailed,
    /// One queue was reset with its operations in flight at the host.
    QueueResetInFlight,
    /// A queue was set up again after its reset with fewer descriptors.
    QueuePlacedSmaller,
    /// A disk grew with a write in flight.
    ResizedUnderWrite,
    /// A write to sectors added by a resize completed.
    GrownSectorWritten,
    /// A backend died under a live driver with operations in flight at the host.
    ReconnectedInFlight,
    /// A backend died under a live driver with an operation that had landed in part.
    ReconnectedInsideWrite,
    /// A backend died, or was left, with requests of its predecessor unanswered.
    CarriedTwice,
    /// A front-end left a backend that had requests in flight.
    LeftInFlight,
    /// Rings were stopped with requests of a dead backend in flight.
    StoppedCarried,
    /// A backend died between taking a head and recording it.
    KilledBeforeRecord,
    /// A backend died between writing a used element and the used index.
    KilledAtElement,
    /// A backend died between writing the used index and the record.
    KilledAtIndex,
    /// Power loss while a device was paused.
    PowerLostPaused,
    /// Power loss with a request in flight that two backends had carried out.
    PowerLostAfterReconnect,
    /// A word was stored while a flush was in flight.
    StoreDuringFlush,
    /// A sync ended while several flushes of a memory were outstanding.
    FlushesShared,
    /// Power loss with a flush of a memory in flight.
    PowerLostFlushing,
}

/// The number of situations.
pub const SITUATIONS: usize = Situation::PowerLostFlushing as usize + 1;

// One more situation than that needs a wider `Coverage::bits`, and a wider `Progress::situations`.
const _: () = assert!(SITUATIONS <= u64::BITS as usize, "`Coverage::bits` has a bit for each");

impl Situation {
    /// A write of this row of the stability table completed.
    pub(super) fn of_row(row: Row) -> Situation {
        match row {
            Row::A => Situation::RowA,
            Row::B => Situation::RowB,
            Row::C => Situation::RowC,
            Row::D => Situation::RowD,
            Row::E => Situation::RowE,
            Row::F => Situation::RowF,
            Row::G => Situation::RowG,
            Row::H => Situation::RowH,
        }
    }

    /// Every situation, in order.
    pub const ALL: [Situation; SITUATIONS] = [
        Situation::RowA,
        Situation::RowB,
        Situation::RowC,
        Situation::RowD,
        Situation::RowE,
        Situation::RowF,
        Situation::RowG,
        Situation::RowH,
        Situation::FlushOvertakesWrite,
        Situation::CrashInsideRequest,
        Situation::CrashWithThreeLoose,
        Situation::OverlapOnTwoQueues,
        Situation::WritebackInFlight,
        Situation::FailedSyncThenFlush,
        Situation::FailedWriteThenFlush,
        Situation::SyncForgot,
        Situation::ResetInFlight,
        Situation::CrashInRecovery,
        Situation::KillInFlight,
        Situation::ShortResumed,
        Situation::GranuleShared,
        Situation::DuplicateHead,
        Situation::AvailWrapped,
        Situation::UsedWrapped,
        Situation::KickSuppressed,
        Situation::SignalSuppressed,
        Situation::DiskFull,
        Situation::DiscardUnderWrite,
        Situation::ZeroesOverDiscard,
        Situation::ZeroesOverDiscardAfterLoss,
        Situation::Refused,
        Situation::MalformedAnswered,
        Situation::QueueBroken,
        Situation::FeaturesRefused,
        Situation::ReadOnlyRefused,
        Situation::Indirect,
        Situation::TwoDevices,
        Situation::ReadAfterReset,
        Situation::Evicted,
        Situation::PausedInFlight,
        Situation::RestoredKickPending,
        Situation::RestoredSignalPending,
        Situation::SaveFailed,
        Situation::QueueResetInFlight,
        Situation::QueuePlacedSmaller,
        Situation::ResizedUnderWrite,
        Situation::GrownSectorWritten,
        Situation::ReconnectedInFlight,
        Situation::ReconnectedInsideWrite,
        Situation::CarriedTwice,
        Situation::LeftInFlight,
        Situation::StoppedCarried,
        Situation::KilledBeforeRecord,
        Situation::KilledAtElement,
        Situation::KilledAtIndex,
        Situation::PowerLostPaused,
        Situation::PowerLostAfterReconnect,
        Situation::StoreDuringFlush,
        Situation::FlushesShared,
        Situation::PowerLostFlushing,
    ];

    /// The situation in a few words, as summaries print it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Situation::RowA => "row A: flush not offered",
            Situation::RowB => "row B: flush offered and refused",
            Situation::RowC => "row C: flush without config_wce",
            Situation::RowD => "row D: write-through without flush",
            Situation::RowE => "row E: write-back without flush",
            Situation::RowF => "row F: write-through",
            Situation::RowG => "row G: write-back",
            Situation::RowH => "row H: mode changed in flight",
            Situation::FlushOvertakesWrite => "flush overtook a write",
            Situation::CrashInsideRequest => "power lost inside a request",
            Situation::CrashWithThreeLoose => "power lost with three loose versions of a sector",
            Situation::OverlapOnTwoQueues => "overlapping writes on two queues",
            Situation::WritebackInFlight => "writeback written with a write in flight",
            Situation::FailedSyncThenFlush => "flush after a failed sync",
            Situation::FailedWriteThenFlush => "flush done after a failed write",
            Situation::SyncForgot => "failed sync forgot dirty sectors",
            Situation::ResetInFlight => "reset with operations in flight",
            Situation::CrashInRecovery => "crash during recovery",
            Situation::KillInFlight => "backend killed with operations in flight",
            Situation::ShortResumed => "short transfer resumed",
            Situation::GranuleShared => "partial granule beside a concurrent write",
            Situation::DuplicateHead => "duplicate head",
            Situation::AvailWrapped => "available index wrapped",
            Situation::UsedWrapped => "used index wrapped",
            Situation::KickSuppressed => "kick suppressed",
            Situation::SignalSuppressed => "signal suppressed",
            Situation::DiskFull => "host disk queue full",
            Situation::DiscardUnderWrite => "discard over a write in flight",
            Situation::ZeroesOverDiscard => "write-zeroes over a discarded range",
            Situation::ZeroesOverDiscardAfterLoss => {
                "write-zeroes over a range discarded before power loss"
            }
            Situation::Refused => "request refused by the rules",
            Situation::MalformedAnswered => "malformed chain answered",
            Situation::QueueBroken => "queue broken, reset asked for",
            Situation::FeaturesRefused => "unoffered feature refused",
            Situation::ReadOnlyRefused => "write to a read-only disk refused",
            Situation::Indirect => "indirect descriptors",
            Situation::TwoDevices => "two devices on one medium",
            Situation::ReadAfterReset => "read after a reset",
            Situation::Evicted => "forgotten sector evicted",
            Situation::PausedInFlight => "paused with operations in flight",
            Situation::RestoredKickPending => "restore with a kick pending",
            Situation::RestoredSignalPending => "restore with a signal pending",
            Situation::SaveFailed => "save that could not sync",
            Situation::QueueResetInFlight => "queue reset with operations in flight",
            Situation::QueuePlacedSmaller => "queue placed anew after a reset",
            Situation::ResizedUnderWrite => "resize under a write",
            Situation::GrownSectorWritten => "write to sectors that had grown",
            Situation::ReconnectedInFlight => "reconnect with operations in flight",
            Situation::ReconnectedInsideWrite => "reconnect inside a write",
            Situation::CarriedTwice => "requests carried over two backends",
            Situation::LeftInFlight => "front-end left with requests in flight",
            Situation::StoppedCarried => "rings stopped with a dead backend's requests in flight",
            Situation::KilledBeforeRecord => "killed between head and record",
            Situation::KilledAtElement => "killed between used element and index",
            Situation::KilledAtIndex => "killed between used index and record",
            Situation::PowerLostPaused => "power lost while paused",
            Situation::PowerLostAfterReconnect => "power lost with a request of two backends",
            Situation::StoreDuringFlush => "store while a flush is in flight",
            Situation::FlushesShared => "sync while several flushes wait",
            Situation::PowerLostFlushing => "power lost with a flush of a memory in flight",
        }
    }
}

impl Situation {
    /// The situations that runs with devices of these kinds can reach, over all schedules and
    /// options.
    pub fn of(kinds: [Kind; 2]) -> impl Iterator<Item = Situation> {
        Situation::ALL.into_iter().filter(move |situation| match kinds {
            [Kind::Disk, Kind::Disk] => !situation.is_of_memories(),
            [Kind::Memory, Kind::Memory] => !situation.is_of_disks(),
            // A disk beside a memory never grows and is never read-only.
            _ => !matches!(
                situation,
                Situation::ReadOnlyRefused
                    | Situation::ResizedUnderWrite
                    | Situation::GrownSectorWritten
            ),
        })
    }

    /// Whether only a persistent memory reaches it.
    fn is_of_memories(self) -> bool {
        matches!(
            self,
            Situation::StoreDuringFlush | Situation::FlushesShared | Situation::PowerLostFlushing
        )
    }

    /// Whether only a disk reaches it.
    fn is_of_disks(self) -> bool {
        match self {
            Situation::CrashWithThreeLoose
            | Situation::FailedSyncThenFlush
            | Situation::SyncForgot
            | Situation::ResetInFlight
            | Situation::CrashInRecovery
            | Situation::KillInFlight
            | Situation::DuplicateHead
            | Situation::AvailWrapped
            | Situation::UsedWrapped
            | Situation::KickSuppressed
            | Situation::SignalSuppressed
            | Situation::DiskFull
            | Situation::Refused
            | Situation::MalformedAnswered
            | Situation::QueueBroken
            | Situation::FeaturesRefused
            | Situation::Indirect
            | Situation::TwoDevices
            | Situation::ReadAfterReset
            | Situation::Evicted => false,
            other => !other.is_of_memories(),
        }
    }
}

/// How often each situation was reached.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Coverage {
    counts: [u64; SITUATIONS],
}

impl Default for Coverage {
    fn default() -> Coverage {
        Coverage { counts: [0; SITUATIONS] }
    }
}

impl fmt::Debug for Coverage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Situation::ALL.iter().map(|&s| (s, self.count(s)))).finish()
    }
}

impl Coverage {
    /// Counts one occurrence.
    #[inline]
    pub fn hit(&mut self, situation: Situation) {
        self.counts[situation as usize] += 1;
    }

    /// Counts one occurrence if `happened`.
    #[inline]
    pub fn hit_if(&mut self, happened: bool, situation: Situation) {
        self.counts[situation as usize] += u64::from(happened);
    }

    /// How often a situation was reached.
    #[inline]
    #[must_use]
    pub fn count(&self, situation: Situation) -> u64 {
        self.counts[situation as usize]
    }

    /// Adds another's counts.
    pub fn add(&mut self, other: &Coverage) {
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine += theirs;
        }
    }

    /// A bit mask of the situations reached: bit `n` for `Situation::ALL[n]`.
    #[must_use]
    pub fn bits(&self) -> u64 {
        let happened = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        happened.fold(0, |bits, (index, _)| bits | 1 << index)
    }

    /// The number of situations reached at least once.
    #[must_use]
    pub fn reached(&self) -> usize {
        self.counts.iter().filter(|&&count| count > 0).count()
    }

    /// The situations never reached, of those that devices of these kinds can reach.
    pub fn missing(&self, kinds: [Kind; 2]) -> impl Iterator<Item = Situation> + '_ {
        Situation::of(kinds).filter(|&situation| self.count(situation) == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_situation_is_listed_in_its_place() {
        for (index, situation) in Situation::ALL.into_iter().enumerate() {
            assert_eq!(situation as usize, index);
            assert!(!situation.name().is_empty());
        }
    }
}
