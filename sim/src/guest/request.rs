//! A request of the guest before it is laid out in memory.

use powerfail_model::{Framing, Kind, PmemRequest, Request, Segment};

use crate::base::sectors::SectorSet;
use crate::guest::request_kinds::{self, Facts, RangeKind};
use crate::guest::wire::{memory, request};

/// The most sectors of one read or write.
pub const MAX_SECTORS: u32 = 160;
/// The most words of one store or load.
pub const MAX_WORDS: u32 = 8;
/// The most segments of one DISCARD or WRITE_ZEROES that have a range of their own.
pub const MAX_SEGMENTS: usize = 3;

/// The segments of a DISCARD or WRITE_ZEROES, in place: a few with a range of their own, and any
/// number that follow the last of these, each where the one before it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segments {
    list: [Segment; MAX_SEGMENTS],
    len: u8,
    more: u8,
}

impl Segments {
    /// The empty list.
    pub const NONE: Segments = Segments {
        list: [Segment { sector: 0, sectors: 0, flags: 0 }; MAX_SEGMENTS],
        len: 0,
        more: 0,
    };

    /// Adds a segment.
    ///
    /// # Panics
    /// If there are already [`MAX_SEGMENTS`].
    pub fn push(&mut self, segment: Segment) {
        self.list[usize::from(self.len)] = segment;
        self.len += 1;
    }

    /// The segments with a range of their own.
    #[inline]
    #[must_use]
    pub fn as_slice(&self) -> &[Segment] {
        &self.list[..usize::from(self.len)]
    }

    /// The number of segments that follow these.
    #[inline]
    #[must_use]
    pub fn more(&self) -> u8 {
        self.more
    }

    /// The same list with so many that follow.
    #[must_use]
    pub fn with_more(self, more: u8) -> Segments {
        Segments { more: if self.len == 0 { 0 } else { more }, ..self }
    }

    /// The number of all segments.
    #[inline]
    #[must_use]
    pub fn count(&self) -> u32 {
        u32::from(self.len) + u32::from(self.more)
    }

    /// All segments.
    #[inline]
    pub fn iter(&self) -> impl Iterator<Item = Segment> + '_ {
        let last = self.as_slice().last().copied();
        let following = (1..=u64::from(self.more)).filter_map(move |nth| {
            let last = last?;
            let sector = last.sector.wrapping_add(nth * u64::from(last.sectors));
            Some(Segment { sector, ..last })
        });
        self.as_slice().iter().copied().chain(following)
    }
}

impl FromIterator<Segment> for Segments {
    /// # Panics
    /// If there are more than [`MAX_SEGMENTS`].
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Segments {
        let mut list = Segments::NONE;
        segments.into_iter().for_each(|segment| list.push(segment));
        list
    }
}

/// One request, or one access to a persistent memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestRequest {
    /// Read sectors.
    In {
        /// The first sector.
        sector: u64,
        /// The count, at most [`MAX_SECTORS`].
        sectors: u32,
    },
    /// Write sectors.
    Out {
        /// The first sector.
        sector: u64,
        /// The count, at most [`MAX_SECTORS`].
        sectors: u32,
    },
    /// Make completed writes stable.
    Flush,
    /// Read the serial number.
    GetId,
    /// Discard or zero ranges.
    Ranges(RangeKind, Segments),
    /// A request of another type, without data.
    Other(u32),
    /// Store words to a persistent memory, without a request to the device.
    Store {
        /// The first word, of 8 bytes.
        word: u32,
        /// The count, at most [`MAX_WORDS`].
        words: u32,
    },
    /// Load words of a persistent memory, without a request to the device.
    Load {
        /// The first word, of 8 bytes.
        word: u32,
        /// The count, at most [`MAX_WORDS`].
        words: u32,
    },
}

/// A deliberate malformation of a request's chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Malformation {
    /// A well-formed chain.
    #[default]
    None,
    /// The data part is this many bytes shorter than it should be.
    ShortData(u16),
    /// A request without a data part has so many bytes of one, which the device may read.
    ExtraData(u16),
    /// The `sector` field of a request that names no sector is not zero.
    SectorSet,
    /// The readable part ends inside the header.
    ShortHeader,
    /// The chain has no writable byte for the status.
    NoStatus,
    /// The status comes before the data.
    StatusFirst,
    /// The chain is a cycle.
    Loop,
    /// The last descriptor has NEXT set, and an index outside the table.
    NextOutOfRange,
    /// The data has more or larger segments than the device allows, or the chain more descriptors
    /// than the queue.
    BeyondLimits,
}

impl Malformation {
    /// Whether header, data and status are where a device expects them.
    #[inline]
    #[must_use]
    pub fn is_framed(self) -> bool {
        use Malformation::{ExtraData, None, SectorSet, ShortData};
        matches!(self, None | ShortData(_) | ExtraData(_) | SectorSet)
    }

    /// The length of a data part that should have `len` bytes.
    #[inline]
    #[must_use]
    pub(crate) fn len(self, len: u32) -> u32 {
        match self {
            Malformation::ShortData(bytes) => len.saturating_sub(bytes.into()),
            Malformation::ExtraData(bytes) => len + u32::from(bytes),
            _ => len,
        }
    }

    /// The `sector` field in the header of a request.
    #[inline]
    #[must_use]
    pub(crate) fn sector(self, ask: &GuestRequest) -> u64 {
        if self == Malformation::SectorSet { SECTOR_SET } else { ask.sector() }
    }
}

/// The `sector` field of a request that names no sector.
const SECTOR_SET: u64 = 5;

impl GuestRequest {
    /// The facts about its type.
    pub(crate) const fn facts(&self) -> Facts {
        match *self {
            GuestRequest::In { .. } => request_kinds::IN,
            GuestRequest::Out { .. } => request_kinds::OUT,
            GuestRequest::Flush => request_kinds::FLUSH,
            GuestRequest::GetId => request_kinds::GET_ID,
            GuestRequest::Ranges(kind, _) => kind.facts(),
            GuestRequest::Other(number) => request_kinds::other(number),
            GuestRequest::Store { .. } => request_kinds::STORE,
            GuestRequest::Load { .. } => request_kinds::LOAD,
        }
    }

    /// The request type in the header of a block request.
    ///
    /// # Panics
    /// If it is a store or a load.
    #[must_use]
    pub(crate) fn wire_type(&self) -> u32 {
        match self {
            GuestRequest::Store { .. } | GuestRequest::Load { .. } => {
                panic!("{self} is not on the wire")
            }
            _ => self.facts().wire,
        }
    }

    /// The `sector` field of the header, or the first word of an access.
    #[must_use]
    pub fn sector(&self) -> u64 {
        match self {
            GuestRequest::In { sector, .. } | GuestRequest::Out { sector, .. } => *sector,
            GuestRequest::Store { word, .. } | GuestRequest::Load { word, .. } => u64::from(*word),
            _ => 0,
        }
    }

    /// The sectors or words that the request names, clipped to `capacity` of them.
    #[inline]
    #[must_use]
    pub(crate) fn covered(&self, capacity: u32) -> SectorSet {
        let clip = |sector: u64, sectors: u32| {
            let start = sector.min(u64::from(capacity)) as u32;
            SectorSet::range(start, sectors.min(capacity - start))
        };
        match *self {
            GuestRequest::In { sector, sectors } | GuestRequest::Out { sector, sectors } => {
                clip(sector, sectors)
            }
            GuestRequest::Store { word, words } | GuestRequest::Load { word, words } => {
                clip(u64::from(word), words)
            }
            GuestRequest::Ranges(_, segments) => {
                let sets = segments.iter().map(|s| clip(s.sector, s.sectors));
                sets.fold(SectorSet::EMPTY, SectorSet::or)
            }
            GuestRequest::Flush | GuestRequest::GetId | GuestRequest::Other(_) => SectorSet::EMPTY,
        }
    }

    /// Bytes of the data part, before any malformation.
    #[must_use]
    pub(crate) fn data_len(&self) -> u32 {
        match self {
            GuestRequest::In { sectors, .. } | GuestRequest::Out { sectors, .. } => sectors * 512,
            GuestRequest::Flush
            | GuestRequest::Other(_)
            | GuestRequest::Store { .. }
            | GuestRequest::Load { .. } => 0,
            GuestRequest::GetId => request::ID,
            GuestRequest::Ranges(_, segments) => segments.count() * request::SEGMENT,
        }
    }

    /// Whether the device writes the data part.
    #[must_use]
    pub(crate) fn device_writes(&self) -> bool {
        matches!(self, GuestRequest::In { .. } | GuestRequest::GetId)
    }

    /// Whether the request may change sectors, or the access words.
    #[must_use]
    pub fn mutates(&self) -> bool {
        matches!(
            self,
            GuestRequest::Out { .. } | GuestRequest::Ranges(..) | GuestRequest::Store { .. }
        )
    }

    /// The sectors or words that it covers, if that is one range: the first and the count.
    #[must_use]
    pub fn range(&self) -> Option<(u64, u32)> {
        match *self {
            GuestRequest::In { sector, sectors } | GuestRequest::Out { sector, sectors } => {
                Some((sector, sectors))
            }
            GuestRequest::Store { word, words } | GuestRequest::Load { word, words } => {
                Some((word.into(), words))
            }
            _ => None,
        }
    }

    /// The same request for another range; `None` if it covers no single range.
    #[must_use]
    pub fn at(&self, first: u64, count: u32) -> Option<GuestRequest> {
        let word = u32::try_from(first);
        Some(match self {
            GuestRequest::In { .. } => GuestRequest::In { sector: first, sectors: count },
            GuestRequest::Out { .. } => GuestRequest::Out { sector: first, sectors: count },
            GuestRequest::Store { .. } => GuestRequest::Store { word: word.ok()?, words: count },
            GuestRequest::Load { .. } => GuestRequest::Load { word: word.ok()?, words: count },
            _ => return None,
        })
    }

    /// The segments; none if it has no list of them.
    #[inline]
    pub fn segments(&self) -> impl Iterator<Item = Segment> + '_ {
        self.list().iter()
    }

    #[inline]
    fn list(&self) -> &Segments {
        match self {
            GuestRequest::Ranges(_, segments) => segments,
            _ => &Segments::NONE,
        }
    }

    /// The same request with each segment changed.
    pub(crate) fn with_segments(self, change: impl Fn(Segment) -> Segment) -> GuestRequest {
        match self {
            GuestRequest::Ranges(kind, segments) => {
                let changed = segments.as_slice().iter().map(|segment| change(*segment));
                let list: Segments = changed.collect();
                GuestRequest::Ranges(kind, list.with_more(segments.more))
            }
            other => other,
        }
    }

    /// Whether it is a store or a load, which involves no request to the device.
    #[inline]
    #[must_use]
    pub(crate) fn is_access(&self) -> bool {
        matches!(self, GuestRequest::Store { .. } | GuestRequest::Load { .. })
    }

    /// The kind, as the oracle names it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.facts().model
    }

    /// The request in the form that the oracle of a persistent memory takes.
    #[must_use]
    pub(crate) fn request_of_memory(&self, malformation: Malformation) -> PmemRequest {
        match self {
            _ if malformation != Malformation::None => PmemRequest::Malformed,
            GuestRequest::Flush | GuestRequest::Other(memory::FLUSH) => PmemRequest::Flush,
            other => PmemRequest::Other(other.wire_type()),
        }
    }

    /// The request in the form that the oracle of a disk takes. `room` is for a long list of
    /// segments.
    #[must_use]
    pub fn request<'a>(
        &'a self,
        malformation: Malformation,
        room: &'a mut Vec<Segment>,
    ) -> Request<'a> {
        let kind = self.kind();
        let sector = malformation.sector(self);
        let bytes = u64::from(malformation.len(self.data_len()));
        let framing = match malformation {
            Malformation::BeyondLimits => Framing::BeyondLimits,
            _ if malformation.is_framed() => Framing::Sound,
            _ => Framing::Malformed,
        };
        let list = self.list();
        let segments = if list.more == 0 {
            list.as_slice()
        } else {
            room.extend(list.iter());
            room
        };
        Request { kind, sector, bytes, segments, framing }
    }
}
