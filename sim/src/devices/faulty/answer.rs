//! The behaviour of mutants that answer a request wrongly.

use powerfail_model::Segment;

use super::AnswerFault;
use crate::dut::Spec;
use crate::dut::toolkit::BlockRequest;
use crate::guest::memory::Ram;
use crate::guest::wire::Status;
use crate::guest::wire::{feature, request};

/// The wrong answer and its effect.
pub(super) struct Spoiled {
    /// The status written.
    pub(super) status: Status,
    /// The sector that is written nevertheless, with the start of the data, and whether on the
    /// medium only.
    pub(super) written: Option<(u32, bool)>,
}

impl AnswerFault {
    /// The wrong answer to a request, if this mistake applies. `offered` and `negotiated` are
    /// feature bits.
    pub(super) fn spoil(
        self,
        request: &BlockRequest,
        ram: &Ram<'_>,
        status: Status,
        spec: &Spec,
        (offered, negotiated): (u64, u64),
    ) -> Option<Spoiled> {
        let kind = request.kind;
        let transfers = matches!(kind, request::IN | request::OUT);
        let segmented = matches!(kind, request::DISCARD | request::WRITE_ZEROES);
        let known = transfers || segmented || [request::FLUSH, request::GET_ID].contains(&kind);
        let segments = if segmented { segments(request, ram) } else { Vec::new() };
        let len = request.data_in.max(request.data_out);
        let feature =
            if kind == request::DISCARD { feature::DISCARD } else { feature::WRITE_ZEROES };
        let ends_beyond = |sector: u64, sectors: u64| {
            let end = sector.checked_add(sectors);
            sectors > 0 && end.is_none_or(|end| end > u64::from(spec.disk.capacity))
        };
        let flags = |mask: u32| segments.iter().any(|s| s.flags & mask != 0);
        let too_many = segments.len() as u32 > spec.max_segments;
        let too_long = segments.iter().any(|s| s.sectors > spec.max_segment_sectors);
        let reasons = [
            (AnswerFault::ServesUnknownFlag, flags(!request::UNMAP)),
            (AnswerFault::ServesDiscardUnmap, kind == request::DISCARD && flags(request::UNMAP)),
            (
                AnswerFault::ServesBeyondCapacity,
                (transfers && ends_beyond(request.sector, u64::from(len.div_ceil(512))))
                    || segments.iter().any(|s| ends_beyond(s.sector, u64::from(s.sectors))),
            ),
            (AnswerFault::ServesOverLimit, too_long),
            (AnswerFault::ServesTooManySegments, too_many),
            (AnswerFault::ServesPartialSector, transfers && !len.is_multiple_of(512)),
            (
                AnswerFault::ServesPartialSegment,
                segmented && !request.data_out.is_multiple_of(request::SEGMENT),
            ),
            (AnswerFault::ServesUnnegotiated, segmented && negotiated & feature == 0),
            (AnswerFault::ServesUnknownType, !known),
            (
                AnswerFault::ReadOnlyWritten,
                offered & feature::RO != 0 && (kind == request::OUT || segmented),
            ),
        ];
        // A request with a second reason to be refused is still refused.
        let only = |fault| reasons.iter().all(|&(reason, holds)| holds == (reason == fault));
        let answer =
            |wrong: bool, status: Status| wrong.then_some(Spoiled { status, written: None });
        let write = |wrong: bool, behind: bool| {
            let writes = kind == request::OUT && len >= 512 && !status.is_ok();
            let exists = request.sector < u64::from(spec.disk.capacity);
            let written = Some((request.sector as u32, behind));
            (wrong && writes && exists).then_some(Spoiled { status, written })
        };
        let overflows =
            |s: &Segment| (s.sector as u32).wrapping_add(s.sectors) <= spec.disk.capacity;
        let discards = kind == request::DISCARD;
        let flag_is_last = segments.last().is_some_and(|s| s.flags & !request::UNMAP != 0);
        match self {
            AnswerFault::ServesLongZeroes => {
                answer(!discards && only(AnswerFault::ServesOverLimit), Status::OK)
            }
            AnswerFault::ServesManyDiscards => {
                answer(discards && only(AnswerFault::ServesTooManySegments), Status::OK)
            }
            AnswerFault::ServesFlagBeforeLast => {
                answer(!flag_is_last && only(AnswerFault::ServesUnknownFlag), Status::OK)
            }
            AnswerFault::ServesOverflow => {
                let wrong = segmented && segments.iter().all(overflows);
                answer(wrong && only(AnswerFault::ServesBeyondCapacity), Status::OK)
            }
            AnswerFault::ZonesFail => answer(request::ZONE_TYPES.contains(&kind), Status::IOERR),
            AnswerFault::RefusesWithIoerr => answer(status == Status::UNSUPP, Status::IOERR),
            AnswerFault::FailsLegal => {
                answer(kind == request::GET_ID && status.is_ok(), Status::IOERR)
            }
            AnswerFault::MadeUpStatus => {
                answer(kind == request::GET_ID && status.is_ok(), Status(3))
            }
            AnswerFault::RefusedButWritten => write(only(AnswerFault::ServesBeyondCapacity), false),
            AnswerFault::ReadOnlyWritten => write(only(self), true),
            _ => answer(only(self), Status::OK),
        }
    }
}

fn segments(request: &BlockRequest, ram: &Ram<'_>) -> Vec<Segment> {
    let data = request.data(ram);
    let segment = |bytes: &[u8]| {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let sector = u64::from(word(4)) << 32 | u64::from(word(0));
        Segment { sector, sectors: word(8), flags: word(12) }
    };
    data.chunks_exact(request::SEGMENT as usize).map(segment).collect()
}
