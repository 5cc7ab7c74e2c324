//! What the guest asks for: a request before it is laid out in memory.

use powerfail_model::{Kind, Request, Segment};

use crate::wire::request;

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

/// One request, as the guest means it.
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
    /// The request type on the wire.
    #[must_use]
    pub fn wire_type(&self) -> u32 {
        match self {
            Ask::In { .. } => request::IN,
            Ask::Out { .. } => request::OUT,
            Ask::Flush => request::FLUSH,
            Ask::GetId => request::GET_ID,
            Ask::Discard(_) => request::DISCARD,
            Ask::WriteZeroes(_) => request::WRITE_ZEROES,
            Ask::Other(number) => *number,
        }
    }

    /// The `sector` field of the header.
    #[must_use]
    pub fn sector(&self) -> u64 {
        match self {
            Ask::In { sector, .. } | Ask::Out { sector, .. } => *sector,
            _ => 0,
        }
    }

    /// Bytes of the data part, before any mischief.
    #[must_use]
    pub fn data_len(&self) -> u32 {
        match self {
            Ask::In { sectors, .. } | Ask::Out { sectors, .. } => sectors * 512,
            Ask::Flush | Ask::Other(_) => 0,
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

    /// Whether the request changes sectors.
    #[must_use]
    pub fn mutates(&self) -> bool {
        matches!(self, Ask::Out { .. } | Ask::Discard(_) | Ask::WriteZeroes(_))
    }

    /// The kind, in the oracle's words.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Ask::In { .. } => Kind::In,
            Ask::Out { .. } => Kind::Out,
            Ask::Flush => Kind::Flush,
            Ask::GetId => Kind::GetId,
            Ask::Discard(_) => Kind::Discard,
            Ask::WriteZeroes(_) => Kind::WriteZeroes,
            Ask::Other(number) => Kind::Other(*number),
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
