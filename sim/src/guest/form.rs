//! A request on paper: cut, filled in, and looked over when it comes back.

use crate::guest::ask::{Ask, Mischief};
use crate::guest::layout::{Cut, Layout, Piece};
use crate::guest::outcome::Breach;
use crate::guest::slots::{POISON, SlotPlan};
use crate::memory::Memory;
use crate::payload::{self, Author};
use crate::wire::request::HEADER;

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
    };
}

/// Cuts a request into the pieces that its chain will name, in ring order.
pub(super) fn cut(
    plan: &SlotPlan,
    ask: &Ask,
    len: u32,
    status: u32,
    layout: Layout,
    mischief: Mischief,
) -> Cut {
    let mut cut = Cut::new();
    let header = if mischief == Mischief::ShortHeader { 8 } else { HEADER };
    cut.header(plan.header(), header, layout);
    if mischief == Mischief::StatusFirst && len > 0 && !ask.device_writes() {
        // Writable before readable: the order no driver may use.
        cut.push(Piece { at: status, len: 1, writable: true }, false);
        cut.data(plan.data(), len, false, layout);
        return cut;
    }
    cut.data(plan.data(), len, ask.device_writes() && mischief != Mischief::NoStatus, layout);
    if mischief != Mischief::NoStatus {
        cut.status(status, layout);
    }
    cut
}

/// Writes header and data.
pub(super) fn fill(memory: &mut Memory, plan: &SlotPlan, ask: &Ask, id: u32, author: Author) {
    memory.write_u64(plan.header(), u64::from(ask.wire_type()));
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
    if memory.read_u32(plan.header()) != sent.ask.wire_type() {
        return Err(Breach::Readable { id });
    }
    let malformed = !matches!(sent.mischief, Mischief::None | Mischief::Ragged(_));
    if malformed {
        return Ok(());
    }
    if memory.bytes(sent.status, 1)[0] == POISON {
        return Err(Breach::NoStatus { id });
    }
    let data = if sent.ask.device_writes() { sent.len } else { 0 };
    if len > data + 1 {
        return Err(Breach::Length { id, claimed: len, written: data + 1 });
    }
    if data > 0
        && let Some(written) = plan.first_unwritten(memory, data)
        && len > written
    {
        return Err(Breach::Length { id, claimed: len, written });
    }
    Ok(())
}
