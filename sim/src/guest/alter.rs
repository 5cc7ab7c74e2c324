//! Changes of a request after its publication, which a driver must not make.
//!
//! The device may act on what was there before the change or on what is there after it, but not on
//! part of each: it fetches every field once, or checks what it uses. A device that fetches a field
//! twice, once to check it and once to use it, can be led past its own check.
//!
//! Not here: which of the two requests the device has carried out, which the oracles decide.

use std::fmt;

use crate::guest::memory::Memory;
use crate::guest::request::{GuestRequest, Malformation, Segments};
use crate::guest::request_kinds::RangeKind;
use crate::guest::wire::request;
use crate::guest::wire::ring::{DESCRIPTOR, INDIRECT, NEXT};
use powerfail_model::Segment;

/// A change of a published request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// The request type becomes this one.
    Type(u32),
    /// The `sector` field becomes this one.
    Sector(u64),
    /// A segment of a DISCARD or WRITE_ZEROES becomes this one.
    Segment {
        /// Its place in the list, counted from zero.
        nth: u8,
        /// The new segment.
        segment: Segment,
    },
    /// The data of a write becomes that of a write of this number.
    Data {
        /// The number: that of no other request.
        id: u32,
    },
    /// The descriptor of the data part becomes so many bytes shorter.
    Length {
        /// The bytes.
        less: u16,
    },
}

/// The moment of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before this step of the queue's thread after the publication, counted from one.
    Step(u8),
    /// Just before this read of the first changed byte by the device or by one of its operations,
    /// counted from one: that read sees the new bytes.
    Read(u8),
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Type(number) => write!(f, "type={number}"),
            Change::Sector(sector) => write!(f, "sector={sector}"),
            Change::Segment { nth, segment: Segment { sector, sectors, flags } } => {
                write!(f, "segment={nth}:{sector}+{sectors}/{flags}")
            }
            Change::Data { id } => write!(f, "data={id}"),
            Change::Length { less } => write!(f, "shorter={less}"),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Moment::Step(nth) => write!(f, "step={nth}"),
            Moment::Read(nth) => write!(f, "read={nth}"),
        }
    }
}

impl Change {
    /// The well-formed request `ask` after the change; `None` if the change does not apply to it or
    /// the result could not be judged. A disk of the world has at most `room` sectors.
    pub(super) fn of(self, ask: &GuestRequest, room: u32) -> Option<(GuestRequest, Malformation)> {
        let bytes = ask.data_len();
        let well_formed = |ask| (ask, Malformation::None);
        match (self, *ask) {
            (Change::Type(request::DISCARD), GuestRequest::Ranges(kind, segments))
                if kind != RangeKind::Discard =>
            {
                Some(well_formed(GuestRequest::Ranges(RangeKind::Discard, segments)))
            }
            (Change::Type(request::WRITE_ZEROES), GuestRequest::Ranges(kind, segments))
                if kind != RangeKind::WriteZeroes =>
            {
                Some(well_formed(GuestRequest::Ranges(RangeKind::WriteZeroes, segments)))
            }
            (Change::Type(number), ask)
                if !request::KNOWN_TYPES.contains(&number)
                    && !matches!(ask, GuestRequest::Other(_)) =>
            {
                let other = GuestRequest::Other(number);
                match u16::try_from(bytes).ok()? {
                    0 => Some(well_formed(other)),
                    bytes => Some((other, Malformation::ExtraData(bytes))),
                }
            }
            (Change::Sector(new), GuestRequest::In { sector, sectors }) if new != sector => {
                Some(well_formed(GuestRequest::In { sector: new, sectors }))
            }
            // The data of a write names its sector, so it must not be written to another one.
            (Change::Sector(new), GuestRequest::Out { sectors, .. }) if new >= room.into() => {
                Some(well_formed(GuestRequest::Out { sector: new, sectors }))
            }
            (Change::Segment { nth, segment }, GuestRequest::Ranges(kind, segments))
                if segments.more() == 0 =>
            {
                let mut list = Segments::NONE;
                let changed = |(at, old): (usize, &Segment)| {
                    if at == usize::from(nth) { segment } else { *old }
                };
                segments.as_slice().iter().enumerate().for_each(|old| list.push(changed(old)));
                (list != segments).then_some(well_formed(GuestRequest::Ranges(kind, list)))
            }
            (Change::Data { .. }, GuestRequest::Out { .. }) => Some(well_formed(*ask)),
            (Change::Length { less }, GuestRequest::In { sector, sectors })
            | (Change::Length { less }, GuestRequest::Out { sector, sectors })
                if less > 0 && u32::from(less) < bytes =>
            {
                if !less.is_multiple_of(512) {
                    return Some((*ask, Malformation::ShortData(less)));
                }
                let left = sectors - u32::from(less) / 512;
                ask.at(sector, left).map(well_formed)
            }
            _ => None,
        }
    }
}

/// The guest address of the descriptor of `at..at + len` in the chain from `head` on, in the ring's
/// table at `descriptors` or in an indirect table.
pub(super) fn descriptor_of(
    memory: &Memory,
    descriptors: u32,
    head: u16,
    (at, len): (u32, u32),
) -> Option<u32> {
    let (mut table, mut index) = (descriptors, u32::from(head));
    // No chain of the guest is longer.
    for _ in 0..256 {
        let place = table + index * DESCRIPTOR;
        let (start, rest) = (memory.read_u64(place), memory.read_u64(place + 8));
        let (bytes, flags, next) = (rest as u32, (rest >> 32) as u16, (rest >> 48) as u32);
        if flags & INDIRECT != 0 {
            (table, index) = (start as u32, 0);
            continue;
        }
        if (start, bytes) == (u64::from(at), len) {
            return Some(place);
        }
        if flags & NEXT == 0 {
            return None;
        }
        index = next;
    }
    None
}
