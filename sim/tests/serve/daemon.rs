//! A running `powerfail serve`.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Much longer than any wait in these tests: a server that hangs fails the test.
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A directory with a disk and the socket on which it is served.
pub(crate) struct Place {
    dir: TempDir,
    /// The directory of the disk, if it is another one.
    disks: Option<TempDir>,
}

impl Place {
    /// A place with a disk of `bytes` zero bytes.
    pub(crate) fn new(bytes: u64) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap(), disks: None };
        let file = fs::File::create(place.disk()).unwrap();
        file.set_len(bytes).unwrap();
        place
    }

    /// A place with a disk that holds `image`, in the target folder: a temporary folder may be in
    /// memory, without direct I/O. The socket is elsewhere, because its path must be short.
    pub(crate) fn holding(image: &[u8]) -> Place {
        let disks = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let place = Place { dir: tempfile::tempdir().unwrap(), disks: Some(disks) };
        fs::write(place.disk(), image).unwrap();
        place
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.disks.as_ref().unwrap_or(&self.dir).path().join("disk.img")
    }

    /// The names of all directory entries, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let all = [Some(&self.dir), self.disks.as_ref()];
        let entries = all.into_iter().flatten().flat_map(|dir| fs::read_dir(dir.path()).unwrap());
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("blk.sock")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The command that serves the disk, with more arguments.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let program = env::var_os("POWERFAIL_SERVER");
        let mut command =
            Command::new(program.unwrap_or_else(|| env!("CARGO_BIN_EXE_powerfail").into()));
        command.arg("serve").arg("--socket").arg(self.socket());
        command.arg("--file").arg(self.disk()).args(more);
        command
    }

    /// Serves the disk; returns once it listens.
    pub(crate) fn serve(&self, more: &[&str]) -> Daemon {
        Daemon::start(self.command(more))
    }
}

/// Runs a command that must end without a signal and with short output.
pub(crate) fn output(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > LONG {
            child.kill().unwrap();
            let said = child.wait_with_output().unwrap().stderr;
            panic!("{command:?} does not end: {}", String::from_utf8_lossy(&said));
        }
        std::thread::park_timeout(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

/// Runs a command that must be rejected, and returns its line.
pub(crate) fn refused(command: Command) -> String {
    let output = output(command);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

/// The host resources of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footprint {
    pub(crate) descriptors: usize,
    /// Without kernel threads.
    pub(crate) threads: usize,
    /// Ranges of memory.
    pub(crate) mappings: usize,
    /// Memory in KiB.
    pub(crate) resident: usize,
}

impl Footprint {
    /// The resources of a process.
    pub(crate) fn of(process: u32) -> Footprint {
        let about = |what: &str| format!("/proc/{process}/{what}");
        let status = fs::read_to_string(about("status")).unwrap();
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let resident = resident.and_then(|line| line.trim().strip_suffix(" kB"));
        Footprint {
            descriptors: fs::read_dir(about("fd")).unwrap().count(),
            threads: threads(process),
            mappings: fs::read_to_string(about("maps")).unwrap().lines().count(),
            resident: resident.expect("a number of kB").parse().unwrap(),
        }
    }

    /// The larger one of each count.
    pub(crate) fn max(self, other: Footprint) -> Footprint {
        Footprint {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            mappings: self.mappings.max(other.mappings),
            resident: self.resident.max(other.resident),
        }
    }
}

/// Number of threads of a process, without the io_uring workers of the kernel, which begin and end
/// at any time. A flag tells them apart, because a new one still has the name of the thread that it
/// works for.
fn threads(process: u32) -> usize {
    const PF_IO_WORKER: u64 = 0x10;
    let tasks = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let stats = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("stat")));
    let flags = |stat: &str| stat.rsplit_once(')')?.1.split_whitespace().nth(6)?.parse().ok();
    // A thread that has just ended has none.
    let flags = stats.flatten().filter_map(|stat| flags(&stat));
    flags.filter(|flags: &u64| flags & PF_IO_WORKER == 0).count()
}

/// The process; dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Daemon {
    /// Runs a command that serves; returns once it listens.
    pub(crate) fn start(mut command: Command) -> Daemon {
        let mut daemon = Daemon::of(command.stderr(Stdio::piped()).spawn().unwrap());
        let first = daemon.line();
        assert!(first.contains("is served on"), "{first}");
        daemon
    }

    /// A process whose standard error is a pipe.
    pub(crate) fn of(mut child: Child) -> Daemon {
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        Daemon { child, stderr }
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard error.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    /// Reads lines until one contains this text.
    pub(crate) fn until(&mut self, says: &str) -> String {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "it ended without saying `{says}`");
            if line.contains(says) {
                return line;
            }
        }
    }

    /// Its host resources.
    pub(crate) fn footprint(&self) -> Footprint {
        Footprint::of(self.child.id())
    }

    /// Sends a signal and waits for the end. Returns the status and the rest of the output.
    pub(crate) fn end(self, signal: Signal) -> (ExitStatus, String) {
        self.signal(signal);
        self.ended()
    }

    /// Waits for the end. Returns the status and the rest of the output.
    pub(crate) fn ended(mut self) -> (ExitStatus, String) {
        let mut said = String::new();
        while self.stderr.read_line(&mut said).unwrap() > 0 {}
        (self.child.wait().unwrap(), said)
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // The server may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
