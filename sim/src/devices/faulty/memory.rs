//! The behaviour of mutants of a persistent memory.
//!
//! Most mistakes are below the device, in the lane that syncs; the others are above it, on the side
//! of the guest.

use powerfail_device::pmem::{Backing, PmemDevice, Synced, step};
use powerfail_device::{Errno, Token};

use super::MemoryFault;
use crate::devices::forward::forward;
use crate::devices::pmem::Pmem;
use crate::devices::registers::progress;
use crate::dut::toolkit::DeviceRing;
use crate::dut::{DeviceUnderTest, End, Host, Mapping, Medium, Profile, Progress, Spec};
use crate::guest::memory::Ram;
use crate::guest::wire::memory;
use crate::guest::{Kind, RingPlan};
use crate::host::disk::{FaultHandle, MemoryLane, SimDisk};

/// A sync that was begun before a flush needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    No,
    /// It runs; the flush that waits for it, if any.
    Running(Option<Token>),
    Done(Result<(), Errno>),
}

/// The state of a mutant memory.
#[derive(Clone, Debug)]
struct FaultyMemory {
    fault: MemoryFault,
    count: u32,
    ring: Option<RingPlan>,
    /// The words stored to a private mapping.
    private: Vec<(u32, u64)>,
    /// Made-up completions of syncs.
    answers: Vec<Synced>,
    ahead: Ahead,
}

/// A mutant persistent memory.
#[derive(Clone, Debug)]
pub struct WrongMemory {
    inner: Pmem,
    faulty: FaultyMemory,
}

impl DeviceUnderTest for WrongMemory {
    type Setup = MemoryFault;

    const MEDIUM: Medium = Medium::Simulated;
    const KINDS: [Kind; 2] = Pmem::KINDS;
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    fn open(setup: &MemoryFault, spec: &Spec, disk: &SimDisk, device: u8) -> WrongMemory {
        let faulty = FaultyMemory::new(*setup);
        WrongMemory { inner: Pmem::open(&(), spec, disk, device), faulty }
    }

    fn restart(&mut self, _: &MemoryFault, spec: &Spec, host: &mut Host<'_>, end: End) {
        self.inner.restart(&(), spec, host, end);
        self.faulty.backend_lost();
    }

    fn carries(&self) -> Option<u64> {
        Some(self.faulty.carries())
    }

    forward!(inner: offered, negotiate, kick, needs_reset, take_config_signal);

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.inner.config_read(offset, out);
        self.faulty.said(offset, out);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.inner.start(rings);
        self.faulty.started(rings[0]);
    }

    fn step(&mut self, _queue: u16, host: &mut Host<'_>) -> Progress {
        self.faulty.step(&mut self.inner.device, host)
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        self.faulty.reset_begun(host);
        self.inner.begin_reset(host);
    }

    fn reset_done(&mut self) -> bool {
        let done = self.inner.reset_done();
        if done {
            self.faulty.reset_shown(&mut self.inner.device);
        }
        done
    }

    fn mapping(&mut self) -> Option<&mut impl Mapping> {
        Some(&mut self.faulty)
    }
}

impl FaultyMemory {
    fn new(fault: MemoryFault) -> FaultyMemory {
        FaultyMemory {
            fault,
            count: 0,
            ring: None,
            private: Vec::new(),
            answers: Vec::new(),
            ahead: Ahead::No,
        }
    }

    /// Resets the state for another process, except the counter.
    fn backend_lost(&mut self) {
        *self = FaultyMemory { count: self.count, ..FaultyMemory::new(self.fault) };
    }

    /// The state that a backend kill leaves, as a number.
    fn carries(&self) -> u64 {
        u64::from(self.count % 6)
    }

    fn started(&mut self, ring: RingPlan) {
        self.ring = Some(ring);
    }

    /// Replaces `start` and `size` in the configuration space.
    fn said(&self, offset: u64, out: &mut [u8]) {
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

    fn reset_begun(&mut self, host: &mut Host<'_>) {
        if self.fault == MemoryFault::ResetDropsStores {
            FaultHandle::of(host.disk).drop_cache(host.device);
        }
    }

    fn reset_shown(&mut self, device: &mut PmemDevice) {
        self.ring = None;
        self.answers.clear();
        // A running sync continues without a flush.
        if let Ahead::Running(waits) = &mut self.ahead {
            *waits = None;
        }
        if self.fault == MemoryFault::ForgottenAtReset {
            device.reopened();
        }
    }

    /// One step of the device, with the mistake.
    fn step(&mut self, device: &mut PmemDevice, host: &mut Host<'_>) -> Progress {
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

    /// Replaces the responses that a step has written since the used index was `index`.
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

/// The lane of a mutant memory.
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
    /// The completion to report for a sync that has ended, if any.
    fn said_of(&mut self, done: Synced) -> Option<Synced> {
        let Synced { token, result } = done;
        let result = match (self.state.fault, result) {
            // The flush is answered already.
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

    /// Begins another sync after one that has ended, for a flush that may follow.
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
                FaultHandle::of(self.lane.disk()).neglect_one();
            }
            (MemoryFault::OtherFile, _) => {
                self.lane.submit(token);
                FaultHandle::of(self.lane.disk()).neglect_all(self.device);
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
