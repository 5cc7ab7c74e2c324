//! Walks a descriptor chain once and splits its bytes into the three parts of a block request.
//!
//! The parts partition the chain: 16 readable bytes (the header), then the data, then one writable
//! byte (the status). How the bytes are cut into descriptors carries no meaning, and descriptors of
//! length zero carry nothing at all. The meaning of the parts is decided in `intake`.
//!
//! `virtio_queue`'s iterator ends silently on loops, on indices and tables out of range and on
//! unreadable descriptors. After such an end, the last descriptor returned still has NEXT set, or
//! none was returned.

use crate::buffer::{GuestRange, Ranges};
use crate::virtio::Descriptor;
use crate::wire::HEADER_BYTES;
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

/// A defect of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Malformed {
    /// The last writable byte is missing or outside guest memory: the device cannot answer, and
    /// returns the chain with `len` 0.
    NoStatus,
    /// The chain is cut short, out of order, without a whole header, or points outside guest
    /// memory; its last writable byte is the status.
    Answerable,
}

/// The parts of the last chain walked. Reused for every chain, so that long chains do not allocate
/// each time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Parts {
    header: [u8; HEADER_BYTES],
    /// Number of header bytes found.
    header_len: usize,
    /// The readable bytes after the header.
    pub(crate) readable: Ranges,
    /// The writable bytes before the status.
    pub(crate) writable: Ranges,
    pub(crate) readable_len: u32,
    pub(crate) writable_len: u32,
    /// The last writable byte; valid unless the walk ended in [`Malformed::NoStatus`].
    pub(crate) status: GuestAddress,
}

impl Parts {
    /// The request's type.
    pub(crate) fn kind(&self) -> u32 {
        let [a, b, c, d, ..] = self.header;
        u32::from_le_bytes([a, b, c, d])
    }

    /// The request's first sector.
    pub(crate) fn sector(&self) -> u64 {
        let [_, _, _, _, _, _, _, _, low @ ..] = self.header;
        u64::from_le_bytes(low)
    }

    /// Walks `chain`, reading every descriptor and every header byte exactly once. A chain of more
    /// than `most` descriptors is walked to its end, because the status is there, but its data is
    /// not kept.
    ///
    /// # Errors
    /// See [`Malformed`].
    ///
    /// # Spec
    /// 2.7.4 Message Framing (VS-01, VS-02); VS-05 to VS-08: chains that drivers must not build;
    /// VS-19: reading once.
    pub(crate) fn walk<M: GuestMemory>(
        &mut self,
        chain: impl Iterator<Item = Descriptor>,
        memory: &M,
        most: u32,
    ) -> Result<(), Malformed> {
        self.header_len = 0;
        self.readable.clear();
        self.writable.clear();
        self.readable_len = 0;
        self.writable_len = 0;
        let mut sound = true;
        let mut more = true;
        for (descriptor, count) in chain.zip(1..) {
            more = descriptor.has_next();
            let too_long = count > most;
            sound &= !too_long;
            let range = GuestRange { addr: descriptor.addr(), len: descriptor.len() };
            if range.len == 0 {
                continue;
            }
            sound &= if descriptor.is_write_only() {
                self.writable_len += range.len;
                if too_long {
                    self.writable.clear();
                }
                self.writable.push(range);
                inside(memory, range, Permissions::Write)
            } else {
                !too_long && self.writable.is_empty() && self.take_readable(memory, range)
            };
        }
        self.split_status(memory)?;
        assert!(self.header_len <= HEADER_BYTES, "the header has 16 bytes");
        if !sound || more || self.header_len < HEADER_BYTES {
            return Err(Malformed::Answerable);
        }
        assert_eq!(self.readable.is_empty(), self.readable_len == 0, "no range is empty");
        assert_eq!(self.writable.is_empty(), self.writable_len == 0, "no range is empty");
        Ok(())
    }

    /// Adds readable bytes to the header or the data; returns whether they are in guest memory.
    fn take_readable<M: GuestMemory>(&mut self, memory: &M, mut range: GuestRange) -> bool {
        if !inside(memory, range, Permissions::Read) {
            return false;
        }
        if self.header_len < HEADER_BYTES {
            let piece = (HEADER_BYTES - self.header_len).min(range.len as usize);
            let into = &mut self.header[self.header_len..self.header_len + piece];
            if memory.read_slice(into, range.addr).is_err() {
                return false;
            }
            self.header_len += piece;
            range.addr.0 += piece as u64;
            range.len -= piece as u32;
            if range.len == 0 {
                return true;
            }
        }
        self.readable_len += range.len;
        self.readable.push(range);
        true
    }

    /// "The last byte of the device-writable part" is the status, wherever it is.
    fn split_status<M: GuestMemory>(&mut self, memory: &M) -> Result<(), Malformed> {
        let last = self.writable.last_mut().ok_or(Malformed::NoStatus)?;
        assert!(last.len > 0, "no range is empty");
        last.len -= 1;
        let address = last.addr.0.checked_add(u64::from(last.len));
        self.status = GuestAddress(address.ok_or(Malformed::NoStatus)?);
        if last.len == 0 {
            self.writable.pop();
        }
        self.writable_len -= 1;
        let byte = GuestRange { addr: self.status, len: 1 };
        if inside(memory, byte, Permissions::Write) { Ok(()) } else { Err(Malformed::NoStatus) }
    }
}

pub(crate) fn inside<M: GuestMemory>(memory: &M, range: GuestRange, access: Permissions) -> bool {
    range.addr.0.checked_add(u64::from(range.len)).is_some()
        && memory.check_range(range.addr, range.len as usize, access)
}
