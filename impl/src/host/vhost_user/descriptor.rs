//! The kind of a descriptor from a front-end, determined without any operation on the descriptor.
//!
//! Even `fstat`, `poll` or `close` on a file of a FUSE file system waits for its daemon, which may
//! be the front-end, and not even SIGKILL ends that wait. So the kernel's own tables are read first
//! (`/proc/self/fd`, `/proc/self/fdinfo`, `/proc/self/mountinfo`), which depend on no other
//! program, and only descriptors of kinds that cannot block are used:
//!
//! | purpose | accepted kinds |
//! |---|---|
//! | kick | an eventfd that is not a semaphore |
//! | call, error | an eventfd; from User Mode Linux the writing end of a pipe or a local socket |
//! | channel of the back-end | a local socket |
//! | guest memory, record | a memfd, or a regular file in memory, huge pages or a local disk |
//!
//! Every other descriptor is refused with a line that names its kind, and closed on a separate
//! thread, because closing may block as well.

use rustix::fs::{OFlags, fcntl_get_seals, fcntl_getfl};
use rustix::net::{AddressFamily, RecvFlags, Shutdown, SocketType, recv, shutdown, sockopt};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;

/// File systems whose regular files never wait for another program. FUSE, network and automounted
/// file systems are excluded on purpose.
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

/// The kind of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// An event counter; a read from one with semaphore semantics decrements the count by one.
    Event { semaphore: bool },
    /// An end of an unnamed pipe.
    Pipe,
    /// A local socket (AF_UNIX), whose closing never blocks.
    Socket,
    /// Kernel memory with a file interface: a memfd, or a file on tmpfs or hugetlbfs.
    Memory,
    /// A file on a disk of this machine, or a device.
    Local,
    /// Any other kind, by the kernel's name for it.
    Other(String),
}

impl Kind {
    /// Determines the kind of a descriptor. Never blocks.
    pub(super) fn of(fd: BorrowedFd<'_>) -> Kind {
        let number = fd.as_raw_fd();
        // Seals are an attribute of memory; no file system is involved.
        if fcntl_get_seals(fd).is_ok() {
            return Kind::Memory;
        }
        let Ok(name) = fs::read_link(format!("/proc/self/fd/{number}")) else {
            return Kind::Other("a descriptor that cannot be inspected without /proc".to_owned());
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
        // A path-only descriptor is useless, and most calls refuse it.
        let is_path = fcntl_getfl(fd).is_ok_and(|flags| flags.contains(OFlags::PATH));
        match field(number, "mnt_id:").and_then(|mount| file_system(&mount)) {
            Some(kind) if LOCAL.contains(&kind.as_str()) && !is_path => Kind::Local,
            Some(kind) if name.starts_with('/') => Kind::Other(format!("a file on {kind}")),
            _ => Kind::Other(format!("{name:?}")),
        }
    }

    /// The kind, for the owner of a front-end.
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
/// It is of another kind; the error names it.
pub(super) fn check_kick(fd: &OwnedFd) -> Result<(), String> {
    match Kind::of(fd.as_fd()) {
        Kind::Event { semaphore: false } => Ok(()),
        other => Err(format!("a kick must be an eventfd, but this is {}", other.describe())),
    }
}

/// Checks that a descriptor can be a call or an error descriptor.
///
/// # Errors
/// It is neither an eventfd nor a pipe nor a local socket; the error names its kind.
pub(super) fn check_event(fd: &OwnedFd) -> Result<(), String> {
    match Kind::of(fd.as_fd()) {
        Kind::Event { .. } | Kind::Pipe | Kind::Socket => Ok(()),
        other => Err(format!(
            "it must be an eventfd, a pipe or a local socket, but this is {}",
            other.describe()
        )),
    }
}

/// Checks that a descriptor can be the back-end channel.
///
/// # Errors
/// It is no local socket; the error names its kind.
pub(super) fn check_channel(fd: &OwnedFd) -> Result<(), String> {
    match Kind::of(fd.as_fd()) {
        Kind::Socket => Ok(()),
        other => Err(format!("a channel must be a local socket, but this is {}", other.describe())),
    }
}

/// Checks that a descriptor can be mapped as memory, and that neither mapping nor accessing it can
/// wait for another program.
///
/// # Errors
/// It is of another kind; the error names it.
pub(super) fn check_memory(fd: &OwnedFd) -> Result<(), String> {
    let kind = Kind::of(fd.as_fd());
    let is_memory = match kind {
        Kind::Memory => true,
        // It is local, so a call to its file system cannot block.
        Kind::Local => rustix::fs::fstat(fd)
            .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file()),
        _ => false,
    };
    if is_memory {
        return Ok(());
    }
    let what = kind.describe();
    Err(format!("guest memory must be a memfd or a local file, but this is {what}"))
}

/// Empties the receive queue of a socket and keeps it empty: if it held the front-end's end of its
/// own connection, that end would stay open here, and the death of the front-end would not be
/// noticed. Sending through the socket is not affected. Does nothing to other descriptors, and
/// never blocks.
///
/// # Errors
/// It is a listening socket, whose connections may hold any descriptor, or is no stream.
pub(super) fn empty_socket(fd: &OwnedFd) -> Result<(), String> {
    match (sockopt::socket_type(fd), sockopt::socket_acceptconn(fd)) {
        (Err(_), _) => return Ok(()),
        (Ok(SocketType::STREAM), Ok(false)) => {}
        (Ok(SocketType::STREAM), _) => return Err("a listening socket".to_owned()),
        (Ok(_), _) => return Err("a socket that is not a stream".to_owned()),
    }
    // From here on nothing can be queued. The call fails on a socket that was never connected.
    let _ = shutdown(fd, Shutdown::Read);
    let mut bytes = [0; 4096];
    // Descriptors are dropped, because the call provides no room for them.
    while recv(fd, &mut bytes[..], RecvFlags::DONTWAIT).is_ok_and(|(_, bytes)| bytes > 0) {}
    Ok(())
}

/// One field of the kernel's information on an open descriptor.
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

/// Maximum number of threads that close descriptors; each beyond the first exists because another
/// one blocks.
const MOST_CLOSERS: usize = 8;

/// Descriptors to be closed where blocking is harmless.
struct Closing {
    waiting: Vec<OwnedFd>,
    closers: usize,
}

static CLOSING: Mutex<Closing> = Mutex::new(Closing { waiting: Vec::new(), closers: 0 });

/// Closes an unused descriptor. If closing may block, a separate thread does it, and no thread
/// waits for that one.
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
