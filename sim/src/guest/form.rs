//! A request on paper: cut, filled in, and looked over when it comes back.
//!
//! A persistent memory's requests are the same with less in them: of the header only the type, and
//! four bytes of response in the place of the data, with no status behind them.

use crate::guest::Kind;
use crate::guest::ask::{Ask, Mischief};
use crate::guest::layout::{Cut, Layout, Piece};
use crate::guest::memory::Memory;
use crate::guest::outcome::Breach;
use crate::guest::payload::{self, Author};
use crate::guest::slots::{POISON, SlotPlan};
use crate::guest::wire::memory as pmem;
use crate::guest::wire::request::HEADER;

/// What was published, as far as judging its answer needs it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    pub(super) id: u32,
    pub(super) ask: Ask,
    pub(super) mischief: Mischief,
    pub(super) head: u16,
    pub(super) held: u32,
    pub(super) len: u32,
    pub(super) status: u32,
    pub(super) wire: Wire,
}

/// How a request looks on the wire, before any mischief.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wire {
    kind: Kind,
    /// The request type.
    number: u32,
    /// Bytes of the part between header and status.
    pub(super) data: u32,
    /// Whether the device writes it.
    pub(super) writes: bool,
}

impl Wire {
    const NOTHING: Wire = Wire { kind: Kind::Disk, number: 0, data: 0, writes: false };

    #[inline]
    pub(super) fn of(kind: Kind, ask: &Ask) -> Wire {
        match kind {
            Kind::Disk => {
                let (data, writes) = (ask.data_len(), ask.device_writes());
                Wire { kind, number: ask.wire_type(), data, writes }
            }
            Kind::Memory => {
                let number = if *ask == Ask::Flush { pmem::FLUSH } else { ask.wire_type() };
                Wire { kind, number, data: pmem::RESPONSE, writes: true }
            }
        }
    }

    /// Whether a request so spoiled is one whose answer means nothing.
    #[inline]
    fn is_malformed(&self, mischief: Mischief) -> bool {
        match self.kind {
            Kind::Disk => !matches!(mischief, Mischief::None | Mischief::Ragged(_)),
            Kind::Memory => mischief != Mischief::None,
        }
    }
}

impl Sent {
    pub(super) const NOTHING: Sent = Sent {
        id: 0,
        ask: Ask::Flush,
        mischief: Mischief::None,
        head: 0,
        held: 0,
        len: 0,
        status: 0,
        wire: Wire::NOTHING,
    };
}

/// Cuts a request into the pieces that its chain will name, in ring order.
pub(super) fn cut(
    plan: &SlotPlan,
    wire: &Wire,
    len: u32,
    status: u32,
    layout: Layout,
    mischief: Mischief,
) -> Cut {
    let mut cut = Cut::new();
    if wire.kind == Kind::Memory {
        return cut_of_memory(cut, plan, len, layout, mischief);
    }
    let header = if mischief == Mischief::ShortHeader { 8 } else { HEADER };
    cut.header(plan.header(), header, layout);
    if mischief == Mischief::StatusFirst && len > 0 && !wire.writes {
        // Writable before readable: the order no driver may use.
        cut.push(Piece { at: status, len: 1, writable: true }, false);
        cut.data(plan.data(), len, false, layout);
        return cut;
    }
    cut.data(plan.data(), len, wire.writes && mischief != Mischief::NoStatus, layout);
    if mischief != Mischief::NoStatus {
        cut.status(status, layout);
    }
    cut
}

#[cold]
fn cut_of_memory(
    mut cut: Cut,
    plan: &SlotPlan,
    len: u32,
    layout: Layout,
    mischief: Mischief,
) -> Cut {
    let whole = pmem::REQUEST;
    let header = if mischief == Mischief::ShortHeader { whole / 2 } else { whole };
    if mischief == Mischief::StatusFirst && len > 0 {
        cut.push(Piece { at: plan.data(), len, writable: true }, false);
    }
    cut.header(plan.header(), header, layout);
    if mischief != Mischief::StatusFirst && len > 0 {
        cut.data(plan.data(), len, mischief != Mischief::NoStatus, layout);
    }
    cut
}

/// Writes header and data.
pub(super) fn fill(
    memory: &mut Memory,
    plan: &SlotPlan,
    wire: &Wire,
    ask: &Ask,
    id: u32,
    author: Author,
) {
    memory.write_u64(plan.header(), u64::from(wire.number));
    memory.write_u64(plan.header() + 8, ask.sector());
    match ask {
        Ask::Out { sector, sectors } => {
            for nth in 0..*sectors {
                let bytes = memory.bytes_mut(plan.data() + nth * 512, 512);
                payload::fill(bytes, author, (*sector as u32).wrapping_add(nth), id);
            }
        }
        Ask::Discard(segments) | Ask::WriteZeroes(segments) => {
            for (nth, segment) in segments.as_slice().iter().enumerate() {
                let at = plan.data() + nth as u32 * 16;
                memory.write_u64(at, segment.sector);
                memory
                    .write_u64(at + 8, u64::from(segment.flags) << 32 | u64::from(segment.sectors));
            }
        }
        _ => {}
    }
}

/// Whether the data of a write is still what the guest wrote there.
pub(super) fn is_filled(memory: &Memory, plan: &SlotPlan, sent: &Sent, author: Author) -> bool {
    let Ask::Out { sector, .. } = sent.ask else { return true };
    (0..sent.len / 512).all(|nth| {
        let bytes = memory.bytes(plan.data() + nth * 512, 512);
        payload::is_filled(bytes, author, (sector as u32).wrapping_add(nth), sent.id)
    })
}

/// Holds what came back against what the device may have done.
pub(super) fn check(memory: &Memory, plan: &SlotPlan, sent: &Sent, len: u32) -> Result<(), Breach> {
    let id = sent.id;
    if let Some(at) = plan.breach(memory, sent.len, sent.status) {
        return Err(Breach::Outside { id, at });
    }
    if memory.read_u32(plan.header()) != sent.wire.number {
        return Err(Breach::Readable { id });
    }
    let unanswered = memory.bytes(sent.status, 1)[0] == POISON;
    let has_status = sent.wire.kind == Kind::Disk;
    if !has_status && !unanswered {
        return Err(Breach::Outside { id, at: sent.status });
    }
    if sent.wire.is_malformed(sent.mischief) {
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

/// What a persistent memory answered, if it wrote any of its response.
#[cold]
pub(super) fn response(memory: &Memory, plan: &SlotPlan, sent: &Sent) -> Option<u32> {
    let is_there = sent.wire.kind == Kind::Memory && sent.len == pmem::RESPONSE;
    let ret = is_there.then(|| memory.read_u32(plan.data()));
    ret.filter(|ret| *ret != u32::from_le_bytes([POISON; 4]))
}
