//! The memory in which each queue keeps a [record](crate::inflight) of what it has in flight: the
//! front-end holds it, so that it is there for the back-end that comes after a crash.
//!
//! A back-end makes it when it is asked to and is given it, or one its forerunner made, before
//! rings are set up. Each queue has a part of its own, on a cache line of its own. Behind the parts
//! is a word that only we know: the cache mode, which a driver chose once and will not choose again
//! because its disk was served by another process meanwhile.

use super::descriptor::{check_memory, discard};
use super::message::Inflight;
use crate::host::sigbus::Watch;
use crate::inflight::{InflightMemory, InflightRecord};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, fstat, ftruncate, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use vm_memory::{FileOffset, MmapRegion, VolatileMemory};

/// Most rings that a record may be for: as many as the virtio transports have.
const MOST_RINGS: u16 = 1024;
/// Most descriptors of each: as many as a split ring has.
const MOST_DESCRIPTORS: u16 = 32768;

/// What parts begin at multiples of, in bytes.
const LINE: usize = 64;
const WORD: usize = size_of::<u64>();

/// Bytes of one queue's part.
fn part(queue_size: u16) -> usize {
    (InflightRecord::words(queue_size) * WORD).next_multiple_of(LINE)
}

/// The word behind the parts, if the cache mode is write through; one more if it is write back.
/// Anything else is none of ours.
const MODE: u64 = u64::from_be_bytes(*b"pfmode\0\0");

/// Makes the memory for so many queues, all zero, and what a front-end has to know of it.
///
/// # Errors
/// The host has no memory to share.
pub(super) fn make(queues: u16, queue_size: u16) -> io::Result<(Inflight, OwnedFd)> {
    let len = (usize::from(queues) * part(queue_size) + LINE) as u64;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = memfd_create("powerfail-inflight", flags)?;
    ftruncate(&file, len)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    Ok((Inflight { len, offset: 0, queues, queue_size }, file))
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
    /// Maps the memory, of which the first `lanes` parts will be used.
    ///
    /// Nothing of the description is believed: the memory is as long as its file says, and only as
    /// much of it is mapped as its parts take.
    ///
    /// # Errors
    /// It is too small for what it is said to hold, or is no memory that can be mapped; says which.
    pub(super) fn map(kept: &Inflight, file: OwnedFd, lanes: usize) -> Result<Records, String> {
        let Inflight { len, offset, queues, queue_size } = *kept;
        if queues == 0 || queues > MOST_RINGS || !(1..=MOST_DESCRIPTORS).contains(&queue_size) {
            return Err(format!(
                "an in-op record of {queues} rings of {queue_size} descriptors: \
                 it is for 1 to {MOST_RINGS} rings of 1 to {MOST_DESCRIPTORS}"
            ));
        }
        if let Err(why) = check_memory(&file) {
            discard(file);
            return Err(why);
        }
        let (queues, part) = (usize::from(queues), part(queue_size));
        let needed = queues * part;
        let there = fstat(&file).map_err(|error| format!("the in-flight record: {error}"))?.st_size;
        let there = u64::try_from(there).unwrap_or(0).saturating_sub(offset).min(len);
        if there < needed as u64 {
            return Err(format!(
                "an in-op record of {there} bytes: {queues} rings of {queue_size} descriptors \
                 take {needed}"
            ));
        }
        let has_mode = there >= (needed + LINE) as u64;
        let mapped = if has_mode { needed + LINE } else { needed };
        let file = FileOffset::new(File::from(file), offset);
        let map = MmapRegion::<()>::from_file(file, mapped);
        let map = map.map_err(|error| format!("the in-flight record: {error}"))?;
        let first = map.as_ptr().addr();
        let watch = Watch::over(first..first + mapped);
        let watch = watch.map_err(|error| format!("the in-flight record: {error}"))?;
        let shared = Arc::new(Shared { map, _watch: watch });
        let words = InflightRecord::words(queue_size);
        let parts = (0..queues.min(lanes)).map(|queue| {
            let shared = Arc::clone(&shared);
            Arc::new(Part { shared, at: queue * part, words }) as Arc<dyn InflightMemory>
        });
        let parts = parts.collect();
        Ok(Records { parts, shared, mode: has_mode.then_some(needed) })
    }

    /// A device reset has ended whatever was in flight, also on rings that were not served since.
    pub(super) fn clear(&self) {
        for part in &self.parts {
            InflightRecord::forget(&**part);
        }
    }

    /// The cache mode a forerunner left, as the byte in the configuration space. If there was one
    /// and it did not say, write through: that breaks no promise. `None` if there was none.
    pub(super) fn mode(&self) -> Option<u8> {
        let said = self.mode.map(|at| self.shared.word(at).load(Ordering::Acquire));
        match said.and_then(|said| said.checked_sub(MODE)) {
            // It may have died before it served a ring.
            Some(mode @ 0..=1) => Some(mode as u8),
            _ => self.is_used().then_some(0),
        }
    }

    /// Whether a back-end has ever kept a record here: it says the version of its layout.
    fn is_used(&self) -> bool {
        self.parts.iter().any(|part| InflightRecord::is_begun(&**part))
    }

    /// Leaves the cache mode to whoever comes after this process.
    pub(super) fn set_mode(&self, mode: u8) {
        if let Some(at) = self.mode {
            self.shared.word(at).store(MODE + u64::from(mode), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(kept: &Inflight, file: &OwnedFd) -> Result<Records, String> {
        Records::map(kept, file.try_clone().expect("a descriptor"), 4)
    }

    #[test]
    fn what_was_made_is_there_for_whoever_maps_it_next() {
        let (kept, file) = make(3, 128).expect("memory");
        let records = || map(&kept, &file).expect("records");
        assert_eq!(records().mode(), None, "nobody was there before");
        records().set_mode(1);
        assert_eq!(records().mode(), Some(1), "somebody was, and served no ring");
        records().set_mode(u8::MAX);
        let first = records().parts;
        assert_eq!(first.len(), 3);
        for (queue, part) in (1..).zip(&first) {
            assert_eq!(part.words(), 258);
            for word in 0..part.words() {
                assert_eq!(part.load(word), 0);
                part.store(word, queue * 1000 + word as u64);
            }
        }
        drop(first);
        for (queue, part) in (1..).zip(&records().parts) {
            assert!((0..part.words()).all(|word| part.load(word) == queue * 1000 + word as u64));
        }
        assert_eq!(records().mode(), Some(0), "who came before did not say");
        for mode in [1, 0] {
            records().set_mode(mode);
            assert_eq!(records().mode(), Some(mode));
        }
    }

    #[test]
    fn memory_without_room_for_the_mode_is_taken_too() {
        let (kept, file) = make(2, 64).expect("memory");
        let kept = Inflight { len: kept.len - LINE as u64, ..kept };
        let records = map(&kept, &file).expect("records");
        records.set_mode(1);
        records.parts[1].store(1, 1);
        assert_eq!(records.mode(), Some(0));
    }

    #[test]
    fn rings_that_the_server_does_not_have_are_left_alone() {
        let (kept, file) = make(9, 64).expect("memory");
        assert_eq!(map(&kept, &file).expect("records").parts.len(), 4);
    }

    #[test]
    fn memory_that_cannot_hold_the_record_is_refused() {
        let (kept, file) = make(2, 64).expect("memory");
        for (len, offset, queues, queue_size) in [
            (kept.len, 0, 3, 64),
            (kept.len, 0, 2, 128),
            (kept.len - 65, 0, 2, 64),
            (kept.len, 4096, 2, 64),
            (kept.len, u64::MAX, 2, 64),
            (u64::MAX, 0, u16::MAX, u16::MAX),
            (u64::MAX, 0, 1024, 32768),
            (kept.len, 0, 0, 64),
            (kept.len, 0, 2, 0),
        ] {
            let wrong = Inflight { len, offset, queues, queue_size };
            let refused = map(&wrong, &file);
            assert!(refused.is_err(), "{len} bytes at {offset} for {queues} x {queue_size}");
        }
    }

    #[test]
    fn a_sparse_giant_is_mapped_and_not_read() {
        let file = memfd_create("giant", MemfdFlags::CLOEXEC).expect("memory");
        ftruncate(&file, 64 << 30).expect("a hole");
        let giant = Inflight { len: 64 << 30, offset: 0, queues: 1024, queue_size: 32768 };
        assert_eq!(map(&giant, &file).expect("records").mode(), None);
        let blocks = fstat(&file).expect("a file").st_blocks;
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks were touched");
    }
}
