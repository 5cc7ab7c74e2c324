//! Guest memory as a foreign process sees it: a file that it maps.
//!
//! The world has guest memory of its own, which is copied, undone and compared. Between two steps
//! both hold the same bytes. Before a step, what the guest has changed since is written to the
//! file; after it, what the process has changed is written to the world's memory. A byte that
//! neither has changed is not written, so the two do not disturb each other.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::guest::memory::Ram;

/// Bytes that are compared at once.
const BLOCK: usize = 1024;

/// A file of the size of guest memory.
#[derive(Debug)]
pub(super) struct Shared {
    file: File,
    /// The bytes of both, when they were equal last.
    common: Vec<u8>,
    now: Vec<u8>,
}

impl Shared {
    /// A file of `len` zeroes.
    ///
    /// # Errors
    /// The system has no memory left.
    pub(super) fn new(len: usize) -> io::Result<Shared> {
        let file = File::from(memfd_create("powerfail-guest", MemfdFlags::CLOEXEC)?);
        file.set_len(len as u64)?;
        Ok(Shared { file, common: vec![0; len], now: vec![0; len] })
    }

    /// The length in bytes.
    pub(super) fn len(&self) -> usize {
        self.common.len()
    }

    /// Writes to the file what the guest has changed.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn take(&mut self, ram: &Ram<'_>) -> io::Result<()> {
        ram.read_into(0, &mut self.now);
        for part in differences(&self.common, &self.now) {
            self.file.write_all_at(&self.now[part.clone()], part.start as u64)?;
        }
        std::mem::swap(&mut self.common, &mut self.now);
        Ok(())
    }

    /// Writes to guest memory what the process has changed. Returns whether it has changed
    /// anything.
    ///
    /// # Errors
    /// Those of the file.
    pub(super) fn give(&mut self, ram: &Ram<'_>) -> io::Result<bool> {
        self.file.read_exact_at(&mut self.now, 0)?;
        let mut any = false;
        for part in differences(&self.common, &self.now) {
            ram.write(part.start as u32, &self.now[part]);
            any = true;
        }
        std::mem::swap(&mut self.common, &mut self.now);
        Ok(any)
    }
}

impl AsFd for Shared {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The ranges in which two memories differ.
fn differences(before: &[u8], after: &[u8]) -> Vec<Range<usize>> {
    let mut all: Vec<Range<usize>> = Vec::new();
    for start in (0..before.len()).step_by(BLOCK) {
        let block = start..before.len().min(start + BLOCK);
        if before[block.clone()] == after[block.clone()] {
            continue;
        }
        for at in block.filter(|&at| before[at] != after[at]) {
            match all.last_mut() {
                Some(last) if last.end == at => last.end += 1,
                _ => all.push(at..at + 1),
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::memory::Memory;

    #[test]
    fn differences_are_exact() {
        let before = vec![0; 3000];
        let mut after = before.clone();
        assert!(differences(&before, &after).is_empty());
        for at in [0, 1022, 1023, 1024, 1025, 2999] {
            after[at] = 1;
        }
        assert_eq!(differences(&before, &after), [0..1, 1022..1026, 2999..3000]);
    }

    #[test]
    fn each_side_sees_what_the_other_has_changed() {
        let mut memory = Memory::new(8192);
        let mut shared = Shared::new(8192).unwrap();
        memory.write(100, b"guest");
        shared.take(&memory.ram()).unwrap();
        let mut seen = [0; 5];
        shared.file.read_exact_at(&mut seen, 100).unwrap();
        assert_eq!(&seen, b"guest");
        shared.file.write_all_at(b"device", 4094).unwrap();
        memory.write(300, b"later");
        assert!(shared.give(&memory.ram()).unwrap());
        assert_eq!(memory.bytes(4094, 6), b"device");
        assert_eq!(memory.bytes(300, 5), b"later", "which the next step takes");
        shared.take(&memory.ram()).unwrap();
        assert!(!shared.give(&memory.ram()).unwrap());
    }
}
