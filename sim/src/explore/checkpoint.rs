//! The finished parts of a search, in a file from which a stopped search continues.
//!
//! A search is cut into parts whose outcome does not depend on when they run. The file has a line
//! for each finished part: its identity, its counts, and the lives it led to. The first line names
//! the search and the program; if either differs, the search starts from the beginning.
//!
//! A wrong line could make an incomplete search look complete. So each line begins with a checksum
//! of its content and of all lines before it. A line whose checksum does not match is never used:
//! if it is the last line of the file, its part is searched again; a file that is damaged before
//! its last line is rejected.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use powerfail_device::host::Shown;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::path::Path;
use super::search::Found;
use super::tally::Tally;
use super::tasks::{Outcome, Root, Task, TaskStore};
use crate::base::files::{CHECKSUM, checksum, open_regular, read_open, settle};
use crate::base::prng::mix;
use crate::trace::Signature;

/// A finished part.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    requests: u8,
    row: usize,
    path: Path,
    first: u16,
    tally: Tally,
    /// Lives that begin with everything read back: power losses left, state, path.
    fresh: Vec<(u8, String, Path)>,
}

impl Line {
    fn is_of(&self, task: &Task) -> bool {
        let Task { requests, root: Root { row, path }, first } = task;
        self.requests == *requests && self.row == *row && self.first == *first && self.path == *path
    }

    fn outcome(&self) -> Option<Outcome> {
        let mut outcome = Outcome { tally: self.tally, ..Outcome::default() };
        for (crashes, state, path) in &self.fresh {
            let state = u128::from_str_radix(state, 16).ok()?;
            outcome.fresh.insert((*crashes, state), path.clone());
        }
        Some(outcome)
    }
}

/// The largest size of a checkpoint, in bytes.
const MOST_BYTES: u64 = 1 << 30;

/// The most processes that run the same search in one folder at a time, each with its own file.
const MOST_AT_ONCE: u32 = 64;

/// Interval between syncs of the file. A power loss costs the work of at most this interval.
const STABLE_AFTER: Duration = Duration::from_secs(1);

/// The finished parts of a search, in a file.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    known: Vec<Line>,
    /// The end of the file, or the first error of writing to it.
    sink: Mutex<Result<Sink, String>>,
}

/// The end of the file.
#[derive(Debug)]
struct Sink {
    /// The checkpoint file, locked while it is open.
    file: File,
    /// The checksum of the last line.
    sum: u64,
    len: u64,
    stable: Instant,
}

impl Sink {
    fn append(&mut self, content: &str) -> io::Result<()> {
        self.sum = checksum(self.sum, content.as_bytes());
        let line = format!("{:016x} {content}\n", self.sum);
        self.len += line.len() as u64;
        if self.len > MOST_BYTES {
            return Err(io::Error::other(format!("it would be larger than {MOST_BYTES} bytes")));
        }
        self.file.write_all(line.as_bytes())?;
        if self.stable.elapsed() > STABLE_AFTER {
            self.file.sync_data()?;
            self.stable = Instant::now();
        }
        Ok(())
    }
}

/// The undamaged lines of a checkpoint: their contents, the checksum of the last one, and the
/// offset of its end in bytes.
struct Whole<'a> {
    contents: Vec<&'a str>,
    sum: u64,
    len: usize,
}

impl Whole<'_> {
    /// Checks every line. A line is damaged if its checksum is not that of the checksum before it
    /// and of its content. So a line cannot be changed, removed, duplicated or moved without a
    /// damaged line.
    ///
    /// # Errors
    /// The number of the first damaged line, unless it is the last line: that one may be half
    /// written by a killed process or a host that lost its power.
    fn of(bytes: &[u8]) -> Result<Whole<'_>, usize> {
        let mut whole = Whole { contents: Vec::new(), sum: CHECKSUM, len: 0 };
        let mut lines = bytes.split_inclusive(|&byte| byte == b'\n');
        while let Some(line) = lines.next() {
            let Some(content) = checked(line, whole.sum) else {
                return match lines.next() {
                    None => Ok(whole),
                    Some(_) => Err(whole.contents.len() + 1),
                };
            };
            whole.sum = checksum(whole.sum, content.as_bytes());
            whole.len += line.len();
            whole.contents.push(content);
        }
        Ok(whole)
    }
}

/// The content of a line, if its checksum is right behind a line with the checksum `before`.
fn checked(line: &[u8], before: u64) -> Option<&str> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, content) = line.split_once(' ')?;
    let right = format!("{:016x}", checksum(before, content.as_bytes()));
    (sum == right).then_some(content)
}

impl Checkpoint {
    /// Opens or creates the checkpoint of a search in a folder. Each search has its own file; a
    /// file of another `program` is overwritten.
    ///
    /// # Errors
    /// One line: the file cannot be created in the folder, or the existing file is damaged.
    pub fn open(dir: &FilePath, program: &str, search: &str) -> Result<Checkpoint, String> {
        let number = search.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        let header = format!("powerfail explore {search}, by {program}");
        for nth in 1..=MOST_AT_ONCE {
            let more = if nth == 1 { String::new() } else { format!("-{nth}") };
            let path = dir.join(format!("explore-{number:016x}{more}.checkpoint"));
            let opened = open_alone(&path);
            let opened = opened.map_err(|e| format!("cannot write {}: {e}", Shown(&path)))?;
            if let Some(file) = opened {
                return Checkpoint::go_on(path, file, &header);
            }
        }
        Err(format!("{MOST_AT_ONCE} processes do this search in {}", Shown(dir)))
    }

    fn go_on(path: PathBuf, mut file: File, header: &str) -> Result<Checkpoint, String> {
        let shown = Shown(&path);
        let said = |e: io::Error| format!("cannot write {shown}: {e}");
        let damaged = |line: usize| {
            format!("{shown} is damaged in line {line}: remove it, and the search begins anew")
        };
        let bytes = read_open(&file, &path, MOST_BYTES, "checkpoint")?;
        let mut whole = Whole::of(&bytes).map_err(damaged)?;
        if whole.contents.first().is_none_or(|first| *first != header) {
            whole = Whole::of(&[]).map_err(damaged)?;
        }
        let lines = whole.contents.iter().enumerate().skip(1);
        let known: Result<Vec<Line>, String> = lines
            .map(|(nth, line)| serde_json::from_str(line).map_err(|_| damaged(nth + 1)))
            .collect();
        let known = known?;
        // A half-written line at the end would spoil the next line.
        file.set_len(whole.len as u64).map_err(said)?;
        file.seek(io::SeekFrom::End(0)).map_err(said)?;
        let mut sink = Sink { file, sum: whole.sum, len: whole.len as u64, stable: Instant::now() };
        if whole.contents.is_empty()
            && let Err(error) = sink.append(header)
        {
            // An empty file is of no use; a failure to remove it is harmless.
            let _ = fs::remove_file(&path);
            return Err(said(error));
        }
        sink.file.sync_data().map_err(said)?;
        settle(&path);
        Ok(Checkpoint { path, known, sink: Mutex::new(Ok(sink)) })
    }

    /// The number of parts that were finished by earlier runs.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.known.len()
    }

    /// The path of the file.
    #[must_use]
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// Removes the file once the search is complete.
    pub fn remove(self) {
        // A complete checkpoint is of no use; a failure to remove it is harmless.
        let _ = fs::remove_file(&self.path);
    }

    /// Makes all finished parts stable.
    ///
    /// # Errors
    /// The first error of this sync, or of an earlier write.
    pub fn settle(&self) -> Result<(), String> {
        let Ok(mut sink) = self.sink.lock() else { return Ok(()) };
        if let Ok(open) = &mut *sink
            && let Err(error) = open.file.sync_data()
        {
            *sink = Err(self.said(&error));
        }
        sink.as_ref().map(drop).map_err(String::clone)
    }

    fn said(&self, error: &io::Error) -> String {
        format!("cannot write {}: {error}", Shown(&self.path))
    }
}

impl TaskStore for Checkpoint {
    fn recall(&self, task: &Task) -> Option<Outcome> {
        self.known.iter().find(|line| line.is_of(task))?.outcome()
    }

    fn keep(&self, task: &Task, outcome: &Outcome) {
        // A part with a failure is not kept, so that the failure is found again.
        if !outcome.found.is_empty() || self.known.iter().any(|line| line.is_of(task)) {
            return;
        }
        let fresh = outcome.fresh.iter();
        let line = Line {
            requests: task.requests,
            row: task.root.row,
            path: task.root.path.clone(),
            first: task.first,
            tally: outcome.tally,
            fresh: fresh
                .map(|(&(left, state), path)| (left, format!("{state:x}"), path.clone()))
                .collect(),
        };
        let text = serde_json::to_string(&line).expect("plain data is JSON");
        let Ok(mut sink) = self.sink.lock() else { return };
        if let Ok(open) = &mut *sink
            && let Err(error) = open.append(&text)
        {
            *sink = Err(self.said(&error));
        }
    }

    fn found(&self, _row: usize, _signature: &Signature, _found: &Found) {}
}

/// Opens or creates a checkpoint and locks it for this process. Returns `None` if another process
/// holds the lock.
fn open_alone(path: &FilePath) -> io::Result<Option<File>> {
    loop {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = open_regular(path, &mut options, libc::O_NOFOLLOW)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Ok(None),
            // Without file locks, assume that this process is the only one.
            Err(_) => return Ok(Some(file)),
        }
        // The process that held the lock may have removed the file meanwhile.
        let (mine, there) = (file.metadata()?, path.symlink_metadata());
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (mine.dev(), mine.ino())) {
            return Ok(Some(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_goes_on_behind_the_last_whole_line() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = Root { row: 2, path: vec![1, 2] };
        let task = |first| Task { requests: 3, root: root.clone(), first };
        let mut outcome = Outcome::default();
        outcome.tally.states = 77;
        outcome.fresh.insert((1, 1 << 100), vec![9]);
        let first = Checkpoint::open(dir.path(), "me", "one").expect("a file");
        first.keep(&task(0), &outcome);
        first.keep(&task(1), &outcome);
        let path = first.path().to_owned();
        drop(first);
        let text = fs::read_to_string(&path).expect("it was written");
        fs::write(&path, &text[..text.len() - 5]).expect("cut in the last line");

        let again = Checkpoint::open(dir.path(), "me", "one").expect("the file");
        assert_eq!(again.finished(), 1);
        let recalled = again.recall(&task(0)).expect("the first was finished");
        assert_eq!((recalled.tally, recalled.fresh), (outcome.tally, outcome.fresh));
        assert!(again.recall(&task(1)).is_none(), "the second was cut off");
        drop(again);
        let open = |program, search| Checkpoint::open(dir.path(), program, search).expect("a file");
        assert_eq!(open("me", "another").finished(), 0, "another search has a file of its own");
        assert_eq!(open("me", "one").finished(), 1, "and damages none");
        assert_eq!(open("you", "one").finished(), 0, "another program may take other steps");
    }

    #[test]
    fn two_searches_at_once_have_a_file_each() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = || Checkpoint::open(dir.path(), "me", "one").expect("a file");
        let (first, second) = (open(), open());
        assert_ne!(first.path(), second.path());
        let (one, two) = (first.path().to_owned(), second.path().to_owned());
        first.remove();
        assert!(!one.exists() && two.exists(), "a search does not remove the file of another");
        assert_eq!(open().path(), one);
    }

    #[test]
    fn nothing_damaged_is_believed() {
        let dir = tempfile::tempdir().expect("a folder");
        let root = Root { row: 2, path: vec![1, 2] };
        let begun = Checkpoint::open(dir.path(), "me", "one").expect("a file");
        for first in 0..6 {
            let mut outcome = Outcome::default();
            outcome.tally.states = 77 + u64::from(first);
            outcome.fresh.insert((1, 1 << 100), vec![first]);
            begun.keep(&Task { requests: 3, root: root.clone(), first }, &outcome);
        }
        let path = begun.path().to_owned();
        drop(begun);
        let good = fs::read(&path).expect("it was written");
        let lines: Vec<&[u8]> = good.split_inclusive(|&byte| byte == b'\n').collect();
        assert_eq!(lines.len(), 7);
        // The number of lines of `good` that are accepted from `bytes`, or `None` if the file is
        // rejected.
        let finished = |bytes: &[u8]| {
            fs::write(&path, bytes).expect("a file");
            let opened = loop {
                match Checkpoint::open(dir.path(), "me", "one") {
                    // A process that another test has just started holds the lock until it executes
                    // its program.
                    Ok(other) if other.path() != path => other.remove(),
                    opened => break opened,
                }
            };
            let opened = opened.map_err(|said| {
                let name = path.file_name().expect("a name").to_string_lossy().into_owned();
                assert!(said.contains(&name) && said.contains("remove it"), "{said}");
            });
            let known = opened.ok()?;
            let whole = (0..known.finished() as u16).all(|first| {
                let task = Task { requests: 3, root: root.clone(), first };
                let recalled = known.recall(&task);
                recalled.is_some_and(|done| done.tally.states == 77 + u64::from(first))
            });
            assert!(whole, "each accepted line holds the outcome that was kept");
            Some(known.finished())
        };
        assert_eq!(finished(&good), Some(6));
        let last = good.len() - lines[6].len();
        for at in 0..good.len() {
            let mut spoilt = good.clone();
            spoilt[at] ^= 1;
            // The line break before the last line belongs to the line before it; without it the two
            // lines join.
            let kept = (at >= last).then_some(5).or((at == last - 1).then_some(4));
            assert_eq!(finished(&spoilt), kept, "a bit of byte {at}");
            let cut = good[..at].iter().filter(|&&byte| byte == b'\n').count();
            assert_eq!(finished(&good[..at]), Some(cut.saturating_sub(1)), "cut at {at}");
        }
        for nth in 0..5 {
            let mut without = lines.clone();
            without.remove(nth);
            assert_eq!(finished(&without.concat()), None, "without line {nth}");
            let mut twice = lines.clone();
            twice.insert(nth, lines[nth]);
            assert_eq!(finished(&twice.concat()), None, "with line {nth} twice");
            let mut swapped = lines.clone();
            swapped.swap(nth, nth + 1);
            assert_eq!(finished(&swapped.concat()), None, "with line {nth} moved");
        }
        let zeros = [&good[..last], &[0; 500][..]].concat();
        assert_eq!(finished(&zeros), Some(5), "a host that lost its power leaves zeros");
    }
}
