//! The permissive memory: a persistent memory that does everything legal on purpose.
//!
//! Like the [permissive device](super) it is made from the contract alone. It keeps for every word
//! all contents that a power loss may leave, and its own generator chooses among them.

use crate::base::prng::Prng;
use crate::dut::toolkit::{Chain, DeviceRing};
use crate::dut::{DeviceUnderTest, End, Host, Mapping, Medium, Profile, Progress};
use crate::dut::{MEMORY_FEATURES, Spec};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::{feature, memory};
use crate::guest::{Kind, REGION};
use crate::host::disk::SimDisk;

/// One liberty of a memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryLiberty {
    /// A store is persistent before a flush.
    PersistsEarly,
    /// A flush also makes later stores persistent.
    CoversMore,
    /// Flushes complete in any order.
    AnyOrder,
    /// A power loss leaves any content of a word since its last flush.
    MixedLoss,
    /// A power loss loses nothing.
    NeverLoses,
    /// Signals that the driver did not ask for.
    SpuriousSignals,
    /// Late signals, one for many completions.
    LateSignals,
    /// A flush fails without forgetting anything, and the next one succeeds.
    FlushFailsOnce,
    /// A flush fails, and some words revert to their persistent content. Flushes fail until those
    /// words are stored again.
    FlushForgets,
    /// A flush fails, but has made its stores persistent.
    FailsAfterAll,
    /// An invalid chain is returned with nothing written.
    MalformedIgnored,
    /// A reset drops the flushes in flight.
    ResetDrops,
    /// A reset takes several polls.
    ResetLingers,

    /// Literal only: a power loss leaves an arbitrary value in a word that was stored since it was
    /// flushed.
    LossAnything,
    /// Literal only: a device reset reverts words that were stored since they were flushed.
    ResetReverts,
    /// Literal only: a backend kill does.
    KillReverts,
}

impl MemoryLiberty {
    /// Every liberty.
    pub const ALL: [MemoryLiberty; 13] = [
        MemoryLiberty::PersistsEarly,
        MemoryLiberty::CoversMore,
        MemoryLiberty::AnyOrder,
        MemoryLiberty::MixedLoss,
        MemoryLiberty::NeverLoses,
        MemoryLiberty::SpuriousSignals,
        MemoryLiberty::LateSignals,
        MemoryLiberty::FlushFailsOnce,
        MemoryLiberty::FlushForgets,
        MemoryLiberty::FailsAfterAll,
        MemoryLiberty::MalformedIgnored,
        MemoryLiberty::ResetDrops,
        MemoryLiberty::ResetLingers,
    ];

    /// All that only the Literal profile allows.
    pub const LITERAL: [MemoryLiberty; 3] =
        [MemoryLiberty::LossAnything, MemoryLiberty::ResetReverts, MemoryLiberty::KillReverts];
}

/// A word's contents that a power loss may leave, each with the time of its store. The first is
/// persistent; loads return the last.
#[derive(Clone, Debug)]
struct Word {
    contents: Vec<(u64, u64)>,
    /// True iff it reverted after a failed flush and was not stored since.
    forgotten: bool,
}

/// A flush that was taken.
#[derive(Clone, Debug)]
struct Flight {
    chain: Chain,
    /// The flush must make stores up to this time persistent.
    time: u64,
    /// True iff some of those stores were forgotten, so that the flush must fail.
    doomed: bool,
}

/// The permissive memory of the Literal profile.
pub type LiteralMemory = PermissiveMemory<true>;

/// The permissive memory; with `LITERAL`, that of the Literal profile.
#[derive(Clone, Debug)]
pub struct PermissiveMemory<const LITERAL: bool = false> {
    only: Option<MemoryLiberty>,
    spec: Spec,
    prng: Prng,
    words: Vec<Word>,
    time: u64,
    ring: Option<DeviceRing>,
    flights: Vec<Flight>,
    negotiated: u64,
    signal_due: bool,
    /// The number of polls left before a reset completes.
    lingering: u32,
}

impl<const LITERAL: bool> PermissiveMemory<LITERAL> {
    /// Whether the memory takes a liberty now: with even odds if it has all of them, always if it
    /// has only this one.
    fn takes(&mut self, liberty: MemoryLiberty) -> bool {
        match self.only {
            None => self.prng.below(2) == 0,
            Some(only) => only == liberty,
        }
    }

    fn rarely_takes(&mut self, liberty: MemoryLiberty) -> bool {
        self.takes(liberty) && self.prng.below(4) == 0
    }

    /// The same of a liberty that only the Literal profile allows.
    fn takes_literal(&mut self, liberty: MemoryLiberty) -> bool {
        LITERAL && self.takes(liberty)
    }

    /// Every word takes one of the contents that a power loss may leave, as if it was stored now.
    fn revert(&mut self) {
        self.time += 1;
        for word in &mut self.words {
            if word.contents.len() > 1 {
                let nth = self.prng.below(word.contents.len() as u32) as usize;
                let (_, value) = word.contents[nth];
                word.contents.push((self.time, value));
            }
        }
    }

    /// Makes stores up to `time` persistent, and perhaps later ones.
    fn persist(&mut self, time: u64) {
        for at in 0..self.words.len() {
            let until = if self.takes(MemoryLiberty::CoversMore) { self.time } else { time };
            let contents = &mut self.words[at].contents;
            let last = contents.iter().rposition(|content| content.0 <= until).unwrap_or(0);
            contents.drain(..last);
        }
    }

    /// Fails a flush, with or without forgetting stores that it should have covered.
    fn fail(&mut self, time: u64) {
        if self.takes(MemoryLiberty::FailsAfterAll) {
            self.persist(time);
        }
        let forgets = self.takes(MemoryLiberty::FlushForgets);
        for word in &mut self.words {
            if forgets && word.contents.len() > 1 && self.prng.below(2) == 0 {
                word.contents.truncate(1);
                word.forgotten = true;
                self.flights.iter_mut().for_each(|flight| flight.doomed = true);
            }
        }
    }

    /// Answers one of the flushes in flight.
    fn answer(&mut self, host: &mut Host<'_>) -> Progress {
        let nth = match self.takes(MemoryLiberty::AnyOrder) {
            true => self.prng.below(self.flights.len() as u32) as usize,
            false => 0,
        };
        let Flight { chain, time, doomed } = self.flights.remove(nth);
        let liberty = self.rarely_takes(MemoryLiberty::FlushFailsOnce)
            || self.rarely_takes(MemoryLiberty::FlushForgets)
            || self.rarely_takes(MemoryLiberty::FailsAfterAll);
        if doomed {
            // What an earlier sync has lost fails this one too, in a later backend as well.
            host.failed_sync();
            return self.finish(&chain, Some(u32::MAX), &host.ram);
        }
        if host.may_fail && liberty {
            host.failed_sync();
            self.fail(time);
            return self.finish(&chain, Some(u32::MAX), &host.ram);
        }
        self.persist(time);
        self.finish(&chain, Some(0), &host.ram)
    }

    /// Returns a chain, with or without a response.
    fn finish(&mut self, chain: &Chain, ret: Option<u32>, ram: &Ram<'_>) -> Progress {
        let mut len = 0;
        if let Some(ret) = ret {
            chain.write(ram, 0, &ret.to_le_bytes());
            len = memory::RESPONSE;
        }
        if let Some(ring) = &mut self.ring {
            self.signal_due |= ring.push(ram, chain.head, len);
        }
        if self.signal_due && !self.takes(MemoryLiberty::LateSignals) {
            self.signal_due = false;
            return Progress::Signal;
        }
        Progress::Busy
    }

    /// Takes a chain from the ring.
    fn take(&mut self, chain: Chain, ram: &Ram<'_>) -> Progress {
        let sense = chain.whole
            && chain.readable_len() >= memory::REQUEST
            && chain.writable_len() >= memory::RESPONSE;
        if !sense {
            let writable = chain.writable_len() >= memory::RESPONSE;
            let silent = !writable || self.takes(MemoryLiberty::MalformedIgnored);
            return self.finish(&chain, (!silent).then_some(u32::MAX), ram);
        }
        let mut kind = [0; memory::REQUEST as usize];
        chain.read(ram, 0, &mut kind);
        if u32::from_le_bytes(kind) != memory::FLUSH {
            return self.finish(&chain, Some(u32::MAX), ram);
        }
        // This flush must also cover words that reverted and were not stored again.
        let doomed = self.words.iter().any(|word| word.forgotten);
        self.flights.push(Flight { chain, time: self.time, doomed });
        Progress::Busy
    }

    fn still(&mut self) {
        self.ring = None;
        self.flights.clear();
        self.negotiated = 0;
        self.signal_due = false;
    }
}

impl<const LITERAL: bool> DeviceUnderTest for PermissiveMemory<LITERAL> {
    /// The only liberty, or `None` for all of them.
    type Setup = Option<MemoryLiberty>;

    const MEDIUM: Medium = Medium::Own;
    const KINDS: [Kind; 2] = [Kind::Memory; 2];
    const PROFILE: Profile = if LITERAL { Profile::Literal } else { Profile::Strict };
    const RING_BASE: bool = true;

    fn open(only: &Option<MemoryLiberty>, spec: &Spec, disk: &SimDisk, device: u8) -> Self {
        let words = (0..spec.disk.capacity).map(|number| disk.load(device, number));
        let words: Vec<Word> =
            words.map(|value| Word { contents: vec![(0, value)], forgotten: false }).collect();
        // The first word names the run.
        let seed = words.first().map_or(0, |word| crate::base::prng::mix(word.contents[0].1));
        PermissiveMemory {
            only: *only,
            spec: *spec,
            prng: Prng::new(seed),
            words,
            time: 0,
            ring: None,
            flights: Vec::new(),
            negotiated: 0,
            signal_due: false,
            lingering: 0,
        }
    }

    fn restart(&mut self, _: &Self::Setup, _spec: &Spec, _: &mut Host<'_>, end: End) {
        self.still();
        self.lingering = 0;
        if end == End::BackendKill {
            if self.takes_literal(MemoryLiberty::KillReverts) {
                self.revert();
            }
            return;
        }
        for at in 0..self.words.len() {
            let mixed = self.takes(MemoryLiberty::MixedLoss);
            let keeps = self.takes(MemoryLiberty::NeverLoses);
            let word = &mut self.words[at];
            let last = word.contents.len() - 1;
            let left = match (keeps, mixed) {
                (true, _) => last,
                (false, true) => self.prng.below(last as u32 + 1) as usize,
                (false, false) => 0,
            };
            word.contents = vec![(0, word.contents[left].1)];
            word.forgotten = false;
            if last > 0 && self.takes_literal(MemoryLiberty::LossAnything) {
                self.words[at].contents[0].1 = self.prng.word();
            }
        }
    }

    fn offered(&self) -> u64 {
        self.spec.offer & MEMORY_FEATURES
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        self.negotiated = accept;
        accept & !self.offered() == 0 && accept & feature::VERSION_1 != 0
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        let shown = self.negotiated & memory::SHMEM_REGION == 0;
        let (start, size) = if shown { REGION } else { (0, 0) };
        let space =
            u128::from(start) << (8 * memory::START) | u128::from(size) << (8 * memory::SIZE);
        let space = space.to_le_bytes();
        for (at, out) in (offset as usize..).zip(out) {
            *out = space.get(at).copied().unwrap_or(0);
        }
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.ring = rings.first().map(|plan| DeviceRing::new(*plan));
    }

    fn step(&mut self, _queue: u16, host: &mut Host<'_>) -> Progress {
        let ram = host.ram;
        let Some(ring) = &mut self.ring else { return Progress::Idle };
        let waits = !ring.is_broken() && ring.waiting(&ram) > 0;
        let answers = !self.flights.is_empty();
        if waits && (!answers || self.prng.below(2) == 0) {
            if let Some(chain) = self.ring.as_mut().and_then(|ring| ring.pop(&ram)) {
                return self.take(chain, &ram);
            }
        } else if answers {
            return self.answer(host);
        }
        if self.signal_due || self.rarely_takes(MemoryLiberty::SpuriousSignals) {
            self.signal_due = false;
            return Progress::Signal;
        }
        Progress::Idle
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {
        if !self.takes(MemoryLiberty::ResetDrops) {
            // Flushes in flight take effect and are not answered.
            for flight in std::mem::take(&mut self.flights) {
                self.persist(flight.time);
            }
        }
        if self.takes_literal(MemoryLiberty::ResetReverts) {
            self.revert();
        }
        self.still();
        self.lingering = if self.takes(MemoryLiberty::ResetLingers) { 3 } else { 0 };
    }

    fn reset_done(&mut self) -> bool {
        self.lingering = self.lingering.saturating_sub(1);
        self.lingering == 0
    }

    fn needs_reset(&mut self) -> bool {
        self.ring.as_ref().is_some_and(DeviceRing::is_broken)
    }

    fn take_config_signal(&mut self) -> bool {
        self.needs_reset()
    }

    fn mapping(&mut self) -> Option<&mut impl Mapping> {
        Some(self)
    }
}

impl<const LITERAL: bool> Mapping for PermissiveMemory<LITERAL> {
    fn store(&mut self, word: u32, value: u64, _host: &mut Host<'_>) {
        self.time += 1;
        let early = self.takes(MemoryLiberty::PersistsEarly);
        let word = &mut self.words[word as usize];
        word.forgotten = false;
        word.contents.push((self.time, value));
        if early {
            word.contents.drain(..word.contents.len() - 1);
        }
    }

    fn load(&mut self, word: u32, _host: &mut Host<'_>) -> u64 {
        self.words[word as usize].contents.last().expect("a word holds something").1
    }
}
