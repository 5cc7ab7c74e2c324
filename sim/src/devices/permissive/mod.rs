//! The permissive device: it does everything legal on purpose.
//!
//! It is a second device, made from the contract alone: it shares no code with the shipped one, has
//! its own rings and its own storage, and draws from its own generator everything that the contract
//! leaves open. The oracle must stay silent about it. With one [`Liberty`], it is a plain device
//! except for that liberty.

mod flight;
mod liberty;
mod memory;
mod refusal;
mod store;

pub use liberty::Liberty;
pub use memory::{LiteralMemory, MemoryLiberty, PermissiveMemory};

use crate::base::prng::Prng;
use crate::dut::Spec;
use crate::dut::toolkit::{ConfigSpace, DeviceRing};
use crate::dut::{DeviceUnderTest, End, Host, Medium, Profile, Progress};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::{config, feature};
use crate::host::disk::SimDisk;
use flight::Flight;
use refusal::Task;
use store::{Loss, Store, Worse};

/// The permissive device of the Literal profile.
pub type LiteralDevice = PermissiveDevice<true>;

/// The permissive device; with `LITERAL`, that of the Literal profile.
#[derive(Clone, Debug)]
pub struct PermissiveDevice<const LITERAL: bool = false> {
    only: Option<Liberty>,
    spec: Spec,
    prng: Prng,
    store: Store,
    rings: Vec<DeviceRing>,
    /// Per queue, for every published head not yet taken: the number of completions when it was
    /// first seen.
    seen: Vec<Vec<u64>>,
    flights: Vec<Flight>,
    numbers: u64,
    completions: u64,
    negotiated: u64,
    writeback: bool,
    signal_due: Vec<bool>,
    fatal: bool,
    /// True iff the guest has seen a failure since the backend was started.
    told: bool,
    /// The number of polls left before a reset completes.
    lingering: u32,
    live: bool,
}

impl<const LITERAL: bool> PermissiveDevice<LITERAL> {
    /// Whether the device takes a liberty now: with even odds if it has all of them, always if it
    /// has only this one.
    fn takes(&mut self, liberty: Liberty) -> bool {
        match self.only {
            None => self.prng.below(2) == 0,
            Some(only) => only == liberty,
        }
    }

    /// As [`takes`](Self::takes), at a quarter of its odds.
    fn rarely_takes(&mut self, liberty: Liberty) -> bool {
        self.takes(liberty) && self.prng.below(4) == 0
    }

    /// The same of a liberty that only the Literal profile allows.
    fn takes_literal(&mut self, liberty: Liberty) -> bool {
        LITERAL && self.takes(liberty)
    }

    fn write_through(&self) -> bool {
        let has = |bit: u64| self.negotiated & bit != 0;
        if has(feature::CONFIG_WCE) {
            !self.writeback
        } else {
            // Without an offer of FLUSH no write need be stable (BLK-D-34).
            self.spec.offer & feature::FLUSH != 0 && !has(feature::FLUSH)
        }
    }

    /// Ends the life: each request in flight lands in full, in part, or not at all.
    fn abandon(&mut self, ram: Option<&Ram<'_>>) {
        for at in 0..self.flights.len() {
            let drops = self.takes(Liberty::ResetDrops);
            let writes = !matches!(self.flights[at].task, Task::Read(_));
            while let Some(last) = self.flights[at].left.len().checked_sub(1) {
                match ram {
                    Some(ram) if !drops && writes && self.prng.below(2) == 0 => {
                        self.land(at, last, ram);
                    }
                    _ => {
                        self.flights[at].left.pop();
                    }
                }
            }
        }
        self.flights.clear();
        self.rings.clear();
        self.live = false;
        self.fatal = false;
        self.negotiated = 0;
        self.writeback = self.spec.writeback;
    }
}

impl<const LITERAL: bool> DeviceUnderTest for PermissiveDevice<LITERAL> {
    /// The only liberty, or `None` for all of them.
    type Setup = Option<Liberty>;

    const MEDIUM: Medium = Medium::Own;
    const PROFILE: Profile = if LITERAL { Profile::Literal } else { Profile::Strict };
    const RING_BASE: bool = true;

    fn open(setup: &Option<Liberty>, spec: &Spec, disk: &SimDisk, device: u8) -> Self {
        let image = disk.image(device);
        // The payload of the first sector names the run.
        let seed = image.iter().take(16).fold(u64::from(device), |seed, &byte| {
            crate::base::prng::mix(seed ^ u64::from(byte)).wrapping_add(1)
        });
        PermissiveDevice {
            only: *setup,
            spec: *spec,
            prng: Prng::new(seed),
            store: Store::new(image),
            rings: Vec::new(),
            seen: Vec::new(),
            flights: Vec::new(),
            numbers: 0,
            completions: 1,
            negotiated: 0,
            writeback: spec.writeback,
            signal_due: Vec::new(),
            fatal: false,
            told: false,
            lingering: 0,
            live: false,
        }
    }

    fn restart(&mut self, _setup: &Option<Liberty>, _spec: &Spec, _host: &mut Host<'_>, end: End) {
        self.abandon(None);
        match end {
            End::BackendKill if self.told | self.takes_literal(Liberty::KillReverts) => {
                let number = self.completions;
                self.store.find(&mut self.prng, number);
                self.completions += 1;
            }
            End::BackendKill => {}
            End::PowerLoss { .. } => {
                let loss = if self.takes(Liberty::MixedLoss) {
                    Loss::Mixed
                } else if self.takes(Liberty::NeverLoses) {
                    Loss::Nothing
                } else {
                    Loss::Everything
                };
                let worse = Worse {
                    anything: self.takes_literal(Liberty::LossAnything),
                    mixes: self.takes_literal(Liberty::LossMixes),
                };
                self.store.power_loss(&mut self.prng, loss, worse);
            }
        }
        self.told = false;
        self.lingering = 0;
    }

    fn offered(&self) -> u64 {
        let read_only = if self.spec.disk.read_only { feature::RO } else { 0 };
        self.spec.offer | read_only
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        let legal = accept & !self.offered() == 0 && accept & feature::VERSION_1 != 0;
        if legal {
            self.negotiated = accept;
            self.writeback = self.spec.writeback && accept & feature::FLUSH != 0;
        }
        legal
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        let mut space = ConfigSpace::of(&self.spec);
        space.put(config::WRITEBACK, &[u8::from(self.writeback)]);
        space.read(offset, out);
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        if offset == config::WRITEBACK {
            // The shipped device pins the mode if FLUSH was not accepted; following is legal too
            // (AMB-17).
            self.writeback = bytes[0] != 0;
            let through = self.write_through();
            for flight in &mut self.flights {
                flight.through &= through;
            }
        }
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.iter().map(|plan| DeviceRing::new(*plan)).collect();
        self.seen = vec![Vec::new(); rings.len()];
        self.signal_due = vec![false; rings.len()];
        self.live = true;
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let index = usize::from(queue);
        if !self.live || self.fatal || index >= self.rings.len() {
            return Progress::Idle;
        }
        let mine: Vec<usize> =
            (0..self.flights.len()).filter(|&at| self.flights[at].queue == queue).collect();
        if self.signal_due[index] && (mine.is_empty() || !self.takes(Liberty::LateSignals)) {
            self.signal_due[index] = false;
            return Progress::Signal;
        }
        if !mine.is_empty() && self.rarely_takes(Liberty::SpuriousSignals) {
            return Progress::Signal;
        }
        // These liberties show only where a request moves in parts.
        let in_parts = matches!(self.only, Some(Liberty::ReadsDisagree | Liberty::UnsuppHalfway));
        let any_order = self.takes(Liberty::AnyOrder) || in_parts;
        if (mine.is_empty() || self.prng.below(2) == 0) && self.take(queue, &host.ram) {
            return Progress::Busy;
        }
        let Some(&oldest) = mine.iter().min_by_key(|&&at| self.flights[at].number) else {
            return Progress::Idle;
        };
        let flush = mine.iter().find(|&&at| self.flights[at].task == Task::Flush);
        let at = match flush {
            _ if any_order => mine[self.prng.below(mine.len() as u32) as usize],
            Some(&flush) if self.only == Some(Liberty::FlushOvertakes) => flush,
            _ => oldest,
        };
        let left = self.flights[at].left.len() as u32;
        if any_order && left > 0 {
            let nth = self.prng.below(left) as usize;
            self.land(at, nth, &host.ram);
        } else {
            self.finish(at, host);
        }
        Progress::Busy
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        self.lingering = if self.takes(Liberty::ResetLingers) { self.prng.below(4) } else { 0 };
        self.abandon(Some(&host.ram));
    }

    fn reset_done(&mut self) -> bool {
        let done = self.lingering == 0;
        self.lingering = self.lingering.saturating_sub(1);
        done
    }

    fn needs_reset(&mut self) -> bool {
        self.fatal || self.rings.iter().any(DeviceRing::is_broken)
    }

    fn take_config_signal(&mut self) -> bool {
        self.needs_reset()
    }
}
