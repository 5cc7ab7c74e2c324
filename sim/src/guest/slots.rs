//! Buffers of requests in guest memory, with guards around every byte the device may write.
//!
//! A slot holds one request: header, data, status byte and space for an indirect table. The bytes
//! that the device may write are poisoned before the request is published, with guard words before
//! and after them. A free slot consists of guards. This shows writes that are too wide, too late,
//! or to the buffer of another request.
//!
//! ```text
//! +0    guard     +16   header (16)    +32   data (size)   guard (16)
//! then  guard (8) status (1) guard (7)       table
//! ```

use crate::guest::memory::Memory;
use crate::guest::payload::POISON;
use crate::guest::wire::ring::DESCRIPTOR;

const POISONED: u64 = u64::from_le_bytes([POISON; 8]);
const GUARD: u64 = u64::from_le_bytes(*b"GUARDED!");
/// A poisoned status byte and the first seven bytes of the guard after it.
const GUARDED_STATUS: u64 = GUARD << 8 | POISON as u64;
const HEADER: u32 = 16;
const DATA: u32 = 32;

/// The buffers of one slot, as guest addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotPlan {
    start: u32,
    room: u32,
    /// Descriptors of the table.
    table: u16,
    /// The guest address of the status byte, if it has a place of its own.
    status: u32,
    /// The status byte is the last byte of memory, so no guard is behind it.
    is_last: bool,
}

impl SlotPlan {
    /// The size in bytes of a slot with `room` bytes of data and so many descriptors.
    pub(super) fn size(room: u32, table: u16) -> u32 {
        (DATA + room + 16 + 16 + DESCRIPTOR * u32::from(table)).next_multiple_of(64)
    }

    pub(super) fn at(start: u32, room: u32, table: u16) -> SlotPlan {
        SlotPlan { start, room, table, status: start + DATA + room + 24, is_last: false }
    }

    /// The same slot with its status in the last byte of memory, which ends at `end`.
    pub(super) fn with_last_status(self, end: u32) -> SlotPlan {
        SlotPlan { status: end - 1, is_last: true, ..self }
    }

    /// The first guest address behind the slot.
    fn end(&self) -> u32 {
        self.start + SlotPlan::size(self.room, self.table)
    }

    /// Whether an address lies in the slot.
    pub(super) fn contains(&self, at: u32) -> bool {
        (self.start..self.end()).contains(&at)
            || (self.is_last && (self.status - 8..=self.status).contains(&at))
    }

    #[inline]
    pub(super) fn header(&self) -> u32 {
        self.start + HEADER
    }

    #[inline]
    pub(super) fn data(&self) -> u32 {
        self.start + DATA
    }

    /// The guest address of the status byte: directly after `len` bytes of data if `glued` is
    /// `Some(len)`, else at its own place.
    #[inline]
    pub(super) fn status(&self, glued: Option<u32>) -> u32 {
        match glued {
            Some(len) => self.data() + len,
            None => self.status,
        }
    }

    #[inline]
    pub(super) fn table(&self) -> u32 {
        self.start + DATA + self.room + 32
    }

    /// Guards a free slot.
    pub(super) fn retire(&self, memory: &mut Memory) {
        let (sectors, _) = memory.bytes_mut(self.data(), self.room).as_chunks_mut::<512>();
        for sector in sectors {
            *sector.first_chunk_mut().expect("a sector has eight bytes") = GUARD.to_le_bytes();
        }
        memory.bytes_mut(self.status(None), 1)[0] = POISON;
    }

    /// Whether a free slot is as [`retire`](Self::retire) left it.
    pub(super) fn is_retired(&self, memory: &Memory) -> bool {
        let (sectors, _) = memory.bytes(self.data(), self.room).as_chunks::<512>();
        sectors.iter().all(|sector| sector[..8] == GUARD.to_le_bytes())
            && memory.bytes(self.status(None), 1)[0] == POISON
    }

    /// Sets the guards around a request with `len` bytes of data and its status at `status`, and
    /// poisons the status.
    #[inline]
    pub(super) fn arm(&self, memory: &mut Memory, len: u32, status: u32) {
        memory.write_u64(self.start + 8, GUARD);
        let end = self.data() + len;
        if status == end {
            memory.bytes_mut(status, 1)[0] = POISON;
            memory.write_u64(end + 1, GUARD);
        } else {
            memory.write_u64(end, GUARD);
            memory.write_u64(status - 8, GUARD);
            if self.is_last {
                memory.bytes_mut(status, 1)[0] = POISON;
            } else {
                memory.write_u64(status, GUARDED_STATUS);
            }
        }
    }

    /// The guest address of the first guard word around the request that has changed.
    #[inline]
    pub(super) fn breach(&self, memory: &Memory, len: u32, status: u32) -> Option<u32> {
        if memory.read_u64(self.start + 8) != GUARD {
            return Some(self.start + 8);
        }
        let end = self.data() + len;
        let end = if status == end { end + 1 } else { end };
        if memory.read_u64(end) != GUARD {
            return Some(end);
        }
        if status != self.data() + len {
            if memory.read_u64(status - 8) != GUARD {
                return Some(status - 8);
            }
            // The status may have changed, but the bytes after it are guards.
            if !self.is_last && memory.read_u64(status) >> 8 != GUARDED_STATUS >> 8 {
                return Some(status + 1);
            }
        }
        None
    }

    /// Poisons both ends of every sector of a device-writable buffer.
    #[inline]
    pub(super) fn poison(&self, memory: &mut Memory, len: u32) {
        let mut at = self.data();
        let end = at + len;
        while at < end {
            let stop = (at + 512).min(end);
            if stop - at < 8 {
                memory.bytes_mut(at, stop - at).fill(POISON);
            } else {
                memory.write_u64(at, POISONED);
                memory.write_u64(stop - 8, POISONED);
            }
            at = stop;
        }
    }

    /// The offset in bytes of the first sector of a poisoned buffer that the device has not fully
    /// written; `None` if it may have written all. An upper bound for the used length.
    #[inline]
    pub(super) fn first_unwritten(&self, memory: &Memory, len: u32) -> Option<u32> {
        let mut at = 0;
        while at < len {
            let stop = (at + 512).min(len);
            let (from, to) = (self.data() + at, self.data() + stop);
            let poisoned = if to - from < 8 {
                memory.bytes(from, to - from).iter().all(|&byte| byte == POISON)
            } else {
                memory.read_u64(from) == POISONED || memory.read_u64(to - 8) == POISONED
            };
            if poisoned {
                return Some(at);
            }
            at = stop;
        }
        None
    }
}
