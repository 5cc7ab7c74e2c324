//! One queue, its disk lane, and the ring it serves; stepped by the queue's worker thread.
//!
//! The holder of a lane's [worker lock](crate::worker_lock) steps it. Normally that is the worker,
//! woken by a kick, a completion or the wakeup; the front-end's thread takes the lane from it to
//! change its state or to drain it.

use super::busy_poll::BusyPoll;
use super::notifier::Notifier;
use super::ring_error::RingError;
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
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A change of a ring that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// It is served, and continues with this number of requests that a dead back-end had in flight.
    GoesOn(u16),
    /// It is served without an in-flight record, because the front-end's memory for it has too few
    /// descriptors.
    Unrecorded,
    /// It is not served.
    NotServed(RingError),
}

/// A queue behind its worker lock.
#[derive(Debug)]
pub(super) struct Lane<D> {
    lock: WorkerLock<State<D>, EventWakeup>,
    /// The sources that wake the worker: the wakeup, the kick and the disk's completions.
    epoll: Arc<OwnedFd>,
}

/// A lane that was taken from its worker.
pub(super) type Exclusive<'a, D> = worker_lock::Exclusive<'a, State<D>, EventWakeup>;

/// A wakeup that can be awaited together with other descriptors.
#[derive(Debug)]
pub(super) struct EventWakeup(OwnedFd);

impl Wakeup for EventWakeup {
    fn signal(&self) {
        // It fails only if the wakeup is pending already.
        let _ = rustix::io::write(&self.0, &1_u64.to_ne_bytes());
    }

    fn clear(&self) {
        // It fails only if the wakeup is not pending.
        let _ = rustix::io::read(&self.0, &mut [0; 8]);
    }
}

impl AsFd for EventWakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// The sources of a worker's wakeup, as the data of their descriptors in the epoll.
const WAKEUP: u64 = 0;
const KICK: u64 = 1;
const DONE: u64 = 2;

/// Maximum number of steps before an owed signal is sent; it is sent earlier if there is nothing
/// else to do. Waking the driver costs more than a small request, and a driver that is woken too
/// often takes its answers one by one.
const MOST_OWED: u8 = 32;

const IN: epoll::EventFlags = epoll::EventFlags::IN;

/// A kick wakes once per write, independent of the remaining count.
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
        Ok(Lane { lock: WorkerLock::new(state, EventWakeup(wakeup)), epoll })
    }

    /// Takes the lane from its worker.
    pub(super) fn take(&self) -> Exclusive<'_, D> {
        self.lock.take()
    }

    /// Makes this queue look again, after another queue changed the state it waits for.
    pub(super) fn wake(&self) {
        self.lock.wake();
    }

    /// Makes the worker look again.
    pub(super) fn wake_up(&self) {
        self.lock.wakeup().signal();
    }

    /// The main loop of the worker, until `over` is set and the wakeup is signalled. `report`
    /// receives changes of the ring, and `part` is called if the front-end has shrunk its memory.
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
            // It fails only on a signal, and then the lane is checked again.
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
                // The driver may have published meanwhile, and need not kick if that is seen now.
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
            // While the lane is locked: afterwards it may belong to the next front-end.
            if worker.memory.is_shrunk() {
                part();
            }
        }
    }
}

/// The state behind the worker lock.
#[derive(Debug)]
pub(super) struct State<D> {
    block: BlockQueue,
    pub(super) disk: D,
    pub(super) memory: Memory,
    pub(super) setup: Setup,
    /// Notifies the driver of used requests.
    call: Notifier,
    /// The eventfd or pipe that notifies the front-end of an invalid ring.
    pub(super) error: Option<OwnedFd>,
    /// The memory of the in-flight record, if the front-end has provided it.
    pub(super) record: Option<Arc<dyn InflightMemory>>,
    /// The ring that is served, if any.
    ring: Option<Ring>,
    /// A failure of this ring was reported, and it will not be served.
    refused: bool,
    /// The kick is in the epoll.
    listening: bool,
    busy_poll: BusyPoll,
    /// Number of steps since a signal became owed; `None` if none is owed.
    owed: Option<u8>,
    epoll: Arc<OwnedFd>,
}

impl<D: QueueDisk> State<D> {
    /// Takes one step; returns whether anything moved. Takes no new request from a ring that is not
    /// enabled, nor while the queue is paused.
    pub(super) fn step(&mut self, woken: bool, wake: impl Fn(QueueIndex)) -> bool {
        let State { block, disk, memory, setup, ring, busy_poll, owed, .. } = self;
        let Some(ring) = ring else { return false };
        if woken {
            block.handle_wake(ring, memory);
        }
        // Kicks are requested only if the ring will not be polled again.
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

    /// Signals the driver, if a signal is owed.
    fn signal(&mut self) {
        if self.owed.take().is_some() {
            self.call.notify();
        }
    }

    /// Looks at the ring once more instead of sleeping, if that is worthwhile; returns whether it
    /// did.
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

    /// Handles a kick.
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

    /// Starts serving the ring, if it is set up and not served yet.
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
        // The requests that it has taken and not answered are those of the record.
        let (next_avail, next_used) = ring.position();
        let taken = next_avail.wrapping_sub(next_used);
        Ok((taken > 0).then_some(News::GoesOn(taken)))
    }

    /// The ring as it was set up, continued at the state of a dead back-end.
    fn judge(&mut self, shared: &Shared) -> Result<Ring, RingError> {
        let mut ring = self.setup.judge(&self.memory, shared)?;
        self.block.keep_no_record();
        if let Some(record) = &self.record {
            match self.block.keep_record(Arc::clone(record), &mut ring, &self.memory) {
                // A front-end that requested less memory than its ring needs is served, as one that
                // requested none.
                Err(InflightError::TooSmall(_)) if InflightRecord::is_empty(&**record) => {}
                kept => kept.map_err(RingError::Record)?,
            }
        }
        Ok(ring)
    }

    /// Whether the ring is invalid and that was not reported yet. Notifies the front-end too.
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

    /// Changes the setup of the ring, and with it the descriptor that the worker listens to.
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
        // Kicks that arrived while the ring was not enabled were ignored.
        self.block.handle_kick();
        Ok(())
    }

    fn ignore_kick(&mut self) {
        if std::mem::take(&mut self.listening) {
            let kick = self.setup.audible().expect("what is listened to is there");
            epoll::delete(&self.epoll, kick).expect("it was listened to");
        }
    }

    /// Sets the eventfd or pipe to signal, and signals it at once if the ring is served: earlier
    /// signals went to the previous descriptor, or nowhere.
    pub(super) fn set_call(&mut self, call: Option<OwnedFd>) {
        self.call.set(call);
        if self.is_serving() {
            self.call.notify();
        }
    }

    pub(super) fn is_serving(&self) -> bool {
        self.ring.is_some()
    }

    /// Takes no new request from the ring from now on; [`stop`](State::stop) ends that.
    pub(super) fn pause(&mut self) {
        self.block.pause();
    }

    /// Whether every taken request is answered, including those that a dead back-end had taken.
    pub(super) fn is_drained(&self) -> bool {
        self.block.is_drained()
    }

    /// Whether the host has no operation of this lane.
    pub(super) fn is_idle(&self) -> bool {
        self.block.is_idle()
    }

    /// Whether there is an in-flight record.
    pub(super) fn is_recorded(&self) -> bool {
        self.block.keeps_record()
    }

    /// Abandons all requests without an operation in the host, for a reset; no request is answered
    /// from here on.
    pub(super) fn abandon(&mut self) {
        self.block.stop();
        self.owed = None;
    }

    /// Like [`abandon`](State::abandon), at a disconnection: the requests in flight stay in the
    /// record.
    pub(super) fn leave(&mut self) {
        self.signal();
        self.block.leave();
    }

    /// Stops serving the ring; its setup holds the index to continue from.
    ///
    /// # Panics
    /// If the host has an operation of this lane.
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
