//! The scheduler: the choice of the next action.
//!
//! A [`Scheduler`] drives a world through a run: it starts the devices, lets guest, threads and
//! host race, crashes at a drawn time, reads everything back through a fresh device, and then
//! continues or brings the world to rest. All random choices come from one [`Choose`], and all
//! decisions are [`Action`]s; the scheduler never changes the world.
//!
//! Not here: the requests of the guest (`workload`), the behaviour of the host (`host_faults`).

mod alteration;
mod by_itself;
mod host_faults;
mod lifecycle;
pub mod options;
mod order;
mod parameters;
mod tail;
mod workload;
mod workload_pmem;

use std::fmt;
use std::str::FromStr;

use crate::base::choose::{Choose, Ratio, Site};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::guest::Kind;
use crate::guest::wire::feature;
use crate::guest::{GuestRequest, Layout, MAX_WORDS, Malformation};
use crate::schedule::options::Options;
use crate::world::World;
use crate::world::action::{Action, CrashKind};
use order::Priorities;

/// The order of the enabled steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Schedule {
    /// Every enabled step may be next.
    #[default]
    Uniform,
    /// Every thread has a priority, which changes rarely (PCT). This finds orders in which one
    /// thread is slow for a long time.
    Pct,
    /// First in, first out, with the power loss at the end: the baseline for comparison.
    Naive,
}

impl Schedule {
    const NAMES: [(Schedule, &'static str); 3] =
        [(Schedule::Uniform, "uniform"), (Schedule::Pct, "pct"), (Schedule::Naive, "naive")];
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Schedule::NAMES.iter().find(|n| n.0 == *self).map_or("", |n| n.1))
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Schedule, String> {
        Schedule::NAMES
            .iter()
            .find(|n| n.1 == text)
            .map(|n| n.0)
            .ok_or_else(|| format!("there is no schedule `{text}`; there are uniform, pct, naive"))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The devices are started and everything is read.
    Recover {
        /// Another crash follows after this many moves, if any.
        cut: Option<u32>,
    },
    /// The guest works.
    Work,
    /// The workload goes on until some data is volatile, then the crash follows.
    AwaitVolatile,
    /// The world comes to rest, and the run is over.
    Rest,
    /// The device that the guest has broken is reset, and the guest works on.
    Mend {
        /// The device.
        device: u8,
    },
    Crash,
    Done,
}

/// The scheduler of one run.
#[derive(Clone, Debug)]
pub struct Scheduler {
    schedule: Schedule,
    phase: Phase,
    options: Options,
    priorities: Priorities,
    next_id: u32,
    /// Requests that the guest may still send before the next crash.
    budget: u32,
    /// Crashes to come.
    crashes: u32,
    /// The next sector to be read back, per device.
    to_read: [u32; 2],
    /// Moves in this phase, which bound it.
    moves: u32,
    power_lost: bool,
    /// The guest has moved an available index out of range in this life.
    avail_jumped: bool,
    /// Whether it waits for volatile data before a crash.
    lingers: bool,
    /// A queue was broken and perhaps mended since the last crash: the next one stays broken.
    mended: bool,
    /// Streams of requests to come.
    streams: u32,
    /// Whether the host has ceased to support discards, and to write zeroes.
    ceased: [bool; 2],
    /// How many operations in a row the host has refused for now.
    put_off: u32,
    /// A request that has been drawn and follows the action before it.
    held: Option<Action>,
    /// The capacity, in sectors, of the disk that the next request is for.
    capacity: u32,
    /// The most sectors of a read or write on the queue that it is for.
    most: u32,
}

/// The streams of a run that has some, and the requests of one that may overtake all others: far
/// more than the operations of one request and of the full disk before it.
const MOST_STREAMS: u32 = 4;
const STREAM: u32 = 256;

/// The most moves of a phase, because a device that never comes to rest must be judged too.
const MOST_MOVES: u32 = 20_000;

impl Scheduler {
    /// A scheduler for a run with these options.
    pub fn new<C: Choose>(schedule: Schedule, options: Options, choose: &mut C) -> Scheduler {
        Scheduler {
            schedule,
            phase: Phase::Work,
            options,
            priorities: Priorities::draw(schedule, choose),
            next_id: 1,
            budget: options.requests.div_ceil(options.crashes.max(1)),
            crashes: options.crashes,
            to_read: [0; 2],
            moves: 0,
            power_lost: false,
            avail_jumped: false,
            lingers: true,
            mended: false,
            streams: if options.stream { MOST_STREAMS } else { 0 },
            ceased: [false; 2],
            put_off: 0,
            held: None,
            capacity: options.shape.spec.disk.capacity,
            most: options.shape.max_sectors,
        }
    }

    /// A scheduler that takes over a world in the middle of a run: the guest sends `requests` more
    /// requests, numbered from `next_id`, the world crashes iff `cut`, and everything is read back.
    pub(crate) fn resume<C: Choose>(
        schedule: Schedule,
        options: Options,
        next_id: u32,
        requests: u32,
        cut: bool,
        choose: &mut C,
    ) -> Scheduler {
        let mut scheduler = Scheduler::new(schedule, options, choose);
        scheduler.next_id = next_id;
        scheduler.budget = requests;
        scheduler.crashes = u32::from(cut);
        scheduler.lingers = false;
        scheduler
    }

    /// The next action, which may turn out not to be enabled. `None` once the run is over.
    #[inline]
    pub fn next<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        // A stream sends as many requests as it needs.
        self.next_id = self.next_id.max(world.newest() + 1);
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        while self.phase != Phase::Done {
            self.moves += 1;
            if (D::CHOOSES || D::BACKGROUND)
                && let Some(next) = self.by_itself(world, choose)
            {
                return Some(next);
            }
            if let Some(next) = self.attempt(world, choose) {
                return Some(next);
            }
        }
        None
    }

    fn attempt<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        match self.phase {
            Phase::Work => {
                if self.budget == 0 || self.moves > MOST_MOVES {
                    self.enter(Phase::AwaitVolatile);
                    return None;
                }
                self.work(world, choose)
            }
            Phase::AwaitVolatile => self.await_volatile(world, choose),
            Phase::Rest => {
                self.enter(Phase::Done);
                Some(Action::Rest)
            }
            Phase::Crash => {
                if let Some(effect) = self.last_gasp(world, choose) {
                    return Some(effect);
                }
                let crash = self.crash(world, choose);
                let again = self.crashes > 0 && choose.below(6, Site::Crash) == 0;
                let cut = again.then(|| choose.below(40, Site::Crash));
                self.to_read = [0; 2];
                (self.avail_jumped, self.mended) = (false, false);
                self.enter(Phase::Recover { cut });
                Some(crash)
            }
            Phase::Recover { cut } => self.recover(world, choose, cut),
            Phase::Mend { device } => {
                if self.moves > 1 {
                    (self.avail_jumped, self.budget) = (false, 6);
                    self.enter(Phase::Work);
                    return Some(Action::Reset { device });
                }
                Some(Action::Rest)
            }
            Phase::Done => None,
        }
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.moves = 0;
    }

    /// Ends the workload of this stretch: usually waits for volatile data, then crashes, with or
    /// without coming to rest first.
    fn await_volatile<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        let patience = 24;
        if self.schedule == Schedule::Naive {
            self.enter(Phase::Crash);
            return Some(Action::Rest);
        }
        if !self.lingers {
            let next = if self.crashes > 0 { Phase::Crash } else { Phase::Recover { cut: None } };
            self.enter(next);
            return None;
        }
        let nothing_to_lose = world.dirty().is_some_and(|dirty| dirty.is_empty());
        if nothing_to_lose && self.moves < patience {
            self.budget = 1;
            return self.work(world, choose);
        }
        self.budget = 0;
        self.enter(Phase::Crash);
        if choose.below(3, Site::Crash) != 0 {
            return None;
        }
        if self.options.malformation.possible()
            && !self.avail_jumped
            && choose.below(8, Site::Crash) == 0
        {
            // A broken queue ends the work of a life; at rest the device must ask for a reset.
            self.avail_jumped = true;
            let to = self.any_queue(world, choose);
            let mends = !self.mended && choose.below(2, Site::Crash) == 0;
            self.mended = true;
            self.enter(if mends {
                Phase::Mend { device: to.device }
            } else {
                Phase::AwaitVolatile
            });
            return Some(Action::Jump { to });
        }
        Some(Action::Rest)
    }

    /// Lands part of an operation just before a crash.
    fn last_gasp<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        let busy = world.disk().busy();
        let calm = self.schedule == Schedule::Naive;
        if busy == 0 || calm || self.moves > 4 || choose.below(2, Site::Crash) == 0 {
            return None;
        }
        let nth = choose.below(busy as u32, Site::Operation) as usize;
        let (op, landed) = world.disk().nth(nth);
        let tear = self.options.shape.spec.disk.tear;
        let set = host_faults::subset(choose, op.range().minus(landed), tear, Site::Operation);
        (!set.is_empty()).then_some(Action::Effect { op, set })
    }

    fn crash<D: DeviceUnderTest, C: Choose>(&mut self, world: &World<D>, choose: &mut C) -> Action {
        self.crashes = self.crashes.saturating_sub(1);
        let last_chance = self.crashes == 0 && !self.power_lost;
        let kill = self.options.kill;
        if !D::MEDIUM.loses_power() || (!last_chance && choose.chance(kill, Site::Crash)) {
            let device = choose.below(u32::from(self.options.shape.devices), Site::Queue) as u8;
            return Action::Crash(CrashKind::Backend { device });
        }
        self.power_lost = true;
        let dirty = world.dirty().unwrap_or_default();
        let survivors = match self.schedule {
            Schedule::Naive => SectorSet::EMPTY,
            _ => host_faults::subset(
                choose,
                dirty,
                self.options.shape.spec.disk.tear,
                Site::Survivor,
            ),
        };
        Action::Crash(CrashKind::Power { survivors })
    }

    /// Starts the devices, reads every sector of each, and continues.
    fn recover<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
        cut: Option<u32>,
    ) -> Option<Action> {
        if cut.is_some_and(|after| self.moves > after) {
            self.enter(Phase::Crash);
            return None;
        }
        for device in 0..self.options.shape.devices {
            let slot = world.slot(device);
            let capacity = slot.capacity;
            if let Some(action) = self.back_to_work(world, device) {
                return Some(action);
            }
            if !slot.is_live() {
                if !slot.is_resetting() {
                    return Some(self.start(world, device, choose));
                }
                continue;
            }
            let at = self.to_read[usize::from(device)];
            if at >= capacity {
                continue;
            }
            if slot.kind == Kind::Memory {
                let words = MAX_WORDS.min(capacity - at);
                self.to_read[usize::from(device)] = at + words;
                return Some(self.send(
                    device,
                    0,
                    GuestRequest::Load { word: at, words },
                    Layout::PLAIN,
                ));
            }
            let queue = (at / self.options.shape.max_sectors) as u16 % slot.life().active;
            if slot.is_queue_live(queue as u8) && slot.queues[usize::from(queue)].has_room() {
                let most = slot.queues[usize::from(queue)].most_data() / 512;
                let sectors = self.options.shape.max_sectors.min(capacity - at).min(most.max(1));
                self.to_read[usize::from(device)] = at + sectors;
                let ask = GuestRequest::In { sector: u64::from(at), sectors };
                return Some(self.send(device, queue as u8, ask, Layout::PLAIN));
            }
        }
        if self.moves < MOST_MOVES
            && let Some(action) = world.settle()
        {
            return Some(action);
        }
        let left = self.crashes;
        if left == 0 {
            self.enter(Phase::Rest);
        } else {
            self.budget = self.options.requests.div_ceil(self.options.crashes.max(1));
            self.enter(Phase::Work);
        }
        None
    }

    /// Whether the run is between a crash and the end of the read that follows it.
    #[must_use]
    pub(crate) fn is_recovering(&self) -> bool {
        matches!(self.phase, Phase::Recover { .. })
    }

    fn send(&mut self, device: u8, queue: u8, ask: GuestRequest, layout: Layout) -> Action {
        let id = self.next_id;
        self.next_id += 1;
        let to = crate::world::action::QueueId { device, queue };
        Action::Send { to, id, ask, layout, malformation: Malformation::None }
    }

    /// Initialises a device with features drawn from its offer.
    fn start<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        device: u8,
        choose: &mut C,
    ) -> Action {
        let offered = world.slot(device).device.offered();
        let mut accept = offered;
        if self.options.flushless {
            accept &= !feature::FLUSH;
        }
        if self.options.refuse.possible() {
            let mut bits = offered & !feature::VERSION_1;
            while bits != 0 {
                let bit = 1 << bits.trailing_zeros();
                bits &= !bit;
                if choose.chance(self.options.refuse, Site::Option) {
                    accept &= !bit;
                }
            }
        }
        if self.options.malformation.possible() && choose.chance(Ratio::new(1, 16), Site::Option) {
            // The device must refuse a bit that it does not offer.
            accept |= 1 << choose.below(64, Site::Option);
        }
        Action::Start { device, accept, base: self.options.base }
    }
}
