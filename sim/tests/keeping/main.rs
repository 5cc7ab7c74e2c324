//! Commands in an adverse environment: output that is not read, a signal, a full disk, another
//! process in the same folder, or an input that is not a regular file.

mod ending;
mod looking;
mod printing;
mod reading;
mod resuming;
mod writing;

use std::fs;
use std::io::read_to_string;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use powerfail::trace::Trace;

/// Longer than any step takes that does not hang.
const PATIENCE: Duration = Duration::from_secs(60);

/// Breaks a promise in one of every few seeds.
const WRONG: [&str; 4] = ["--disk", "wrong:early-flush", "--profile", "bench"];

/// A temporary folder with a trace in it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().expect("a place");
        fs::write(dir.path().join("a.trace"), TRACE).expect("a trace");
        Place(dir)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The program, in this folder. Its output is discarded.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    /// The program in this folder, after a command of the shell.
    fn after(&self, before: &str, args: &[&str]) -> Command {
        let mut command = Command::new("sh");
        let script = format!("{before}; exec \"$0\" \"$@\"");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_powerfail")]).args(args);
        command.current_dir(self.0.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn powerfail(&self, args: &[&str]) -> Said {
        said(self.command(args))
    }

    /// The files in a folder, by name.
    fn files(&self, folder: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.path(folder)) else { return Vec::new() };
        let name = |entry: std::io::Result<fs::DirEntry>| {
            entry.expect("an entry").file_name().to_string_lossy().into_owned()
        };
        let mut names: Vec<String> = entries.map(name).collect();
        names.sort();
        names
    }

    /// Checks that a folder holds only traces, a summary and a checkpoint, all of them whole.
    fn assert_whole(&self, folder: &str) {
        for name in self.files(folder) {
            let path = self.path(folder).join(&name);
            if name.ends_with(".trace") {
                whole_trace(&path);
            } else if name == "summary.json" {
                whole_summary(&path);
            } else {
                assert!(name.ends_with(".checkpoint"), "{name} is left behind");
            }
        }
    }
}

const TRACE: &str = include_str!("../../../traces/0001-early-flush.trace");

/// The output of a command, and its exit code.
#[derive(Debug)]
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

fn said(mut command: Command) -> Said {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let (out, err) = (child.stdout.take().expect("a pipe"), child.stderr.take().expect("a pipe"));
    let out = std::thread::spawn(|| read_to_string(out).expect("text"));
    let err = std::thread::spawn(|| read_to_string(err).expect("text"));
    let code = end(child).code();
    let text = |thread: JoinHandle<String>| thread.join().expect("it has read all");
    Said { code, out: text(out), err: text(err) }
}

/// Waits for the end of a process. A process that does not end is killed, and the test fails.
fn end(mut child: Child) -> ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child process") {
            return status;
        }
        if begun.elapsed() > PATIENCE {
            child.kill().expect("a child process");
            child.wait().expect("a child process");
            panic!("it hangs");
        }
        pause();
    }
}

/// Waits for an effect of a process before its end.
fn until(child: &mut Child, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(child.try_wait().expect("a child process").is_none(), "it has ended");
        if begun.elapsed() > PATIENCE {
            child.kill().expect("a child process");
            panic!("it does not come");
        }
        pause();
    }
}

fn pause() {
    std::thread::park_timeout(Duration::from_millis(2));
}

fn whole_trace(path: &Path) -> Trace {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{} is not whole: {e}", path.display()))
}

fn whole_summary(path: &Path) -> serde_json::Value {
    let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let at = text.find("  \"checksum\"").expect("a summary has a checksum");
    let sum = text[..at].bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    let summary: serde_json::Value = serde_json::from_str(&text).expect("a summary is JSON");
    assert_eq!(summary["checksum"], format!("fnv1a64:{sum:016x}"));
    summary
}
