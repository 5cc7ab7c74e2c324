//! Guest memory in a file, with rings in it and a margin on both sides that no server may change.
//!
//! It is read and written through the file, so truncated memory does not harm this process. All
//! addresses are the guest's, from 0 on.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{MemfdFlags, memfd_create};

use super::protocol::words;

/// Bytes of guest memory.
pub(crate) const LEN: u64 = 1 << 20;
/// Bytes before and after it in the file, all of them [`UNTOUCHED`].
pub(crate) const MARGIN: u64 = 64 << 10;
const UNTOUCHED: u8 = 0xa5;

/// The front-end's user address of guest address 0.
pub(crate) const USER: u64 = 0x7f00_0000_0000;

/// Offsets of the parts of a queue.
pub(crate) const AVAILABLE: u64 = 0x4000;
pub(crate) const USED: u64 = 0x6000;
pub(crate) const HEADERS: u64 = 0x9000;
/// The distance between queues.
const STRIDE: u64 = 0x1_0000;
/// Address of the data; the queues are in front of it.
pub(crate) const DATA: u64 = 4 * STRIDE;

/// The largest ring that fits, and the largest number of requests with separate headers.
pub(crate) const MOST: u16 = 1024;
const SLOTS: u16 = 256;

// Flags of a descriptor.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// The first byte of a queue.
pub(crate) fn place(queue: u32) -> u64 {
    u64::from(queue % 4) * STRIDE
}

/// The body of SET_VRING_ADDR.
pub(crate) fn address(index: u32, queue: u32) -> Vec<u8> {
    let at = USER + place(queue);
    words(&[index.into(), at, at + USED, at + AVAILABLE, 0])
}

/// A descriptor of a chain.
pub(crate) fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> Vec<u8> {
    let mut bytes = address.to_le_bytes().to_vec();
    bytes.extend(len.to_le_bytes());
    bytes.extend(flags.to_le_bytes());
    bytes.extend(next.to_le_bytes());
    bytes
}

/// The header of a request.
pub(crate) fn header(kind: u32, sector: u64) -> Vec<u8> {
    [&kind.to_le_bytes()[..], &[0; 4], &sector.to_le_bytes()].concat()
}

/// The memory of one guest.
pub(crate) struct Field {
    file: File,
    /// The number of requests published on each queue.
    published: [u16; 4],
    /// Whether the margins may have changed, so that they are no longer checked.
    unsure: bool,
}

impl Field {
    pub(crate) fn new() -> Field {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("guest", flags).expect("memory"));
        file.set_len(LEN + 2 * MARGIN).expect("memory");
        let margin = [UNTOUCHED; MARGIN as usize];
        for at in [0, MARGIN + LEN] {
            file.write_all_at(&margin, at).expect("memory");
        }
        Field { file, published: [0; 4], unsure: false }
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// The body of SET_MEM_TABLE for this memory, as one region.
    pub(crate) fn table() -> Vec<u8> {
        words(&[1, 0, LEN, USER, MARGIN])
    }

    pub(crate) fn put(&self, at: u64, bytes: &[u8]) {
        // A write extends truncated memory again, but not beyond the full length.
        let room = LEN.saturating_sub(at).min(bytes.len() as u64) as usize;
        self.file.write_all_at(&bytes[..room], MARGIN + at).expect("the file is writable");
    }

    /// Reads `len` bytes; truncated ones are zero.
    pub(crate) fn get(&self, at: u64, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        // Missing bytes stay zero.
        let _ = self.file.read_at(&mut bytes, MARGIN + at);
        bytes
    }

    pub(crate) fn used(&self, queue: u32) -> u16 {
        let index = self.get(place(queue) + USED + 2, 2);
        u16::from_le_bytes([index[0], index[1]])
    }

    pub(crate) fn published(&self, queue: u32) -> u16 {
        self.published[queue as usize % 4]
    }

    /// Publishes a chain that begins with `head`.
    pub(crate) fn publish(&mut self, queue: u32, size: u16, head: u16) {
        let (at, published) = (place(queue), &mut self.published[queue as usize % 4]);
        let entry = u64::from(*published % size.max(1));
        *published = published.wrapping_add(1);
        let index = *published;
        self.put(at + AVAILABLE + 4 + 2 * entry, &head.to_le_bytes());
        self.put(at + AVAILABLE + 2, &index.to_le_bytes());
    }

    /// Writes a valid request from descriptor `3 * slot` on. Returns its head and the address of
    /// its status.
    pub(crate) fn request(
        &self,
        queue: u32,
        slot: u16,
        kind: u32,
        sector: u64,
        data: (u64, u32),
    ) -> (u16, u64) {
        let slot = slot % SLOTS;
        let (at, head) = (place(queue), 3 * slot);
        let first = at + HEADERS + 32 * u64::from(slot);
        self.put(first, &header(kind, sector));
        self.put(first + 16, &[0xee]);
        let written = if matches!(kind, 0 | 8) { WRITE } else { 0 };
        let chain = if data.1 == 0 {
            vec![(first, 16, NEXT), (first + 16, 1, WRITE)]
        } else {
            vec![(first, 16, NEXT), (data.0, data.1, NEXT | written), (first + 16, 1, WRITE)]
        };
        for ((address, len, flags), index) in chain.into_iter().zip(head..) {
            let bytes = descriptor(address, len, flags, index + 1);
            self.put(at + 16 * u64::from(index), &bytes);
        }
        (head, first + 16)
    }

    /// Restarts the rings at index zero, as a driver does after a reset.
    pub(crate) fn clear(&mut self) {
        for queue in 0..4 {
            self.put(place(queue) + AVAILABLE, &[0; (HEADERS - AVAILABLE) as usize]);
        }
        self.published = [0; 4];
    }

    /// Truncates or extends the file to this length. The margin behind the memory is lost.
    pub(crate) fn cut(&mut self, len: u64) {
        self.unsure = true;
        self.file.set_len(len).expect("the file is writable");
    }

    /// Stops checking the margins, because the server may take them for guest memory.
    pub(crate) fn give_up_margins(&mut self) {
        self.unsure = true;
    }

    /// Checks the margins.
    ///
    /// # Panics
    /// If one of their bytes changed.
    pub(crate) fn check_margins(&self) {
        let mut margin = vec![0; MARGIN as usize];
        for at in [0, MARGIN + LEN] {
            if !self.unsure {
                self.file.read_exact_at(&mut margin, at).expect("it is there");
                let touched = margin.iter().position(|byte| *byte != UNTOUCHED);
                assert_eq!(
                    touched, None,
                    "bytes beside guest memory, which begins at {MARGIN}, from {at} on"
                );
            }
        }
    }
}

impl AsFd for Field {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
