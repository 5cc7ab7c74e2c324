//! The end of a request: status byte, used ring, and whether the driver is owed a signal.
//!
//! `len` never claims more than was written (VS-13). It may claim less (VS-14), and does where a
//! refused request has writable data before its status: nothing was written there, so the prefix is
//! empty.

use super::BlockQueue;
use crate::buffer::GuestRange;
use crate::slots::{Kind, Slot};
use crate::virtio::Ring;
use crate::wire::{S_IOERR, S_OK};
use vm_memory::{Bytes, GuestAddress, GuestMemory};

/// A source of zeroes to copy from.
static ZEROES: [u8; 4096] = [0; 4096];

impl BlockQueue {
    /// Ends the request in `slot` with `status` and frees the slot.
    pub(super) fn answer<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        slot: Slot,
        status: u8,
    ) {
        let request = self.slots.get(slot);
        assert!(request.patch.is_none(), "slot {slot} has a granule to write back first");
        if request.kind == Kind::InternalFlush {
            return self.end_own_sync(slot, status);
        }
        let (head, address) = (request.head, request.status);
        let written = match (request.kind, status) {
            (Kind::In, S_OK) => total(&request.data),
            // The host failed, so the content of the buffer is unspecified: it is zeroed, and
            // zeroes can be claimed as written (AMB-23).
            (Kind::In, _) => zero_fill(memory, &request.data),
            _ if request.has_writable => None,
            _ => Some(0),
        };
        self.slots.answered(slot);
        self.finish(ring, memory, head, address, status, written);
    }

    /// Ends the request in `slot` with IOERR.
    pub(super) fn fail<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M, slot: Slot) {
        self.answer(ring, memory, slot, S_IOERR);
    }

    /// Writes the status byte and returns the chain. `written` is the number of bytes written
    /// before the status, `None` if they were not all written.
    pub(super) fn finish<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        head: u16,
        address: GuestAddress,
        status: u8,
        written: Option<u32>,
    ) {
        assert!(!self.stopped, "a stopped queue answers nothing");
        let answered = memory.write_obj(status, address).is_ok();
        let len = match written {
            Some(written) if answered => written + 1,
            _ => 0,
        };
        self.give_back(ring, memory, head, len);
    }

    /// Returns a chain through the used ring and records whether the driver must be signalled. Both
    /// happen in one step, so that between steps the ring's whole state is in its indices.
    pub(super) fn give_back<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        head: u16,
        len: u32,
    ) {
        if let Some(record) = self.record.as_mut() {
            record.about_to_use(head);
        }
        let put = ring.put(memory, head, len);
        if let Some(record) = self.record.as_mut().filter(|_| put.is_ok()) {
            record.used(head, ring.position().1);
        }
        self.front.after_put(put, ring, memory);
    }
}

fn total(ranges: &[GuestRange]) -> Option<u32> {
    Some(ranges.iter().map(|range| range.len).sum())
}

/// Zeroes all of `ranges`; returns their length, or `None` if a part is not in guest memory.
fn zero_fill<M: GuestMemory>(memory: &M, ranges: &[GuestRange]) -> Option<u32> {
    for range in ranges {
        let mut at = 0;
        while at < range.len {
            let piece = (range.len - at).min(ZEROES.len() as u32);
            let address = GuestAddress(range.addr.0 + u64::from(at));
            memory.write_slice(&ZEROES[..piece as usize], address).ok()?;
            at += piece;
        }
    }
    total(ranges)
}
