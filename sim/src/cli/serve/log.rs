//! The log of a server: lines on standard error, written by a thread of their own.
//!
//! Standard error may be closed, full, or a pipe that nobody reads, and a write to it may block for
//! ever. So no thread that serves a guest writes there. It puts a line into a bounded queue and
//! goes on; lines that find no room, come too often or cannot be written are counted, and the count
//! is a line of its own once there is room again.
//!
//! Front-ends cause most lines, and may cause them as fast as they connect: those are limited, by
//! [`Topic`]. Control characters are escaped, whatever they came from.

use std::collections::VecDeque;
use std::fmt::Display;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

/// How many lines may wait to be written.
const MOST_LINES: usize = 1024;
/// So many more of the server's own may wait: how it ends is worth more than who came.
const MOST_OWN: usize = MOST_LINES + 32;
/// Bytes of a line; what is longer is cut.
const MOST_BYTES: usize = 4096;
/// How many lines of a topic may come at once.
const BURST: u32 = 1000;
/// How many more may come in each second.
const RATE: u32 = 20;
/// How long the end of the process waits for lines to be written.
const PATIENCE: Duration = Duration::from_millis(500);

/// What a limited line is about. A flood of one topic leaves room for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// A front-end comes or goes.
    Connections,
    /// Anything else that a front-end or a signal caused.
    Rest,
}

/// A line, or the number of those that were left out here.
#[derive(Debug)]
enum Entry {
    Line(String),
    LeftOut(u64),
}

/// How many lines of a topic may still come.
#[derive(Debug)]
struct Limit {
    left: u32,
    /// The end of the last second that counted.
    since: Instant,
}

impl Limit {
    fn new(now: Instant) -> Limit {
        Limit { left: BURST, since: now }
    }

    /// Whether one more line may come.
    fn admits(&mut self, now: Instant) -> bool {
        // By whole seconds, so that one count stands for all that was left out in each.
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
    /// An entry was taken and is being written.
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

    /// Has the number of lines left out written in their place.
    fn count(&mut self) {
        if self.left_out > 0 {
            self.entries.push_back(Entry::LeftOut(std::mem::take(&mut self.left_out)));
        }
    }

    fn is_idle(&self) -> bool {
        self.entries.is_empty() && !self.writing
    }
}

/// Where every thread of a server says what there is to say. None of its functions waits for
/// standard error but [`finish`](Log::finish) and [`last_words`](Log::last_words), and these not
/// for long.
#[derive(Clone, Debug)]
pub(super) struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    /// There is something to write, or everything is written.
    moved: Condvar,
}

impl Log {
    /// Starts the thread that writes.
    ///
    /// # Errors
    /// The host gives no thread.
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
        // It is not joined: it may wait for a reader that never reads, and ends with the process.
        thread.spawn(move || writer.work())?;
        Ok(log)
    }

    /// Says something of the server's own, which comes seldom.
    pub(super) fn say(&self, what: impl Display) {
        self.state().push(line(what), MOST_OWN);
        self.0.moved.notify_all();
    }

    /// Says something that others may cause as often as they like.
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

    /// Waits until everything is written, or as long as the end of the process may take.
    pub(super) fn finish(&self) {
        let mut state = self.state();
        state.count();
        self.0.moved.notify_all();
        let waited = self.0.moved.wait_timeout_while(state, PATIENCE, |state| !state.is_idle());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// Says something and waits as [`finish`](Log::finish) does, in a thread that panics: it may
    /// hold the lock, so that is only tried.
    pub(super) fn last_words(&self, what: impl Display) {
        let mut last = Some(line(what));
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
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

    /// What the thread does: the only place where a server writes to standard error.
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
        // A panic ends the process, so what one left behind is not used for long.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A whole line: no control characters but the newline at its end.
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

/// Writes all of it to standard error. Not by way of the standard library's handle, which other
/// threads would have to wait for.
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
