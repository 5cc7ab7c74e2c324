//! Output to standard output and standard error, with bounded waits.
//!
//! The results of a command are its exit code and its files; printing must never prevent them. So
//! nothing here fails: a closed or full stream is given up silently. On standard output a slow
//! reader, such as a pager, is waited for until a signal arrives. Remarks on standard error wait
//! only briefly.

use std::fmt::Display;
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, write};

/// The bytes that a writable pipe accepts at once, so that a write does not block.
const AT_ONCE: usize = 4096;

/// The number of polls, of 50 ms each, before a remark's stream is given up.
const LOOKS: u32 = 20;

/// The same for every stream once a signal has arrived.
const LAST_LOOKS: u32 = 40;

/// Set when a signal has arrived.
static HURRY: AtomicBool = AtomicBool::new(false);

/// A stream; `lost` is set iff its last text was not written in full.
struct Stream {
    lost: Mutex<bool>,
}

static OUT: Stream = Stream { lost: Mutex::new(false) };
static ERR: Stream = Stream { lost: Mutex::new(false) };

/// Bounds every wait from now on.
pub(super) fn hurry() {
    HURRY.store(true, Ordering::Relaxed);
}

/// Prints a result unchanged.
pub(super) fn out(text: impl Display) {
    OUT.print(std::io::stdout(), &text.to_string(), None);
}

/// Prints a line of a result.
pub(super) fn line(text: impl Display) {
    out(format_args!("{text}\n"));
}

/// Prints a remark, on standard error.
pub(super) fn note(text: impl Display) {
    let text = format!("powerfail: {text}\n");
    ERR.print(std::io::stderr(), &text, Some(LOOKS));
}

impl Stream {
    /// Prints a text, or the part of it that the stream accepts. `looks` bounds the number of
    /// polls.
    fn print(&self, stream: impl AsFd, text: &str, looks: Option<u32>) {
        let Ok(mut lost) = self.lost.lock() else { return };
        let mut rest = text.as_bytes();
        // A stream that was given up before must accept the text at once.
        let mut left = if *lost { Some(0) } else { looks };
        while !rest.is_empty() {
            match takes(&stream, left == Some(0)) {
                true => match write(&stream, &rest[..rest.len().min(AT_ONCE)]) {
                    Ok(taken) => {
                        rest = &rest[taken..];
                        *lost = false;
                        left = looks;
                        continue;
                    }
                    Err(Errno::INTR | Errno::AGAIN) => {}
                    Err(_) => break,
                },
                false if left == Some(0) => break,
                false => {}
            }
            if HURRY.load(Ordering::Relaxed) {
                left = Some(left.unwrap_or(LAST_LOOKS).min(LAST_LOOKS));
            }
            left = left.map(|left| left.saturating_sub(1));
        }
        *lost = !rest.is_empty();
    }
}

/// Whether a stream becomes writable, or fails, now or within 50 ms.
fn takes(stream: impl AsFd, now: bool) -> bool {
    let mut looked = [PollFd::new(&stream, PollFlags::OUT)];
    let wait = Timespec { tv_sec: 0, tv_nsec: if now { 0 } else { 50_000_000 } };
    match poll(&mut looked, Some(&wait)) {
        Ok(ready) => ready > 0,
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    fn stream() -> Stream {
        Stream { lost: Mutex::new(false) }
    }

    #[test]
    fn a_stream_that_is_full_or_closed_is_given_up() {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it is there");
        stream().print(&full, "lost", None);
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        stream().print(&writer, "lost", None);
    }

    #[test]
    fn the_wait_for_an_unread_pipe_is_bounded() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let stream = stream();
        let text = "x".repeat(1 << 20);
        stream.print(&writer, &text, Some(1));
        assert!(*stream.lost.lock().expect("no thread panics"), "a pipe is not so large");
        stream.print(&writer, "at once or not at all", Some(u32::MAX));
        drop(writer);
        let mut taken = String::new();
        reader.read_to_string(&mut taken).expect("text");
        assert!(!taken.is_empty() && taken.len() < text.len(), "{}", taken.len());
        assert!(taken.bytes().all(|byte| byte == b'x'));
    }

    #[test]
    fn a_slow_reader_gets_all() {
        let (mut reader, writer) = std::io::pipe().expect("a pipe");
        let text = "x".repeat(1 << 20);
        std::thread::scope(|scope| {
            let taken = scope.spawn(move || {
                let mut taken = Vec::new();
                reader.read_to_end(&mut taken).expect("it reads");
                taken.len()
            });
            stream().print(&writer, &text, None);
            drop(writer);
            assert_eq!(taken.join().expect("it has read"), 1 << 20);
        });
    }
}
