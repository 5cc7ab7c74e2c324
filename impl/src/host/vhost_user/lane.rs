//! One queue, the disk below it, and the ring it serves; stepped by the thread of the queue.
//!
//! Whoever has the [helm](crate::worker_lock) of a lane may step it. That is the queue's own
//! thread, woken by a kick, a completion or the bell; the thread that answers the front-end takes
//! the lane from it for a moment, to change what has to be changed or to step it to its end.

use super::busy_poll::BusyPoll;
use super::notifier::Notifier;
use super::setup::{Kick, Setup};
use super::{Memory, QueueDisk};
use crate::crank::{Step, settle, step};
use crate::inflight::{InflightError, InflightMemory, InflightRecord};
use crate::queue::BlockQueue;
use crate::queue_set::QueueIndex;
use crate::shared::Shared;
use crate::virtio::Ring;
use crate::worker_lock::{self, Wakeup, WorkerLock};
use rustix::event::{EventfdFlags, epoll, eventfd};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Why a ring is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// Its size is not a power of two, or above what the server takes.
    Size {
        /// In descriptors.
        size: u16,
        /// The most that the server takes.
        most: u16,
    },
    /// The driver's features were not accepted, or there were none.
    Features,
    /// A part of it lies in no region of guest memory.
    Memory,
    /// What is on it makes no sense; it is not served until it is set up again.
    Broken,
    /// Its kick is no eventfd.
    Kick,
    /// The record of what is in flight cannot be gone on with.
    Record(InflightError),
}

/// What has become of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is served, and goes on with so many requests that a dead back-end had in flight.
    GoesOn(u16),
    /// It is served, and what is in flight is on no record: the front-end's memory for it has too
    /// few descriptors.
    Unrecorded,
    /// It is not served.
    NotServed(RingError),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RingError::Record(error) => return error.fmt(f),
            RingError::Size { size, most } => {
                return write!(f, "its size is {size}, and it must be a power of two up to {most}");
            }
            RingError::Features => "no features were negotiated for it",
            RingError::Memory => "it is not in the memory that the front-end shares",
            RingError::Broken => "what is on it makes no sense",
            RingError::Kick => "its kick is not an event descriptor",
        })
    }
}

/// A queue, and who may step it.
#[derive(Debug)]
pub(super) struct Lane<D> {
    lock: WorkerLock<State<D>, EventBell>,
    /// What the thread of this queue sleeps on: the bell, the kick and the disk's completions.
    epoll: Arc<OwnedFd>,
}

/// A lane that was taken from its thread.
pub(super) type Exclusive<'a, D> = worker_lock::Exclusive<'a, State<D>, EventBell>;

/// A bell that can be slept on together with other descriptors.
#[derive(Debug)]
pub(super) struct EventBell(OwnedFd);

impl Wakeup for EventBell {
    fn signal(&self) {
        // It fails only when the bell rings already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        // It fails only when the bell does not ring.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for EventBell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// What a lane's thread was woken by; the number that goes with a descriptor in its epoll.
const WAKEUP: u64 = 0;
const KICK: u64 = 1;
const DONE: u64 = 2;

/// A driver that is owed a signal is signalled when there is nothing else to do, and after so many
/// steps at the latest. Waking it costs more than a small request, and one that is woken too often
/// takes its answers one by one.
const MOST_OWED: u8 = 32;

const IN: epoll::EventFlags = epoll::EventFlags::IN;

/// A kick wakes once for each time it was written to, whatever is left in it.
const ONCE_A_WRITE: epoll::EventFlags = epoll::EventFlags::ET;

impl<D: QueueDisk> Lane<D> {
    pub(super) fn open(index: QueueIndex, shared: &Arc<Shared>, disk: D) -> io::Result<Lane<D>> {
        let epoll = Arc::new(epoll::create(epoll::CreateFlags::CLOEXEC)?);
        let wakeup = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let listen = |fd, name| epoll::add(&epoll, fd, epoll::EventData::new_u64(name), IN);
        let (call, error) = (Notifier::new(), None);
        listen(wakeup.as_fd(), WAKEUP)?;
        if let Some(fd) = disk.completion_fd() {
            listen(fd, DONE)?;
        }
        let state = State {
            block: BlockQueue::new(index, Arc::clone(shared), shared.config().queue_size),
            disk,
            memory: Memory::default(),
            setup: Setup::default(),
            call,
            error,
            record: None,
            ring: None,
            refused: false,
            listening: false,
            busy_poll: BusyPoll::default(),
            owed: None,
            epoll: Arc::clone(&epoll),
        };
        Ok(Lane { lock: WorkerLock::new(state, EventBell(wakeup)), epoll })
    }

    /// The lane, taken from the thread of this queue.
    pub(super) fn take(&self) -> Exclusive<'_, D> {
        self.lock.take()
    }

    /// Another queue moved what this one waits for.
    pub(super) fn wake(&self) {
        self.lock.wake();
    }

    /// Has the thread look again.
    pub(super) fn ring_bell(&self) {
        self.lock.wakeup().signal();
    }

    /// The life of the thread of this queue, until `over` says that it is over and the bell has
    /// rung. `report` is told what has become of a ring, and `part` that the front-end has shrunk
    /// its memory.
    pub(super) fn work(
        &self,
        shared: &Shared,
        over: &AtomicBool,
        wake: impl Fn(QueueIndex),
        report: impl Fn(News),
        part: impl Fn(),
    ) {
        let mut events = [epoll::Event { flags: IN, data: epoll::EventData::new_u64(WAKEUP) }; 3];
        loop {
            // It fails only when a signal came, and then the lane is looked at once more.
            let ready = epoll::wait(&self.epoll, &mut events, None).unwrap_or(0);
            let came = |name| events[..ready].iter().any(|event| event.data.u64() == name);
            let mut worker = self.lock.lock_worker(came(WAKEUP));
            if over.load(Ordering::Acquire) {
                return;
            }
            if came(KICK) || came(DONE) {
                worker.busy_poll.found();
            }
            if came(DONE) {
                // The driver may have published meanwhile, and need not kick if it is seen now.
                worker.block.handle_kick();
            }
            if came(KICK)
                && let Err(why) = worker.hear()
            {
                report(News::NotServed(why));
            }
            match worker.start(shared) {
                Ok(news) => news.into_iter().for_each(&report),
                Err(why) => report(News::NotServed(why)),
            }
            worker.run(|lane, woken| lane.step(woken, &wake) || lane.busy_polls());
            if worker.is_newly_broken() {
                report(News::NotServed(RingError::Broken));
            }
            // While the lane is held: afterwards it may be the next front-end's.
            if worker.memory.is_shrunk() {
                part();
            }
        }
    }
}

/// What is stepped.
#[derive(Debug)]
pub(super) struct State<D> {
    block: BlockQueue,
    pub(super) disk: D,
    pub(super) memory: Memory,
    pub(super) setup: Setup,
    /// Tells the driver that something was used.
    call: Notifier,
    /// The eventfd or pipe on which the front-end wants to hear that the ring makes no sense.
    pub(super) error: Option<OwnedFd>,
    /// Where it keeps a record of what is in flight, if the front-end has given it a place.
    pub(super) record: Option<Arc<dyn InflightMemory>>,
    /// The ring that is served, if there is one.
    ring: Option<Ring>,
    /// Something was said about this ring already, and it will not be served.
    refused: bool,
    /// The kick is in the epoll.
    listening: bool,
    busy_poll: BusyPoll,
    /// The driver is owed a signal, and so many steps were taken since.
    owed: Option<u8>,
    epoll: Arc<OwnedFd>,
}

impl<D: QueueDisk> State<D> {
    /// Takes one step. Nothing new is taken from a ring that is not enabled, nor while the queue is
    /// paused. Says whether anything moved.
    pub(super) fn step(&mut self, woken: bool, wake: impl Fn(QueueIndex)) -> bool {
        let State { block, disk, memory, setup, ring, busy_poll, owed, .. } = self;
        let Some(ring) = ring else { return false };
        if woken {
            block.handle_wake(ring, memory);
        }
        // It asks for kicks only when it will not look any more.
        let busy_polls = block.is_about_to_sleep() && busy_poll.is_worth_it();
        let takes = block.is_paused() || (setup.enabled && !busy_polls);
        match if takes { step } else { settle }(block, ring, disk, memory) {
            Step::Completed => busy_poll.found(),
            Step::Submitted | Step::Ring => {}
            Step::Wake(other) => wake(other),
            Step::Signal => *owed = owed.or(Some(0)),
            Step::Idle => {
                self.signal();
                return false;
            }
        }
        if let Some(steps) = owed {
            *steps += 1;
            if *steps > MOST_OWED {
                self.signal();
            }
        }
        true
    }

    /// Signals the driver, if that is owed.
    fn signal(&mut self) {
        if self.owed.take().is_some() {
            self.call.notify();
        }
    }

    /// Whether the thread looks again before it sleeps.
    fn busy_polls(&mut self) -> bool {
        let State { block, memory, setup, ring, busy_poll, .. } = self;
        let Some(ring) = ring else { return false };
        if !setup.enabled || !block.is_about_to_sleep() {
            return false;
        }
        if block.look_before_sleep(ring, memory) {
            busy_poll.found();
        } else {
            std::hint::spin_loop();
        }
        true
    }

    /// The kick was heard.
    fn hear(&mut self) -> Result<(), RingError> {
        match self.setup.read_kick() {
            Kick::Came => self.block.handle_kick(),
            Kick::Gone => {}
            Kick::Dead => {
                self.ignore_kick();
                self.refused = true;
                return Err(RingError::Kick);
            }
        }
        Ok(())
    }

    /// Begins to serve the ring, if the front-end wants that and it is not done already.
    fn start(&mut self, shared: &Shared) -> Result<Option<News>, RingError> {
        if self.ring.is_some() || self.refused || self.setup.audible().is_none() {
            return Ok(None);
        }
        let ring = self.judge(shared);
        self.refused = ring.is_err();
        let ring = self.ring.insert(ring?);
        if !self.block.keeps_record() {
            return Ok(self.record.is_some().then_some(News::Unrecorded));
        }
        // What it has taken and not answered is what the record said.
        let (next_avail, next_used) = ring.position();
        let taken = next_avail.wrapping_sub(next_used);
        Ok((taken > 0).then_some(News::GoesOn(taken)))
    }

    /// The ring as it was set up, and where a dead back-end left it.
    fn judge(&mut self, shared: &Shared) -> Result<Ring, RingError> {
        let mut ring = self.setup.judge(&self.memory, shared)?;
        self.block.keep_no_record();
        if let Some(record) = &self.record {
            match self.block.keep_record(Arc::clone(record), &mut ring, &self.memory) {
                // A front-end that has asked for less memory than its ring takes is served, as one
                // that has asked for none is.
                Err(InflightError::TooSmall(_)) if InflightRecord::is_empty(&**record) => {}
                kept => kept.map_err(RingError::Record)?,
            }
        }
        Ok(ring)
    }

    /// Whether the ring makes no sense, and that was not said yet. The front-end is told too.
    fn is_newly_broken(&mut self) -> bool {
        if !self.block.is_broken() || std::mem::replace(&mut self.refused, true) {
            return false;
        }
        if let Some(error) = self.error.take() {
            let mut notifier = Notifier::new();
            notifier.set(Some(error));
            notifier.notify();
        }
        true
    }

    /// Changes what was said about the ring, and what its thread listens to with it.
    ///
    /// # Errors
    /// The kick cannot be listened to.
    pub(super) fn set_up(&mut self, change: impl FnOnce(&mut Setup)) -> Result<(), RingError> {
        self.ignore_kick();
        change(&mut self.setup);
        if let Some(kick) = self.setup.audible() {
            let name = epoll::EventData::new_u64(KICK);
            epoll::add(&self.epoll, kick, name, IN | ONCE_A_WRITE).map_err(|_| RingError::Kick)?;
            self.listening = true;
        }
        // What came while the ring was not enabled was not looked at.
        self.block.handle_kick();
        Ok(())
    }

    fn ignore_kick(&mut self) {
        if std::mem::take(&mut self.listening) {
            let kick = self.setup.audible().expect("what is listened to is there");
            epoll::delete(&self.epoll, kick).expect("it was listened to");
        }
    }

    /// Signals by this eventfd or pipe from now on, and at once if the ring is served: what was
    /// used before went to the other one, or nowhere.
    pub(super) fn set_call(&mut self, call: Option<OwnedFd>) {
        self.call.set(call);
        if self.is_serving() {
            self.call.notify();
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.ring.is_some()
    }

    /// Takes nothing new from the ring from now on; [`stop`](State::stop) ends that.
    pub(super) fn pause(&mut self) {
        self.block.pause();
    }

    /// Whether everything that was taken is answered, what a dead back-end had taken included.
    pub(super) fn is_drained(&self) -> bool {
        self.block.is_drained()
    }

    /// Whether the host has nothing in its hands.
    pub(super) fn is_idle(&self) -> bool {
        self.block.is_idle()
    }

    /// Whether there is a record of what is in flight.
    pub(super) fn is_recorded(&self) -> bool {
        self.block.keeps_record()
    }

    /// A reset: abandons what is not in the host's hands, and nothing is answered from here on.
    pub(super) fn abandon(&mut self) {
        self.block.stop();
        self.owed = None;
    }

    /// The front-end is left: as [`abandon`](State::abandon), but what is in flight stays on
    /// record.
    pub(super) fn leave(&mut self) {
        self.signal();
        self.block.leave();
    }

    /// Serves the ring no more; what was said about it says where the driver goes on.
    ///
    /// # Panics
    /// If something is in the host's hands.
    pub(super) fn stop(&mut self) {
        self.block.stop();
        self.block.restart();
        self.block.resume();
        self.refused = false;
        if let Some(ring) = self.ring.take() {
            self.setup.base = ring.position().0;
        }
    }
}
