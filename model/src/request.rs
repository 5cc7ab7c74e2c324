//! A request as the driver wrote it, before any judgement.
//!
//! The rules on it are in [`crate::ruling`]; its progress is in [`crate::ledger`].

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
    /// Make completed writes stable.
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
    /// Whether a served request of this kind may change the content of an atom.
    #[inline]
    #[must_use]
    pub fn mutates(self) -> bool {
        matches!(self, Self::Out | Self::Discard | Self::WriteZeroes)
    }

    /// A short lower-case name, used in reports and signatures.
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
    /// Number of sectors; zero is an empty range.
    pub sectors: u32,
    /// Bit 0 is `unmap`, the others are reserved.
    pub flags: u32,
}

/// A request as the driver wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Its type.
    pub kind: Kind,
    /// First sector of an `IN` or `OUT`; other kinds should write zero.
    pub sector: u64,
    /// Length of the data part in bytes, in either direction.
    pub bytes: u64,
    /// Ranges of a `DISCARD` or `WRITE_ZEROES`; empty for other kinds.
    pub segments: &'a [Segment],
    /// The chain that it came in.
    pub framing: Framing,
}

/// The chain of a request, by the rules that a driver must keep.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Framing {
    /// It is as it should be.
    #[default]
    Sound,
    /// It has more or larger data segments than the device allows, or more descriptors than its
    /// queue: AMB-27.
    BeyondLimits,
    /// It is malformed: a short header, no status byte, or a buffer of the wrong direction.
    Malformed,
}

/// The demand of the rules on a request in the present life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It is legal: it must succeed unless the host fails.
    Serve,
    /// It must not succeed and must have no effect.
    Refuse,
    /// Any answer is legal. Unless the answer is `OK` there was no effect, except where the profile
    /// allows one.
    Free,
}
