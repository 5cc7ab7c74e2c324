//! What is kept of a search that was stopped, so that it goes on from there.
//!
//! A search is cut into parts that do the same whenever they are done. The file has a line for each that was finished:
//! which one, what it counted, and the lives it led to. A line that was not finished is no line. The first line says what
//! search it is and of which program; another one starts from the beginning.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Mutex;

use serde::{Deserialize, Serialize};

use super::lives::{Memory, Outcome, Root, Task};
use super::search::Path;
use super::tally::Tally;
use crate::prng::mix;

/// One part that was finished.
#[derive(Debug, Serialize, Deserialize)]
struct Line {
    requests: u8,
    row: usize,
    path: Path,
    first: u16,
    tally: Tally,
    /// Power losses left, state, path.
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

/// The finished parts of a search, in a file.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    known: Vec<Line>,
    /// Where finished parts go, and what went wrong with that.
    file: Mutex<Result<File, String>>,
}

impl Checkpoint {
    /// Goes on with a search in a folder, or begins it. Another search has another file; one that another `program` began
    /// starts from the beginning.
    ///
    /// # Errors
    /// One line, if there can be no file in the folder.
    pub fn open(dir: &FilePath, program: &str, search: &str) -> Result<Checkpoint, String> {
        let number = search.bytes().fold(0, |hash, byte| mix(hash ^ u64::from(byte)));
        let path = dir.join(format!("explore-{number:016x}.checkpoint"));
        let said = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
        let header = format!("powerfail explore {search}, by {program}\n");
        let known = fs::read_to_string(&path).unwrap_or_default();
        let known: Vec<Line> = match known.strip_prefix(&header) {
            Some(lines) => {
                lines.lines().map_while(|line| serde_json::from_str(line).ok()).collect()
            }
            None => Vec::new(),
        };
        // What is kept is written anew: a half-written line at the end would spoil the next one.
        let mut text = header;
        for line in &known {
            text += &serde_json::to_string(line).expect("plain data is JSON");
            text.push('\n');
        }
        let part = path.with_extension("part");
        fs::write(&part, text).map_err(said)?;
        fs::rename(&part, &path).map_err(said)?;
        let file = OpenOptions::new().append(true).open(&path).map_err(said)?;
        Ok(Checkpoint { path, known, file: Mutex::new(Ok(file)) })
    }

    /// How many parts were finished before.
    #[must_use]
    pub fn finished(&self) -> usize {
        self.known.len()
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &FilePath {
        &self.path
    }

    /// Everything is done, and nothing need be kept.
    pub fn remove(self) {
        // It is only litter then.
        let _ = fs::remove_file(&self.path);
    }

    /// What went wrong with keeping it, if anything.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.file.lock().ok()?.as_ref().err().cloned()
    }
}

impl Memory for Checkpoint {
    fn recall(&self, task: &Task) -> Option<Outcome> {
        self.known.iter().find(|line| line.is_of(task))?.outcome()
    }

    fn keep(&self, task: &Task, outcome: &Outcome) {
        // What was broken is found again.
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
        let mut text = serde_json::to_string(&line).expect("plain data is JSON");
        text.push('\n');
        let Ok(mut file) = self.file.lock() else { return };
        if let Ok(open) = &mut *file
            && let Err(error) = open.write_all(text.as_bytes())
        {
            *file = Err(format!("cannot write {}: {error}", self.path.display()));
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
        assert_eq!(open("me", "one").finished(), 1, "and spoils none");
        assert_eq!(open("you", "one").finished(), 0, "another program may take other steps");
    }
}
