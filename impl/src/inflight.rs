//! The in-flight record, in memory that outlives the process: a backend that is restarted under a
//! live driver reads from it the heads that its predecessor had taken and not used.
//!
//! The layout is `QueueRegionSplit` of vhost-user's in-flight tracking
//! (`VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD`), byte for byte, so a front-end may own the memory and
//! the predecessor may be another implementation:
//!
//! ```text
//!   word 0          features u64, zero
//!   word 1          version u16, desc_num u16, last_batch_head u16, used_idx u16
//!   word 2 + 2 i    of descriptor i: inflight u8, padding [u8; 5], next u16
//!   word 3 + 2 i                     counter u64
//! ```
//!
//! All of it is in native byte order, because only processes of the same machine read it. A queue
//! writes it in this order, so that its successor can derive the state at any moment:
//!
//! 1. a head is taken: its `counter`, then its `inflight`;
//! 2. before `used.idx` passes it: its `next`, then `last_batch_head`;
//! 3. after that: `inflight` is cleared, then `used_idx` follows `used.idx`.
//!
//! After a death between 1 and 3, the head is in flight, unless `used.idx` is ahead of `used_idx`:
//! then the last batch, here always one head, had been used. Every head is thus used exactly once
//! over any number of deaths, though its request may be carried out more than once. A head that its
//! driver published twice while it was in flight, which the specification forbids, counts once.
//!
//! A record is trusted only as far as this text goes: each word is read once, and none is used as
//! an index, a length or a count before it is compared with the ring's size. Three properties
//! differ between correct implementations and are accepted:
//!
//! - `desc_num` is the size for which the front-end requested memory, which may exceed the ring's;
//! - a record that was kept over a device reset holds the `used_idx` of the ring before: a distance
//!   to `used.idx` that exceeds the ring size is no batch, and every marked head is in flight;
//! - counters may start anywhere. Recovery renumbers the heads in flight from 0, oldest first, so
//!   that they never overflow.
//!
//! Not here: the allocation of the memory, and its transfer from one process to the next.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The version of the layout; 0 marks memory that has never been used.
const VERSION: u16 = 1;

/// The memory of one queue's record, in words of eight bytes.
///
/// Only the queue may write it, and no two queues share one; but another process may share it, so
/// every word is untrusted. A store becomes visible to a successor after all stores before it: the
/// successor runs when this process is dead, so program order on one processor is enough, and
/// `Release` keeps the compiler from changing it.
pub trait InflightMemory: fmt::Debug + Send + Sync {
    /// Number of words; at least [`InflightRecord::words`] of the queue's size.
    fn words(&self) -> usize;

    /// Reads a word.
    fn load(&self, word: usize) -> u64;

    /// Writes a word, after every store before it.
    fn store(&self, word: usize, value: u64);
}

/// Words of this process, or of a mapping that is accessible as a slice of them.
impl<T: AsRef<[AtomicU64]> + fmt::Debug + Send + Sync> InflightMemory for T {
    fn words(&self) -> usize {
        self.as_ref().len()
    }

    fn load(&self, word: usize) -> u64 {
        self.as_ref()[word].load(Ordering::Acquire)
    }

    fn store(&self, word: usize, value: u64) {
        self.as_ref()[word].store(value, Ordering::Release);
    }
}

/// The reason why a record cannot be continued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InflightError {
    /// The memory has this number of words, fewer than the queue needs.
    TooSmall(usize),
    /// The record has an unknown version.
    Version(u16),
    /// The list of the last batch leaves the table.
    Batch(u16),
    /// The used ring is not in guest memory.
    Ring,
}

impl fmt::Display for InflightError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InflightError::TooSmall(words) => write!(f, "{words} words are too few for a record"),
            InflightError::Version(version) => {
                write!(f, "the record is of version {version}, not {VERSION}")
            }
            InflightError::Batch(head) => write!(f, "the record's last batch names head {head}"),
            InflightError::Ring => write!(f, "the used ring is not in guest memory"),
        }
    }
}

impl std::error::Error for InflightError {}

/// A queue's record.
#[derive(Clone, Debug)]
pub struct InflightRecord {
    memory: Arc<dyn InflightMemory>,
    size: u16,
    /// The `counter` of the next head taken.
    counter: u64,
}

/// The second word of the record.
#[derive(Clone, Copy)]
struct Front {
    version: u16,
    desc_num: u16,
    last_batch_head: u16,
    used_idx: u16,
}

impl Front {
    fn of(word: u64) -> Front {
        let [a, b, c, d, e, f, g, h] = word.to_ne_bytes();
        Front {
            version: u16::from_ne_bytes([a, b]),
            desc_num: u16::from_ne_bytes([c, d]),
            last_batch_head: u16::from_ne_bytes([e, f]),
            used_idx: u16::from_ne_bytes([g, h]),
        }
    }

    fn word(self) -> u64 {
        let [a, b] = self.version.to_ne_bytes();
        let [c, d] = self.desc_num.to_ne_bytes();
        let [e, f] = self.last_batch_head.to_ne_bytes();
        let [g, h] = self.used_idx.to_ne_bytes();
        u64::from_ne_bytes([a, b, c, d, e, f, g, h])
    }
}

/// The first word of a descriptor: whether its chain is in flight, and the next one of its batch.
fn state(inflight: bool, next: u16) -> u64 {
    let [g, h] = next.to_ne_bytes();
    u64::from_ne_bytes([u8::from(inflight), 0, 0, 0, 0, 0, g, h])
}

fn is_inflight(word: u64) -> bool {
    word.to_ne_bytes()[0] != 0
}

fn next_of(word: u64) -> u16 {
    let [.., g, h] = word.to_ne_bytes();
    u16::from_ne_bytes([g, h])
}

impl InflightRecord {
    /// Number of words in the record of a queue with `size` descriptors; eight bytes each.
    pub const fn words(size: u16) -> usize {
        2 + 2 * size as usize
    }

    /// Whether a queue has ever kept a record in this memory.
    pub fn is_begun(memory: &dyn InflightMemory) -> bool {
        Front::of(memory.load(1)).version != 0
    }

    /// Marks every head in this memory as ended. The queue must not run: a device reset preceded
    /// its start.
    pub fn forget(memory: &dyn InflightMemory) {
        for state in (2..memory.words()).step_by(2) {
            if is_inflight(memory.load(state)) {
                memory.store(state, 0);
            }
        }
    }

    /// Whether this memory lists no head in flight, for a queue of any size.
    pub fn is_empty(memory: &dyn InflightMemory) -> bool {
        (2..memory.words()).step_by(2).all(|state| !is_inflight(memory.load(state)))
    }

    /// Opens the record of a queue with `size` descriptors whose used index is `used_idx`, and
    /// returns the heads in flight, oldest first; `None` if the memory was never used and so
    /// records nothing.
    ///
    /// # Errors
    /// The memory is too small, or holds a record that no queue of this size can have written. It
    /// is unchanged.
    pub fn open(
        memory: Arc<dyn InflightMemory>,
        size: u16,
        used_idx: u16,
    ) -> Result<(InflightRecord, Option<Vec<u16>>), InflightError> {
        if memory.words() < InflightRecord::words(size) {
            return Err(InflightError::TooSmall(memory.words()));
        }
        let mut record = InflightRecord { memory, size, counter: 0 };
        let front = record.front();
        match front.version {
            0 => {
                record.begin(used_idx);
                Ok((record, None))
            }
            VERSION => {
                let heads = record.recover(front, used_idx)?;
                Ok((record, Some(heads)))
            }
            other => Err(InflightError::Version(other)),
        }
    }

    /// A record in other memory with the same content.
    pub(crate) fn resumed(memory: Arc<dyn InflightMemory>, size: u16) -> InflightRecord {
        let mut record = InflightRecord { memory, size, counter: 0 };
        assert!(record.memory.words() >= InflightRecord::words(size), "no record of such a queue");
        let counters = (0..size).map(|head| record.memory.load(place(head) + 1));
        record.counter = counters.max().map_or(0, |last| last.wrapping_add(1));
        record
    }

    /// Records that a head was taken from the ring, before any work on it.
    pub(crate) fn taken(&mut self, head: u16) {
        assert!(head < self.size, "head {head} of {}", self.size);
        let place = place(head);
        self.memory.store(place + 1, self.counter);
        self.counter = self.counter.wrapping_add(1);
        self.memory.store(place, state(true, next_of(self.memory.load(place))));
    }

    /// Records that `used.idx` is about to pass this head.
    pub(crate) fn about_to_use(&mut self, head: u16) {
        assert!(head < self.size, "head {head} of {}", self.size);
        let front = self.front();
        self.memory.store(place(head), state(true, front.last_batch_head));
        self.memory.store(1, Front { last_batch_head: head, ..front }.word());
    }

    /// Records that `used.idx` has passed this head and is now `used_idx`.
    pub(crate) fn used(&mut self, head: u16, used_idx: u16) {
        let next = next_of(self.memory.load(place(head)));
        self.memory.store(place(head), state(false, next));
        self.memory.store(1, Front { used_idx, ..self.front() }.word());
    }

    /// Records that a reset has ended every request in flight.
    pub(crate) fn clear(&mut self) {
        for head in 0..self.size {
            self.memory.store(place(head), 0);
        }
    }

    fn front(&self) -> Front {
        Front::of(self.memory.load(1))
    }

    /// Initializes unused memory as an empty record. The version is stored last and validates the
    /// rest.
    fn begin(&mut self, used_idx: u16) {
        for word in (0..InflightRecord::words(self.size)).filter(|word| *word != 1) {
            self.memory.store(word, 0);
        }
        let front = Front { version: VERSION, desc_num: self.size, last_batch_head: 0, used_idx };
        self.memory.store(1, front.word());
    }

    /// Reconciles the record with the used ring and lists the heads in flight, oldest first.
    fn recover(&mut self, front: Front, used_idx: u16) -> Result<Vec<u16>, InflightError> {
        let states: Vec<u64> = (0..self.size).map(|head| self.memory.load(place(head))).collect();
        let mut marked: Vec<bool> = states.iter().map(|state| is_inflight(*state)).collect();
        let ahead = used_idx.wrapping_sub(front.used_idx);
        // If nothing is in flight, the ring may have been restarted since.
        if (1..=self.size).contains(&ahead) && marked.contains(&true) {
            let mut batch = Vec::new();
            let mut head = front.last_batch_head;
            for _ in 0..ahead {
                let state = states.get(usize::from(head)).ok_or(InflightError::Batch(head))?;
                batch.push(head);
                head = next_of(*state);
            }
            for head in batch {
                let (at, used) = (usize::from(head), place(head));
                marked[at] = false;
                self.memory.store(used, state(false, next_of(states[at])));
            }
        }
        let desc_num = front.desc_num.max(self.size);
        self.memory.store(1, Front { desc_num, used_idx, ..front }.word());
        let in_flight = (0..self.size).filter(|head| marked[usize::from(*head)]);
        let mut heads: Vec<(u64, u16)> =
            in_flight.map(|head| (self.memory.load(place(head) + 1), head)).collect();
        heads.sort_unstable();
        let heads: Vec<u16> = heads.into_iter().map(|(_, head)| head).collect();
        assert!(heads.len() <= usize::from(self.size), "each head is in flight once");
        // Oldest first: the nth of n distinct counters is at least n, so the order holds after each
        // store.
        for (counter, head) in (0..).zip(&heads) {
            self.memory.store(place(*head) + 1, counter);
        }
        self.counter = heads.len() as u64;
        Ok(heads)
    }
}

/// The first word of a descriptor.
fn place(head: u16) -> usize {
    2 + 2 * usize::from(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Debug)]
    struct Words(Arc<[AtomicU64]>);

    impl AsRef<[AtomicU64]> for Words {
        fn as_ref(&self) -> &[AtomicU64] {
            &self.0
        }
    }

    fn words(size: u16) -> Words {
        Words((0..InflightRecord::words(size)).map(|_| AtomicU64::new(0)).collect())
    }

    fn open(memory: &Words, size: u16, used_idx: u16) -> (InflightRecord, Option<Vec<u16>>) {
        InflightRecord::open(Arc::new(memory.clone()), size, used_idx).expect("a right record")
    }

    fn bytes(memory: &Words) -> Vec<u8> {
        memory.0.iter().flat_map(|word| word.load(Ordering::Relaxed).to_ne_bytes()).collect()
    }

    #[test]
    fn the_layout_is_that_of_the_protocol() {
        let memory = words(4);
        let (mut record, heads) = open(&memory, 4, 0x1234);
        assert_eq!(heads, None);
        record.taken(2);
        record.taken(1);
        let bytes = bytes(&memory);
        let u16_at = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        assert_eq!(bytes[..8], [0; 8], "features");
        assert_eq!([u16_at(8), u16_at(10), u16_at(12), u16_at(14)], [1, 4, 0, 0x1234]);
        assert_eq!([bytes[16], bytes[32], bytes[48], bytes[64]], [0, 1, 1, 0], "inflight");
        assert_eq!(bytes[40..48], 1_u64.to_ne_bytes(), "the counter of head 1");
        assert_eq!(bytes[56..64], 0_u64.to_ne_bytes(), "the counter of head 2");
        assert_eq!(bytes.len(), 16 + 16 * 4);
    }

    #[test]
    fn what_is_in_flight_comes_back_in_the_order_it_was_taken() {
        let memory = words(8);
        let (mut record, _) = open(&memory, 8, 0);
        for head in [5, 0, 7, 3] {
            record.taken(head);
        }
        record.about_to_use(0);
        record.used(0, 1);
        let (mut again, heads) = open(&memory, 8, 1);
        assert_eq!(heads, Some(vec![5, 7, 3]));
        again.taken(0);
        assert_eq!(open(&memory, 8, 1).1, Some(vec![5, 7, 3, 0]), "newer ones are newer still");
    }

    #[test]
    fn a_death_at_any_store_leaves_each_head_used_or_in_flight() {
        let memory = words(8);
        let (mut record, _) = open(&memory, 8, u16::MAX);
        record.taken(4);
        record.taken(6);
        record.about_to_use(6);
        // Died before `used.idx` passed it.
        assert_eq!(open(&memory, 8, u16::MAX).1, Some(vec![4, 6]));
        // Died after `used.idx` passed it, over the wrap, and before the record said so.
        assert_eq!(open(&memory, 8, 0).1, Some(vec![4]));
        assert_eq!(open(&memory, 8, 0).1, Some(vec![4]), "and it stays so");
    }

    #[test]
    fn what_no_queue_can_have_written_is_refused() {
        let refused = |memory: &Words, size, used_idx| {
            InflightRecord::open(Arc::new(memory.clone()), size, used_idx).map(|_| ()).unwrap_err()
        };
        let memory = words(8);
        assert_eq!(refused(&memory, 16, 0), InflightError::TooSmall(18));
        let (mut record, _) = open(&memory, 8, 0);
        record.taken(1);
        memory.0[1].store(
            Front { version: 1, desc_num: 8, last_batch_head: 8, used_idx: 0 }.word(),
            Ordering::Relaxed,
        );
        assert_eq!(refused(&memory, 8, 1), InflightError::Batch(8));
        memory.0[1].store(
            Front { version: 2, desc_num: 8, last_batch_head: 0, used_idx: 0 }.word(),
            Ordering::Relaxed,
        );
        assert_eq!(refused(&memory, 8, 0), InflightError::Version(2));
    }

    #[test]
    fn a_ring_that_began_anew_with_nothing_in_flight_is_believed() {
        let memory = words(4);
        let (mut record, _) = open(&memory, 4, 100);
        record.taken(1);
        record.clear();
        assert_eq!(open(&memory, 4, 0).1, Some(vec![]));
    }

    #[test]
    fn a_record_of_more_descriptors_than_the_ring_has_is_gone_on_with() {
        let memory = words(16);
        let (mut record, _) = open(&memory, 16, 0);
        record.taken(3);
        record.taken(1);
        assert_eq!(open(&memory, 8, 0).1, Some(vec![3, 1]));
        assert_eq!(Front::of(memory.0[1].load(Ordering::Relaxed)).desc_num, 16);
    }

    #[test]
    fn a_record_kept_over_a_reset_serves_a_ring_of_another_size() {
        let memory = words(16);
        let (mut record, _) = open(&memory, 8, 40_000);
        record.taken(5);
        record.about_to_use(5);
        record.used(5, 40_001);
        let (mut record, heads) = open(&memory, 16, 0);
        assert_eq!(heads, Some(vec![]));
        record.taken(12);
        assert_eq!(open(&memory, 16, 0).1, Some(vec![12]));
    }

    #[test]
    fn a_used_index_of_an_earlier_ring_is_no_batch() {
        let memory = words(8);
        let (mut record, _) = open(&memory, 8, 1000);
        record.taken(2);
        // Another implementation updates `used_idx` only when it uses a head.
        assert_eq!(open(&memory, 8, 0).1, Some(vec![2]));
    }

    #[test]
    fn a_batch_of_several_heads_is_used() {
        let memory = words(8);
        let (mut record, _) = open(&memory, 8, 7);
        for head in [6, 2, 4, 1] {
            record.taken(head);
        }
        // Written as one batch: each head points to the one before it; the `next` of the first is
        // unused.
        for (head, next) in [(6, 0), (4, 6), (1, 4)] {
            memory.0[place(head)].store(state(true, next), Ordering::Relaxed);
        }
        let front = Front { last_batch_head: 1, ..Front::of(memory.0[1].load(Ordering::Relaxed)) };
        memory.0[1].store(front.word(), Ordering::Relaxed);
        assert_eq!(open(&memory, 8, 10).1, Some(vec![2]));
    }

    #[test]
    fn counters_may_begin_anywhere() {
        let memory = words(4);
        let (mut record, _) = open(&memory, 4, 0);
        for (head, counter) in [(3, u64::MAX - 1), (0, u64::MAX), (2, 5)] {
            record.counter = counter;
            record.taken(head);
        }
        let (mut record, heads) = open(&memory, 4, 0);
        assert_eq!(heads, Some(vec![2, 3, 0]));
        record.taken(1);
        assert_eq!(open(&memory, 4, 0).1, Some(vec![2, 3, 0, 1]));
        let (mut copy, _) = open(&memory, 4, 0);
        copy.counter = u64::MAX;
        copy.taken(1);
        InflightRecord::resumed(Arc::new(memory.clone()), 4).taken(0);
    }

    /// Memory in which every load returns another value.
    #[derive(Debug)]
    struct Restless(AtomicU64);

    impl InflightMemory for Restless {
        fn words(&self) -> usize {
            InflightRecord::words(256)
        }

        fn load(&self, word: usize) -> u64 {
            let last = self.0.load(Ordering::Relaxed);
            let next = (last ^ word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
            self.0.store(next, Ordering::Relaxed);
            if word == 1 { (next & !0xffff) | u64::from(VERSION) } else { next | 1 }
        }

        fn store(&self, _: usize, _: u64) {}
    }

    #[test]
    fn memory_that_changes_under_the_reader_gives_heads_of_the_ring_each_once() {
        for seed in 0..2000 {
            let memory = Arc::new(Restless(AtomicU64::new(seed)));
            let Ok((_, heads)) = InflightRecord::open(memory, 256, seed as u16) else { continue };
            let mut heads = heads.expect("it is of version 1");
            let count = heads.len();
            heads.sort_unstable();
            heads.dedup();
            assert_eq!(heads.len(), count, "no head twice");
            assert!(heads.iter().all(|head| *head < 256));
        }
    }
}
