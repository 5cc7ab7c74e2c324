//! Writes of the driver's two hands to its memory: the good one writes valid requests, the hostile
//! one anything that its script allows.

use powerfail::guest::wire::memory;
use powerfail_model::PmemRequest;

use super::{Bed, GOOD, HOSTILE, TABLE};
use crate::bound::POISON;

impl Bed {
    /// The good hand publishes a request of this type: a flush, or an unknown one.
    pub(in super::super) fn ask(&mut self, kind: u32) {
        if self.asked.is_some() || self.resetting || self.is_wild() {
            return;
        }
        self.guest.write(GOOD.0, &kind.to_le_bytes());
        self.guest.write(GOOD.1, &[POISON; 4]);
        self.write_descriptor(0, GOOD.0, 4, 1, 1);
        self.write_descriptor(16, GOOD.1, 4, 2, 0);
        let id = self.name();
        self.publish(0);
        let flushes = kind == memory::FLUSH;
        let request = if flushes { PmemRequest::Flush } else { PmemRequest::Other(kind) };
        self.oracle.submit(id, request);
        self.asked = Some(id);
        self.kick();
    }

    /// The hostile hand writes a descriptor: in its table, or in the ring's except for the first
    /// two.
    pub(in super::super) fn descriptor(
        &mut self,
        in_table: bool,
        index: u8,
        address: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let start = if in_table { TABLE } else { self.plan().descriptors };
        let at = start.wrapping_add(16 * u64::from(index));
        let in_ring = (32..0x100).contains(&at) || at >= HOSTILE;
        let mut flags = flags;
        if !self.is_wild() {
            if !in_ring {
                return;
            }
            // A chain that continues into the good hand's would overwrite its response.
            if flags & 1 != 0 && next < 2 {
                flags &= !1;
            }
        }
        self.write_descriptor(at, address, len, flags, next);
    }

    fn write_descriptor(&mut self, at: u64, address: u64, len: u32, flags: u16, next: u16) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&address.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        self.guest.write(at, &bytes);
    }

    /// The hostile hand writes anything.
    pub(in super::super) fn scribble(&mut self, at: u64, bytes: &[u8]) {
        self.guest.write(at, bytes);
    }

    /// The hostile hand publishes a head. In a tame script it is neither one that breaks the ring
    /// nor the good hand's.
    pub(in super::super) fn offer(&mut self, head: u16) {
        let plan = self.plan();
        if self.is_wild() {
            return self.publish(head);
        }
        let full = self.published().wrapping_sub(self.seen) >= plan.size - 1;
        if plan.size > 2 && !full {
            self.publish(2 + head % (plan.size - 2));
        }
    }

    pub(super) fn published(&self) -> u16 {
        self.guest.read_u16(self.plan().available + 2)
    }

    fn publish(&mut self, head: u16) {
        let plan = self.plan();
        let index = self.published();
        let entry = plan.available + 4 + 2 * u64::from(index % plan.size);
        self.guest.write(entry, &head.to_le_bytes());
        self.guest.write(plan.available + 2, &index.wrapping_add(1).to_le_bytes());
    }

    pub(in super::super) fn jump(&mut self, by: i8) {
        if self.is_wild() {
            let index = self.published().wrapping_add_signed(by.into());
            self.guest.write(self.plan().available + 2, &index.to_le_bytes());
        }
    }
}
