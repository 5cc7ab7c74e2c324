//! The device under test whose backend is a process of another program.

use std::cell::RefCell;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use powerfail_device::Disk as _;
use rustix::event::{EventfdFlags, eventfd};

use super::below::{Asked, Below, Kind};
use super::messages::{self, Messages, PROTOCOL_FEATURES, protocol, ring, words};
use super::operations::{Answer, Operations};
use super::place::Place;
use super::preset::{Backend, Preset};
use super::process::Process;
use super::shared::Shared;
use crate::dut::{
    ALL_FEATURES, DeviceUnderTest, End, Host, MAX_QUEUES, Medium, Progress, Spec, Waived,
};
use crate::guest::RingPlan;
use crate::guest::wire::{config, feature};
use crate::host::disk::{Lane, SimDisk};

/// How long a backend may take to listen, and to answer a message.
const DEADLINE: Duration = Duration::from_secs(10);

/// How long a backend may keep a thread running without doing anything visible. After that it is
/// taken to be at rest.
const RESTLESS: Duration = Duration::from_secs(5);

/// The address of guest address zero in the messages.
const USER: u64 = 1 << 32;

/// Bytes of the configuration space that are asked for.
const CONFIG: usize = 60;

/// A running backend with its connections.
#[derive(Debug)]
struct Running {
    process: Process,
    messages: Messages,
    below: Below,
    /// Requests to the host that are not operations yet.
    asked: Vec<Asked>,
    features: u64,
    protocol: u64,
    shared: Option<Shared>,
    kicks: Vec<OwnedFd>,
    calls: Vec<OwnedFd>,
    _place: Place,
}

/// What a backend offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The features that a driver is shown.
    pub shown: u64,
    /// The other features.
    pub kept_back: u64,
    /// Whether the cache mode reads write-back before there is a driver.
    pub writeback: bool,
    /// The features of the protocol.
    protocol: u64,
}

impl Offer {
    /// The features of the protocol that the front-end knows, each with whether it is offered, and
    /// so used.
    pub fn protocol(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        let names = [
            (protocol::MQ, "MQ"),
            (protocol::REPLY_ACK, "REPLY_ACK"),
            (protocol::CONFIG, "CONFIG"),
            (protocol::RESET_DEVICE, "RESET_DEVICE"),
        ];
        names.into_iter().map(|(bit, name)| (name, self.protocol & bit != 0))
    }
}

/// The features that a front-end shows to its driver: those that it knows, except for what a preset
/// hides.
fn shown(preset: &Preset, features: u64) -> u64 {
    features & (ALL_FEATURES | feature::RO) & !preset.hidden()
}

/// Starts a backend once, on an empty disk, and returns what it offers.
///
/// # Errors
/// One line: it does not start, does not listen, or does not speak vhost-user.
pub fn probe(backend: &Backend) -> Result<Offer, String> {
    let image = [0; 1 << 15];
    let mut running = Running::start(&backend.0, &image)?;
    let space = running.config(&image);
    let space = space.map_err(|e| format!("it does not show its configuration space: {e}"))?;
    let writeback = space.get(config::WRITEBACK as usize).is_some_and(|byte| *byte != 0);
    let shown = shown(&backend.0, running.features);
    let kept_back = running.features & !shown & !PROTOCOL_FEATURES;
    Ok(Offer { shown, kept_back, writeback, protocol: running.protocol })
}

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

impl Drop for Running {
    fn drop(&mut self) {
        self.process.signal();
        // A process that waits for an answer in the kernel cannot end before it has one.
        self.below.give_up();
        self.process.end();
    }
}

impl Running {
    /// Starts a backend on a disk with this content, connects and negotiates the protocol.
    fn start(preset: &Preset, image: &[u8]) -> Result<Running, String> {
        let place = Place::new().map_err(|e| format!("cannot make a temporary folder: {e}"))?;
        let (socket, disk) = (place.file("vhost-user"), place.file("disk"));
        let below = Below::new(preset.is_on_file(), &disk, image.len() as u64);
        let mut below = below.map_err(|e| format!("cannot make a disk for the backend: {e}"))?;
        let line = preset.command(&socket, &disk);
        let process = Process::start(&line, &place.file("output"));
        let mut process = process.map_err(|e| format!("cannot start `{line}`: {e}"))?;
        let begun = Instant::now();
        let mut asked = Vec::new();
        let messages = loop {
            let polled = below.poll(&mut asked);
            polled.map_err(|e| format!("`{line}`: {e}"))?;
            serve_at_once(&mut below, &mut asked, image)?;
            if let Ok(messages) = Messages::connect(&socket) {
                break messages;
            }
            if let Some(how) = process.ended() {
                return Err(format!("`{line}` does not serve: {how}"));
            }
            if begun.elapsed() > DEADLINE {
                return Err(format!("`{line}` does not listen at its socket"));
            }
            std::thread::park_timeout(Duration::from_micros(300));
        };
        process.needs(below.thread());
        let mut running = Running {
            process,
            messages,
            below,
            asked,
            features: 0,
            protocol: 0,
            shared: None,
            kicks: Vec::new(),
            calls: Vec::new(),
            _place: place,
        };
        running.negotiate(image).map_err(|e| format!("`{line}` does not speak vhost-user: {e}"))?;
        Ok(running)
    }

    fn negotiate(&mut self, image: &[u8]) -> io::Result<()> {
        self.messages.tell(messages::SET_OWNER, &[], &[])?;
        self.features = self.ask_word(messages::GET_FEATURES, image)?;
        if self.features & PROTOCOL_FEATURES != 0 {
            let offered = self.ask_word(messages::GET_PROTOCOL_FEATURES, image)?;
            let wanted =
                protocol::MQ | protocol::REPLY_ACK | protocol::CONFIG | protocol::RESET_DEVICE;
            self.protocol = offered & wanted;
            self.messages.tell(messages::SET_PROTOCOL_FEATURES, &words(&[self.protocol]), &[])?;
            self.messages.acknowledged = self.protocol & protocol::REPLY_ACK != 0;
        }
        if self.protocol & protocol::CONFIG == 0 {
            return Err(io::Error::other("it does not offer CONFIG, so it shows no capacity"));
        }
        if self.protocol & protocol::MQ != 0 {
            self.ask_word(messages::GET_QUEUE_NUM, image)?;
        }
        Ok(())
    }

    /// Waits for the answer to a message. Reads of its host are answered at once from `image`.
    fn answer(&mut self, request: u32, image: &[u8]) -> io::Result<Vec<u8>> {
        let begun = Instant::now();
        loop {
            if let Some((to, body)) = self.messages.answer()? {
                if to != request {
                    let what = format!("message {to} is answered instead of {request}");
                    return Err(io::Error::new(ErrorKind::InvalidData, what));
                }
                return Ok(body);
            }
            let any = self.below.poll(&mut self.asked)?;
            if any && self.shared.is_none() {
                serve_at_once(&mut self.below, &mut self.asked, image).map_err(io::Error::other)?;
            }
            if let Some(how) = self.process.ended() {
                return Err(io::Error::other(how));
            }
            if begun.elapsed() > DEADLINE {
                return Err(io::Error::other(format!("it does not answer message {request}")));
            }
            if !any {
                std::thread::yield_now();
            }
        }
    }

    fn ask_word(&mut self, request: u32, image: &[u8]) -> io::Result<u64> {
        self.messages.ask(request, &[])?;
        let body = self.answer(request, image)?;
        let word = body.first_chunk().ok_or_else(|| io::Error::other("a short answer"))?;
        Ok(u64::from_le_bytes(*word))
    }

    /// Sends a message and waits until it is processed, if the backend says so.
    fn tell(
        &mut self,
        request: u32,
        body: &[u8],
        fds: &[std::os::fd::BorrowedFd<'_>],
    ) -> io::Result<()> {
        if self.messages.tell(request, body, fds)? {
            let answer = self.answer(request, &[])?;
            if answer.iter().any(|byte| *byte != 0) {
                return Err(io::Error::other(format!("it refuses message {request}")));
            }
        }
        Ok(())
    }

    /// The configuration space; empty if the backend refuses to show it.
    fn config(&mut self, image: &[u8]) -> io::Result<Vec<u8>> {
        let mut body = [0, CONFIG as u32, 0].map(u32::to_le_bytes).concat();
        body.resize(12 + CONFIG, 0);
        self.messages.ask(messages::GET_CONFIG, &body)?;
        // The answer repeats the three words of the question.
        let answer = self.answer(messages::GET_CONFIG, image)?;
        Ok(answer.get(12..).unwrap_or_default().to_vec())
    }

    fn set_config(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut body = [offset as u32, bytes.len() as u32, 0].map(u32::to_le_bytes).concat();
        body.extend(bytes);
        self.tell(messages::SET_CONFIG, &body, &[])
    }

    /// Gives the backend guest memory and the rings of a driver.
    fn place(&mut self, rings: &[RingPlan], shared: Shared) -> io::Result<()> {
        let mut table = words(&[1]);
        table.extend(words(&[0, shared.len() as u64, USER, 0]));
        let memory = shared.as_fd().try_clone_to_owned()?;
        self.shared = Some(shared);
        self.tell(messages::SET_MEM_TABLE, &table, &[memory.as_fd()])?;
        (self.kicks, self.calls) = (Vec::new(), Vec::new());
        let event = || eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        for (index, plan) in (0..).zip(rings) {
            let (kick, call) = (event()?, event()?);
            self.tell(messages::SET_VRING_NUM, &ring(index, plan.size.into()), &[])?;
            self.tell(messages::SET_VRING_BASE, &ring(index, plan.base.into()), &[])?;
            let at = |address: u32| USER + u64::from(address);
            let places = [at(plan.descriptors), at(plan.used), at(plan.available), 0];
            let mut body = words(&[u64::from(index)]);
            body.extend(words(&places));
            self.tell(messages::SET_VRING_ADDR, &body, &[])?;
            let index_word = words(&[u64::from(index)]);
            self.tell(messages::SET_VRING_CALL, &index_word, &[call.as_fd()])?;
            self.tell(messages::SET_VRING_KICK, &index_word, &[kick.as_fd()])?;
            if self.features & PROTOCOL_FEATURES != 0 {
                self.tell(messages::SET_VRING_ENABLE, &ring(index, 1), &[])?;
            }
            self.kicks.push(kick);
            self.calls.push(call);
        }
        // Some backends signal every ring that they get.
        for call in &self.calls {
            let _ = rustix::io::read(call, &mut [0; 8]);
        }
        Ok(())
    }
}

/// Answers what a backend asks of its host before there is a driver.
fn serve_at_once(below: &mut Below, asked: &mut Vec<Asked>, image: &[u8]) -> Result<(), String> {
    for Asked { cookie, request } in asked.drain(..) {
        let (start, len) = (request.offset as usize, request.len as usize);
        let bytes = image.get(start..start.saturating_add(len));
        let result = match request.kind {
            Kind::Read => bytes.ok_or(libc::EINVAL),
            Kind::Sync => Ok(&[][..]),
            Kind::Write(_) | Kind::Discard | Kind::WriteZeroes { .. } => {
                return Err("the backend changes its disk before there is a driver, which is not \
                            supported"
                    .to_owned());
            }
        };
        below.answer(cookie, result).map_err(|e| format!("NBD: {e}"))?;
    }
    Ok(())
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
        let start = usize::try_from(offset).unwrap_or(CONFIG);
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
