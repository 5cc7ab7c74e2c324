//! An operation of the host: its range and its possible outcomes.

use std::fmt;
use std::str::FromStr;

use powerfail_device::{Completion, Op, Submission};

use super::errno::Errno;
use super::op_kind::OpKind;
use crate::base::sectors::SectorSet;

/// The lane of a device's background work, after those of its queues.
pub(crate) const BACKGROUND_LANE: u8 = 8;

/// The key of an operation: its device, lane, type and range on the medium. `twin` distinguishes
/// equal ones in flight. A key whose `twin` is not in flight names the oldest equal one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpKey {
    /// The device that submitted it, counted from zero.
    pub device: u8,
    /// The lane, numbered as the queue; one number more is that of background work.
    pub lane: u8,
    /// The type.
    pub kind: OpKind,
    /// The first sector on the medium; zero for a sync.
    pub sector: u32,
    /// The number of sectors; zero for a sync.
    pub sectors: u32,
    /// Greater than the `twin` of every older operation in flight that is otherwise equal; zero if
    /// there is none.
    pub twin: u8,
}

impl OpKey {
    /// The sectors it covers.
    #[inline]
    #[must_use]
    pub fn range(&self) -> SectorSet {
        SectorSet::range(self.sector, self.sectors)
    }

    /// Whether the two are equal except for `twin`.
    #[inline]
    #[must_use]
    pub(crate) fn is_like(&self, other: &OpKey) -> bool {
        // The field that differs most often comes first, because this runs for every operation in
        // flight.
        self.sector == other.sector
            && self.sectors == other.sectors
            && self.kind == other.kind
            && self.lane == other.lane
            && self.device == other.device
    }
}

/// `q0:write@2+1`, `b.q1:sync`, `bg:read@2+1` for background work, and `q0:write@2+1#1` for one
/// with an older twin.
impl fmt::Display for OpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.kind.words();
        let device = if self.device == 0 { "" } else { "b." };
        match self.lane {
            BACKGROUND_LANE => write!(f, "{device}bg:{name}")?,
            lane => write!(f, "{device}q{lane}:{name}")?,
        }
        if self.kind != OpKind::Sync {
            write!(f, "@{}+{}", self.sector, self.sectors)?;
        }
        if self.twin != 0 {
            write!(f, "#{}", self.twin)?;
        }
        Ok(())
    }
}

impl FromStr for OpKey {
    type Err = String;

    fn from_str(text: &str) -> Result<OpKey, String> {
        let bad = || format!("`{text}` is not a host operation, as `q0:write@2+1` or `q0:sync`");
        let (name, twin) = text.split_once('#').unwrap_or((text, "0"));
        let twin = twin.parse().map_err(|_| bad())?;
        let (who, what) = name.split_once(':').ok_or_else(bad)?;
        let (device, who) = match who.strip_prefix("b.") {
            Some(rest) => (1, rest),
            None => (0, who),
        };
        let lane = match who {
            "bg" => BACKGROUND_LANE,
            _ => who.strip_prefix('q').and_then(|n| n.parse().ok()).ok_or_else(bad)?,
        };
        let (name, place) = what.split_once('@').unwrap_or((what, "0+0"));
        // Old traces have stable writes. Today such a write is a write and a sync.
        let name = if name == "write-stable" { "write" } else { name };
        let kind = OpKind::from_name(name).ok_or_else(bad)?;
        let (sector, sectors) = place.split_once('+').ok_or_else(bad)?;
        let number =
            |digits: &str| digits.parse::<u32>().ok().filter(|&n| n <= SectorSet::CAPACITY);
        let (sector, sectors) = (number(sector).ok_or_else(bad)?, number(sectors).ok_or_else(bad)?);
        if sector + sectors > SectorSet::CAPACITY {
            return Err(bad());
        }
        Ok(OpKey { device, lane, kind, sector, sectors, twin })
    }
}

/// The outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Success. `landed` is, for a discard, the sectors that became zero; for a sync, the dirty
    /// sectors persisted beyond the required ones. A write lands in full.
    Ok {
        /// See the variant.
        landed: SectorSet,
    },
    /// A transfer that stopped after this many bytes, a whole number of sectors.
    Short {
        /// Bytes transferred.
        bytes: u32,
    },
    /// Failure. `landed` is the sectors that a write changed nevertheless; `forgot` the dirty
    /// sectors that a failed sync marks clean.
    Failed {
        /// The error number.
        errno: Errno,
        /// See the variant.
        landed: SectorSet,
        /// See the variant.
        forgot: SectorSet,
    },
}

impl Outcome {
    /// Whether the host has failed the operation, so that its request may fail: it was neither
    /// done, in whole or in part, nor put off.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        match self {
            // A transfer of nothing is the end of the medium.
            Outcome::Short { bytes } => *bytes == 0,
            Outcome::Ok { .. } => false,
            Outcome::Failed { errno, .. } => !errno.is_put_off(),
        }
    }
}

/// An accepted operation that has not completed.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    pub(super) key: OpKey,
    /// Submission order, over all lanes.
    pub(super) nth: u32,
    pub(super) submission: Submission,
    /// The sectors landed so far.
    pub(super) landed: SectorSet,
    /// For a sync, the sectors it still has to persist.
    pub(super) owed: SectorSet,
    /// True iff a mutant has abandoned the operation; it still runs, without a completion.
    pub(super) orphaned: bool,
}

/// The type of an operation, its offset and its length in bytes.
pub(super) fn describe(op: &Op) -> (OpKind, u64, u64) {
    match op {
        Op::Read { offset, into } => (OpKind::Read, *offset, u64::from(into.len())),
        Op::Write { offset, from } => (OpKind::Write, *offset, u64::from(from.len())),
        Op::Sync => (OpKind::Sync, 0, 0),
        Op::Discard { offset, len } => (OpKind::Discard, *offset, *len),
        Op::WriteZeroes { offset, len, .. } => (OpKind::WriteZeroes, *offset, *len),
    }
}

/// A completion that waits to be taken, and the effects of taking it.
#[derive(Clone, Debug)]
pub(super) struct Ready {
    pub(super) completion: Completion,
    pub(super) kind: OpKind,
    /// The sectors that a sync submitted after the taking must cover.
    pub(super) landed: SectorSet,
    /// The sectors that a failed sync forgets when its completion is taken: a sync submitted before
    /// that must still persist them.
    pub(super) forgot: SectorSet,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_of_background_work_reads_back_as_it_is_written() {
        for text in ["bg:read@2+3", "b.bg:sync#1", "q3:write@0+1"] {
            assert_eq!(text.parse::<OpKey>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_stable_write_of_an_old_trace_is_read_as_a_write() {
        let old: OpKey = "b.q1:write-stable@2+3#1".parse().unwrap();
        assert_eq!(old, "b.q1:write@2+3#1".parse().unwrap());
        assert_eq!(old.to_string(), "b.q1:write@2+3#1");
    }
}
