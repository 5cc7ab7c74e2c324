//! The log of a server: lines on standard error, written by a dedicated thread.
//!
//! Standard error may be closed, full, or a pipe without a reader, and a write to it may block
//! without end. So no thread that serves a guest writes there: it puts a line into a bounded queue
//! and continues. Lines that find no room, exceed the rate limit or cannot be written are counted,
//! and the count is logged as a line once there is room again.
//!
//! Front-ends cause most lines, as fast as they connect, so those lines have a rate limit for each
//! [`Topic`]. Control characters from any source are escaped.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// The maximum number of lines that wait to be written.
const MOST_LINES: usize = 1024;
/// The same for the server's own lines, which get extra room: its end matters more than
/// connections.
const MOST_OWN: usize = MOST_LINES + 32;
/// The maximum length of a line in bytes; a longer one is truncated.
const MOST_BYTES: usize = 4096;
/// The number of lines of a topic in one burst.
const BURST: u32 = 1000;
/// The number of further lines of a topic per second.
const RATE: u32 = 20;
/// The wait for the queue to be written at the end of the process.
const WRITE_TIMEOUT: Duration = Duration::from_millis(500);

/// The subject of a rate-limited line. A flood of one topic leaves room for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// A front-end connects or disconnects.
    Connections,
    /// Any other event caused by a front-end or a signal.
    Rest,
}

/// A line, or the number of lines left out at this place.
#[derive(Debug)]
enum Entry {
    Line(String),
    LeftOut(u64),
}

/// The rate limit of a topic.
#[derive(Debug)]
struct Limit {
    left: u32,
    /// The end of the last whole second that was credited.
    since: Instant,
}

impl Limit {
    fn new(now: Instant) -> Limit {
        Limit { left: BURST, since: now }
    }

    /// Whether one more line is admitted; if so, counts it.
    fn admits(&mut self, now: Instant) -> bool {
        // By whole seconds, so that one count covers all lines left out in a second.
        let seconds = now.saturating_duration_since(self.since).as_secs();
        self.since += Duration::from_secs(seconds);
        let more = u64::from(RATE).saturating_mul(seconds).saturating_add(self.left.into());
        self.left = u32::try_from(more).unwrap_or(BURST).min(BURST);
        let admits = self.left > 0;
        self.left -= u32::from(admits);
        admits
    }
}

#[derive(Debug)]
struct State {
    entries: VecDeque<Entry>,
    /// Lines left out since the last entry.
    left_out: u64,
    /// Whether an entry was taken and is being written.
    writing: bool,
    connections: Limit,
    rest: Limit,
}

impl State {
    fn push(&mut self, line: String, most: usize) {
        if self.entries.len() + 1 >= most {
            self.left_out += 1;
            return;
        }
        self.count();
        self.entries.push_back(Entry::Line(line));
    }

    /// Queues the number of lines left out, in their place.
    fn count(&mut self) {
        if self.left_out > 0 {
            self.entries.push_back(Entry::LeftOut(std::mem::take(&mut self.left_out)));
        }
    }

    fn is_idle(&self) -> bool {
        self.entries.is_empty() && !self.writing
    }
}

/// The log, shared by every thread of a server. Only [`finish`](Log::finish) and
/// [`last_words`](Log::last_words) wait for standard error, at most half a second.
#[derive(Clone, Debug)]
pub(super) struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// Notified when an entry is queued or the queue is written.
    moved: Condvar,
}

impl Log {
    /// Starts the writer thread.
    ///
    /// # Errors
    /// The host cannot start a thread.
    pub(super) fn start() -> io::Result<Log> {
        let now = Instant::now();
        let log = Log(Arc::new(Shared {
            state: Mutex::new(State {
                entries: VecDeque::new(),
                left_out: 0,
                writing: false,
                connections: Limit::new(now),
                rest: Limit::new(now),
            }),
            moved: Condvar::new(),
        }));
        let writer = log.clone();
        let thread = std::thread::Builder::new().name("log".to_owned());
        // Not joined: it may wait for a reader that never reads, and ends with the process.
        thread.spawn(move || writer.work())?;
        Ok(log)
    }

    /// Logs a line of the server's own, without a rate limit.
    pub(super) fn say(&self, what: impl Display) {
        self.state().push(line(what), MOST_OWN);
        self.0.moved.notify_all();
    }

    /// Logs a line that others cause, within the topic's rate limit.
    pub(super) fn mention(&self, topic: Topic, what: impl Display) {
        let line = line(what);
        let mut state = self.state();
        let limit = match topic {
            Topic::Connections => &mut state.connections,
            Topic::Rest => &mut state.rest,
        };
        if limit.admits(Instant::now()) {
            state.push(line, MOST_LINES);
            self.0.moved.notify_all();
        } else {
            state.left_out += 1;
        }
    }

    /// Waits until the queue is written, at most `WRITE_TIMEOUT`.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.count();
        self.0.moved.notify_all();
        let waited =
            self.0.moved.wait_timeout_while(state, WRITE_TIMEOUT, |state| !state.is_idle());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Logs a line and waits as [`finish`](Log::finish) does, in a thread that panics. That thread
    /// may hold the lock, so only `try_lock` is used.
    pub(super) fn last_words(&self, what: impl Display) {
        let mut last = Some(line(what));
        let begun = Instant::now();
        while begun.elapsed() < WRITE_TIMEOUT {
            if let Ok(mut state) = self.0.state.try_lock() {
                if let Some(line) = last.take() {
                    state.push(line, MOST_OWN);
                    self.0.moved.notify_all();
                } else if state.is_idle() {
                    return;
                }
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    /// The writer thread: the only code of a server that writes to standard error.
    fn work(&self) {
        loop {
            let mut state = self.state();
            state.writing = false;
            self.0.moved.notify_all();
            let waited = self.0.moved.wait_while(state, |state| state.entries.is_empty());
            let mut state = waited.unwrap_or_else(PoisonError::into_inner);
            let Some(entry) = state.entries.pop_front() else { continue };
            state.writing = true;
            drop(state);
            let (text, lines) = match entry {
                Entry::Line(text) => (text, 1),
                Entry::LeftOut(lines) => (line(format_args!("{lines} lines left out")), lines),
            };
            if write(text.as_bytes()).is_err() {
                self.state().left_out += lines;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic ends the process, so a state it left behind is used only briefly.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A complete line, without control characters except the newline at its end.
fn line(what: impl Display) -> String {
    let mut line = "powerfail: ".to_owned();
    for c in what.to_string().chars() {
        if line.len() >= MOST_BYTES {
            line.push_str("...");
            break;
        }
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}') {
            line.extend(c.escape_default());
        } else {
            line.push(c);
        }
    }
    line.push('\n');
    line
}

/// Writes all bytes to standard error, without the lock of the standard library's handle, which
/// would block other threads.
fn write(mut bytes: &[u8]) -> rustix::io::Result<()> {
    let stderr = io::stderr();
    while !bytes.is_empty() {
        match rustix::io::write(stderr.as_fd(), bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                match poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], None) {
                    Ok(_) | Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error),
                }
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_line_whatever_is_said() {
        assert_eq!(line("a disk"), "powerfail: a disk\n");
        assert_eq!(line("a\nb\u{1b}[2J\u{7f}"), "powerfail: a\\nb\\u{1b}[2J\\u{7f}\n");
        assert_eq!(line("ä \u{202e}"), "powerfail: ä \\u{202e}\n");
        let long = line("x".repeat(1 << 20));
        assert!(long.len() < MOST_BYTES + 16 && long.ends_with("x...\n"));
    }

    #[test]
    fn a_flood_is_limited_and_others_after_it_are_not() {
        let begun = Instant::now();
        let mut limit = Limit::new(begun);
        let mut admitted = |millis| {
            let now = begun + Duration::from_millis(millis);
            (0..100_000).filter(|_| limit.admits(now)).count() as u32
        };
        assert_eq!(admitted(0), BURST);
        assert_eq!(admitted(999), 0);
        assert_eq!(admitted(1000), RATE);
        assert_eq!(admitted(3999), 2 * RATE);
        assert_eq!(admitted(4000), RATE);
        assert_eq!(admitted(u64::from(u32::MAX) * 1000), BURST);
    }

    #[test]
    fn lines_without_room_are_counted_where_they_are_missing() {
        let now = Instant::now();
        let (connections, rest) = (Limit::new(now), Limit::new(now));
        let entries = VecDeque::new();
        let mut state = State { entries, left_out: 0, writing: false, connections, rest };
        for n in 0..MOST_LINES + 7 {
            state.push(n.to_string(), MOST_LINES);
        }
        let held = state.entries.len();
        assert!(held < MOST_LINES);
        assert_eq!(state.left_out as usize, MOST_LINES + 7 - held);
        state.push("the end".to_owned(), MOST_OWN);
        let last: Vec<Entry> = state.entries.drain(held..).collect();
        let [Entry::LeftOut(lines), Entry::Line(end)] = &last[..] else {
            panic!("a count and a line: {last:?}");
        };
        assert_eq!((*lines as usize, &end[..]), (MOST_LINES + 7 - held, "the end"));
    }
}
