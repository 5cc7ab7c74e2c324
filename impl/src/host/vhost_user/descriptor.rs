//! What a descriptor is that a front-end handed over, found out without asking the descriptor
//! itself.
//!
//! Even `fstat`, `poll` or `close` on a file of a FUSE file system waits for its daemon, which may
//! be the front-end; and what waits there not even SIGKILL ends. So the kernel's own tables are
//! read first (`/proc/self/fd`, `/proc/self/fdinfo`, `/proc/self/mountinfo`), which ask nobody, and
//! only descriptors of kinds that cannot block are used:
//!
//! | for | taken |
//! |---|---|
//! | kick | an eventfd that is not a semaphore |
//! | call, error | an eventfd; of User Mode Linux the writing end of a pipe or a local socket |
//! | channel of the back-end | a local socket |
//! | guest memory, record | a memfd, or a regular file in memory, huge pages or a local disk |
//!
//! Everything else is refused with a line that says what it is, and closed by a thread of its own,
//! for closing may wait as well.

use rustix::fs::{OFlags, fcntl_get_seals, fcntl_getfl};
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketType, recv, shutdown, sockopt};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

/// File systems whose regular files never wait for another program. FUSE, network and automounted
/// ones are missing on purpose.
const LOCAL: [&str; 17] = [
    "bcachefs",
    "btrfs",
    "devtmpfs",
    "erofs",
    "exfat",
    "ext2",
    "ext3",
    "ext4",
    "f2fs",
    "hugetlbfs",
    "jfs",
    "overlay",
    "ramfs",
    "reiserfs",
    "tmpfs",
    "xfs",
    "zfs",
];

/// What a descriptor is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An event counter; one with semaphore semantics gives its count away one by one.
    Event { semaphore: bool },
    /// An end of an unnamed pipe.
    Pipe,
    /// A socket of this machine's (AF_UNIX), whose closing never lingers.
    Socket,
    /// Memory of the kernel's with a file's interface: a memfd, or a file on tmpfs or hugetlbfs.
    Memory,
    /// A file on a disk of this machine, or a device.
    Local,
    /// Anything else, by the name that the kernel gives it.
    Other(String),
}

impl Kind {
    /// Looks at a descriptor. Never waits.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Kind {
        let number = fd.as_raw_fd();
        // Seals are an attribute of memory that no file system is asked for.
        if fcntl_get_seals(fd).is_ok() {
            return Kind::Memory;
        }
        let Ok(name) = fs::read_link(format!("/proc/self/fd/{number}")) else {
            return Kind::Other("a descriptor that cannot be looked at without /proc".to_owned());
        };
        let name = name.to_string_lossy().into_owned();
        if name == "anon_inode:[eventfd]" {
            let semaphore = field(number, "eventfd-semaphore:").is_some_and(|value| value != "0");
            return Kind::Event { semaphore };
        }
        if name.starts_with("pipe:[") {
            return Kind::Pipe;
        }
        if sockopt::socket_domain(fd).is_ok_and(|domain| domain == AddressFamily::UNIX) {
            return Kind::Socket;
        }
        // A path-only descriptor is good for nothing, and most calls refuse it.
        let is_path = fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::PATH));
        match field(number, "mnt_id:").and_then(|mount| file_system(&mount)) {
            Some(kind) if LOCAL.contains(&kind.as_str()) && !is_path => Kind::Local,
            Some(kind) if name.starts_with('/') => Kind::Other(format!("a file on {kind}")),
            _ => Kind::Other(format!("{name:?}")),
        }
    }

    /// As a front-end's owner would say it.
    pub(super) fn describe(&self) -> &str {
        match self {
            Kind::Event { semaphore: false } => "an eventfd",
            Kind::Event { semaphore: true } => "an eventfd that is a semaphore",
            Kind::Pipe => "a pipe",
            Kind::Socket => "a local socket",
            Kind::Memory => "memory",
            Kind::Local => "a file",
            Kind::Other(name) => name,
        }
    }
}

/// Checks that a descriptor can be a kick.
///
/// # Errors
/// It is something else; says what.
pub(super) fn check_kick(fd: &OwnedFd) -> Result<(), String> {
    match Kind::of(fd.as_fd()) {
        Kind::Event { semaphore: false } => Ok(()),
        other => Err(format!("a kick must be an eventfd, and this is {}", other.describe())),
    }
}

/// Checks that a descriptor can be notified by.
///
/// # Errors
/// It is neither an eventfd nor a pipe nor a local socket; says what it is.
pub(super) fn check_event(fd: &OwnedFd) -> Result<(), String> {
    match Kind::of(fd.as_fd()) {
        Kind::Event { .. } | Kind::Pipe | Kind::Socket => Ok(()),
        other => Err(format!(
            "it must be an eventfd, a pipe or a local socket, and this is {}",
            other.describe()
        )),
    }
}

/// Checks that a descriptor can be the channel on which the back-end speaks.
///
/// # Errors
/// It is no local socket; says what it is.
pub(super) fn check_channel(fd: &OwnedFd) -> Result<(), String> {
    match Kind::of(fd.as_fd()) {
        Kind::Socket => Ok(()),
        other => Err(format!("a channel must be a local socket, and this is {}", other.describe())),
    }
}

/// Checks that a descriptor can be mapped as memory, and that neither mapping nor touching it can
/// wait for another program.
///
/// # Errors
/// It is something else; says what.
pub(super) fn check_memory(fd: &OwnedFd) -> Result<(), String> {
    let kind = Kind::of(fd.as_fd());
    let is_memory = match kind {
        Kind::Memory => true,
        // It is local, so asking its file system is no risk.
        Kind::Local => rustix::fs::fstat(fd)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()),
        _ => false,
    };
    if is_memory {
        return Ok(());
    }
    let what = kind.describe();
    Err(format!("guest memory must be a memfd or a local file, and this is {what}"))
}

/// Has nothing lie in a socket, now or later: if the front-end's end of its own connection did, it
/// would stay open here, and the front-end's death would not be noticed. What is sent through the
/// socket from here is not touched. Does nothing to other descriptors, and never waits.
///
/// # Errors
/// It listens for connections, in which anything may lie, or is no stream.
pub(super) fn empty_socket(fd: &OwnedFd) -> Result<(), String> {
    match (sockopt::socket_type(fd), sockopt::socket_acceptconn(fd)) {
        (Err(_), _) => return Ok(()),
        (Ok(SocketType::STREAM), Ok(false)) => {}
        (Ok(SocketType::STREAM), _) => return Err("a listening socket".to_owned()),
        (Ok(_), _) => return Err("a socket that is no stream".to_owned()),
    }
    // From here on nothing can be put into it. One that was never connected may say that it is not.
    let _ = shutdown(fd, Shutdown::Read);
    let mut bytes = [0; 4096];
    // Descriptors are dropped, for no room is given to them.
    while recv(fd, &mut bytes[..], RecvFlags::DONTWAIT).is_ok_and(|(_, bytes)| bytes > 0) {}
    Ok(())
}

/// One field of what the kernel says about an open descriptor.
fn field(number: i32, name: &str) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(value.trim().to_owned())
}

/// The type of the file system of a mount of this process's namespace.
fn file_system(mount: &str) -> Option<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").ok()?;
    let line = text.lines().find(|line| line.split(' ').next() == Some(mount))?;
    let (_, behind) = line.split_once(" - ")?;
    behind.split(' ').next().map(str::to_owned)
}

/// Most threads that close descriptors at a time; all but one are there because another one waits.
const MOST_CLOSERS: usize = 8;

/// Descriptors that are to be closed where nobody waits.
struct Closing {
    waiting: Vec<OwnedFd>,
    closers: usize,
}

static CLOSING: Mutex<Closing> = Mutex::new(Closing { waiting: Vec::new(), closers: 0 });

/// Closes a descriptor that is not used. One that may wait at it is closed by a thread that nobody
/// waits for.
pub(super) fn discard(fd: OwnedFd) {
    if !matches!(Kind::of(fd.as_fd()), Kind::Other(_)) {
        return drop(fd);
    }
    let mut closing = crate::sync::lock(&CLOSING);
    closing.waiting.push(fd);
    if closing.closers < MOST_CLOSERS && spawn("close", close_waiting).is_ok() {
        closing.closers += 1;
    }
}

fn close_waiting() {
    loop {
        let mut closing = crate::sync::lock(&CLOSING);
        let Some(fd) = closing.waiting.pop() else {
            closing.closers -= 1;
            return;
        };
        drop(closing);
        drop(fd);
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{EventfdFlags, eventfd};
    use rustix::fs::{MemfdFlags, memfd_create};
    use std::fs::File;

    fn event(flags: EventfdFlags) -> OwnedFd {
        eventfd(0, flags).expect("an eventfd")
    }

    #[test]
    fn kicks_are_eventfds() {
        assert_eq!(check_kick(&event(EventfdFlags::empty())), Ok(()));
        let semaphore = check_kick(&event(EventfdFlags::SEMAPHORE)).unwrap_err();
        assert!(semaphore.contains("semaphore"), "{semaphore}");
        let (reader, _writer) = std::io::pipe().expect("a pipe");
        let pipe = check_kick(&OwnedFd::from(reader)).unwrap_err();
        assert!(pipe.contains("a pipe"), "{pipe}");
    }

    #[test]
    fn memory_is_a_memfd_or_a_local_file() {
        let memfd = memfd_create("memory", MemfdFlags::CLOEXEC).expect("memory");
        assert_eq!(check_memory(&memfd), Ok(()));
        let file = tempfile::tempfile().expect("a file");
        assert_eq!(check_memory(&OwnedFd::from(file)), Ok(()));
        for path in ["/dev/null", "/dev/zero", "/tmp", "/proc/self/maps"] {
            let other = OwnedFd::from(File::open(path).expect(path));
            assert!(check_memory(&other).is_err(), "{path}");
        }
        assert!(check_memory(&event(EventfdFlags::empty())).is_err());
    }
}
