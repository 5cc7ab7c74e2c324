//! A conversation with the real server, in process, over a pair of sockets: messages in any order,
//! in pieces and malformed, with descriptors of every kind.
//!
//! The bytes are the choices of the front-end that also attacks a server in another process: see
//! `sim/tests/serve/attack`. One server and its disk are kept from one execution to the next, so
//! every input also meets the state left by earlier ones. After each input a correct client is
//! served, and no descriptor may be left open. Threads race, so a finding may have to be replayed
//! more than once.
//!
//! Not here: another process, so an exit of the server ends the fuzzer too.

#[path = "../../../sim/tests/serve/attack/conversation.rs"]
mod conversation;
#[path = "../../../sim/tests/serve/attack/descriptors.rs"]
mod descriptors;
#[path = "../../../sim/tests/serve/attack/draws.rs"]
mod draws;
#[path = "../../../sim/tests/serve/attack/field.rs"]
mod field;
#[path = "../../../sim/tests/serve/attack/protocol.rs"]
mod protocol;
#[path = "../../../sim/tests/serve/attack/right.rs"]
mod right;

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use powerfail_device::Config;
use powerfail_device::host::vhost_user::{Grower, QueueDisk, Server};
use powerfail_device::host::{Access, FileDisk, OpenError, UringDisk};
use rustix::fs::{MemfdFlags, memfd_create};

use draws::Draws;
use right::TIMEOUT;

/// Bytes of the disk.
const DISK: u64 = 16 << 20;
/// Number of its queues.
const QUEUES: usize = 2;

/// Serves the conversation that the bytes encode, and a correct client after it.
///
/// # Panics
/// If the server panics or hangs, does not serve the correct client, or keeps a descriptor.
pub fn target(bytes: &[u8]) {
    static SERVED: OnceLock<Mutex<Served>> = OnceLock::new();
    let served = SERVED.get_or_init(|| Mutex::new(Served::begin()));
    let served = served.lock().expect("no execution failed before this one");
    let mut draws = Draws::new(bytes, 0);
    served.serve(|front_end| {
        let nudge = || {
            // A front-end that does not listen is not a finding.
            let _ = served.grower.grow(DISK);
        };
        conversation::converse(&mut draws, front_end, &served.path, &nudge);
    });
    served.serve_right_client();
    served.is_level();
}

/// A server on a separate thread.
struct Served {
    connections: Sender<UnixStream>,
    /// Receives a message when a connection has ended.
    ended: Receiver<()>,
    grower: Grower,
    path: PathBuf,
    _disk: File,
    /// Open descriptors of this process without a connection.
    level: usize,
}

impl Served {
    fn begin() -> Served {
        let disk = File::from(memfd_create("disk", MemfdFlags::CLOEXEC).expect("memory"));
        disk.set_len(DISK).expect("memory");
        let path = PathBuf::from(format!("/proc/self/fd/{}", disk.as_raw_fd()));
        let (connections, connected) = channel();
        let (over, ended) = channel();
        let access = Access { read_only: false, direct: false };
        let grower = match UringDisk::open(&path, access) {
            Ok(disk) => serve(|| disk.lane().expect("a lane"), connected, over),
            Err(OpenError::Uring(..)) => {
                let disk = FileDisk::open(&path, false).expect("a file in memory");
                serve(|| disk.lane().expect("a lane"), connected, over)
            }
            Err(error) => panic!("{error}"),
        };
        let served = Served { connections, ended, grower, path, _disk: disk, level: 0 };
        served.serve_right_client();
        Served { level: open_descriptors(), ..served }
    }

    /// Serves one connection, whose other end is passed to `talk`.
    fn serve(&self, talk: impl FnOnce(UnixStream)) {
        let (front_end, back_end) = UnixStream::pair().expect("a pair of sockets");
        self.connections.send(back_end).expect("the server lives");
        talk(front_end);
        self.ended.recv_timeout(TIMEOUT).expect("the connection comes to an end");
    }

    fn serve_right_client(&self) {
        self.serve(|front_end| {
            let served = right::client(front_end, 0x706f_7765_7266_6169);
            served.unwrap_or_else(|error| panic!("a correct client is not served: {error}"));
        });
    }

    /// Waits until no more descriptors are open than before.
    fn is_level(&self) {
        let begun = Instant::now();
        while open_descriptors() > self.level {
            assert!(begun.elapsed() < TIMEOUT, "descriptors are kept: {}", names());
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// Starts a thread that serves the connections sent through `connected`.
fn serve<D: QueueDisk>(
    lane: impl Fn() -> D,
    connected: Receiver<UnixStream>,
    over: Sender<()>,
) -> Grower {
    let lanes = (0..QUEUES).map(|_| lane()).collect();
    let server = Server::new(Config::default(), lanes, Box::new(|_| {}));
    let mut server = server.expect("a valid configuration");
    let grower = server.grower();
    std::thread::spawn(move || {
        for stream in connected {
            server.serve_connection(stream).expect("the host has threads");
            // The send fails if the target has panicked.
            let _ = over.send(());
        }
    });
    grower
}

fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("procfs").count()
}

/// The open descriptors, by name.
fn names() -> String {
    let entries = fs::read_dir(Path::new("/proc/self/fd")).expect("procfs").flatten();
    let names = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    names.map(|name| name.display().to_string()).collect::<Vec<_>>().join(", ")
}
