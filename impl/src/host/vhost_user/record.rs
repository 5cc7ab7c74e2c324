//! The memory in which each queue keeps a [record](crate::inflight) of what it has in flight: the front-end holds it, so that it is there for
//! the back-end that comes after a crash.
//!
//! A back-end makes it when it is asked to and is given it, or one its forerunner made, before rings are set up. Each queue has a part of
//! its own, on a cache line of its own. Behind the parts is a word that only we know: the cache mode, which a driver chose once and will not
//! choose again because its disk was served by another process meanwhile.

use crate::host::shrunk::Watch;
use crate::inflight::{InflightMemory, InflightRecord};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vhost::vhost_user::message::VhostUserInflight;
use vhost::vhost_user::{Error, Result};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// What parts begin at multiples of, in bytes.
const LINE: usize = 64;
const WORD: usize = size_of::<u64>();

/// Bytes of one queue's part.
fn part(queue_size: u16) -> usize {
    (InflightRecord::words(queue_size) * WORD).next_multiple_of(LINE)
}

/// The word behind the parts, if the cache mode is write through; one more if it is write back. Anything else is none of ours.
const MODE: u64 = u64::from_be_bytes(*b"pfmode\0\0");

/// Makes the memory for so many queues, all zero, and what a front-end has to know of it.
///
/// # Errors
/// The host has no memory to share.
pub(super) fn make(asked: &VhostUserInflight) -> Result<(VhostUserInflight, File)> {
    let VhostUserInflight { num_queues, queue_size, .. } = *asked;
    let len = (usize::from(num_queues) * part(queue_size) + LINE) as u64;
    let made = || -> io::Result<File> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = memfd_create("powerfail-inflight", flags)?;
        ftruncate(&file, len)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        Ok(File::from(file))
    };
    let file = made().map_err(Error::ReqHandlerError)?;
    Ok((VhostUserInflight::new(len, 0, num_queues, queue_size), file))
}

/// The memory of all queues, mapped.
#[derive(Debug)]
struct Shared {
    map: MmapRegion,
    /// Ends before the mapping does.
    _watch: Watch,
}

impl Shared {
    /// The word at an offset in bytes, which is a multiple of its size.
    fn word(&self, at: usize) -> &AtomicU64 {
        self.map.get_atomic_ref(at).expect("every word of every part is mapped")
    }
}

/// One queue's part of it.
#[derive(Debug)]
struct Part {
    shared: Arc<Shared>,
    /// In bytes; a multiple of [`LINE`], which is more than a word needs.
    at: usize,
    words: usize,
}

impl Part {
    fn word(&self, word: usize) -> &AtomicU64 {
        assert!(word < self.words, "word {word} of {}", self.words);
        self.shared.word(self.at + word * WORD)
    }
}

impl InflightMemory for Part {
    fn words(&self) -> usize {
        self.words
    }

    fn load(&self, word: usize) -> u64 {
        self.word(word).load(Ordering::Acquire)
    }

    fn store(&self, word: usize, value: u64) {
        self.word(word).store(value, Ordering::Release);
    }
}

/// What the front-end holds.
#[derive(Debug)]
pub(super) struct Records {
    /// A part for each queue it is for.
    pub(super) parts: Vec<Arc<dyn InflightMemory>>,
    shared: Arc<Shared>,
    /// Where the cache mode is; another implementation has left no room for it.
    mode: Option<usize>,
}

impl Records {
    /// Maps it.
    ///
    /// # Errors
    /// It is smaller than it has to be, or cannot be mapped.
    pub(super) fn map(kept: &VhostUserInflight, file: File) -> Result<Records> {
        let VhostUserInflight { mmap_size, mmap_offset, num_queues, queue_size } = *kept;
        let len = usize::try_from(mmap_size).map_err(|_| Error::InvalidParam)?;
        let end = mmap_offset.checked_add(mmap_size).ok_or(Error::InvalidParam)?;
        let part = part(queue_size);
        let queues = usize::from(num_queues);
        if len < queues * part || file_len(&file)? < end {
            return Err(Error::InvalidParam);
        }
        let map = MmapRegion::<()>::from_file(FileOffset::new(file, mmap_offset), len);
        let map = map.map_err(|error| Error::ReqHandlerError(io::Error::other(error)))?;
        let first = map.as_ptr().addr();
        let watch = Watch::over(first..first + len).map_err(Error::ReqHandlerError)?;
        let shared = Arc::new(Shared { map, _watch: watch });
        let words = InflightRecord::words(queue_size);
        let parts = (0..queues).map(|queue| {
            let shared = Arc::clone(&shared);
            Arc::new(Part { shared, at: queue * part, words }) as Arc<dyn InflightMemory>
        });
        let parts = parts.collect();
        let mode = (len >= queues * part + LINE).then_some(queues * part);
        Ok(Records { parts, shared, mode })
    }

    /// The cache mode a forerunner left, as the byte in the configuration space. If there was one and it did not say, write through: that
    /// breaks no promise. `None` if there was none.
    pub(super) fn mode(&self) -> Option<u8> {
        let was_used =
            self.parts.iter().any(|part| (0..part.words()).any(|word| part.load(word) != 0));
        let said = self.mode.map(|at| self.shared.word(at).load(Ordering::Acquire));
        let mode = match said.and_then(|said| said.checked_sub(MODE)) {
            Some(mode @ 0..=1) => mode as u8,
            _ => 0,
        };
        was_used.then_some(mode)
    }

    /// Leaves the cache mode to whoever comes after this process.
    pub(super) fn set_mode(&self, mode: u8) {
        if let Some(at) = self.mode {
            self.shared.word(at).store(MODE + u64::from(mode), Ordering::Release);
        }
    }
}

fn file_len(file: &File) -> Result<u64> {
    Ok(file.metadata().map_err(Error::ReqHandlerError)?.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_is_there_for_whoever_maps_it_next() {
        let (kept, file) = make(&VhostUserInflight::new(0, 0, 3, 128)).expect("memory");
        let records = |file: &File| {
            Records::map(&kept, file.try_clone().expect("a descriptor")).expect("records")
        };
        assert_eq!(records(&file).mode(), None, "nobody was there before");
        let first = records(&file).parts;
        assert_eq!(first.len(), 3);
        for (queue, part) in (1..).zip(&first) {
            assert_eq!(part.words(), 258);
            for word in 0..part.words() {
                assert_eq!(part.load(word), 0);
                part.store(word, queue * 1000 + word as u64);
            }
        }
        drop(first);
        for (queue, part) in (1..).zip(&records(&file).parts) {
            assert!((0..part.words()).all(|word| part.load(word) == queue * 1000 + word as u64));
        }
        assert_eq!(records(&file).mode(), Some(0), "who came before did not say");
        for mode in [1, 0] {
            records(&file).set_mode(mode);
            assert_eq!(records(&file).mode(), Some(mode));
        }
    }

    #[test]
    fn memory_without_room_for_the_mode_is_taken_too() {
        let (kept, file) = make(&VhostUserInflight::new(0, 0, 2, 64)).expect("memory");
        let kept = VhostUserInflight::new(kept.mmap_size - LINE as u64, 0, 2, 64);
        let records = Records::map(&kept, file).expect("records");
        records.set_mode(1);
        records.parts[1].store(1, 1);
        assert_eq!(records.mode(), Some(0));
    }

    #[test]
    fn memory_that_is_too_small_is_refused() {
        let (kept, file) = make(&VhostUserInflight::new(0, 0, 2, 64)).expect("memory");
        let again = || file.try_clone().expect("a descriptor");
        for (len, offset, queues, size) in [
            (kept.mmap_size, 0, 3, 64),
            (kept.mmap_size, 0, 2, 128),
            (kept.mmap_size - 65, 0, 2, 64),
            (kept.mmap_size + 1, 0, 2, 64),
            (kept.mmap_size, 4096, 2, 64),
            (kept.mmap_size, u64::MAX, 2, 64),
        ] {
            let wrong = VhostUserInflight::new(len, offset, queues, size);
            assert!(
                Records::map(&wrong, again()).is_err(),
                "{len} bytes at {offset} for {queues} x {size}"
            );
        }
    }
}
