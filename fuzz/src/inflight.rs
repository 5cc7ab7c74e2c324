//! The in-flight record as bytes: whatever it contains, a queue resubmits heads of its ring, each
//! of them once.
//!
//! A back-end reads the record after a crash from memory that the front-end holds, so it may belong
//! to another back-end or to none, and may change between any two reads. The bytes are the record,
//! the used index and the size of the ring. For constant memory the result is compared with
//! `expected`, which is written from the text of the protocol ("Inflight I/O tracking", split
//! virtqueue). Then the queue continues over a real ring, and dies once more after some stores to
//! the record or some steps: over its lives every head must be used exactly once. Last, the loads
//! return the same bytes one after the other, whatever their address.
//!
//! Not here: the effects of requests. All of them are answered at once, and most of their chains
//! are empty.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arbitrary::{Arbitrary, Unstructured};
use powerfail_device::vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};
use powerfail_device::{
    BlockQueue, Completion, Config, Disk, InflightError, InflightMemory, InflightRecord, Limits,
    Op, QueueIndex, QueueLayout, Ring, Shared, Step, Submission, step, wire,
};

/// Bytes of guest memory, and addresses of the parts of the ring; the largest has 256 descriptors.
const MEMORY: usize = 0x8000;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x3000;
const USED: u64 = 0x4000;
const HEADERS: u64 = 0x6000;

/// Most steps of a queue with this many requests.
const MOST_STEPS: u32 = 20_000;

/// The version of the layout.
const VERSION: u16 = 1;

/// The record of one descriptor.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Head {
    inflight: u8,
    padding: u8,
    next: u16,
    /// The start of the counter: small, near the end, or anywhere.
    from: u8,
    counter: u8,
}

impl Head {
    /// The two words of the record.
    fn words(self, size: u16) -> [u64; 2] {
        let next = if self.padding & 1 == 0 { self.next % size.max(1) } else { self.next };
        let [low, high] = next.to_ne_bytes();
        // Most descriptors are not in flight.
        let inflight = if self.inflight & 3 == 0 { self.inflight >> 2 } else { 0 };
        let state = [inflight, self.padding, 0, 0, 0, self.padding, low, high];
        let from = match self.from % 4 {
            0 | 1 => 0,
            2 => u64::MAX - 100,
            _ => u64::from(self.from) << 56,
        };
        [u64::from_ne_bytes(state), from.wrapping_add(self.counter.into())]
    }
}

/// A record and the queue that opens it.
#[derive(Arbitrary, Clone, Debug)]
struct Script {
    /// The ring's size is two to the power of this.
    size: u8,
    /// The number of words of the record, relative to those that the ring needs.
    more: i8,
    /// Each bit takes one header field from the script instead of the value for this size.
    odd: u8,
    version: u16,
    desc_num: u16,
    last: u16,
    recorded: u16,
    /// The distance of `used.idx` from the record's.
    ahead: u8,
    far: u16,
    /// The number of stores to the record after which the first life ends, and of steps after which
    /// the second one ends.
    stores: u8,
    steps: u8,
    heads: Vec<Head>,
}

impl Script {
    fn size(&self) -> u16 {
        1 << (self.size % 9)
    }

    fn used_idx(&self) -> u16 {
        let ahead = if self.odd & 16 == 0 { u16::from(self.ahead) % 4 } else { self.far };
        self.recorded.wrapping_add(ahead)
    }

    fn words(&self) -> Vec<u64> {
        let size = self.size();
        let odd = |bit: u8, field, right| if self.odd & bit == 0 { right } else { field };
        let front = [
            odd(1, self.version, VERSION),
            odd(2, self.desc_num, size),
            odd(4, self.last, self.last % size),
            self.recorded,
        ];
        let front: Vec<u8> = front.iter().flat_map(|field| field.to_ne_bytes()).collect();
        let front = u64::from_ne_bytes(front.try_into().expect("four fields are a word"));
        let heads = self.heads.iter().flat_map(|head| head.words(size));
        let heads = heads.chain(std::iter::repeat(0)).take(2 * usize::from(size));
        let mut words: Vec<u64> = [0, front].into_iter().chain(heads).collect();
        if self.odd & 8 != 0 {
            words.resize(words.len().saturating_add_signed(self.more.into()), 0);
        }
        words
    }
}

/// Opens the record that the bytes encode.
///
/// # Panics
/// If a head is lost, invented or used twice.
pub fn target(bytes: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    still(&script);
    lives(&script);
    restless(&script);
}

/// The heads in flight according to the protocol, with their counters, which give the order. `None`
/// if the record is not initialized.
fn expected(
    words: &[u64],
    size: u16,
    used_idx: u16,
) -> Result<Option<Vec<(u64, u16)>>, InflightError> {
    if words.len() < 2 + 2 * usize::from(size) {
        return Err(InflightError::TooSmall(words.len()));
    }
    let half = |word: u64, nth: usize| {
        let bytes = word.to_ne_bytes();
        u16::from_ne_bytes([bytes[2 * nth], bytes[2 * nth + 1]])
    };
    match half(words[1], 0) {
        0 => return Ok(None),
        VERSION => {}
        other => return Err(InflightError::Version(other)),
    }
    let mut in_flight: BTreeMap<u16, u64> = (0..size)
        .map(|head| (head, 2 + 2 * usize::from(head)))
        .filter(|(_, at)| words[*at].to_ne_bytes()[0] != 0)
        .map(|(head, at)| (head, words[at + 1]))
        .collect();
    // "If used_idx differs from the used index of the ring", the last batch was used and not
    // removed from the record. A batch has at most as many heads as the ring; a larger difference
    // means that the two belong to different rings.
    let batch = used_idx.wrapping_sub(half(words[1], 3));
    if !in_flight.is_empty() && batch <= size {
        let mut head = half(words[1], 2);
        let mut used = BTreeSet::new();
        for _ in 0..batch {
            if head >= size {
                return Err(InflightError::Batch(head));
            }
            used.insert(head);
            head = half(words[2 + 2 * usize::from(head)], 3);
        }
        in_flight.retain(|head, _| !used.contains(head));
    }
    let mut heads: Vec<(u64, u16)> =
        in_flight.into_iter().map(|(head, counter)| (counter, head)).collect();
    heads.sort_unstable();
    Ok(Some(heads))
}

/// Memory that ignores stores after a number of them, as if the process had died.
#[derive(Debug)]
struct Mortal {
    words: Vec<AtomicU64>,
    left: AtomicUsize,
}

impl Mortal {
    fn new(words: &[u64], stores: usize) -> Arc<Mortal> {
        let words = words.iter().map(|word| AtomicU64::new(*word)).collect();
        Arc::new(Mortal { words, left: AtomicUsize::new(stores) })
    }

    fn words(&self) -> Vec<u64> {
        self.words.iter().map(|word| word.load(Ordering::Relaxed)).collect()
    }
}

impl InflightMemory for Mortal {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn load(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    fn store(&self, word: usize, value: u64) {
        let left = self.left.load(Ordering::Relaxed);
        if left > 0 {
            self.left.store(left - 1, Ordering::Relaxed);
            self.words[word].store(value, Ordering::Relaxed);
        }
    }
}

/// Opens the record in constant memory, and once more after the first opening has died on the way.
fn still(script: &Script) {
    let (size, used_idx, words) = (script.size(), script.used_idx(), script.words());
    let expected = expected(&words, size, used_idx);
    let memory = Mortal::new(&words, script.stores.into());
    for life in 1..=3 {
        let opened = InflightRecord::open(memory.clone(), size, used_idx).map(|(_, heads)| heads);
        match (&expected, opened) {
            (Err(expected), Err(error)) => {
                assert_eq!(error, *expected);
                assert_eq!(memory.words(), words, "a rejected record is unchanged");
            }
            (Ok(None), Ok(None)) if life == 1 || memory.left.load(Ordering::Relaxed) == 0 => {}
            (Ok(None), Ok(heads)) => assert!(heads.is_none_or(|heads| heads.is_empty())),
            (Ok(Some(expected)), Ok(Some(heads))) => {
                let ordered: Vec<u16> = expected.iter().map(|(_, head)| *head).collect();
                let sorted = |heads: &[u16]| heads.iter().copied().collect::<BTreeSet<u16>>();
                assert_eq!(sorted(&heads), sorted(&ordered), "life {life}: {heads:?}");
                assert_eq!(heads.len(), ordered.len(), "life {life}: {heads:?}");
                let different = expected.windows(2).all(|pair| pair[0].0 != pair[1].0);
                assert!(!different || heads == ordered, "life {life}: {heads:?} {expected:?}");
            }
            (expected, opened) => panic!("life {life}: {opened:?}, and not {expected:?}"),
        }
        if life == 2 {
            memory.left.store(usize::MAX, Ordering::Relaxed);
        }
    }
}

/// Guest memory with a ring, in which every published head is in flight.
struct Guest {
    memory: GuestMemoryMmap,
    size: u16,
}

impl Guest {
    fn new(script: &Script, published: u16) -> Guest {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY)]);
        let memory = memory.expect("a small memory");
        let guest = Guest { memory, size: script.size() };
        // Some heads are flushes; the others have no writable buffer.
        for head in (0..guest.size).step_by(4).filter(|head| head + 1 < guest.size) {
            let header = HEADERS + 32 * u64::from(head / 4);
            guest.put(header, wire::T_FLUSH);
            guest.descriptor(head, header, 16, 1);
            guest.descriptor(head + 1, header + 16, 1, 2);
        }
        guest.put(AVAILABLE + 2, published);
        guest.put(USED + 2, script.used_idx());
        guest
    }

    fn descriptor(&self, index: u16, address: u64, len: u32, flags: u16) {
        let at = DESCRIPTORS + 16 * u64::from(index);
        self.put(at, address);
        self.put(at + 8, len);
        self.put(at + 12, flags);
        self.put(at + 14, index + 1);
    }

    fn put<T: powerfail_device::vm_memory::ByteValued>(&self, at: u64, value: T) {
        self.memory.write_obj(value, GuestAddress(at)).expect("it is in the memory");
    }

    fn used_idx(&self) -> u16 {
        self.memory.read_obj(GuestAddress(USED + 2)).expect("it is in the memory")
    }

    fn used(&self, index: u16) -> u32 {
        let at = USED + 4 + 8 * u64::from(index % self.size);
        self.memory.read_obj(GuestAddress(at)).expect("it is in the memory")
    }

    fn ring(&self) -> Ring {
        let layout = QueueLayout {
            size: self.size,
            descriptors: DESCRIPTORS,
            available: AVAILABLE,
            used: USED,
        };
        let mut ring = Ring::new(256);
        ring.place(layout).expect("a right layout");
        // As a transport sets it without an in-flight record.
        ring.set_position(self.used_idx(), self.used_idx());
        ring
    }
}

/// Runs a queue of a device for so many steps. Returns whether it came to rest.
fn live(guest: &Guest, record: Arc<dyn InflightMemory>, steps: u32) -> Result<bool, InflightError> {
    let limits = Limits::plain(64 * 512);
    let shared = Shared::new(Config::default(), limits).expect("a right configuration");
    shared.negotiate(shared.offered()).expect("what was offered");
    let mut queue = BlockQueue::new(QueueIndex(0), Arc::new(shared), 256);
    let mut ring = guest.ring();
    queue.keep_record(record, &mut ring, &guest.memory)?;
    let mut disk = Prompt { limits, done: None };
    for _ in 0..steps {
        match step(&mut queue, &mut ring, &mut disk, &guest.memory) {
            Step::Idle => return Ok(true),
            Step::Submitted | Step::Completed | Step::Wake(_) | Step::Signal | Step::Ring => {}
        }
    }
    Ok(false)
}

/// Opens the record three times: the second life ends early, and the third must complete the heads
/// that the others have left.
fn lives(script: &Script) {
    let (size, used_idx, words) = (script.size(), script.used_idx(), script.words());
    let expected = expected(&words, size, used_idx);
    let heads: Vec<u16> = match &expected {
        Ok(heads) => heads.iter().flatten().map(|(_, head)| *head).collect(),
        Err(_) => Vec::new(),
    };
    let guest = Guest::new(script, used_idx.wrapping_add(heads.len() as u16));
    let memory = Mortal::new(&words, usize::MAX);
    if let Err(error) = expected {
        let refused = live(&guest, memory, MOST_STEPS);
        assert_eq!(refused, Err(error));
        return assert_eq!(guest.used_idx(), used_idx, "no head is used");
    }
    let alive = |steps| live(&guest, memory.clone(), steps).expect("the record is accepted");
    alive(script.steps.into());
    alive(u32::from(script.steps) / 3);
    assert!(alive(MOST_STEPS), "the queue does not come to rest");
    let used = guest.used_idx().wrapping_sub(used_idx);
    let mut found: Vec<u32> = (0..used).map(|nth| guest.used(used_idx.wrapping_add(nth))).collect();
    found.sort_unstable();
    let mut heads: Vec<u32> = heads.into_iter().map(u32::from).collect();
    heads.sort_unstable();
    assert_eq!(found, heads, "each head is used exactly once");
    let left = InflightRecord::open(memory, size, guest.used_idx()).expect("our own record").1;
    assert!(left.unwrap_or_default().is_empty(), "no head is left in the record");
}

/// Memory whose contents change between loads.
struct Restless {
    words: Vec<u64>,
    /// The number of loads.
    loads: AtomicUsize,
    /// In this many of four loads of the header the version is correct.
    steady: u8,
}

impl fmt::Debug for Restless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} words that change", self.words.len())
    }
}

impl InflightMemory for Restless {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn load(&self, word: usize) -> u64 {
        assert!(word < self.words.len(), "word {word} of {}", self.words.len());
        let nth = self.loads.fetch_add(1, Ordering::Relaxed);
        if word == 1 && nth % 4 <= usize::from(self.steady % 4) {
            return self.words[1];
        }
        self.words[(word + nth * 7) % self.words.len()]
    }

    fn store(&self, word: usize, _: u64) {
        assert!(word < self.words.len(), "word {word} of {}", self.words.len());
    }
}

/// Opens a record that changes all the time. The result cannot be right, but its heads must be
/// those of the ring, and none is used twice.
fn restless(script: &Script) {
    let (size, used_idx) = (script.size(), script.used_idx());
    let memory = || {
        let loads = AtomicUsize::new(script.steps.into());
        Arc::new(Restless { words: script.words(), loads, steady: script.stores })
    };
    let opened = InflightRecord::open(memory(), size, used_idx);
    let Ok((_, heads)) = opened else { return };
    let heads = heads.unwrap_or_default();
    let different: BTreeSet<u16> = heads.iter().copied().collect();
    assert_eq!(different.len(), heads.len(), "a head counts once: {heads:?}");
    assert!(heads.iter().all(|head| *head < size), "of {size}: {heads:?}");
    let guest = Guest::new(script, used_idx.wrapping_add(heads.len() as u16));
    if let Ok(rests) = live(&guest, memory(), MOST_STEPS) {
        assert!(rests, "the queue does not come to rest");
        let used = guest.used_idx().wrapping_sub(used_idx);
        let found: Vec<u32> = (0..used).map(|nth| guest.used(used_idx.wrapping_add(nth))).collect();
        let mut heads: Vec<u32> = heads.into_iter().map(u32::from).collect();
        let mut sorted = found.clone();
        heads.sort_unstable();
        sorted.sort_unstable();
        assert_eq!(sorted, heads, "each head is used exactly once: {found:?}");
    }
}

/// A disk that completes everything at once.
struct Prompt {
    limits: Limits,
    done: Option<Completion>,
}

impl Disk<GuestMemoryMmap> for Prompt {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn room(&self) -> u32 {
        u32::from(self.done.is_none())
    }

    fn submit(&mut self, _: &GuestMemoryMmap, Submission { token, op }: Submission) {
        assert_eq!(op, Op::Sync, "every request is a flush");
        self.done = Some(Completion { token, result: Ok(0), buffer: None });
    }

    fn complete(&mut self, _: &GuestMemoryMmap) -> Option<Completion> {
        self.done.take()
    }
}
