//! Notification of a front-end through a descriptor of the front-end, without ever blocking.
//!
//! The front-end shares the open file description, including its flags: a check for room, or
//! O_NONBLOCK set on it, holds only until the front-end changes the state, which may happen between
//! check and write. An eventfd is therefore not written here. It is registered with a small
//! io_uring, and an empty operation on that ring makes the kernel add one to it: the kernel does
//! that without blocking at any count, and refuses to register anything but an eventfd. A pipe is
//! reopened, which gives it separate flags, and each write to a socket requests not to block.
//!
//! Nor does a front-end that has gone raise SIGPIPE, which ends a process that does not ignore it:
//! the pipe is reopened for reading too, so it never lacks a reader.
//!
//! If the host has no io_uring, the eventfd is made non-blocking and written if it has room; a
//! blocking reader in the front-end then sees EAGAIN. A full count needs no further notification.

use super::descriptor::Kind;
use crate::host::ring::working_uring;
use io_uring::{IoUring, opcode};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, fcntl_getfl, fcntl_setfl, open};
use rustix::net::{SendFlags, send};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// Notifies a front-end through the descriptor that it provided, if any.
pub(super) struct Notifier {
    /// A ring with at most one eventfd registered; `None` if the host provides none.
    ring: Option<IoUring>,
    target: Target,
}

enum Target {
    None,
    /// The kernel adds one to the eventfd that is registered with the ring.
    Registered,
    /// A non-blocking eventfd.
    Event(OwnedFd),
    /// Both ends of a pipe, opened here.
    Pipe(OwnedFd),
    /// A local socket.
    Socket(OwnedFd),
}

impl fmt::Debug for Notifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.target {
            Target::None => "Notifier(none)",
            Target::Registered => "Notifier(registered)",
            Target::Event(_) => "Notifier(event)",
            Target::Pipe(_) => "Notifier(pipe)",
            Target::Socket(_) => "Notifier(socket)",
        })
    }
}

impl Notifier {
    /// A notifier without a target.
    pub(super) fn new() -> Notifier {
        Notifier { ring: working_uring(1).ok(), target: Target::None }
    }

    /// Sets the eventfd, pipe or socket to notify, or none. Never blocks.
    pub(super) fn set(&mut self, fd: Option<OwnedFd>) {
        if let (Target::Registered, Some(ring)) = (&self.target, &self.ring) {
            ring.submitter().unregister_eventfd().expect("one is registered");
        }
        self.target = fd.map_or(Target::None, |fd| self.accept(fd));
    }

    fn accept(&self, fd: OwnedFd) -> Target {
        let kind = Kind::of(fd.as_fd());
        if kind == Kind::Socket {
            return Target::Socket(fd);
        }
        if kind == Kind::Pipe {
            let again = format!("/proc/self/fd/{}", fd.as_raw_fd());
            let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            // It fails if the pipe is another user's.
            return open(again, flags, Mode::empty()).map_or(Target::None, Target::Pipe);
        }
        let register = |ring: &IoUring| ring.submitter().register_eventfd(fd.as_raw_fd());
        if self.ring.as_ref().is_some_and(|ring| register(ring).is_ok()) {
            return Target::Registered;
        }
        if let Ok(flags) = fcntl_getfl(&fd) {
            // If this fails, a count with room is still written without blocking.
            let _ = fcntl_setfl(&fd, flags | OFlags::NONBLOCK);
        }
        Target::Event(fd)
    }

    /// Adds one to the front-end's count if that is possible without blocking; if not, the count is
    /// full and the front-end is already notified.
    pub(super) fn notify(&mut self) {
        match &self.target {
            Target::None => {}
            Target::Registered => {
                let ring = self.ring.as_mut().expect("it is registered with the ring");
                let nothing = opcode::Nop::new().build();
                // SAFETY: the operation refers to no memory.
                let pushed = unsafe { ring.submission().push(&nothing) };
                // It is full if the last submission failed; this one then submits both.
                drop(pushed);
                // It fails only if the kernel is out of memory or on a signal; the next submission
                // then covers both.
                let _ = ring.submit();
                ring.completion().for_each(drop);
            }
            Target::Event(fd) => {
                let mut writable = [PollFd::new(fd, PollFlags::OUT)];
                let ready = poll(&mut writable, Some(&Timespec::default()));
                if ready.is_ok() && writable[0].revents().contains(PollFlags::OUT) {
                    let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
                }
            }
            Target::Pipe(fd) => {
                // It fails only if the pipe is full.
                let _ = rustix::io::write(fd, &1_u64.to_ne_bytes());
            }
            Target::Socket(fd) => {
                let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                let _ = send(fd, &1_u64.to_ne_bytes(), flags);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};

    fn count(fd: &OwnedFd) -> u64 {
        let mut count = [0; 8];
        rustix::io::read(fd, &mut count).expect("something is there");
        u64::from_ne_bytes(count)
    }

    /// Runs `test` on a notifier with a ring and on one without.
    fn each(test: impl Fn(Notifier)) {
        test(Notifier::new());
        test(Notifier { ring: None, target: Target::None });
    }

    fn event(count: u64) -> (OwnedFd, Option<OwnedFd>) {
        let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
        if count > 0 {
            rustix::io::write(&event, &count.to_ne_bytes()).expect("there is room");
        }
        let copy = event.try_clone().expect("a copy");
        (event, Some(copy))
    }

    #[test]
    fn an_eventfd_counts_notifications() {
        each(|mut notifier| {
            let (first, copy) = event(0);
            notifier.notify();
            notifier.set(copy);
            for _ in 0..1000 {
                notifier.notify();
            }
            assert_eq!(count(&first), 1000);
            let (second, copy) = event(0);
            notifier.set(copy);
            notifier.notify();
            notifier.set(None);
            notifier.notify();
            assert_eq!(count(&second), 1);
        });
    }

    #[test]
    fn an_eventfd_that_is_full_is_not_waited_for() {
        each(|mut notifier| {
            let (full, copy) = event(u64::MAX - 1);
            notifier.set(copy);
            if matches!(notifier.target, Target::Registered) {
                // The front-end makes the eventfd blocking again.
                fcntl_setfl(&full, OFlags::empty()).expect("its own flags");
            }
            notifier.notify();
            notifier.notify();
            assert!(count(&full) >= u64::MAX - 1);
        });
    }

    #[test]
    fn a_full_pipe_is_not_waited_for() {
        each(|mut notifier| {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            let writer = OwnedFd::from(writer);
            notifier.set(Some(writer.try_clone().expect("a copy")));
            let flags = fcntl_getfl(&writer).expect("flags");
            fcntl_setfl(&writer, flags | OFlags::NONBLOCK).expect("set");
            while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
            fcntl_setfl(&writer, flags).expect("set");
            notifier.notify();
            drop(reader);
            notifier.notify();
        });
    }

    #[test]
    fn a_pipe_without_a_reader_raises_no_signal() {
        each(|mut notifier| {
            let (reader, writer) = std::io::pipe().expect("a pipe");
            notifier.set(Some(OwnedFd::from(writer)));
            drop(reader);
            notifier.notify();
            // SIGPIPE comes with EPIPE.
            let Target::Pipe(pipe) = &notifier.target else { panic!("{notifier:?}") };
            assert_eq!(rustix::io::write(pipe, &[0]), Ok(1));
        });
    }

    #[test]
    fn a_full_socket_is_not_waited_for() {
        each(|mut notifier| {
            let (reader, writer) = std::os::unix::net::UnixStream::pair().expect("a pair");
            notifier.set(Some(OwnedFd::from(writer)));
            notifier.notify();
            let mut told = [0; 8];
            std::io::Read::read_exact(&mut &reader, &mut told).expect("it was told");
            assert_eq!(u64::from_ne_bytes(told), 1);
            // More than a socket has room for.
            (0..100_000).for_each(|_| notifier.notify());
            drop(reader);
            notifier.notify();
        });
    }
}
