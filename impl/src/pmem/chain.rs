//! Walks a descriptor chain once and finds the two parts of a request: its type and the place of
//! its response.
//!
//! The type is in the first four readable bytes and the response goes to the first four writable
//! ones. How the bytes are cut into descriptors carries no meaning, descriptors of length zero
//! carry nothing at all, and bytes after either part are ignored.

use super::wire::{REQUEST_BYTES, RESPONSE_BYTES};
use crate::buffer::{GuestRange, Ranges};
use crate::chain::inside;
use crate::virtio::Descriptor;
use vm_memory::{Bytes, GuestMemory, Permissions};

/// A defect of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The response does not lie wholly in guest memory: the device cannot answer, and returns the
    /// chain with `len` 0.
    NoResponse,
    /// The chain is cut short, out of order, without a whole type, or points outside guest memory.
    Answerable,
}

/// The parts of the last chain walked.
#[derive(Clone, Debug, Default)]
pub(super) struct Parts {
    kind: [u8; REQUEST_BYTES],
    /// Number of bytes of the type found.
    kind_len: usize,
    /// The destination of the response; whole unless the walk ended in [`Malformed::NoResponse`].
    pub(super) response: Ranges,
}

impl Parts {
    /// The request's type.
    pub(super) fn kind(&self) -> u32 {
        u32::from_le_bytes(self.kind)
    }

    /// Walks `chain`, reading every descriptor and every byte of the type exactly once.
    ///
    /// # Errors
    /// See [`Malformed`].
    ///
    /// # Spec
    /// 2.7.4 Message Framing (VS-01, VS-02); 5.19.6 and 5.19.7.2 for the layouts.
    pub(super) fn walk<M: GuestMemory>(
        &mut self,
        chain: impl Iterator<Item = Descriptor>,
        memory: &M,
    ) -> Result<(), Malformed> {
        self.kind_len = 0;
        self.response.clear();
        let mut left = RESPONSE_BYTES as u32;
        let (mut sound, mut more, mut writable) = (true, true, false);
        for descriptor in chain {
            more = descriptor.has_next();
            let range = GuestRange { addr: descriptor.addr(), len: descriptor.len() };
            if range.len == 0 {
                continue;
            }
            if !descriptor.is_write_only() {
                sound &= !writable && self.take_readable(memory, range);
                continue;
            }
            writable = true;
            sound &= inside(memory, range, Permissions::Write);
            let len = range.len.min(left);
            if len > 0 {
                self.response.push(GuestRange { len, ..range });
                left -= len;
            }
        }
        let is_there = |part: &GuestRange| inside(memory, *part, Permissions::Write);
        if left > 0 || !self.response.iter().all(is_there) {
            Err(Malformed::NoResponse)
        } else if sound && !more && self.kind_len == REQUEST_BYTES {
            Ok(())
        } else {
            Err(Malformed::Answerable)
        }
    }

    /// Adds readable bytes to the type, up to its length; returns whether all of them are in guest
    /// memory.
    fn take_readable<M: GuestMemory>(&mut self, memory: &M, range: GuestRange) -> bool {
        let piece = (REQUEST_BYTES - self.kind_len).min(range.len as usize);
        let into = &mut self.kind[self.kind_len..self.kind_len + piece];
        let read =
            inside(memory, range, Permissions::Read) && memory.read_slice(into, range.addr).is_ok();
        if read {
            self.kind_len += piece;
        }
        read
    }
}
