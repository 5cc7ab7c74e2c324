//! The buffers of a request: cut into pieces, filled, and checked when the request completes.
//!
//! A request of a persistent memory has a header of only the type, and four bytes of response in
//! the place of the data, with no status after them.

use crate::guest::Kind;
use crate::guest::layout::{Cut, Layout, Piece};
use crate::guest::memory::Memory;
use crate::guest::outcome::Breach;
use crate::guest::payload::{self, Author, POISON};
use crate::guest::request::{GuestRequest, Malformation};
use crate::guest::ring::Held;
use crate::guest::slots::SlotPlan;
use crate::guest::wire::memory as pmem;
use crate::guest::wire::request::{HEADER, SEGMENT};
use powerfail_model::Segment;

/// A published request, as far as the check of its answer needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) id: u32,
    pub(super) ask: GuestRequest,
    pub(super) malformation: Malformation,
    pub(super) head: u16,
    pub(super) held: Held,
    pub(super) len: u32,
    pub(super) status: u32,
    pub(super) wire: Wire,
}

/// The wire format of a request, before any malformation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    pub(super) kind: Kind,
    /// The request type.
    number: u32,
    /// Bytes of the data part, between header and status.
    pub(super) data: u32,
    /// Whether the device writes the data part.
    pub(super) writes: bool,
    /// The sector, as the device counts, that the guest calls its first.
    first: u64,
}

impl Wire {
    const NOTHING: Wire = Wire { kind: Kind::Disk, number: 0, data: 0, writes: false, first: 0 };

    #[inline]
    pub(super) fn of(kind: Kind, first: u64, ask: &GuestRequest) -> Wire {
        match kind {
            Kind::Disk => {
                let (data, writes) = (ask.data_len(), ask.device_writes());
                Wire { kind, number: ask.wire_type(), data, writes, first }
            }
            Kind::Memory => {
                let number =
                    if *ask == GuestRequest::Flush { pmem::FLUSH } else { ask.wire_type() };
                Wire { kind, number, data: pmem::RESPONSE, writes: true, first }
            }
        }
    }

    /// The `sector` field of the header.
    #[inline]
    pub(super) fn sector(&self, ask: &GuestRequest, malformation: Malformation) -> u64 {
        let sector = malformation.sector(ask);
        if ask.range().is_some() { self.counted(sector) } else { sector }
    }

    /// A sector of the guest as the device counts. A sector that is far beyond the end stays so.
    #[inline]
    fn counted(&self, sector: u64) -> u64 {
        sector.checked_add(self.first).unwrap_or(sector)
    }

    /// The two words of a segment in guest memory.
    #[inline]
    pub(super) fn words(&self, segment: &Segment) -> [u64; 2] {
        let sizes = u64::from(segment.flags) << 32 | u64::from(segment.sectors);
        [self.counted(segment.sector), sizes]
    }

    /// Whether a request with this malformation is invalid, so that its answer is not checked.
    #[inline]
    fn is_malformed(&self, malformation: Malformation) -> bool {
        match self.kind {
            Kind::Disk => !malformation.is_framed(),
            Kind::Memory => malformation != Malformation::None,
        }
    }
}

impl Sent {
    pub(super) const NOTHING: Sent = Sent {
        id: 0,
        ask: GuestRequest::Flush,
        malformation: Malformation::None,
        head: 0,
        held: Held { block: 0, mask: 0 },
        len: 0,
        status: 0,
        wire: Wire::NOTHING,
    };
}

/// Cuts a request into the pieces of its chain, in ring order.
pub(super) fn cut(
    cut: &mut Cut,
    plan: &SlotPlan,
    wire: &Wire,
    len: u32,
    status: u32,
    layout: Layout,
    malformation: Malformation,
) {
    cut.clear();
    if wire.kind == Kind::Memory {
        return cut_of_memory(cut, plan, len, layout, malformation);
    }
    let header = if malformation == Malformation::ShortHeader { 8 } else { HEADER };
    cut.header(plan.header(), header, layout);
    if malformation == Malformation::StatusFirst && len > 0 && !wire.writes {
        // Writable before readable: the order that a driver must not use.
        cut.push(Piece { at: status, len: 1, writable: true }, false);
        cut.data(plan.data(), len, false, layout);
        return;
    }
    cut.data(plan.data(), len, wire.writes && malformation != Malformation::NoStatus, layout);
    if malformation != Malformation::NoStatus {
        cut.status(status, layout);
    }
}

#[cold]
fn cut_of_memory(
    cut: &mut Cut,
    plan: &SlotPlan,
    len: u32,
    layout: Layout,
    malformation: Malformation,
) {
    let whole = pmem::REQUEST;
    let header = if malformation == Malformation::ShortHeader { whole / 2 } else { whole };
    if malformation == Malformation::StatusFirst && len > 0 {
        cut.push(Piece { at: plan.data(), len, writable: true }, false);
    }
    cut.header(plan.header(), header, layout);
    if malformation != Malformation::StatusFirst && len > 0 {
        cut.data(plan.data(), len, malformation != Malformation::NoStatus, layout);
    }
}

/// Writes header and data into guest memory.
pub(super) fn fill(
    memory: &mut Memory,
    plan: &SlotPlan,
    wire: &Wire,
    ask: &GuestRequest,
    malformation: Malformation,
    id: u32,
    author: Author,
) {
    memory.write_u64(plan.header(), u64::from(wire.number));
    memory.write_u64(plan.header() + 8, wire.sector(ask, malformation));
    match ask {
        GuestRequest::Out { sector, sectors } => {
            for nth in 0..*sectors {
                let bytes = memory.bytes_mut(plan.data() + nth * 512, 512);
                payload::fill(bytes, author, (*sector as u32).wrapping_add(nth), id);
            }
        }
        GuestRequest::Ranges(_, segments) => {
            for (nth, segment) in segments.iter().enumerate() {
                let at = plan.data() + nth as u32 * SEGMENT;
                let [first, second] = wire.words(&segment);
                memory.write_u64(at, first);
                memory.write_u64(at + 8, second);
            }
        }
        _ => {}
    }
}

impl Sent {
    /// The two words of its header.
    #[inline]
    pub(super) fn header(&self) -> [u64; 2] {
        [u64::from(self.wire.number), self.wire.sector(&self.ask, self.malformation)]
    }

    /// The same request with another content and header, after the guest has changed it.
    #[cold]
    pub(super) fn altered(
        &self,
        ask: GuestRequest,
        malformation: Malformation,
        first: u64,
    ) -> Sent {
        let wire = Wire::of(self.wire.kind, first, &ask);
        // A request of unknown type has the data part of the old one, which it does not write.
        let len = malformation.len(wire.data);
        Sent { ask, malformation, len, wire, ..*self }
    }
}

/// Whether the header is the one that the guest wrote.
#[inline]
fn is_headed(memory: &Memory, plan: &SlotPlan, header: [u64; 2]) -> bool {
    [memory.read_u64(plan.header()), memory.read_u64(plan.header() + 8)] == header
}

/// Whether header and data of a request are what the guest wrote last.
pub(super) fn is_filled(
    memory: &Memory,
    plan: &SlotPlan,
    sent: &Sent,
    header: [u64; 2],
    author: Author,
) -> bool {
    let data_is = match &sent.ask {
        GuestRequest::Out { sector, .. } => (0..sent.len / 512).all(|nth| {
            let bytes = memory.bytes(plan.data() + nth * 512, 512);
            payload::is_filled(bytes, author, (*sector as u32).wrapping_add(nth), sent.id)
        }),
        // Behind the data of a request that is too short there is a guard.
        ask => (0..sent.len / SEGMENT).zip(ask.segments()).all(|(nth, segment)| {
            let at = plan.data() + nth * SEGMENT;
            [memory.read_u64(at), memory.read_u64(at + 8)] == sent.wire.words(&segment)
        }),
    };
    data_is && is_headed(memory, plan, header)
}

/// Checks the buffers of a completed request.
///
/// # Errors
/// The first write of the device that it must not have done.
#[inline]
pub(super) fn check(memory: &Memory, plan: &SlotPlan, sent: &Sent, len: u32) -> Result<(), Breach> {
    check_around(memory, plan, sent, sent.header())?;
    check_answer(memory, plan, sent, len)
}

/// Checks the guards around a completed request, and its header.
#[inline]
pub(super) fn check_around(
    memory: &Memory,
    plan: &SlotPlan,
    sent: &Sent,
    header: [u64; 2],
) -> Result<(), Breach> {
    let id = sent.id;
    if let Some(at) = plan.breach(memory, sent.len, sent.status) {
        return Err(Breach::Outside { id, at });
    }
    if !is_headed(memory, plan, header) {
        return Err(Breach::Readable { id });
    }
    Ok(())
}

/// Checks status, data and used length of a completed request.
#[inline]
pub(super) fn check_answer(
    memory: &Memory,
    plan: &SlotPlan,
    sent: &Sent,
    len: u32,
) -> Result<(), Breach> {
    let id = sent.id;
    let unanswered = memory.bytes(sent.status, 1)[0] == POISON;
    let has_status = sent.wire.kind == Kind::Disk;
    if !has_status && !unanswered {
        return Err(Breach::Outside { id, at: sent.status });
    }
    if sent.wire.is_malformed(sent.malformation) {
        return Ok(());
    }
    if has_status && unanswered {
        return Err(Breach::NoStatus { id });
    }
    let data = if sent.wire.writes { sent.len } else { 0 };
    let most = data + u32::from(has_status);
    if len > most {
        return Err(Breach::Length { id, claimed: len, written: most });
    }
    if data > 0
        && let Some(written) = plan.first_unwritten(memory, data)
        && len > written
    {
        return Err(Breach::Length { id, claimed: len, written });
    }
    Ok(())
}

/// The response of a persistent memory; `None` if none of it was written.
#[cold]
pub(super) fn response(memory: &Memory, plan: &SlotPlan, sent: &Sent) -> Option<u32> {
    let is_there = sent.wire.kind == Kind::Memory && sent.len == pmem::RESPONSE;
    let ret = is_there.then(|| memory.read_u32(plan.data()));
    ret.filter(|ret| *ret != u32::from_le_bytes([POISON; 4]))
}
