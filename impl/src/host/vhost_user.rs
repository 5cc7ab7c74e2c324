//! The device for a guest in another process: a vhost-user-blk back-end on a Unix socket.
//!
//! A front-end connects, shares its memory and its rings, and is served until it disconnects; then
//! the next one is served. One worker thread per queue sleeps on the kick, the disk's completions
//! and a wakeup; one thread answers the front-end. To apply a message about a ring that is served,
//! that thread takes the lane from its worker for a moment (see `lane`).
//!
//! ```text
//!   Server        accepts one front-end after the other       vhost_user
//!     └ Connection  messages and their descriptors            connection, message, descriptor
//!     └ Channel     messages that the back-end starts         channel
//!     └ FrontEnd    features, configuration, memory, drain    front_end, memory_table
//!     └ Lane        queue, ring, disk, guest memory           lane, setup, record, notifier
//!                   busy-polling, draining                    busy_poll, drain
//! ```
//!
//! # What it promises
//!
//! - GET_VRING_BASE is answered only when every taken request is answered on its ring. When a
//!   connection ends, every such request is answered or is in the front-end's in-flight record.
//!   Without a record, requests that the host does not have are abandoned if they take longer than
//!   a moment, because their answers may have no reader.
//! - RESET_DEVICE abandons requests that the host does not have and waits for the others.
//!   SET_FEATURES without a served ring begins a new life too, unless the features are unchanged:
//!   front-ends continue a paused guest that way.
//! - The requests that were in flight when a back-end died are executed by the next one that the
//!   front-end connects to, each answered once, and in the cache mode that the driver chose
//!   (INFLIGHT_SHMFD). The record may be that of another implementation.
//! - The server never waits for anything that a front-end controls: neither its descriptors, which
//!   are checked before use, nor its memory. Each value from the front-end is read once and
//!   validated before use. One front-end holds the server as long as it stays connected; others
//!   wait.
//! - A disk that grows is shown to the driver at once, and no request is checked against two sizes.
//! - A disk whose sync failed stays failed for every later front-end.
//! - A front-end that shrinks a file it shares is disconnected, and harms no other. For that, the
//!   first shared memory installs a SIGBUS handler for the whole process; faults outside guest
//!   memory go to the previous handler.
//!
//! # What it does not do
//!
//! Dirty pages are not logged (LOG_SHMFD), and rings are not polled without a kick. A ring that
//! cannot be served is reported to the server's owner, and an invalid ring on the error descriptor
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
mod ring_error;
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
use lane::{Lane, News};
pub use message::{MessageError, Request};
pub use ring_error::RingError;
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

/// Maximum number of queues of a server.
pub const MOST_QUEUES: u16 = 64;

/// Time before the next attempt to accept a front-end, after the host had no descriptor or memory
/// for one.
const PAUSE: Duration = Duration::from_millis(100);

/// The guest memory that the disk of a server borrows; a holder keeps it mapped.
pub type Memory = ArcMemory<Regions>;

/// A disk lane that a queue's worker can sleep on.
pub trait QueueDisk: Disk<Memory> + Send + 'static {
    /// A descriptor that is readable while there are completions that arrived after the last look;
    /// `None` if all completions are available after the doorbell.
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

/// An event for the owner of a server.
#[derive(Debug)]
pub enum Event {
    /// The `n`th front-end is connected.
    Connected(u64),
    /// It has disconnected, and its requests are done.
    Gone(u64),
    /// The host has no descriptor or memory for a connecting front-end; reported once until one is
    /// served.
    Unaccepted(io::Error),
    /// It sent an invalid or impossible message and was disconnected; the message was refused first
    /// if it requested a reply.
    ProtocolError(u64, MessageError),
    /// It shrank a file that is guest memory, and was disconnected.
    Shrank(u64),
    /// A ring is not served.
    Ring(QueueIndex, RingError),
    /// A ring continues with this number of requests that a dead back-end had in flight.
    GoesOn(QueueIndex, u16),
    /// A ring is served without an in-flight record, because the front-end's memory for it has too
    /// few descriptors.
    Unrecorded(QueueIndex),
    /// The driver's features cannot be accepted.
    Features(Refused),
    /// A change of the features while rings were served; it is ignored.
    LateFeatures(u64),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::Connected(n) => write!(f, "front-end {n} connected"),
            Event::Gone(n) => write!(f, "front-end {n} is gone"),
            Event::Unaccepted(error) => {
                write!(f, "front-ends cannot be accepted ({error}); retrying")
            }
            Event::ProtocolError(n, error) => write!(f, "front-end {n} disconnected: {error}"),
            Event::Shrank(n) => {
                write!(f, "front-end {n} disconnected: it shrank the memory it shares")
            }
            Event::Ring(queue, why) => write!(f, "ring {} is not served: {why}", queue.0),
            Event::GoesOn(queue, requests) => write!(
                f,
                "ring {} continues with {requests} requests that an earlier server left unanswered",
                queue.0
            ),
            Event::Unrecorded(queue) => write!(
                f,
                "ring {} is served, but the front-end's in-flight record has too few descriptors for it",
                queue.0
            ),
            Event::Features(refused) => write!(f, "the driver's features are ignored: {refused}"),
            Event::LateFeatures(features) => {
                write!(f, "features {features:#x} came while rings were served and are ignored")
            }
        }
    }
}

/// The receiver of a server's events, called from any of its threads.
pub type Report = Box<dyn Fn(Event) + Send + Sync>;

/// The reason why a server cannot start, or ended with an error.
#[derive(Debug)]
pub enum ServeError {
    /// The device cannot have this configuration.
    Config(ConfigError),
    /// The host refused a descriptor or a thread.
    Host(io::Error),
    /// The disk could not be synced at the end: data written since the last flush may be lost.
    Sync(Errno),
    /// A sync failed while the disk was served, and the guests saw it: their data may be lost,
    /// although the last sync succeeded.
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
    /// The connected front-end has shrunk the memory it shares.
    shrunk: AtomicBool,
}

impl<D: QueueDisk> Server<D> {
    /// A server of a device with one queue per disk lane; the number of queues in `config` is
    /// ignored.
    ///
    /// # Errors
    /// The configuration contradicts itself or the disk, or the host provides no descriptor.
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

    /// A handle to announce a larger disk to the driver, from another thread.
    pub fn grower(&self) -> Grower {
        Grower { shared: Arc::clone(&self.shared), channel: Arc::clone(&self.channel) }
    }

    /// A handle to end [`run`](Server::run), from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves the front-ends that connect to `listener`, one after the other, until it is stopped;
    /// then syncs the disk. If the host lacks descriptors or memory for a connection, that is
    /// reported and retried a moment later.
    ///
    /// # Errors
    /// The host provides no threads for the queues, or the last sync failed.
    pub fn run(&mut self, listener: UnixListener) -> Result<(), ServeError> {
        self.with_threads(|| {
            self.accept(&listener);
            Ok(())
        })?;
        self.sync()
    }

    /// Serves the front-end at the other end of a connection until it disconnects. Does not sync
    /// the data it did not flush.
    ///
    /// # Errors
    /// The host provides no threads or descriptors.
    pub fn serve_connection(&mut self, stream: UnixStream) -> Result<(), ServeError> {
        Ok(self.with_threads(|| self.serve(stream, 1))?)
    }

    /// Runs `serve` with a worker thread per queue.
    #[expect(clippy::disallowed_methods, reason = "a thread for each queue is what a server is")]
    fn with_threads(&self, serve: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The threads end in every case, because the scope waits for them.
            let _end = OnDrop(|| {
                over.store(true, Ordering::Release);
                self.lanes.iter().for_each(Lane::wake_up);
            });
            for index in 0..self.lanes.len() {
                let (this, over) = (self, &over);
                let thread = std::thread::Builder::new().name(format!("queue-{index}"));
                thread.spawn_scoped(scope, move || this.work(index, over))?;
            }
            serve()
        })
    }

    /// The worker thread of a queue.
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
    /// ends that, because it may be temporary.
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
                // The front-end has disconnected again, or a signal arrived.
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
            // The connection may still be pending: an immediate retry would use a whole processor.
            std::thread::park_timeout(PAUSE);
        }
    }

    /// Waits for a connection; `false` if the server was stopped instead.
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

    /// Serves a front-end until it disconnects.
    ///
    /// # Errors
    /// The host has no descriptors for it, so it was disconnected before anything was served.
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
        // All its requests end here, before it sees the disconnection.
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

    /// Answers one message after the other until the connection ends; returns the reason.
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
                        // It may be disconnected, and then the reply does not matter.
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

    /// Syncs data that no flush has made stable.
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
                // It fails only on a signal.
                let _ = poll(&mut polled, None);
            }
        }
    }
}

/// A handle to announce a larger disk.
#[derive(Clone, Debug)]
pub struct Grower {
    shared: Arc<Shared>,
    channel: Arc<Channel>,
}

impl Grower {
    /// Sets the capacity to `capacity` bytes, which every lane must have already. Returns whether
    /// that is a change. A front-end without a back-end channel sees it in the configuration space.
    ///
    /// # Errors
    /// The size is smaller than before, or the front-end does not listen; in the latter case it
    /// takes effect nevertheless.
    pub fn grow(&self, capacity: u64) -> Result<bool, GrowError> {
        let grown = self.shared.grow(capacity).map_err(GrowError::Size)?;
        if grown {
            self.channel.say_config_changed().map_err(GrowError::Untold)?;
        }
        Ok(grown)
    }
}

/// The reason why a driver is not notified of a larger disk.
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
            GrowError::Untold(error) => write!(f, "the front-end could not be notified: {error}"),
        }
    }
}

impl std::error::Error for GrowError {}

/// Calls a function when it is dropped.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Ends a [`Server`]: accepts no further front-end, disconnects the present one and drains its
/// requests.
#[derive(Clone)]
pub struct Stopper(Arc<Stop>);

struct Stop {
    asked: AtomicBool,
    /// Pending from the first request to stop, and never cleared.
    wakeup: OwnedFd,
    /// The present connection.
    connection: Mutex<Option<UnixStream>>,
}

impl Stopper {
    fn new() -> io::Result<Stopper> {
        let wakeup = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let stop = Stop { asked: AtomicBool::new(false), wakeup, connection: Mutex::new(None) };
        Ok(Stopper(Arc::new(stop)))
    }

    /// Requests the end; may be called more than once.
    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::Release);
        // It fails only if it is pending already.
        let _ = rustix::io::write(&self.0.wakeup, &1_u64.to_ne_bytes());
        self.disconnect();
    }

    /// Ends the present connection only.
    fn disconnect(&self) {
        self.hang_up(&crate::sync::lock(&self.0.connection));
    }

    fn is_asked(&self) -> bool {
        self.0.asked.load(Ordering::Acquire)
    }

    /// Sets the connection to end.
    fn attend(&self, connection: Option<UnixStream>) {
        let mut current = crate::sync::lock(&self.0.connection);
        *current = connection;
        // The request may have preceded the connection.
        if self.is_asked() {
            self.hang_up(&current);
        }
    }

    fn hang_up(&self, connection: &Option<UnixStream>) {
        if let Some(connection) = connection {
            // The front-end may have disconnected already.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}
