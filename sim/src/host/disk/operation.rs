//! An operation in the host's hands: what it covers and how it may end.

use std::fmt;
use std::str::FromStr;

use powerfail_device::{Op, Submission};

use crate::base::sectors::SectorSet;

/// What the host was asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKind {
    /// Copy sectors to guest memory.
    Read,
    /// Copy sectors from guest memory into the cache.
    Write,
    /// Make completed effects stable.
    Sync,
    /// Maybe zero sectors.
    Discard,
    /// Zero sectors.
    WriteZeroes,
}

impl OpKind {
    const NAMES: [(OpKind, &'static str); 5] = [
        (OpKind::Read, "read"),
        (OpKind::Write, "write"),
        (OpKind::Sync, "sync"),
        (OpKind::Discard, "discard"),
        (OpKind::WriteZeroes, "write-zeroes"),
    ];

    /// Whether it changes what sectors hold.
    pub(crate) fn mutates(self) -> bool {
        !matches!(self, OpKind::Read | OpKind::Sync)
    }

    /// As a person says it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            OpKind::Read => "read",
            OpKind::Write => "write",
            OpKind::Sync => "sync",
            OpKind::Discard => "discard",
            OpKind::WriteZeroes => "write-zeroes",
        }
    }
}

/// An operation by its meaning: who asked, what, where on the medium. Equal ones in flight are told
/// apart by their order. A key that names none in flight names the oldest of its like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpKey {
    /// The device that asked, counted from zero.
    pub device: u8,
    /// The lane, which is the queue.
    pub lane: u8,
    /// What is asked.
    pub kind: OpKind,
    /// The first sector on the medium; zero for a sync.
    pub sector: u32,
    /// How many sectors; zero for a sync.
    pub sectors: u32,
    /// Greater than that of every older operation in flight that is equal but for this; zero if
    /// there was none.
    pub twin: u8,
}

impl OpKey {
    /// The sectors it covers.
    #[inline]
    #[must_use]
    pub fn range(&self) -> SectorSet {
        SectorSet::range(self.sector, self.sectors)
    }

    /// Whether the two are equal, but for which is the older one.
    #[inline]
    #[must_use]
    pub fn is_like(&self, other: &OpKey) -> bool {
        // What most often differs comes first: this is asked of every operation in flight.
        self.sector == other.sector
            && self.sectors == other.sectors
            && self.kind == other.kind
            && self.lane == other.lane
            && self.device == other.device
    }
}

/// `q0:write@2+1`, `b.q1:sync`, and `q0:write@2+1#1` for one with an older twin.
impl fmt::Display for OpKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) =
            OpKind::NAMES[OpKind::NAMES.iter().position(|n| n.0 == self.kind).unwrap_or(0)];
        let device = if self.device == 0 { "" } else { "b." };
        write!(f, "{device}q{}:{name}", self.lane)?;
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
        let lane = who.strip_prefix('q').and_then(|n| n.parse().ok()).ok_or_else(bad)?;
        let (name, place) = what.split_once('@').unwrap_or((what, "0+0"));
        // There were writes that were stable when they completed. Now a sync follows them.
        let name = if name == "write-stable" { "write" } else { name };
        let kind = OpKind::NAMES.iter().find(|n| n.1 == name).ok_or_else(bad)?.0;
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

/// How an operation ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done. For a discard, `landed` says which sectors became zero; for a sync, which dirty
    /// sectors it persisted beyond what it owed. All of a write lands.
    Ok {
        /// See above.
        landed: SectorSet,
    },
    /// A transfer that stopped after this many bytes, a whole number of sectors.
    Short {
        /// Bytes moved.
        bytes: u32,
    },
    /// It failed. `landed` says what a write had done all the same; `forgot` which dirty sectors a
    /// failed sync no longer knows to be dirty.
    Failed {
        /// A positive error number.
        errno: i32,
        /// See above.
        landed: SectorSet,
        /// See above.
        forgot: SectorSet,
    },
}

/// An accepted operation that has not completed.
#[derive(Clone, Debug)]
pub(super) struct InFlight {
    pub(super) key: OpKey,
    /// Submission order, over all lanes.
    pub(super) nth: u32,
    pub(super) submission: Submission,
    /// What has landed so far.
    pub(super) landed: SectorSet,
    /// For a sync: what it still has to persist.
    pub(super) owed: SectorSet,
    /// Its device has given it up without waiting.
    pub(super) orphaned: bool,
}

/// The range an operation covers in bytes, and its kind.
pub(super) fn describe(op: &Op) -> (OpKind, u64, u64) {
    match op {
        Op::Read { offset, into } => (OpKind::Read, *offset, u64::from(into.len())),
        Op::Write { offset, from } => (OpKind::Write, *offset, u64::from(from.len())),
        Op::Sync => (OpKind::Sync, 0, 0),
        Op::Discard { offset, len } => (OpKind::Discard, *offset, *len),
        Op::WriteZeroes { offset, len, .. } => (OpKind::WriteZeroes, *offset, *len),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stable_write_of_an_old_trace_is_read_as_a_write() {
        let old: OpKey = "b.q1:write-stable@2+3#1".parse().unwrap();
        assert_eq!(old, "b.q1:write@2+3#1".parse().unwrap());
        assert_eq!(old.to_string(), "b.q1:write@2+3#1");
    }
}
