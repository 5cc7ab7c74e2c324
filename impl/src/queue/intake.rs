//! Checks a request when it is taken from the ring: an invalid one is refused before any effect.
//!
//! An accepted request with its extents goes on to `progress` or to the flush group. GET_ID, empty
//! requests and refused requests are answered at once.
//!
//! Not implemented, and answered UNSUPP: SCSI pass-through, FLUSH_OUT, GET_LIFETIME, SECURE_ERASE,
//! the zone requests (BLK-D-37).

use super::BlockQueue;
use crate::buffer::copy_in;
use crate::buffer::{GuestRange, copy_out};
use crate::chain::{Malformed, Parts};
use crate::plan::Extent;
use crate::shared::Shared;
use crate::slots::{Kind, Request, Slot};
use crate::virtio::Descriptor;
use crate::virtio::Ring;
use crate::wire::{
    F_DISCARD, F_RO, F_WRITE_ZEROES, ID_BYTES, S_IOERR, S_OK, S_UNSUPP, SECTOR, SEGMENT_BYTES,
    SEGMENT_UNMAP, T_DISCARD, T_FLUSH, T_GET_ID, T_IN, T_OUT, T_WRITE_ZEROES,
};
use vm_memory::GuestMemory;

/// A status other than OK, found before any effect.
struct Refused(u8);

const IOERR: Refused = Refused(S_IOERR);
const UNSUPP: Refused = Refused(S_UNSUPP);

impl BlockQueue {
    /// Takes the chain that begins at `head` as a request, or answers it at once.
    pub(super) fn take_in<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        head: u16,
        chain: impl Iterator<Item = Descriptor>,
    ) {
        assert!(!self.stopped, "a reset takes nothing from the ring");
        if let Some(record) = self.record.as_mut() {
            record.taken(head);
        }
        let most = self.shared.config().longest_chain(ring.size());
        match self.parts.walk(chain, memory, most) {
            Ok(()) => {}
            Err(Malformed::NoStatus) => return self.give_back(ring, memory, head, 0),
            Err(Malformed::Answerable) => return self.refuse(ring, memory, head, S_IOERR),
        }
        let kind = match self.parts.kind() {
            T_IN => Kind::In,
            T_OUT => Kind::Out,
            T_FLUSH => Kind::Flush,
            T_DISCARD => Kind::Discard,
            T_WRITE_ZEROES => Kind::WriteZeroes,
            T_GET_ID => return self.answer_id(ring, memory, head),
            _ => return self.refuse(ring, memory, head, S_UNSUPP),
        };
        let slot = self.slots.open(head, self.parts.status, kind);
        let request = self.slots.get_mut(slot);
        request.has_writable = self.parts.writable_len > 0;
        request.write_through = self.shared.write_through();
        let judged = judge(request, &mut self.parts, &self.shared, memory);
        self.slots.count_data(slot);
        match judged {
            Ok(()) => self.begin(ring, memory, slot),
            Err(Refused(status)) => {
                self.slots.answered(slot);
                self.refuse(ring, memory, head, status);
            }
        }
    }

    /// Starts an accepted request.
    fn begin<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M, slot: Slot) {
        let request = self.slots.get(slot);
        let empty = request.extents.is_empty();
        assert!(request.kind != Kind::Flush || empty, "a flush has no range");
        if request.kind == Kind::Flush {
            // FLUSH is executed and honoured independent of negotiation and cache mode (AMB-17,
            // AMB-18).
            self.join_flush_group(ring, memory, slot);
        } else if empty {
            self.answer(ring, memory, slot, S_OK);
        } else if request.kind == Kind::Out && request.write_through && self.shared.sync_failed() {
            self.fail(ring, memory, slot);
        } else {
            self.advance(ring, memory, slot);
        }
    }

    /// Answers the last chain walked with `status`; nothing else was or will be written.
    fn refuse<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M, head: u16, status: u8) {
        let written = (self.parts.writable_len == 0).then_some(0);
        self.finish(ring, memory, head, self.parts.status, status, written);
    }

    /// "The data used for VIRTIO_BLK_T_GET_ID requests is ... exactly 20 bytes" (5.2.6, BLK-R-15).
    fn answer_id<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M, head: u16) {
        let parts = &self.parts;
        let exact = parts.readable_len == 0 && parts.writable_len as usize == ID_BYTES;
        let serial = &self.shared.config().serial;
        if exact && copy_in(&parts.writable, memory, 0, serial).is_ok() {
            let written = Some(ID_BYTES as u32);
            self.finish(ring, memory, head, self.parts.status, S_OK, written);
        } else {
            self.refuse(ring, memory, head, S_IOERR);
        }
    }
}

/// Decides whether a request may be executed and fills in its data and extents. Empty extents are
/// left out.
///
/// # Spec
/// BLK-D-21 (RO counts when offered), BLK-D-22 and BLK-D-23 (flags), BLK-R-10 and BLK-R-13 to
/// BLK-R-16, AMB-15.
fn judge<M: GuestMemory>(
    request: &mut Request,
    parts: &mut Parts,
    shared: &Shared,
    memory: &M,
) -> Result<(), Refused> {
    if request.kind != Kind::In && request.kind != Kind::Flush && shared.offered() & F_RO != 0 {
        return Err(IOERR);
    }
    // Read once: the whole request is checked against one size, even if the disk grows meanwhile.
    let capacity = shared.capacity();
    match request.kind {
        Kind::Flush => Ok(()),
        Kind::InternalFlush => unreachable!("no chain requests an internal flush"),
        Kind::In if parts.readable_len > 0 => Err(IOERR),
        Kind::Out | Kind::Discard | Kind::WriteZeroes if parts.writable_len > 0 => Err(IOERR),
        Kind::In => {
            let len = parts.writable_len;
            std::mem::swap(&mut request.data, &mut parts.writable);
            judge_transfer(request, parts.sector(), len, capacity)
        }
        Kind::Out => {
            let len = parts.readable_len;
            std::mem::swap(&mut request.data, &mut parts.readable);
            judge_transfer(request, parts.sector(), len, capacity)
        }
        Kind::Discard if shared.negotiated() & F_DISCARD == 0 => Err(UNSUPP),
        Kind::WriteZeroes if shared.negotiated() & F_WRITE_ZEROES == 0 => Err(UNSUPP),
        Kind::Discard | Kind::WriteZeroes => {
            let len = parts.readable_len;
            judge_segments(request, &parts.readable, len, capacity, shared, memory)
        }
    }
}

fn judge_transfer(
    request: &mut Request,
    sector: u64,
    len: u32,
    capacity: u64,
) -> Result<(), Refused> {
    assert!(request.extents.is_empty(), "a request is judged once");
    let len = u64::from(len);
    let extent = within(capacity, sector, len).ok_or(IOERR)?;
    if len % SECTOR != 0 {
        return Err(IOERR);
    }
    if len > 0 {
        request.extents.push(extent);
    }
    Ok(())
}

/// Checks every segment before the first one has an effect.
fn judge_segments<M: GuestMemory>(
    request: &mut Request,
    data: &[GuestRange],
    len: u32,
    capacity: u64,
    shared: &Shared,
    memory: &M,
) -> Result<(), Refused> {
    let config = shared.config();
    let discard = request.kind == Kind::Discard;
    let (most_segments, most_sectors) = if discard {
        (config.max_discard_seg, config.max_discard_sectors)
    } else {
        (config.max_write_zeroes_seg, config.max_write_zeroes_sectors)
    };
    let segments = len / SEGMENT_BYTES as u32;
    if !len.is_multiple_of(SEGMENT_BYTES as u32) || segments > most_segments {
        return Err(IOERR);
    }
    assert!(request.extents.is_empty(), "a request is judged once");
    let mut outcome = Ok(());
    for index in 0..segments {
        let mut bytes = [0; SEGMENT_BYTES];
        copy_out(data, memory, index * SEGMENT_BYTES as u32, &mut bytes).map_err(|_| IOERR)?;
        let segment = Segment::parse(bytes);
        let unmap = segment.flags & SEGMENT_UNMAP != 0;
        if segment.flags & !SEGMENT_UNMAP != 0 || (discard && unmap) {
            return Err(UNSUPP);
        }
        let sectors = u64::from(segment.sectors);
        match within(capacity, segment.sector, sectors * SECTOR) {
            Some(extent) if segment.sectors <= most_sectors => {
                let may_unmap = unmap && shared.limits().can_discard;
                push_segment(request, Extent { may_unmap, ..extent }, shared);
            }
            // Not returned yet: an invalid flag in a later segment must still be answered UNSUPP.
            _ => outcome = Err(IOERR),
        }
    }
    outcome
}

fn push_segment(request: &mut Request, extent: Extent, shared: &Shared) {
    if request.kind == Kind::WriteZeroes {
        if extent.len > 0 {
            request.extents.push(extent);
        }
    } else if shared.limits().can_discard {
        // Discard rounds inward; the remainder is not discarded (BLK-D-24).
        request.extents.extend(extent.inward(shared.limits().discard_granularity));
    }
}

/// The extent of `len` bytes from `sector` on; `None` if it exceeds `capacity`.
fn within(capacity: u64, sector: u64, len: u64) -> Option<Extent> {
    let start = sector.checked_mul(SECTOR)?;
    let end = start.checked_add(len)?;
    (end <= capacity).then_some(Extent { start, len, may_unmap: false })
}

/// One segment of a DISCARD or WRITE_ZEROES, as on the wire.
struct Segment {
    sector: u64,
    sectors: u32,
    flags: u32,
}

impl Segment {
    fn parse(bytes: [u8; SEGMENT_BYTES]) -> Segment {
        let [s @ .., a, b, c, d, e, f, g, h] = bytes;
        Segment {
            sector: u64::from_le_bytes(s),
            sectors: u32::from_le_bytes([a, b, c, d]),
            flags: u32::from_le_bytes([e, f, g, h]),
        }
    }
}
