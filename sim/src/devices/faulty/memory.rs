//! Persistent memories that are wrong on purpose: what is wrong, and how.
//!
//! Most of it is wrong below the device, in the lane through which it asks for syncs; the rest is
//! done to the guest's side of it.

use powerfail_device::pmem::{Backing, PmemDevice, Synced, step};
use powerfail_device::{Errno, Token};
use powerfail_model::Rule;

use crate::devices::pmem::progress;
use crate::dut::toolkit::DeviceRing;
use crate::dut::{Host, Mapping, Progress};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::memory;
use crate::host::disk::MemoryLane;

/// A promise a persistent memory breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryFault {
    /// The range given to `msync` is one word too short.
    RangeTooShort,
    /// The sync is of another file.
    OtherFile,
    /// The mapping is private.
    PrivateMapping,
    /// A flush is answered without any sync.
    AnsweredAtOnce,
    /// A flush is answered first and the sync is done afterwards.
    AnsweredFirst,
    /// A flush is answered from a sync that had started before it.
    EarlierSync,
    /// Whatever the type, it is answered with success.
    TypeIgnored,
    /// A failed sync is reported as done.
    FailureSwallowed,
    /// A failed sync is tried again and believed.
    FailureRetried,
    /// After a failed flush the next one starts afresh.
    FailureForgotten,
    /// A reset forgets that a sync had failed.
    ForgottenAtReset,
    /// A flush fails with an errno instead of -1.
    ErrnoReturned,
    /// Now and then a flush fails though its sync did not.
    FailsForNothing,
    /// Now and then a flush is never answered.
    NeverAnswered,
    /// Now and then a signal is lost.
    SignalLost,
    /// A reset throws away what was stored and not flushed.
    ResetDropsStores,
    /// The configuration space says where the memory is even if it is a shared memory region.
    RegionSaidTwice,
    /// `size` in the configuration space counts pages.
    SizeInPages,
}

type Facts = (MemoryFault, &'static str, &'static str, &'static [Rule]);

/// Each with its name, what is wrong in a line, and the rules that should notice.
const FACTS: [Facts; 18] = [
    (
        MemoryFault::RangeTooShort,
        "range-too-short",
        "the range given to msync leaves one stored word out",
        &[Rule::FlushedStoreLost],
    ),
    (
        MemoryFault::OtherFile,
        "other-file",
        "a flush syncs another file than the one that is mapped",
        &[Rule::FlushedStoreLost],
    ),
    (
        MemoryFault::PrivateMapping,
        "private-mapping",
        "the mapping is private: stores never reach the file",
        &[Rule::FlushedStoreLost, Rule::StaleLoad],
    ),
    (
        MemoryFault::AnsweredAtOnce,
        "answered-at-once",
        "a flush is answered without any sync",
        &[Rule::FlushedStoreLost],
    ),
    (
        MemoryFault::AnsweredFirst,
        "answered-first",
        "the response to a flush is written before its sync is done",
        &[Rule::FlushedStoreLost],
    ),
    (
        MemoryFault::EarlierSync,
        "earlier-sync",
        "a flush is answered from a sync that had started before it came",
        &[Rule::FlushedStoreLost],
    ),
    (
        MemoryFault::TypeIgnored,
        "type-ignored",
        "requests of every type are answered with success",
        &[Rule::UnknownPmemTypeServed],
    ),
    (
        MemoryFault::FailureSwallowed,
        "failure-swallowed",
        "a flush whose sync failed is answered with success",
        &[Rule::FlushedStoreLost, Rule::StaleLoad],
    ),
    (
        MemoryFault::FailureRetried,
        "failure-retried",
        "a failed sync is tried again, and the second is believed",
        &[Rule::FlushedStoreLost, Rule::StaleLoad],
    ),
    (
        MemoryFault::FailureForgotten,
        "failed-flush-forgotten",
        "after a failed flush the next one may succeed",
        &[Rule::FlushedStoreLost, Rule::StaleLoad],
    ),
    (
        MemoryFault::ForgottenAtReset,
        "failed-flush-forgotten-at-reset",
        "after a reset a flush may succeed although one had failed before",
        &[Rule::FlushedStoreLost, Rule::StaleLoad],
    ),
    (
        MemoryFault::ErrnoReturned,
        "errno-returned",
        "a flush that fails returns an errno instead of -1",
        &[Rule::NoSuchReturn],
    ),
    (
        MemoryFault::FailsForNothing,
        "fails-for-nothing",
        "now and then a flush fails though its sync did not",
        &[Rule::LegalFlushFailed],
    ),
    (
        MemoryFault::NeverAnswered,
        "flush-never-answered",
        "now and then a flush is never answered",
        &[Rule::NeverUsed, Rule::ResetNotShown],
    ),
    (
        MemoryFault::SignalLost,
        "flush-signal-lost",
        "now and then a signal is lost",
        &[Rule::SignalMissing],
    ),
    (
        MemoryFault::ResetDropsStores,
        "reset-drops-stores",
        "a reset throws away what was stored and not flushed",
        &[Rule::StaleLoad, Rule::FlushedStoreLost],
    ),
    (
        MemoryFault::RegionSaidTwice,
        "region-said-twice",
        "start and size say where the memory is although it is a shared memory region",
        &[Rule::RegionUntrue],
    ),
    (
        MemoryFault::SizeInPages,
        "size-in-pages",
        "size in the configuration space counts pages",
        &[Rule::RegionUntrue],
    ),
];

impl MemoryFault {
    /// All of them.
    pub fn all() -> impl Iterator<Item = MemoryFault> {
        FACTS.into_iter().map(|facts| facts.0)
    }

    fn facts(self) -> Facts {
        *FACTS.iter().find(|facts| facts.0 == self).expect("every fault is listed")
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().1
    }

    /// What is wrong, in a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.facts().2
    }

    /// The rules that should notice.
    #[must_use]
    pub fn caught_by(self) -> &'static [Rule] {
        self.facts().3
    }
}

/// A sync that was begun before anybody asked for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    No,
    /// It runs, and this flush waits for it.
    Running(Option<Token>),
    Done(Result<(), Errno>),
}

/// What a wrong memory remembers.
#[derive(Clone, Debug)]
pub struct FaultyMemory {
    fault: MemoryFault,
    count: u32,
    ring: Option<RingPlan>,
    /// Words of a private mapping that were stored.
    private: Vec<(u32, u64)>,
    /// Syncs that are said to be done, and what is said of them.
    answers: Vec<Synced>,
    ahead: Ahead,
}

impl FaultyMemory {
    pub(crate) fn new(fault: MemoryFault) -> FaultyMemory {
        FaultyMemory {
            fault,
            count: 0,
            ring: None,
            private: Vec::new(),
            answers: Vec::new(),
            ahead: Ahead::No,
        }
    }

    /// The process is another one.
    pub(crate) fn backend_lost(&mut self) {
        *self = FaultyMemory { count: self.count, ..FaultyMemory::new(self.fault) };
    }

    /// What is left of it then, as a number.
    pub(crate) fn carries(&self) -> u64 {
        u64::from(self.count % 6)
    }

    pub(crate) fn started(&mut self, ring: RingPlan) {
        self.ring = Some(ring);
    }

    /// Spoils what the configuration space says.
    pub(crate) fn said(&self, offset: u64, out: &mut [u8]) {
        let (start, size) = crate::guest::REGION;
        let says: u64 = match (self.fault, offset) {
            (MemoryFault::RegionSaidTwice, memory::START) => start,
            (MemoryFault::RegionSaidTwice, memory::SIZE) => size,
            (MemoryFault::SizeInPages, memory::SIZE) => size / 4096,
            _ => return,
        };
        if let Ok(out) = <&mut [u8; 8]>::try_from(out) {
            *out = says.to_le_bytes();
        }
    }

    pub(crate) fn reset_begun(&mut self, host: &mut Host<'_>) {
        if self.fault == MemoryFault::ResetDropsStores {
            host.disk.drop_cache(host.device);
        }
    }

    pub(crate) fn reset_shown(&mut self, device: &mut PmemDevice) {
        self.ring = None;
        self.answers.clear();
        // What runs goes on, for nobody.
        if let Ahead::Running(waits) = &mut self.ahead {
            *waits = None;
        }
        if self.fault == MemoryFault::ForgottenAtReset {
            device.reopened();
        }
    }

    /// One step of the device, spoiled.
    pub(crate) fn step(&mut self, device: &mut PmemDevice, host: &mut Host<'_>) -> Progress {
        let before = self.used_idx(&host.ram);
        let Some((queue, ring)) = device.queue_mut() else { return Progress::Idle };
        let lane = MemoryLane::new(host.disk, host.device);
        let mut lane = FaultyBacking { lane, state: self, device: host.device };
        let progress = progress(step(queue, ring, &mut lane, &host.ram));
        let at_rest = queue.is_idle() && queue.in_flight() == 0;
        if self.fault == MemoryFault::FailureForgotten && at_rest && device.shared().sync_failed() {
            device.reopened();
        }
        self.spoil_used(before, &host.ram);
        if self.fault == MemoryFault::SignalLost && progress == Progress::Signal {
            self.count += 1;
            if self.count.is_multiple_of(2) {
                return Progress::Busy;
            }
        }
        progress
    }

    fn used_idx(&self, ram: &Ram<'_>) -> u16 {
        self.ring.map_or(0, |ring| u16::from_le_bytes(ram.read(ring.used + 2)))
    }

    /// Spoils the responses that a step has given since the used index stood there.
    fn spoil_used(&self, mut index: u16, ram: &Ram<'_>) {
        let Some(plan) = self.ring else { return };
        if !matches!(self.fault, MemoryFault::TypeIgnored | MemoryFault::ErrnoReturned) {
            return;
        }
        while index != self.used_idx(ram) {
            let at = plan.used + 4 + 8 * u32::from(index % plan.size);
            let head = u32::from_le_bytes(ram.read(at)) as u16;
            let chain = DeviceRing::new(plan).walk(ram, head);
            index = index.wrapping_add(1);
            if !chain.whole || chain.writable_len() < memory::RESPONSE {
                continue;
            }
            let mut kind = [0; memory::REQUEST as usize];
            chain.read(ram, 0, &mut kind);
            let flush = u32::from_le_bytes(kind) == memory::FLUSH;
            let at = chain.writable.iter().find(|span| span.1 > 0).map_or(0, |span| span.0);
            match self.fault {
                MemoryFault::TypeIgnored if !flush => chain.write(ram, 0, &0u32.to_le_bytes()),
                MemoryFault::ErrnoReturned if flush && ram.read::<1>(at) != [0] => {
                    chain.write(ram, 0, &(-5i32).to_le_bytes());
                }
                _ => {}
            }
        }
    }

    fn now_and_then(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(3)
    }
}

/// The lane of a wrong memory.
struct FaultyBacking<'a, 'd> {
    lane: MemoryLane<'d>,
    state: &'a mut FaultyMemory,
    device: u8,
}

impl Mapping for FaultyMemory {
    fn store(&mut self, word: u32, value: u64, host: &mut Host<'_>) {
        if self.fault == MemoryFault::PrivateMapping {
            self.private.retain(|stored| stored.0 != word);
            self.private.push((word, value));
        } else {
            host.disk.store(host.device, word, value);
        }
    }

    fn load(&mut self, word: u32, host: &mut Host<'_>) -> u64 {
        let private = self.private.iter().find(|stored| stored.0 == word);
        private.map_or_else(|| host.disk.load(host.device, word), |stored| stored.1)
    }
}

impl FaultyBacking<'_, '_> {
    /// What is said of a sync that has ended.
    fn said_of(&mut self, done: Synced) -> Option<Synced> {
        let Synced { token, result } = done;
        let result = match (self.state.fault, result) {
            // It was answered long ago.
            (MemoryFault::AnsweredFirst, _) => return None,
            (MemoryFault::FailureSwallowed, Err(errno)) if !errno.is_transient() => Ok(()),
            (MemoryFault::FailureRetried, Err(errno)) if !errno.is_transient() => Err(Errno::EINTR),
            (MemoryFault::FailsForNothing, Ok(())) if self.state.now_and_then() => Err(Errno(5)),
            (MemoryFault::NeverAnswered, _) if self.state.now_and_then() => return None,
            (MemoryFault::EarlierSync, _) => return self.of_earlier(done),
            (_, result) => result,
        };
        Some(Synced { token, result })
    }

    /// A sync has ended: another one is begun for whoever comes.
    fn of_earlier(&mut self, done: Synced) -> Option<Synced> {
        match self.state.ahead {
            Ahead::Running(None) => {
                self.state.ahead = Ahead::Done(done.result);
                None
            }
            Ahead::Running(Some(token)) => {
                self.state.ahead = Ahead::No;
                Some(Synced { token, ..done })
            }
            Ahead::No | Ahead::Done(_) => {
                if done.result.is_ok() && self.lane.room() > 0 {
                    self.lane.submit(done.token);
                    self.state.ahead = Ahead::Running(None);
                }
                Some(done)
            }
        }
    }
}

impl Backing for FaultyBacking<'_, '_> {
    fn room(&self) -> u32 {
        self.lane.room()
    }

    fn submit(&mut self, token: Token) {
        let done = |result| Synced { token, result };
        match (self.state.fault, self.state.ahead) {
            (MemoryFault::AnsweredAtOnce, _) => self.state.answers.push(done(Ok(()))),
            (MemoryFault::AnsweredFirst, _) => {
                self.lane.submit(token);
                self.state.answers.push(done(Ok(())));
            }
            (MemoryFault::EarlierSync, Ahead::Done(result)) => {
                self.state.ahead = Ahead::No;
                self.state.answers.push(done(result));
            }
            (MemoryFault::EarlierSync, Ahead::Running(None)) => {
                self.state.ahead = Ahead::Running(Some(token));
            }
            (MemoryFault::RangeTooShort, _) => {
                self.lane.submit(token);
                self.lane.disk().neglect_one();
            }
            (MemoryFault::OtherFile, _) => {
                self.lane.submit(token);
                self.lane.disk().neglect_all(self.device);
            }
            _ => self.lane.submit(token),
        }
    }

    fn complete(&mut self) -> Option<Synced> {
        if !self.state.answers.is_empty() {
            return Some(self.state.answers.remove(0));
        }
        let done = self.lane.complete()?;
        self.said_of(done)
    }
}
