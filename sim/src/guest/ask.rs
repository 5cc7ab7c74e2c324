//! What the guest asks for: a request before it is laid out in memory.

use powerfail_model::{Kind, PmemRequest, Request, Segment};

use crate::guest::wire::{memory, request};

/// The most sectors one read or write covers.
pub const MAX_SECTORS: u32 = 8;
/// The most segments one DISCARD or WRITE_ZEROES carries.
pub const MAX_SEGMENTS: usize = 3;

/// The segments of a DISCARD or WRITE_ZEROES, in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    list: [Segment; MAX_SEGMENTS],
    len: u8,
}

impl Segments {
    /// No segment yet.
    pub const NONE: Segments =
        Segments { list: [Segment { sector: 0, sectors: 0, flags: 0 }; MAX_SEGMENTS], len: 0 };

    /// Adds a segment.
    ///
    /// # Panics
    /// If there are already [`MAX_SEGMENTS`].
    pub fn push(&mut self, segment: Segment) {
        self.list[usize::from(self.len)] = segment;
        self.len += 1;
    }

    /// The segments.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[Segment] {
        &self.list[..usize::from(self.len)]
    }
}

/// One request, or one access to a persistent memory, as the guest means it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// Read sectors.
    In {
        /// The first sector.
        sector: u64,
        /// How many; at most [`MAX_SECTORS`].
        sectors: u32,
    },
    /// Write sectors.
    Out {
        /// The first sector.
        sector: u64,
        /// How many; at most [`MAX_SECTORS`].
        sectors: u32,
    },
    /// Make completed writes stable.
    Flush,
    /// Ask for the serial number.
    GetId,
    /// Give up ranges.
    Discard(Segments),
    /// Zero ranges.
    WriteZeroes(Segments),
    /// A type this device does not know, with no data.
    Other(u32),
    /// Store to words of a persistent memory. No device is asked.
    Store {
        /// The first word, of 8 bytes.
        word: u32,
        /// How many; at most [`MAX_SECTORS`].
        words: u32,
    },
    /// Load words of a persistent memory. No device is asked.
    Load {
        /// The first word, of 8 bytes.
        word: u32,
        /// How many; at most [`MAX_SECTORS`].
        words: u32,
    },
}

/// How a request is spoiled on purpose, beyond asking for what must be refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mischief {
    /// It is not.
    #[default]
    None,
    /// The data part is this many bytes shorter than it should be.
    Ragged(u16),
    /// The readable part ends inside the header.
    ShortHeader,
    /// There is no writable byte for the status.
    NoStatus,
    /// The status comes before the data.
    StatusFirst,
    /// The chain runs in a circle.
    Loop,
    /// The last descriptor promises another, outside the table.
    Dangling,
}

impl Ask {
    /// The request type on a disk's wire.
    ///
    /// # Panics
    /// If nobody is asked.
    #[must_use]
    pub fn wire_type(&self) -> u32 {
        match self {
            Ask::Store { .. } | Ask::Load { .. } => panic!("{self} is not on the wire"),
            Ask::In { .. } => request::IN,
            Ask::Out { .. } => request::OUT,
            Ask::Flush => request::FLUSH,
            Ask::GetId => request::GET_ID,
            Ask::Discard(_) => request::DISCARD,
            Ask::WriteZeroes(_) => request::WRITE_ZEROES,
            Ask::Other(number) => *number,
        }
    }

    /// The `sector` field of the header, or the first word of an access.
    #[must_use]
    pub fn sector(&self) -> u64 {
        match self {
            Ask::In { sector, .. } | Ask::Out { sector, .. } => *sector,
            Ask::Store { word, .. } | Ask::Load { word, .. } => u64::from(*word),
            _ => 0,
        }
    }

    /// Bytes of the data part, before any mischief.
    #[must_use]
    pub fn data_len(&self) -> u32 {
        match self {
            Ask::In { sectors, .. } | Ask::Out { sectors, .. } => sectors * 512,
            Ask::Flush | Ask::Other(_) | Ask::Store { .. } | Ask::Load { .. } => 0,
            Ask::GetId => request::ID,
            Ask::Discard(segments) | Ask::WriteZeroes(segments) => {
                segments.as_slice().len() as u32 * request::SEGMENT
            }
        }
    }

    /// Whether the device writes the data part.
    #[must_use]
    pub fn device_writes(&self) -> bool {
        matches!(self, Ask::In { .. } | Ask::GetId)
    }

    /// Whether the request changes sectors, or the access words.
    #[must_use]
    pub fn mutates(&self) -> bool {
        matches!(self, Ask::Out { .. } | Ask::Discard(_) | Ask::WriteZeroes(_) | Ask::Store { .. })
    }

    /// The sectors or words it is about, where that is one range: the first, and how many.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u32)> {
        match *self {
            Ask::In { sector, sectors } | Ask::Out { sector, sectors } => Some((sector, sectors)),
            Ask::Store { word, words } | Ask::Load { word, words } => Some((word.into(), words)),
            _ => None,
        }
    }

    /// The same about another range, if it is about one.
    #[must_use]
    pub fn at(&self, first: u64, count: u32) -> Option<Ask> {
        let word = u32::try_from(first);
        Some(match self {
            Ask::In { .. } => Ask::In { sector: first, sectors: count },
            Ask::Out { .. } => Ask::Out { sector: first, sectors: count },
            Ask::Store { .. } => Ask::Store { word: word.ok()?, words: count },
            Ask::Load { .. } => Ask::Load { word: word.ok()?, words: count },
            _ => return None,
        })
    }

    /// Whether it is an access to a persistent memory, so that no device is asked.
    #[inline]
    #[must_use]
    pub fn is_access(&self) -> bool {
        matches!(self, Ask::Store { .. } | Ask::Load { .. })
    }

    /// The kind, in the oracle's words.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Ask::In { .. } | Ask::Load { .. } => Kind::In,
            Ask::Out { .. } | Ask::Store { .. } => Kind::Out,
            Ask::Flush => Kind::Flush,
            Ask::GetId => Kind::GetId,
            Ask::Discard(_) => Kind::Discard,
            Ask::WriteZeroes(_) => Kind::WriteZeroes,
            Ask::Other(number) => Kind::Other(*number),
        }
    }

    /// The request as the oracle of a persistent memory is told about it.
    #[must_use]
    pub fn request_of_memory(&self, mischief: Mischief) -> PmemRequest {
        match self {
            _ if mischief != Mischief::None => PmemRequest::Malformed,
            Ask::Flush | Ask::Other(memory::FLUSH) => PmemRequest::Flush,
            other => PmemRequest::Other(other.wire_type()),
        }
    }

    /// The request as the oracle is told about it.
    #[must_use]
    pub fn request(&self, mischief: Mischief) -> Request<'_> {
        let segments = match self {
            Ask::Discard(segments) | Ask::WriteZeroes(segments) => segments.as_slice(),
            _ => &[],
        };
        let cut = if let Mischief::Ragged(bytes) = mischief { u32::from(bytes) } else { 0 };
        Request {
            kind: self.kind(),
            sector: self.sector(),
            bytes: u64::from(self.data_len().saturating_sub(cut)),
            segments,
            malformed: !matches!(mischief, Mischief::None | Mischief::Ragged(_)),
        }
    }
}
