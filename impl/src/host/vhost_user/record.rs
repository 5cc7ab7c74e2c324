//! The memory in which each queue keeps a [record](crate::inflight) of its requests in flight: the
//! front-end holds it, so that a back-end that follows a crash can read it.
//!
//! A back-end creates it on request. Before rings are set up, the front-end passes it to the
//! back-end, or the memory that a predecessor created. Each queue has a part of its own, on
//! separate cache lines. The parts are followed by a word that is private to this server: the cache
//! mode. The driver chose it once and will not choose it again when another process takes over its
//! disk.

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

/// Maximum number of rings in a record: that of the virtio transports.
const MOST_RINGS: u16 = 1024;
/// Maximum number of descriptors per ring: that of a split ring.
const MOST_DESCRIPTORS: u16 = 32768;

/// Alignment of the parts in bytes.
const LINE: usize = 64;
const WORD: usize = size_of::<u64>();

/// Length of one queue's part in bytes.
fn part(queue_size: u16) -> usize {
    (InflightRecord::words(queue_size) * WORD).next_multiple_of(LINE)
}

/// The value of the word after the parts in write-through mode; one more in write-back mode. Any
/// other value was not written by this server.
const MODE: u64 = u64::from_be_bytes(*b"pfmode\0\0");

/// Creates zeroed memory for `queues` queues, and its description for the front-end.
///
/// # Errors
/// The host provides no shared memory.
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
    /// Repairs the pages that a shrunk file lacks. It ends before the mapping does: the addresses
    /// may be mapped anew by then.
    _watch: Watch,
    map: MmapRegion,
}

impl Shared {
    /// The word at an offset in bytes, which must be a multiple of the word size.
    fn word(&self, at: usize) -> &AtomicU64 {
        self.map.get_atomic_ref(at).expect("every word of every part is mapped")
    }
}

/// One queue's part of it.
#[derive(Debug)]
struct Part {
    shared: Arc<Shared>,
    /// Offset in bytes; a multiple of [`LINE`], which exceeds the alignment of a word.
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

/// The memory that the front-end holds.
#[derive(Debug)]
pub(super) struct Records {
    /// One part for each queue that is used.
    pub(super) parts: Vec<Arc<dyn InflightMemory>>,
    shared: Arc<Shared>,
    /// Offset of the cache mode; `None` if another implementation left no room for it.
    mode: Option<usize>,
}

impl Records {
    /// Maps the memory, of which the first `lanes` parts will be used.
    ///
    /// The description is not trusted: the length of the memory is that of its file, and only the
    /// parts and the cache mode are mapped.
    ///
    /// # Errors
    /// It is too small for its described content, or cannot be mapped; the error says which.
    pub(super) fn map(kept: &Inflight, file: OwnedFd, lanes: usize) -> Result<Records, String> {
        let Inflight { len, offset, queues, queue_size } = *kept;
        if queues == 0 || queues > MOST_RINGS || !(1..=MOST_DESCRIPTORS).contains(&queue_size) {
            return Err(format!(
                "an in-flight record of {queues} rings of {queue_size} descriptors: \
                 the limits are 1 to {MOST_RINGS} rings of 1 to {MOST_DESCRIPTORS}"
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
                "an in-flight record of {there} bytes: {queues} rings of {queue_size} descriptors \
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

    /// Marks every request in flight as ended by a device reset, also on rings that were not served
    /// since.
    pub(super) fn clear(&self) {
        for part in &self.parts {
            InflightRecord::forget(&**part);
        }
    }

    /// The cache mode of a predecessor, as the byte in the configuration space. Write-through if
    /// the predecessor recorded none, which breaks no promise; `None` if there was no predecessor.
    pub(super) fn mode(&self) -> Option<u8> {
        let said = self.mode.map(|at| self.shared.word(at).load(Ordering::Acquire));
        match said.and_then(|said| said.checked_sub(MODE)) {
            // The predecessor may have died before it served a ring.
            Some(mode @ 0..=1) => Some(mode as u8),
            _ => self.is_used().then_some(0),
        }
    }

    /// Whether a back-end has ever kept a record here, which sets the version of its layout.
    fn is_used(&self) -> bool {
        self.parts.iter().any(|part| InflightRecord::is_begun(&**part))
    }

    /// Records the cache mode for a successor.
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
        assert_eq!(records().mode(), None, "no earlier process");
        records().set_mode(1);
        assert_eq!(records().mode(), Some(1), "an earlier process that served no ring");
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
