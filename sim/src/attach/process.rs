//! The process of a foreign backend: its start, its rest and its end.
//!
//! # Rest
//!
//! A step of a foreign device is over when the process is at rest: nothing that it waits for can
//! come but from us. [`Process::is_at_rest`] says so if every thread of it sleeps, and none has run
//! between two looks at all of them. Whatever we sent has then been taken, because a write to a
//! socket or an eventfd makes its reader runnable before it returns.
//!
//! Timers of the process are not visible. What it does when one expires counts as part of the next
//! step.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
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
    is_reaped: bool,
    /// A thread of this process that works for it.
    helper: Option<u32>,
    /// Its threads, as they were found last, and the helper after them.
    threads: Vec<Thread>,
    /// How often each of them had run when it was at rest last.
    rested: Vec<u64>,
}

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
        let child = command.spawn()?;
        let (threads, rested) = (Vec::new(), Vec::new());
        Ok(Process {
            child,
            output: output.to_owned(),
            is_reaped: false,
            helper: None,
            threads,
            rested,
        })
    }

    /// From now on it is at rest only if this thread of ours is, too.
    pub(super) fn needs(&mut self, helper: Option<u32>) {
        self.helper = helper;
    }

    /// Its exit, if it has ended.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.child.try_wait().ok().flatten()?;
        self.is_reaped = true;
        Some(format!("{}{}", how(status), self.said()))
    }

    /// Kills it and everything that it has started. [`end`](Self::end) waits for that.
    pub(super) fn signal(&mut self) {
        // Its number may be that of another group by then.
        if self.is_reaped {
            return;
        }
        if let Some(group) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process_group(group, Signal::KILL);
        }
    }

    /// Waits for the end of a process that was killed.
    pub(super) fn end(&mut self) {
        let _ = self.child.wait();
        self.is_reaped = true;
    }

    /// Whether it is at rest. `waits` says that it waits for an answer of its host, which a thread
    /// of the kernel does without being interruptible.
    pub(super) fn is_at_rest(&mut self, waits: bool) -> bool {
        // Twice: a thread that was seen asleep may have been woken by one that was seen later.
        let Some(first) = self.runs(waits) else { return false };
        let Some(second) = self.runs(waits) else { return false };
        self.rested = second;
        first == self.rested
    }

    /// Whether none of its threads has run since it was at rest.
    pub(super) fn still_rests(&mut self, waits: bool) -> bool {
        let runs = self.runs(waits);
        runs.is_some_and(|runs| runs == self.rested)
    }

    /// How often each thread has run; `None` if one of them does not sleep, or they have changed.
    fn runs(&mut self, waits: bool) -> Option<Vec<u64>> {
        let asleep = self.threads.iter().map(|thread| thread.asleep(waits));
        let asleep: Option<Vec<_>> = asleep.collect();
        let helpers = usize::from(self.helper.is_some());
        let count = asleep.as_ref().and_then(|all| all.first()).map(|(count, _)| count + helpers);
        if count != Some(self.threads.len()) {
            self.threads = Thread::all(self.child.id()).unwrap_or_default();
            let path = |helper: u32| format!("/proc/self/task/{helper}");
            self.threads.extend(self.helper.and_then(|it| Thread::open(Path::new(&path(it)))));
            return None;
        }
        asleep.map(|all| all.into_iter().map(|(_, runs)| runs).collect())
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
        self.signal();
        self.end();
    }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("it exited with code {code}"),
        (None, Some(signal)) => format!("signal {signal} ended it"),
        (None, None) => "it ended".to_owned(),
    }
}

/// A thread of the process, by its files, which stay open because opening them takes longer than
/// reading them.
#[derive(Debug)]
struct Thread {
    /// Its state, which is `S` also while it is only about to sleep.
    stat: File,
    /// The system call that it is blocked in. It is still given while the thread is being woken.
    syscall: File,
    /// How often it has run.
    schedstat: File,
}

impl Thread {
    /// The threads of a process.
    fn all(process: u32) -> Option<Vec<Thread>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(format!("/proc/{process}/task")).ok()? {
            all.push(Thread::open(&entry.ok()?.path())?);
        }
        Some(all)
    }

    fn open(task: &Path) -> Option<Thread> {
        let open = |name: &str| File::open(task.join(name)).ok();
        let (stat, syscall) = (open("stat")?, open("syscall")?);
        Some(Thread { stat, syscall, schedstat: open("schedstat")? })
    }

    /// The number of threads of its process, and how often it has run; `None` if it does not sleep
    /// now, or has ended.
    fn asleep(&self, waits: bool) -> Option<(usize, u64)> {
        let mut bytes = [0; 512];
        // The name of the thread, in parentheses, may contain spaces and parentheses. The state is
        // the 3rd field, the number of threads the 20th.
        let (_, fields) = text(&self.stat, &mut bytes)?.rsplit_once(") ")?;
        let mut fields = fields.split(' ');
        match fields.next() {
            Some("S") => {}
            Some("D") if waits => {}
            _ => return None,
        }
        let threads = fields.nth(16)?.parse().ok()?;
        if text(&self.syscall, &mut bytes)?.starts_with("running") {
            return None;
        }
        let runs = text(&self.schedstat, &mut bytes)?.split_whitespace().nth(2)?.parse().ok()?;
        Some((threads, runs))
    }
}

/// The present content of a small file.
fn text<'a>(file: &File, bytes: &'a mut [u8]) -> Option<&'a str> {
    let len = file.read_at(bytes, 0).ok()?;
    std::str::from_utf8(&bytes[..len]).ok()
}
