//! A request as the driver wrote it, before anyone has judged it.
//!
//! What the rules say about it is in [`crate::ruling`]; what became of it in [`crate::ledger`].

/// The type of a request.
///
/// # Spec
/// 5.2.6 Device Operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Read sectors.
    In,
    /// Write sectors.
    Out,
    /// Commit what was completed before.
    Flush,
    /// Read the 20-byte identity.
    GetId,
    /// Declare ranges unneeded.
    Discard,
    /// Write zeroes to ranges.
    WriteZeroes,
    /// Any other type, with its number.
    Other(u32),
}

impl Kind {
    /// Whether a served request of this kind may change what an atom holds.
    #[inline]
    #[must_use]
    pub fn mutates(self) -> bool {
        matches!(self, Self::Out | Self::Discard | Self::WriteZeroes)
    }

    /// A short lower-case name, as stories and signatures use it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Flush => "flush",
            Self::GetId => "get-id",
            Self::Discard => "discard",
            Self::WriteZeroes => "write-zeroes",
            Self::Other(_) => "other",
        }
    }
}

/// One range of a `DISCARD` or `WRITE_ZEROES`, half-open: `[sector, sector + sectors)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First sector, of 512 bytes.
    pub sector: u64,
    /// How many sectors; zero is a range that covers nothing.
    pub sectors: u32,
    /// Bit 0 is `unmap`, the others are reserved.
    pub flags: u32,
}

/// A request as the driver wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// What it asks for.
    pub kind: Kind,
    /// The first sector of an `IN` or `OUT`; other kinds should write zero.
    pub sector: u64,
    /// The length of the data part in bytes, whatever its direction.
    pub bytes: u64,
    /// The ranges of a `DISCARD` or `WRITE_ZEROES`; empty for other kinds.
    pub segments: &'a [Segment],
    /// The framing is broken on purpose: a short header, no status byte, a buffer of the wrong
    /// direction.
    pub malformed: bool,
}

/// What the rules say about a request in the present life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is legal: it must succeed unless the host fails.
    Serve,
    /// It must not succeed and must have no effect.
    Refuse,
    /// Any answer will do. If it is not `OK` there was no effect either, except where the profile
    /// forgives one.
    Free,
}
