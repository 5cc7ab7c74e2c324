//! A running `powerfail serve`.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A directory with a disk in it, and the socket it is served on.
pub(crate) struct Place {
    dir: TempDir,
}

impl Place {
    /// With a disk of so many zero bytes.
    pub(crate) fn new(bytes: u64) -> Place {
        let place = Place { dir: tempfile::tempdir().unwrap() };
        let file = fs::File::create(place.disk()).unwrap();
        file.set_len(bytes).unwrap();
        place
    }

    pub(crate) fn disk(&self) -> PathBuf {
        self.dir.path().join("disk.img")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("blk.sock")
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The command that serves the disk, with these arguments more.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
        command.arg("serve").arg("--socket").arg(self.socket());
        command.arg("--file").arg(self.disk()).args(more);
        command
    }

    /// Serves the disk; returns once it listens.
    pub(crate) fn serve(&self, more: &[&str]) -> Daemon {
        let mut child = self.command(more).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut daemon = Daemon { child, stderr };
        let first = daemon.line();
        assert!(first.contains("is served on"), "{first}");
        daemon
    }
}

/// The process; killed if a test ends without it.
pub(crate) struct Daemon {
    child: Child,
    stderr: BufReader<ChildStderr>,
}

impl Daemon {
    /// The next line it says.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stderr.read_line(&mut line).unwrap();
        line
    }

    /// Reads lines until one says this.
    pub(crate) fn until(&mut self, says: &str) -> String {
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "it ended without saying `{says}`");
            if line.contains(says) {
                return line;
            }
        }
    }

    /// Number of descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// Sends it a signal and waits for its end; returns what it said meanwhile too.
    pub(crate) fn end(mut self, signal: Signal) -> (ExitStatus, String) {
        self.signal(signal);
        let mut said = String::new();
        while self.stderr.read_line(&mut said).unwrap() > 0 {}
        (self.child.wait().unwrap(), said)
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
