//! The device for a guest in another process: a vhost-user-blk back-end on a Unix socket.
//!
//! A front-end connects, shares its memory and its rings, and is served until it goes; then the next one is. One thread a queue sleeps on the
//! kick, the disk's completions and a bell; one thread answers the front-end. Whatever is said on the socket about a ring that moves is done
//! by taking the lane from its thread for a moment (see `lane`).
//!
//! ```text
//!   Server      accepts one front-end after the other       vhost_user
//!     └ Backend   features, configuration, memory, drain    backend
//!         └ Lane    queue, ring, disk, guest memory         lane, vring
//! ```
//!
//! # What it promises
//!
//! - GET_VRING_BASE is answered, and the next front-end accepted, only when every request that was taken is answered on its ring.
//! - RESET_DEVICE abandons what the host does not hold and waits for what it does. SET_FEATURES with no ring being served begins a new life
//!   too, unless the features are the same: so front-ends continue a paused guest.
//! - A disk whose sync failed stays so for every later front-end.
//!
//! # What it does not do
//!
//! Requests in flight are not kept for a back-end that comes after a crash (INFLIGHT_SHMFD), nor dirty pages logged (LOG_SHMFD), nor rings
//! polled without a kick. The framework below neither tells the front-end of a broken ring (the error descriptor), nor takes another kick
//! descriptor for a ring that is served, nor reports features it cannot accept; such a ring is not served and the server says why.

mod backend;
mod lane;
mod vring;

use crate::config::{Config, ConfigError};
use crate::disk::{Disk, Errno, Op, Submission, Token};
use crate::host::{ArcMemory, FileDisk, Regions, UringDisk};
use crate::shared::{Refused, Shared};
use crate::wakes::QueueIndex;
use backend::Backend;
pub use lane::RingError;
use rustix::event::{PollFd, PollFlags, poll};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use vhost::vhost_user::{Error as ProtocolError, Listener};
use vhost_user_backend::{Error as DaemonError, ShutdownHandle, VhostUserDaemon};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// The most queues a server may have: the framework keeps them in 64 bits.
pub const MOST_QUEUES: u16 = 64;

/// The guest memory that the disk below a server is lent: whoever holds it keeps it mapped.
pub type Memory = ArcMemory<Regions>;

/// A lane of a disk that the thread of a queue can sleep on.
pub trait QueueDisk: Disk<Memory> + Send + 'static {
    /// A descriptor that is readable while there are completions that were not there when one was last looked for; `None` if all are there
    /// when the doorbell has rung.
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
    /// It said something that makes no sense, and was disconnected.
    Confused(u64, DaemonError),
    /// A ring is not served.
    Ring(QueueIndex, RingError),
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
            Event::Confused(n, error) => write!(f, "front-end {n} disconnected: {error}"),
            Event::Ring(queue, why) => write!(f, "ring {} is not served: {why}", queue.0),
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
    /// The framework could not begin.
    Daemon(DaemonError),
    /// The disk could not be synced at the end: what was written since the last flush may be lost.
    Sync(Errno),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Config(error) => error.fmt(f),
            ServeError::Host(error) => error.fmt(f),
            ServeError::Daemon(error) => error.fmt(f),
            ServeError::Sync(errno) => {
                let error = io::Error::from_raw_os_error(errno.0);
                write!(f, "the disk could not be synced, unflushed writes may be lost: {error}")
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
    backend: Arc<Backend<D>>,
    stopper: Stopper,
}

impl<D: QueueDisk> Server<D> {
    /// A server of a device with one queue for each lane of a disk; the number of queues in `config` does not count.
    ///
    /// # Errors
    /// The configuration contradicts itself or the disk, or the host has no descriptors left.
    ///
    /// # Panics
    /// If there is no lane, or more than [`MOST_QUEUES`].
    pub fn new(config: Config, lanes: Vec<D>, report: Report) -> Result<Server<D>, ServeError> {
        assert!((1..=usize::from(MOST_QUEUES)).contains(&lanes.len()), "1 to {MOST_QUEUES} lanes");
        let config = Config { queues: lanes.len() as u16, ..config };
        let shared = Shared::new(config, lanes[0].limits()).map_err(ServeError::Config)?;
        let backend = Backend::new(Arc::new(shared), lanes, report)?;
        Ok(Server { backend: Arc::new(backend), stopper: Stopper::new()? })
    }

    /// What ends [`run`](Server::run) from another thread.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Serves whoever connects to `listener`, one after the other, until it is stopped; then the disk is synced.
    ///
    /// # Errors
    /// The host has no threads or descriptors left, or the last sync failed.
    pub fn run(&mut self, listener: UnixListener) -> Result<(), ServeError> {
        let mut listener = Listener::from(listener);
        let mut served = 0;
        while self.wait(&listener)? {
            served += 1;
            self.serve(&mut listener, served)?;
        }
        self.sync()
    }

    /// Waits until somebody connects; `false` if the server was stopped instead.
    fn wait(&self, listener: &Listener) -> io::Result<bool> {
        let stop = &self.stopper.0;
        while !stop.asked.load(Ordering::Acquire) {
            // SAFETY: the listener outlives this call.
            let door = unsafe { BorrowedFd::borrow_raw(listener.as_raw_fd()) };
            // SAFETY: `self` keeps the event open.
            let bell = unsafe { BorrowedFd::borrow_raw(stop.bell.as_raw_fd()) };
            let mut polled = [PollFd::new(&door, PollFlags::IN), PollFd::new(&bell, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) if polled[0].revents().contains(PollFlags::IN) => return Ok(true),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(false)
    }

    /// Serves the front-end that is at the door until it is gone.
    fn serve(&self, listener: &mut Listener, n: u64) -> Result<(), ServeError> {
        let backend = &self.backend;
        let memory = GuestMemoryAtomic::new(GuestMemoryMmap::new());
        let mut daemon = VhostUserDaemon::new("front-end".into(), Arc::clone(backend), memory)
            .map_err(ServeError::Daemon)?;
        let begun = backend.begin(&daemon.get_epoll_handlers()).map_err(ServeError::Host);
        let started = begun.and_then(|()| daemon.start(listener).map_err(ServeError::Daemon));
        let ended = started.map(|()| {
            backend.report(Event::Connected(n));
            self.stopper.attend(daemon.shutdown_handle());
            daemon.wait()
        });
        self.stopper.attend(None);
        backend.end();
        // The threads are joined here, and would go on if the end had not been rung.
        drop(daemon);
        backend.report(match ended? {
            Ok(()) => Event::Gone(n),
            Err(DaemonError::HandleRequest(
                ProtocolError::Disconnected | ProtocolError::PartialMessage,
            )) => Event::Gone(n),
            Err(error) => Event::Confused(n, error),
        });
        Ok(())
    }

    /// Makes stable what no flush has.
    fn sync(&self) -> Result<(), ServeError> {
        let memory = Memory::default();
        let mut lane = self.backend.lanes()[0].take();
        let disk = &mut lane.disk;
        disk.submit(&memory, Submission { token: Token::new(0, 0), op: Op::Sync });
        disk.doorbell();
        loop {
            if let Some(completion) = disk.complete(&memory) {
                return completion.result.map(|_| ()).map_err(ServeError::Sync);
            }
            if let Some(fd) = disk.completion_fd() {
                let mut polled = [PollFd::new(&fd, PollFlags::IN)];
                // It fails only when a signal came.
                let _ = poll(&mut polled, None);
            }
        }
    }
}

/// Ends a [`Server`]: no front-end is accepted any more, and the one that is served is disconnected, drained and gone.
#[derive(Clone)]
pub struct Stopper(Arc<Stop>);

struct Stop {
    asked: AtomicBool,
    /// Rings, and is never quiet again, once it was asked.
    bell: EventFd,
    /// The connection that is served.
    connection: Mutex<Option<ShutdownHandle>>,
}

impl Stopper {
    fn new() -> io::Result<Stopper> {
        let bell = EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?;
        let stop = Stop { asked: AtomicBool::new(false), bell, connection: Mutex::new(None) };
        Ok(Stopper(Arc::new(stop)))
    }

    /// Asks for the end; it may be asked for more than once.
    pub fn stop(&self) {
        self.0.asked.store(true, Ordering::Release);
        // It fails only when it rings already.
        let _ = self.0.bell.write(1);
        if let Some(connection) = &*crate::sync::lock(&self.0.connection) {
            connection.shutdown();
        }
    }

    /// From now on this connection is the one to end.
    fn attend(&self, connection: Option<ShutdownHandle>) {
        let mut current = crate::sync::lock(&self.0.connection);
        *current = connection;
        // It may have been asked for before there was a connection to see.
        if self.0.asked.load(Ordering::Acquire)
            && let Some(connection) = &*current
        {
            connection.shutdown();
        }
    }
}
