//! The device under test whose backend is a process of another program.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use powerfail_device::Disk as _;

use super::messages::{self, PROTOCOL_FEATURES, protocol, ring, words};
use super::offer::shown;
use super::operations::{Answer, Operations};
use super::preset::{Backend, Preset};
use super::running::Running;
use super::shared::Shared;
use crate::dut::{DeviceUnderTest, End, Host, MAX_QUEUES, Medium, Progress, Spec, Waived};
use crate::guest::RingPlan;
use crate::guest::wire::{config, feature};
use crate::host::disk::{Lane, SimDisk};

/// How long a backend may keep a thread running without doing anything visible. After that it is
/// taken to be at rest.
const RESTLESS: Duration = Duration::from_secs(5);

/// A block device whose backend is a process of another program.
#[derive(Debug)]
pub struct Foreign {
    preset: Arc<Preset>,
    offer: u64,
    /// The disk's content when the backend was started, for what it reads before there is a driver.
    image: Vec<u8>,
    running: RefCell<Option<Running>>,
    operations: Operations,
    /// The rings of the driver, and whether the backend has them.
    rings: Vec<RingPlan>,
    is_placed: bool,
    kicked: [bool; MAX_QUEUES],
    /// The used index of each ring as it was seen last.
    used: [u16; MAX_QUEUES],
    /// Queues with something new in their used ring.
    moved: [bool; MAX_QUEUES],
    signalled: [bool; MAX_QUEUES],
    /// Queues that the world knows to have news.
    told: [bool; MAX_QUEUES],
    /// The cache mode of the backend before any driver has set it.
    mode: Option<u8>,
    /// The number of rings that are to be stopped, and of those whose stop was asked for and not
    /// acknowledged.
    draining: usize,
    stopping: usize,
}

/// A device with a process cannot be copied; [`COPIES`](DeviceUnderTest::COPIES) says so.
impl Clone for Foreign {
    fn clone(&self) -> Foreign {
        unreachable!("a process cannot be copied")
    }
}

impl Foreign {
    /// Does something with the running backend, which is started first if need be.
    ///
    /// # Panics
    /// If the backend does not start, or the connection fails.
    fn with<T>(&self, what: impl FnOnce(&mut Running) -> io::Result<T>) -> T {
        let mut running = self.running.borrow_mut();
        let running = match &mut *running {
            Some(running) => running,
            none => none.insert(
                Running::start(&self.preset, &self.image).unwrap_or_else(|what| panic!("{what}")),
            ),
        };
        match what(running) {
            Ok(done) => done,
            Err(error) => match running.process.ended() {
                Some(how) => panic!("the backend has ended: {how}"),
                None => {
                    let said = running.process.said();
                    panic!("the connection to the backend fails: {error}{said}")
                }
            },
        }
    }

    /// Runs the backend until it is at rest, after `first`.
    fn run(&mut self, host: &mut Host<'_>, first: impl FnOnce(&mut Running) -> io::Result<()>) {
        let mut operations = std::mem::take(&mut self.operations);
        let (rings, place) = (self.rings.clone(), !self.is_placed && !self.rings.is_empty());
        let (ram, device) = (host.ram, host.device);
        let disk = &mut *host.disk;
        let signals = self.with(|running| {
            let mut shared = match running.shared.take() {
                Some(shared) if shared.len() == ram.len() => shared,
                _ => Shared::new(ram.len())?,
            };
            shared.take(&ram)?;
            if place {
                running.place(&rings, shared)?;
            } else {
                running.shared = Some(shared);
            }
            first(running)?;
            let capacity = u64::from(disk.capacity(device)) * 512;
            let mut lane = Lane::background(disk, device);
            let mut busy_since = Instant::now();
            loop {
                let polled = running.below.poll(&mut running.asked)?;
                let any = polled || !running.asked.is_empty();
                for asked in std::mem::take(&mut running.asked) {
                    if let Some(answer) = operations.add(asked, capacity) {
                        running
                            .below
                            .answer(answer.cookie, answer.result.as_deref().map_err(|e| *e))?;
                    }
                }
                if any {
                    busy_since = Instant::now();
                    continue;
                }
                let rests = running.process.is_at_rest(!operations.is_empty());
                // What arrived before the looks would be missed.
                if running.below.poll(&mut running.asked)? {
                    continue;
                }
                if rests || busy_since.elapsed() > RESTLESS {
                    break;
                }
                if let Some(how) = running.process.ended() {
                    return Err(io::Error::other(how));
                }
                std::thread::yield_now();
            }
            operations.submit(&mut lane, &ram);
            if let Some(shared) = &mut running.shared {
                shared.give(&ram)?;
            }
            let mut signals = [false; MAX_QUEUES];
            for (signal, call) in signals.iter_mut().zip(&running.calls) {
                *signal = rustix::io::read(call, &mut [0; 8]).is_ok();
            }
            Ok(signals)
        });
        self.operations = operations;
        self.is_placed |= place;
        for (queue, plan) in rings.iter().enumerate() {
            let used = u16::from_le_bytes(ram.read(plan.used + 2));
            self.moved[queue] |= used != self.used[queue];
            self.signalled[queue] |= signals[queue];
            self.used[queue] = used;
        }
    }

    /// Asks the backend to stop the rings that are to be stopped, once that can be.
    fn stop(&mut self, host: &mut Host<'_>) {
        if self.draining == 0 || (self.preset.drain && !self.operations.is_empty()) {
            return;
        }
        self.stopping = std::mem::take(&mut self.draining);
        let rings = self.stopping as u16;
        self.run(host, |running| {
            for index in 0..rings {
                running.messages.ask(messages::GET_VRING_BASE, &ring(index, 0))?;
            }
            Ok(())
        });
    }

    /// A queue with news that the world has not been told of.
    fn news(&mut self) -> Option<u16> {
        let has_news = |at: &usize| (self.moved[*at] || self.signalled[*at]) && !self.told[*at];
        let at = (0..self.rings.len()).find(has_news)?;
        self.told[at] = true;
        Some(at as u16)
    }
}

impl DeviceUnderTest for Foreign {
    type Setup = Backend;

    const MEDIUM: Medium = Medium::Simulated;
    const BACKGROUND: bool = true;
    const REPEATABLE: bool = false;
    const COPIES: bool = false;

    fn fit(Backend(preset): &Backend, spec: &mut Spec) {
        spec.queues = spec.queues.min(preset.queues);
        spec.max_segments = spec.max_segments.min(preset.segments);
        // The protocol has no way to say that a device needs a reset.
        spec.waive = preset.waive().and(Waived::BROKEN_RINGS);
        if preset.serial.is_empty() {
            spec.waive = spec.waive.and(Waived::IDENTITY);
        }
        spec.serial = [0; 20];
        spec.serial[..preset.serial.len()].copy_from_slice(preset.serial.as_bytes());
        let disk = &mut spec.disk;
        (disk.granule, disk.tear) = (512, 1);
        (disk.discard_granularity, disk.zero_granularity) = (512, 512);
        (disk.can_discard, disk.read_only, disk.spare) = (true, false, 0);
        // A flush that an NBD server says is done covers everything, whatever failed before. The
        // sync of a file does not.
        disk.forgets = preset.is_on_file();
    }

    fn open(Backend(preset): &Backend, spec: &Spec, disk: &SimDisk, device: u8) -> Foreign {
        Foreign {
            preset: Arc::clone(preset),
            offer: spec.offer,
            image: disk.image(device).to_vec(),
            running: RefCell::new(None),
            operations: Operations::default(),
            rings: Vec::new(),
            is_placed: false,
            kicked: [false; MAX_QUEUES],
            used: [0; MAX_QUEUES],
            moved: [false; MAX_QUEUES],
            signalled: [false; MAX_QUEUES],
            told: [false; MAX_QUEUES],
            mode: None,
            draining: 0,
            stopping: 0,
        }
    }

    fn restart(&mut self, setup: &Backend, spec: &Spec, host: &mut Host<'_>, _end: End) {
        // The numbers of operations go on, because one of the dead backend may still complete.
        let mut operations = std::mem::take(&mut self.operations);
        operations.clear();
        *self = Foreign { operations, ..Foreign::open(setup, spec, host.disk, host.device) };
    }

    fn offered(&self) -> u64 {
        let features = self.with(|running| Ok(running.features));
        shown(&self.preset, features) & (self.offer | feature::RO)
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        if accept & !self.offered() != 0 || accept & feature::VERSION_1 == 0 {
            return false;
        }
        let mut mode = [0];
        self.config_read(config::WRITEBACK, &mut mode);
        let first = *self.mode.get_or_insert(mode[0]);
        let resets_mode = self.preset.resets_mode && mode[0] != first;
        self.with(|running| {
            let transport = running.features & PROTOCOL_FEATURES;
            running.tell(messages::SET_FEATURES, &words(&[accept | transport]), &[])?;
            if resets_mode { running.set_config(config::WRITEBACK, &[first]) } else { Ok(()) }
        });
        true
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        out.fill(0);
        let image = &self.image;
        let space = self.with(|running| running.config(image));
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        for (out, byte) in out.iter_mut().zip(space.iter().skip(start)) {
            *out = *byte;
        }
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.with(|running| running.set_config(offset, bytes));
    }

    /// The backend gets the rings in the next step, with guest memory.
    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.to_vec();
        self.is_placed = false;
        (self.kicked, self.moved, self.signalled, self.told) = Default::default();
        for (used, plan) in self.used.iter_mut().zip(rings) {
            *used = plan.base;
        }
    }

    fn kick(&mut self, queue: u16) {
        self.kicked[usize::from(queue)] = true;
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let at = usize::from(queue);
        if at >= self.rings.len() {
            return Progress::Idle;
        }
        if std::mem::take(&mut self.kicked[at]) || !self.is_placed {
            self.run(host, |running| {
                rustix::io::write(&running.kicks[at], &1_u64.to_ne_bytes())?;
                Ok(())
            });
        }
        let moved = std::mem::take(&mut self.moved[at]);
        self.told[at] = false;
        if std::mem::take(&mut self.signalled[at]) {
            return Progress::Signal;
        }
        match self.news() {
            Some(other) => Progress::Woke(other),
            None if moved => Progress::Busy,
            None => Progress::Idle,
        }
    }

    /// Gives the backend one answer of its host, and lets it run.
    fn background(&mut self, host: &mut Host<'_>) -> Progress {
        let ram = host.ram;
        let mut lane = Lane::background(host.disk, host.device);
        let completion = lane.complete(&ram);
        let answered = completion.is_some();
        let answer = completion.and_then(|completion| self.operations.completed(completion));
        let Some(running) = self.running.get_mut() else { return Progress::Idle };
        // Most of these calls find nothing new.
        let has_room = host.disk.room() > 0;
        let submits = self.operations.wait_for_room() && has_room;
        let waits = !self.operations.is_empty();
        if !answered && !submits && self.is_placed && running.process.still_rests(waits) {
            return self.news().map_or(Progress::Idle, Progress::Woke);
        }
        self.run(host, |running| match answer {
            Some(Answer { cookie, result }) => {
                running.below.answer(cookie, result.as_deref().map_err(|errno| *errno))
            }
            None => Ok(()),
        });
        self.stop(host);
        match self.news() {
            Some(queue) => Progress::Woke(queue),
            None if answered => Progress::Busy,
            None => Progress::Idle,
        }
    }

    /// Stops the rings. The backend answers once it has finished what it has in hand.
    fn begin_reset(&mut self, host: &mut Host<'_>) {
        self.draining = if self.is_placed { self.rings.len() } else { 0 };
        self.rings.clear();
        self.stop(host);
    }

    fn reset_done(&mut self) -> bool {
        if self.stopping == 0 {
            return self.draining == 0;
        }
        let stopping = self.stopping;
        let stopped = self.with(|running| {
            let mut stopped = 0;
            while stopped < stopping
                && let Some((request, _)) = running.messages.answer()?
            {
                if request != messages::GET_VRING_BASE {
                    return Err(io::Error::other(format!("an answer to message {request}")));
                }
                stopped += 1;
            }
            if stopped == stopping && running.protocol & protocol::RESET_DEVICE != 0 {
                running.tell(messages::RESET_DEVICE, &[], &[])?;
            }
            Ok(stopped)
        });
        self.stopping -= stopped;
        self.is_placed &= self.stopping > 0;
        self.stopping == 0
    }
}
