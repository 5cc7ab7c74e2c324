//! Page-aligned device memory, for data that cannot move directly between disk and guest.
//!
//! Read-modify-write of a partial granule, reads of a partial granule, and zeroes written as data
//! pass through a bounce buffer. Bounces are owned values that travel with the submission and
//! return with the completion, so nothing here is shared. `plan` decides which operation needs one.

use std::fmt;

/// Alignment of every bounce in bytes: the maximum that direct I/O requires.
pub const BOUNCE_ALIGN: usize = 4096;

/// Owned bytes that start on a page boundary.
pub struct Bounce {
    /// Over-allocated by one page less one byte, so that `start` can be aligned without `unsafe`;
    /// never grown.
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Bounce {
    /// Allocates `len` zero bytes.
    pub fn zeroed(len: usize) -> Bounce {
        let bytes = vec![0; len + BOUNCE_ALIGN - 1];
        let start = bytes.as_ptr().align_offset(BOUNCE_ALIGN);
        assert!(start < BOUNCE_ALIGN, "an allocation can be aligned within one page");
        Bounce { bytes, start, len }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Maximum argument of [`set_len`](Bounce::set_len) in bytes.
    pub fn capacity(&self) -> usize {
        self.bytes.len() - (BOUNCE_ALIGN - 1)
    }

    /// Sets the length to `len` bytes without moving it; the content is unspecified.
    ///
    /// # Panics
    /// If `len` exceeds [`capacity`](Bounce::capacity).
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.capacity(), "a bounce does not grow");
        self.len = len;
    }

    /// The bytes.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..self.start + self.len]
    }

    /// The bytes, mutable.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..self.start + self.len]
    }
}

impl Clone for Bounce {
    fn clone(&self) -> Bounce {
        let mut copy = Bounce::zeroed(self.capacity());
        copy.set_len(self.len);
        copy.as_mut_slice().copy_from_slice(self.as_slice());
        copy
    }
}

impl PartialEq for Bounce {
    fn eq(&self, other: &Bounce) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for Bounce {}

impl fmt::Debug for Bounce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bounce({} bytes)", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bounce_and_every_copy_of_one_is_page_aligned() {
        for len in [0, 1, 511, 4096, 70_000] {
            let mut bounce = Bounce::zeroed(len);
            bounce.as_mut_slice().fill(7);
            for each in [bounce.clone(), bounce] {
                assert_eq!(each.as_slice().as_ptr().align_offset(BOUNCE_ALIGN), 0);
                assert_eq!(each.as_slice(), vec![7; len]);
            }
        }
    }
}
