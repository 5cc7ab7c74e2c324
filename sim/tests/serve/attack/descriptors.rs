//! Descriptors of every kind that a front-end may pass, most of them unsuitable for the message.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};

use rustix::event::{EventfdFlags, epoll, eventfd};
use rustix::fs::{
    MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl, fstat, ftruncate,
    memfd_create, open,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use super::draws::Draws;
use super::field::LEN;
use super::protocol::End;

/// Number of kinds.
const KINDS: u32 = 36;
/// Number of kinds of memory; they come first.
const MEMORIES: u32 = 10;
/// Number of kinds of eventfds; they come next.
const EVENTS: u32 = 7;

/// The most descriptors that are open here at a time.
const MOST_HELD: usize = 48;

/// The largest count of an eventfd.
const FULL: u64 = u64::MAX - 1;

/// The descriptors of a conversation. Some are passed more than once.
pub(crate) struct Descriptors {
    held: Vec<OwnedFd>,
    /// The disk that is served.
    disk: PathBuf,
    /// A descriptor of the front-end's end of the connection.
    own: OwnedFd,
}

impl Descriptors {
    pub(crate) fn new(disk: &Path, own: BorrowedFd<'_>) -> Descriptors {
        let own = own.try_clone_to_owned().expect("a descriptor");
        Descriptors { held: Vec::new(), disk: disk.to_owned(), own }
    }

    /// Memory of `len` bytes that cannot shrink.
    pub(crate) fn memory(len: u64) -> File {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let file = File::from(memfd_create("memory", flags).expect("memory"));
        file.set_len(len).expect("a sparse file");
        file
    }

    /// Any descriptor, drawn; sometimes one that was passed before.
    pub(crate) fn any(&mut self, draws: &mut Draws<'_>) -> BorrowedFd<'_> {
        let kind = draws.below(KINDS);
        self.draw(draws, kind)
    }

    /// An eventfd of any kind.
    pub(crate) fn event(&mut self, draws: &mut Draws<'_>) -> BorrowedFd<'_> {
        // Most are suitable.
        let kind = if draws.once_in(2) { 0 } else { draws.below(EVENTS) };
        self.draw(draws, MEMORIES + kind)
    }

    /// A descriptor that may be mappable.
    pub(crate) fn mappable(&mut self, draws: &mut Draws<'_>) -> BorrowedFd<'_> {
        let kind = draws.below(MEMORIES + 1);
        if kind < MEMORIES { self.draw(draws, kind) } else { self.any(draws) }
    }

    /// Keeps a descriptor, to be passed later.
    pub(crate) fn keep(&mut self, descriptor: OwnedFd) -> BorrowedFd<'_> {
        if self.held.len() == MOST_HELD {
            self.held.remove(0);
        }
        self.held.push(descriptor);
        self.held[self.held.len() - 1].as_fd()
    }

    /// All descriptors that are held.
    pub(crate) fn held(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.held.iter().map(AsFd::as_fd)
    }

    /// Closes the oldest ones.
    pub(crate) fn forget(&mut self, draws: &mut Draws<'_>) {
        let many = draws.below(self.held.len() as u32 + 1) as usize;
        self.held.drain(..many);
    }

    /// Truncates or extends a file that was passed; never the disk.
    pub(crate) fn resize(&self, draws: &mut Draws<'_>) {
        let Some(last) = (self.held.len() as u32).checked_sub(1) else { return };
        let fd = &self.held[draws.below(last + 1) as usize];
        let len = draws.pick(&[0, 1, 4095, 4096, LEN / 2, LEN, 1 << 40]);
        let disk = fs::metadata(&self.disk).expect("the disk is there");
        if fstat(fd).expect("an open descriptor").st_ino != disk.ino() {
            // Most are not files, and some are sealed.
            let _ = ftruncate(fd, len);
        }
    }

    fn draw(&mut self, draws: &mut Draws<'_>, kind: u32) -> BorrowedFd<'_> {
        if !self.held.is_empty() && draws.once_in(3) {
            let which = draws.below(self.held.len() as u32) as usize;
            return self.held[which].as_fd();
        }
        let made = self.make(kind).expect("the host has a descriptor left");
        self.keep(made)
    }

    fn make(&mut self, kind: u32) -> std::io::Result<OwnedFd> {
        Ok(match kind {
            0 => Descriptors::memory(LEN).into(),
            1 => sealed(SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?,
            2 => sealed(SealFlags::SHRINK)?,
            3 => sealed(SealFlags::WRITE | SealFlags::FUTURE_WRITE)?,
            4 => {
                let memory = Descriptors::memory(LEN);
                File::open(format!("/proc/self/fd/{}", memory.as_raw_fd()))?.into()
            }
            5 => Descriptors::memory(0).into(),
            // Far more than the host has.
            6 => Descriptors::memory(1 << 42).into(),
            // The disk itself, as memory.
            7 => OpenOptions::new().read(true).write(true).open(&self.disk)?.into(),
            8 => file(LEN)?,
            9 => file(4096)?,
            10 => event(0, EventfdFlags::NONBLOCK)?,
            11 => event(0, EventfdFlags::empty())?,
            12 => event(FULL, EventfdFlags::NONBLOCK)?,
            13 => event(FULL, EventfdFlags::empty())?,
            14 => event(FULL - 1, EventfdFlags::empty())?,
            15 => event(FULL, EventfdFlags::NONBLOCK | EventfdFlags::SEMAPHORE)?,
            16 => event(FULL, EventfdFlags::SEMAPHORE)?,
            17 => std::io::pipe()?.0.into(),
            18 => std::io::pipe()?.1.into(),
            19 => {
                // The reader stays open and never reads: a writer that blocks on it hangs.
                let (reader, writer) = std::io::pipe()?;
                fcntl_setfl(&writer, OFlags::NONBLOCK)?;
                while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
                fcntl_setfl(&writer, OFlags::empty())?;
                self.keep(reader.into());
                writer.into()
            }
            20 => UnixStream::pair()?.0.into(),
            21 => {
                let (stream, other) = UnixStream::pair()?;
                // Both ends stay open, because one is in the queue of the other.
                End::new(stream.try_clone()?).send(&[0], &[stream.as_fd()]);
                other.into()
            }
            22 => UnixDatagram::unbound()?.into(),
            23 => socket(AddressFamily::UNIX, SocketType::STREAM, None)?,
            24 => {
                let listener = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
                bind(&listener, &SocketAddrUnix::new_unnamed())?;
                listen(&listener, 1)?;
                listener
            }
            25 => File::open("/")?.into(),
            26 => File::open("/dev/null")?.into(),
            27 => OpenOptions::new().read(true).write(true).open("/dev/zero")?.into(),
            28 => OpenOptions::new().write(true).open("/dev/full")?.into(),
            29 => File::open("/dev/urandom")?.into(),
            30 => open(&self.disk, OFlags::PATH, Mode::empty())?,
            31 => {
                // Always readable, and nested.
                let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
                let event = event(1, EventfdFlags::NONBLOCK)?;
                let data = epoll::EventData::new_u64(0);
                epoll::add(&epoll, &event, data, epoll::EventFlags::IN)?;
                self.keep(event);
                epoll
            }
            32 => {
                let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK)?;
                let often = Timespec { tv_sec: 0, tv_nsec: 100_000 };
                let armed = Itimerspec { it_interval: often, it_value: often };
                timerfd_settime(&timer, TimerfdTimerFlags::empty(), &armed)?;
                timer
            }
            33 => File::open("/proc/self/maps")?.into(),
            34 => pidfd_open(getpid(), PidfdFlags::empty())?,
            _ => self.own.try_clone()?,
        })
    }
}

/// A regular file of `len` bytes, without a name.
fn file(len: u64) -> std::io::Result<OwnedFd> {
    let file = tempfile::tempfile()?;
    file.set_len(len)?;
    file.write_all_at(&[0x5a; 512], 0)?;
    Ok(file.into())
}

fn sealed(seals: SealFlags) -> Result<OwnedFd, Errno> {
    let memory = Descriptors::memory(LEN);
    fcntl_add_seals(&memory, seals)?;
    Ok(memory.into())
}

/// An eventfd with this count.
fn event(holds: u64, flags: EventfdFlags) -> Result<OwnedFd, Errno> {
    let event = eventfd(0, flags | EventfdFlags::CLOEXEC)?;
    if holds > 0 {
        rustix::io::write(&event, &holds.to_ne_bytes())?;
    }
    Ok(event)
}
