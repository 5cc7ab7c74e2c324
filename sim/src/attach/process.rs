//! The process of a foreign backend: its start, its rest and its end.
//!
//! # Rest
//!
//! A step of a foreign device is over when the process is at rest: nothing that it waits for can
//! come but from us. [`Process::is_at_rest`] says so if every thread of it sleeps, and none has run
//! between two looks at all of them. Whatever we sent has then been taken, because a write to a
//! socket or an eventfd makes its reader runnable before it returns.
//!
//! A timer of the process is not seen. What it does then counts as done in a later step.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process_group, set_parent_process_death_signal};

/// The maximum length of the quoted end of its output, in bytes.
const MOST_SAID: usize = 400;

/// A running backend. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    output: PathBuf,
}

/// The threads of a process, each with the number of times that it has run.
type Runs = Vec<(u32, u64)>;

impl Process {
    /// Starts a command line of the shell in a process group of its own. It ends with the calling
    /// thread at the latest. What it prints goes to `output`.
    ///
    /// # Errors
    /// There is no shell, or no file for the output.
    pub(super) fn start(line: &str, output: &Path) -> io::Result<Process> {
        let said = File::create(output)?;
        let mut command = Command::new("sh");
        command.args(["-c", &format!("exec {line}")]).stdin(Stdio::null()).process_group(0);
        command.stderr(said.try_clone()?).stdout(said);
        let dies_with_us = || Ok(set_parent_process_death_signal(Some(Signal::KILL))?);
        // SAFETY: between `fork` and `exec` it makes one system call, and allocates nothing.
        unsafe { command.pre_exec(dies_with_us) };
        Ok(Process { child: command.spawn()?, output: output.to_owned() })
    }

    /// Its exit, if it has ended.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        Some(format!("{}{}", how(status), self.said()))
    }

    /// Kills it and everything that it has started.
    pub(super) fn kill(&mut self) {
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
        let _ = self.child.wait();
    }

    /// Whether it is at rest. `helpers` are threads of this process that work for it.
    pub(super) fn is_at_rest(&self, helpers: &[u32]) -> bool {
        let look = || -> Option<Runs> {
            let mut runs = sleeping(&format!("/proc/{}/task", self.child.id()))?;
            for &helper in helpers {
                runs.push((helper, runs_of(&format!("/proc/self/task/{helper}"))?));
            }
            Some(runs)
        };
        // Twice: a thread that was seen asleep may have been woken by one that was seen later.
        look().is_some_and(|first| look().is_some_and(|second| first == second))
    }

    /// The end of what it has printed, as a part of a sentence.
    pub(super) fn said(&self) -> String {
        let text = fs::read(&self.output).unwrap_or_default();
        let text = String::from_utf8_lossy(&text[text.len().saturating_sub(MOST_SAID)..]);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.is_empty() { String::new() } else { format!("; it printed: {words}") }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "it ended".to_owned(),
    }
}

/// The threads in a folder of tasks; `None` if one of them does not sleep.
fn sleeping(tasks: &str) -> Option<Runs> {
    let mut runs = Runs::new();
    for entry in fs::read_dir(tasks).ok()? {
        let name = entry.ok()?.file_name();
        let name = name.to_str()?;
        runs.push((name.parse().ok()?, runs_of(&format!("{tasks}/{name}"))?));
    }
    runs.sort_unstable();
    Some(runs)
}

/// How often a thread has run; `None` if it does not sleep now, or has ended.
fn runs_of(task: &str) -> Option<u64> {
    let mut bytes = [0; 512];
    let mut read = |name: &str| -> Option<usize> {
        File::open(format!("{task}/{name}")).ok()?.read(&mut bytes).ok()
    };
    let len = read("stat")?;
    // The state follows the name, which is in parentheses and may contain some.
    let stat = &bytes[..len];
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    if stat.get(end + 2) != Some(&b'S') {
        return None;
    }
    let mut read = |name: &str| -> Option<usize> {
        File::open(format!("{task}/{name}")).ok()?.read(&mut bytes).ok()
    };
    let len = read("schedstat")?;
    std::str::from_utf8(&bytes[..len]).ok()?.split_whitespace().nth(2)?.parse().ok()
}
