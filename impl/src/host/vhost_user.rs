//! The device for a guest in another process: a vhost-user-blk back-end on a Unix socket.
//!
//! A front-end connects, shares its memory and its rings, and is served until it goes; then the
//! next one is. One thread a queue sleeps on the kick, the disk's completions and a bell; one
//! thread answers the front-end. Whatever is said on the socket about a ring that moves is done by
//! taking the lane from its thread for a moment (see `lane`).
//!
//! ```text
//!   Server        accepts one front-end after the other       vhost_user
//!     └ Connection  messages and their descriptors            connection, message, descriptor
//!     └ Channel     what the back-end says first              channel
//!     └ FrontEnd    features, configuration, memory, drain    front_end, memory_table
//!     └ Lane        queue, ring, disk, guest memory           lane, setup, record, notifier
//!                   busy-polling, draining                    busy_poll, drain
//! ```
//!
//! # What it promises
//!
//! - GET_VRING_BASE is answered only when every request that was taken is answered on its ring.
//!   When a connection ends, every such request is answered, or is on the front-end's in-flight
//!   record. Only where there is no record, and what is left is more than the host holds and takes
//!   longer than a moment, is it abandoned: nobody may be there to see it.
//! - RESET_DEVICE abandons what the host does not hold and waits for what it does. SET_FEATURES
//!   with no ring being served begins a new life too, unless the features are the same: so
//!   front-ends continue a paused guest.
//! - What was in flight when a back-end died is carried out by the next one the front-end connects
//!   to, each request answered once, and in the cache mode that the driver chose (INFLIGHT_SHMFD).
//!   The record may be another implementation's.
//! - Nothing that a front-end controls is waited for: neither its descriptors, which are looked at
//!   before they are used, nor its memory. What it wrote down is read once and compared before it
//!   counts. One front-end holds the server for as long as it stays connected; others wait.
//! - A disk that grows is shown to the driver at once, and no request is held against two sizes.
//! - A disk whose sync failed stays so for every later front-end.
//! - A front-end that shrinks a file it shares is parted from, and harms nobody else. For that the
//!   first memory that is shared takes over SIGBUS, in the whole process; what is no guest's memory
//!   is left to whoever had the signal before.
//!
//! # What it does not do
//!
//! Dirty pages are not logged (LOG_SHMFD), nor rings polled without a kick. A ring that cannot be
//! served is reported to the server's owner, and one that makes no sense on the error descriptor
//! too.

#[expect(clippy::disallowed_types, reason = "when a thread sleeps depends on it, not what it does")]
mod busy_poll;
mod channel;
mod connection;
mod descriptor;
#[expect(
    clippy::disallowed_types,
    reason = "how long a front-end's requests are worth waiting for"
)]
mod drain;
mod front_end;
mod lane;
mod memory_table;
mod message;
mod notifier;
mod record;
mod setup;

use crate::config::{Config, ConfigError};
use crate::disk::{Disk, Op, Submission, Token};
use crate::errno::Errno;
use crate::host::{ArcMemory, FileDisk, Regions, UringDisk};
use crate::queue_set::QueueIndex;
use crate::shared::{ResizeError, Shared};
use crate::virtio::Refused;
use channel::Channel;
use connection::{Connection, End};
use front_end::{Answer, FrontEnd};
pub use lane::RingError;
use lane::{Lane, News};
pub use message::{MessageError, Request};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::net::{SocketFlags, accept_with};
use std::fmt;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The most queues a server may have.
pub const MOST_QUEUES: u16 = 64;

/// How long a front-end waits that the host had no descriptor or memory for, before it is accepted
/// again.
const PAUSE: Duration = Duration::from_millis(100);

/// The guest memory that the disk below a server is lent: whoever holds it keeps it mapped.
pub type Memory = ArcMemory<Regions>;

/// A lane of a disk that the thread of a queue can sleep on.
pub trait QueueDisk: Disk<Memory> + Send + 'static {
    /// A descriptor that is readable while there are completions that were not there when one was
    /// last looked for; `None` if all are there when the doorbell has rung.
    fn completion_fd(&self) -> Option<BorrowedFd<'_>>;
}

impl QueueDisk for FileDisk {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

impl QueueDisk for UringDisk<Regions> {
    fn completion_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.as_fd())
    }
}

/// Something a server's owner may want to hear of.
#[derive(Debug)]
pub enum Event {
    /// A front-end is connected, the `n`th.
    Connected(u64),
    /// It has gone and everything it asked for is done.
    Gone(u64),
    /// The host has no descriptor or memory for a front-end that connects; told once until one is
    /// served.
    Unaccepted(io::Error),
    /// It said something that makes no sense or cannot be done, was told so if it asked to be, and
    /// was disconnected.
    ProtocolError(u64, MessageError),
    /// It shrank a file that is guest memory, and was disconnected.
    Shrank(u64),
    /// A ring is not served.
    Ring(QueueIndex, RingError),
    /// A ring goes on with so many requests that a back-end had in flight when it died.
    GoesOn(QueueIndex, u16),
    /// A ring is served without a record of what is in flight, for which the front-end's memory has
    /// too few descriptors.
    Unrecorded(QueueIndex),
    /// The driver's features cannot be accepted.
    Features(Refused),
    /// Other features came while rings were served; they do not count.
    LateFeatures(u64),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Connected(n) => write!(f, "front-end {n} connected"),
            Event::Gone(n) => write!(f, "front-end {n} is gone"),
            Event::Unaccepted(error) => write!(
                f,
                "front-ends that connect cannot be served ({error}); trying again until they can"
            ),
            Event::ProtocolError(n, error) => write!(f, "front-end {n} disconnected: {error}"),
            Event::Shrank(n) => {
                write!(f, "front-end {n} disconnected: it shrank the memory it shares")
            }
            Event::Ring(queue, why) => write!(f, "ring {} is not served: {why}", queue.0),
            Event::GoesOn(queue, requests) => write!(
                f,
                "ring {} goes on with {requests} requests that a server left unanswered",
                queue.0
            ),
            Event::Unrecorded(queue) => write!(
                f,
                "ring {} is served, but the front-end's in-flight record has too few descriptors for it",
                queue.0
            ),
            Event::Features(refused) => write!(f, "the driver's features do not count: {refused}"),
            Event::LateFeatures(features) => {
                write!(f, "features {features:#x} came while rings were served and do not count")
            }
        }
    }
}

/// Where a server's events go, from any of its threads.
pub type Report = Box<dyn Fn(Event) + Send + Sync>;

/// Why a server cannot be, or could not end as it should.
#[derive(Debug)]
pub enum ServeError {
    /// The device cannot be set up like this.
    Config(ConfigError),
    /// The host refused a descriptor or a thread.
    Host(io::Error),
    /// The disk could not be synced at the end: what was written since the last flush may be lost.
    Sync(Errno),
    /// A sync failed while the disk was served, and guests were told so: what they had written may
    /// be lost, though a later sync ended well.
    SyncFailed,
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Config(error) => error.fmt(f),
            ServeError::Host(error) => {
                write!(f, "the host has no descriptors or threads for a server: {error}")
            }
            ServeError::Sync(errno) => {
                let error = io::Error::from_raw_os_error(errno.0);
                write!(f, "the disk could not be synced, unflushed writes may be lost: {error}")
            }
            ServeError::SyncFailed => {
                write!(f, "a sync failed while it was served, unflushed writes may be lost")
            }
        }
    }
}

impl std::error::Error for ServeError {}

impl From<io::Error> for ServeError {
    fn from(error: io::Error) -> ServeError {
        ServeError::Host(error)
    }
}

/// Serves one disk to one front-end after the other.
pub struct Server<D> {
    shared: Arc<Shared>,
    lanes: Vec<Lane<D>>,
    report: Report,
    stopper: Stopper,
    channel: Arc<Channel>,
    /// The front-end that is served has shrunk the memory it shares.
    shrunk: AtomicBool,
}

impl<D: QueueDisk> Server<D> {
    /// A server of a device with one queue for each lane of a disk; the number of queues in
    /// `config` does not count.
    ///
    /// # Errors
    /// The configuration contradicts itself or the disk, or the host has no descriptors left.
    ///
    /// # Panics
    /// If there is no lane, or more than [`MOST_QUEUES`].
    pub fn new(config: Config, disks: Vec<D>, report: Report) -> Result<Server<D>, ServeError> {
        assert!((1..=usize::from(MOST_QUEUES)).contains(&disks.len()), "1 to {MOST_QUEUES} lanes");
        let config = Config { queues: disks.len() as u16, ..config };
        let shared = Shared::new(config, disks[0].limits()).map_err(ServeError::Config)?;
        let shared = Arc::new(shared);
        let lanes = disks.into_iter().zip(0..);
        let lanes = lanes.map(|(disk, index)| Lane::open(QueueIndex(index), &shared, disk));
        let lanes = lanes.collect::<io::Result<_>>()?;
        let (stopper, shrunk) = (Stopper::new()?, AtomicBool::new(false));
        Ok(Server { shared, lanes, report, stopper, channel: Arc::default(), shrunk })
    }

    /// What shows the driver a larger disk, from another thread.
    pub fn grower(&self) -> Grower {
        Grower { shared: Arc::clone(&self.shared), channel: Arc::clone(&self.channel) }
    }

    /// What ends [`run`](Server::run) from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves whoever connects to `listener`, one after the other, until it is stopped; then the
    /// disk is synced. A host that is short of descriptors or memory when somebody connects is
    /// reported, and asked again a moment later.
    ///
    /// # Errors
    /// The host has no threads left for the queues, or the last sync failed.
    pub fn run(&mut self, listener: UnixListener) -> Result<(), ServeError> {
        self.with_threads(|| {
            self.accept(&listener);
            Ok(())
        })?;
        self.sync()
    }

    /// Serves the front-end at the other end of a connection, until it is gone. What it did not
    /// flush is not synced.
    ///
    /// # Errors
    /// The host has no threads or descriptors left.
    pub fn serve_connection(&mut self, stream: UnixStream) -> Result<(), ServeError> {
        Ok(self.with_threads(|| self.serve(stream, 1))?)
    }

    /// Has a thread for each queue while `serve` serves.
    #[expect(clippy::disallowed_methods, reason = "a thread for each queue is what a server is")]
    fn with_threads(&self, serve: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Whatever happens here, the threads end: the scope waits for them.
            let _end = OnDrop(|| {
                over.store(true, Ordering::Release);
                self.lanes.iter().for_each(Lane::ring_bell);
            });
            for index in 0..self.lanes.len() {
                let (this, over) = (self, &over);
                let thread = std::thread::Builder::new().name(format!("queue-{index}"));
                thread.spawn_scoped(scope, move || this.work(index, over))?;
            }
            serve()
        })
    }

    /// What the thread of a queue does.
    fn work(&self, index: usize, over: &AtomicBool) {
        let wake = |queue: QueueIndex| self.lanes[usize::from(queue.0)].wake();
        let queue = QueueIndex(index as u16);
        let report = |news| {
            (self.report)(match news {
                News::GoesOn(requests) => Event::GoesOn(queue, requests),
                News::Unrecorded => Event::Unrecorded(queue),
                News::NotServed(why) => Event::Ring(queue, why),
            });
        };
        let part = || {
            self.shrunk.store(true, Ordering::Release);
            self.stopper.disconnect();
        };
        self.lanes[index].work(&self.shared, over, wake, report, part);
    }

    /// Accepts and serves one front-end after the other until it is stopped. No error of the host
    /// ends that: it may be over in a moment.
    fn accept(&self, listener: &UnixListener) {
        let (mut served, mut told) = (0, None);
        while !self.stopper.is_asked() {
            let done = match self.wait(listener) {
                Ok(true) => accept_with(listener, SocketFlags::CLOEXEC)
                    .map_err(io::Error::from)
                    .and_then(|accepted| self.serve(accepted.into(), served + 1)),
                Ok(false) => return,
                Err(error) => Err(error),
            };
            match done.map_err(|error| (error.kind(), error)) {
                Ok(()) => {
                    (served, told) = (served + 1, None);
                    continue;
                }
                // The front-end has gone again, or a signal came.
                Err((
                    io::ErrorKind::ConnectionAborted
                    | io::ErrorKind::Interrupted
                    | io::ErrorKind::WouldBlock,
                    _,
                )) => {}
                Err((_, error)) => {
                    if told.replace(error.raw_os_error()) != Some(error.raw_os_error()) {
                        (self.report)(Event::Unaccepted(error));
                    }
                }
            }
            // It may still wait to be accepted: asking again at once would take a whole processor.
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Waits until somebody connects; `false` if the server was stopped instead.
    fn wait(&self, listener: &UnixListener) -> io::Result<bool> {
        let stop = &self.stopper.0;
        while !stop.asked.load(Ordering::Acquire) {
            let (door, wakeup) = (listener.as_fd(), stop.wakeup.as_fd());
            let mut polled =
                [PollFd::new(&door, PollFlags::IN), PollFd::new(&wakeup, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) if polled[0].revents().contains(PollFlags::IN) => return Ok(true),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Serves a front-end until it is gone.
    ///
    /// # Errors
    /// The host has no descriptors for it, so it was hung up on before anything was served.
    fn serve(&self, stream: UnixStream, n: u64) -> io::Result<()> {
        let ends = stream.try_clone()?;
        self.shrunk.store(false, Ordering::Release);
        self.stopper.attend(Some(ends));
        (self.report)(Event::Connected(n));
        let connection = Connection::new(stream);
        let is_over = || self.stopper.is_asked() || connection.is_hung_up();
        let mut front_end =
            FrontEnd::new(&self.shared, &self.lanes, &self.report, &self.channel, &is_over);
        let end = self.converse(&connection, &mut front_end);
        self.channel.close();
        // Here everything it asked for is brought to its end, before it sees that it was hung up
        // on.
        let ending = self.stopper.is_asked();
        let shrunk = front_end.end(ending) || self.shrunk.load(Ordering::Acquire);
        self.stopper.attend(None);
        drop(connection);
        (self.report)(match end {
            _ if shrunk => Event::Shrank(n),
            End::ProtocolError(error) if !self.stopper.is_asked() => Event::ProtocolError(n, error),
            End::ProtocolError(_) | End::Gone => Event::Gone(n),
        });
        Ok(())
    }

    /// Answers one message after the other until the connection is over; says why it is.
    fn converse(&self, connection: &Connection, front_end: &mut FrontEnd<'_, D>) -> End {
        loop {
            let mut message = match connection.receive() {
                Ok(message) => message,
                Err(end) => return end,
            };
            let request = message.request;
            let answered = match front_end.handle(&mut message) {
                Ok(Answer::Over) => return End::Gone,
                Ok(Answer::Body(body, fd)) => {
                    connection.reply(request, &body, fd.as_ref().map(AsFd::as_fd))
                }
                Ok(Answer::Done) if message.needs_reply && front_end.acknowledges() => {
                    connection.reply(request, &0_u64.to_ne_bytes(), None)
                }
                Ok(Answer::Done) => Ok(()),
                Err(error) => {
                    if message.needs_reply && front_end.acknowledges() {
                        // It may be gone; then it does not matter that it was not told.
                        let _ = connection.reply(request, &1_u64.to_ne_bytes(), None);
                    }
                    return End::ProtocolError(error);
                }
            };
            if let Err(end) = answered {
                return end;
            }
        }
    }

    /// Makes stable what no flush has.
    fn sync(&self) -> Result<(), ServeError> {
        let memory = Memory::default();
        let mut lane = self.lanes[0].take();
        let disk = &mut lane.disk;
        disk.submit(&memory, Submission { token: Token::new(0, 0), op: Op::Sync });
        disk.doorbell();
        loop {
            if let Some(completion) = disk.complete(&memory) {
                completion.result.map_err(ServeError::Sync)?;
                return if self.shared.sync_failed() {
                    Err(ServeError::SyncFailed)
                } else {
                    Ok(())
                };
            }
            if let Some(fd) = disk.completion_fd() {
                let mut polled = [PollFd::new(&fd, PollFlags::IN)];
                // It fails only when a signal came.
                let _ = poll(&mut polled, None);
            }
        }
    }
}

/// Shows the driver that its disk has grown.
#[derive(Clone, Debug)]
pub struct Grower {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
}

impl Grower {
    /// From now on the disk has `capacity` bytes, which every lane must have already. Says whether
    /// that is a change. A front-end that has no channel to be told on will see it in the
    /// configuration space.
    ///
    /// # Errors
    /// The size is smaller than it was, or the front-end does not listen; in the latter case it
    /// counts all the same.
    pub fn grow(&self, capacity: u64) -> Result<bool, GrowError> {
        let grown = self.shared.grow(capacity).map_err(GrowError::Size)?;
        if grown {
            self.channel.say_config_changed().map_err(GrowError::Untold)?;
        }
        Ok(grown)
    }
}

/// Why a driver is not shown a larger disk.
#[derive(Debug)]
pub enum GrowError {
    /// It cannot have this size.
    Size(ResizeError),
    /// The front-end does not listen.
    Untold(io::Error),
}

impl fmt::Display for GrowError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrowError::Size(error) => error.fmt(f),
            GrowError::Untold(error) => write!(f, "the front-end could not be told: {error}"),
        }
    }
}

impl std::error::Error for GrowError {}

/// Does something at the end of its life, however that comes.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Ends a [`Server`]: no front-end is accepted any more, and the one that is served is
/// disconnected, drained and gone.
#[derive(Clone)]
pub struct Stopper(Arc<Stop>);

struct Stop {
    asked: AtomicBool,
    /// Rings, and is never quiet again, once it was asked.
    wakeup: OwnedFd,
    /// The connection that is served.
    connection: Mutex<Option<UnixStream>>,
}

impl Stopper {
    fn new() -> io::Result<Stopper> {
        let wakeup = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let stop = Stop { asked: AtomicBool::new(false), wakeup, connection: Mutex::new(None) };
        Ok(Stopper(Arc::new(stop)))
    }

    /// Asks for the end; it may be asked for more than once.
    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::Release);
        // It fails only when it rings already.
        let _ = rustix::io::write(&self.0.wakeup, &1_u64.to_ne_bytes());
        self.disconnect();
    }

    /// Ends the connection that is served, and nothing else.
    fn disconnect(&self) {
        self.hang_up(&crate::sync::lock(&self.0.connection));
    }

    fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// From now on this connection is the one to end.
    fn attend(&self, connection: Option<UnixStream>) {
        let mut current = crate::sync::lock(&self.0.connection);
        *current = connection;
        // It may have been asked for before there was a connection to see.
        if self.is_asked() {
            self.hang_up(&current);
        }
    }

    fn hang_up(&self, connection: &Option<UnixStream>) {
        if let Some(connection) = connection {
            // The front-end may have done so already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}
