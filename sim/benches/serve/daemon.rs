//! The two daemons, each started on the same file.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::ops::Range;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use tempfile::TempDir;

/// The longest time until a daemon listens.
const PATIENCE: Duration = Duration::from_secs(10);

/// A daemon.
#[derive(Clone, Debug)]
pub(crate) enum Backend {
    /// `powerfail serve`, built with this benchmark.
    Ours,
    /// `qemu-storage-daemon`, and its version line.
    Qemu(String),
    /// No other daemon is installed.
    Absent,
}

impl Backend {
    /// The peer: the program named by `QEMU_STORAGE_DAEMON`, or the one on the path.
    pub(crate) fn peer() -> Backend {
        let said = Command::new(qemu()).arg("--version").output();
        match said {
            Ok(said) if said.status.success() => {
                let said = String::from_utf8_lossy(&said.stdout);
                Backend::Qemu(said.lines().next().unwrap_or_default().trim().to_owned())
            }
            _ => Backend::Absent,
        }
    }

    pub(crate) fn version(&self) -> &str {
        match self {
            Backend::Ours => concat!("powerfail ", env!("CARGO_PKG_VERSION")),
            Backend::Qemu(version) => version,
            Backend::Absent => "*** no qemu-storage-daemon is installed ***",
        }
    }

    /// The command that serves `file` on `socket`, with one queue.
    fn command(&self, file: &Path, socket: &Path, direct: bool) -> Option<Command> {
        let (file, socket) = (file.display(), socket.display());
        match self {
            Backend::Ours => {
                let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
                command.args(["serve", "--file", &file.to_string()]);
                command.args(["--socket", &socket.to_string()]);
                command.args(direct.then_some("--direct"));
                Some(command)
            }
            Backend::Qemu(_) => {
                let cache = if direct { "on" } else { "off" };
                let disk = format!(
                    "driver=file,node-name=disk,filename={file},aio=io_uring,discard=unmap,cache.direct={cache}"
                );
                let export = format!(
                    "type=vhost-user-blk,id=export,node-name=disk,addr.type=unix,addr.path={socket},writable=on,num-queues=1"
                );
                let mut command = Command::new(qemu());
                command.args(["--blockdev", &disk, "--export", &export]);
                Some(command)
            }
            Backend::Absent => None,
        }
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from).max(CORES.load(Ordering::Relaxed))
}

/// The number of cores before this process was restricted to some.
static CORES: AtomicUsize = AtomicUsize::new(0);

/// Restricts this thread to these cores, if they exist.
fn run_on(cores: Range<usize>) {
    CORES.fetch_max(thread::available_parallelism().map_or(1, usize::from), Ordering::Relaxed);
    let mut set = CpuSet::new();
    cores.for_each(|core| set.set(core));
    if set.count() > 0 {
        // If this is not permitted, the figures are noisier.
        let _ = sched_setaffinity(None, &set);
    }
}

fn qemu() -> OsString {
    std::env::var_os("QEMU_STORAGE_DAEMON").unwrap_or_else(|| "qemu-storage-daemon".into())
}

/// A description of the machine, for later readers of a table.
pub(crate) fn host(file: &Path) -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let kernel = read("/proc/sys/kernel/osrelease");
    let folder = file.parent().and_then(|parent| parent.canonicalize().ok());
    let mounts = read("/proc/self/mounts");
    let below = |mount: &&str| {
        let place = mount.split(' ').nth(1);
        folder.as_ref().zip(place).is_some_and(|(folder, place)| folder.starts_with(place))
    };
    let mount = mounts.lines().filter(below).max_by_key(|mount| mount.split(' ').nth(1));
    let kind = mount.and_then(|mount| mount.split(' ').nth(2)).unwrap_or("an unknown file system");
    format!("Linux {}, {kind}, {} cores", kernel.trim(), cores())
}

/// A daemon that listens.
pub(crate) struct Daemon {
    child: Child,
    socket: PathBuf,
    _dir: TempDir,
}

impl Daemon {
    /// Starts a daemon; `None` if there is none, or if the file system has no direct I/O.
    pub(crate) fn start(
        backend: &Backend,
        file: &Path,
        direct: bool,
    ) -> Result<Option<Daemon>, String> {
        let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
        let socket = dir.path().join("socket");
        let Some(mut command) = backend.command(file, &socket, direct) else { return Ok(None) };
        // The child inherits the cores of this thread.
        run_on(1..cores());
        let begun = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        run_on(0..1);
        let child = begun.map_err(|error| format!("{command:?}: {error}"))?;
        let mut daemon = Daemon { child, socket, _dir: dir };
        let started = Instant::now();
        // The socket exists a moment before the daemon listens on it.
        while UnixStream::connect(&daemon.socket).is_err() {
            if daemon.child.try_wait().map_err(|error| error.to_string())?.is_some() {
                let said = daemon.said();
                let refused = direct && (said.contains("direct") || said.contains("O_DIRECT"));
                return if refused { Ok(None) } else { Err(format!("{command:?}: {said}")) };
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("{command:?} does not listen"));
            }
            thread::park_timeout(Duration::from_millis(2));
        }
        Ok(Some(daemon))
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// CPU time of its threads, and of the kernel for them.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id()));
        let stat = stat.unwrap_or_default();
        // The name in parentheses may contain any character; user and system time are the 14th and
        // 15th field.
        let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
        let ticks: u64 =
            fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
    }

    fn said(&mut self) -> String {
        let stderr = self.child.stderr.take();
        let lines = stderr.map(|stderr| BufReader::new(stderr).lines());
        lines.and_then(|mut lines| lines.next()?.ok()).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The daemon may have ended already.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}
