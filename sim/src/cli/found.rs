//! Findings, saved as soon as they are found.
//!
//! A finding is reported and its trace written before it is shrunk, because shrinking takes seconds
//! and a campaign may take a night. The shrunk trace later replaces the first one. So every
//! reported finding is on disk, however the program ends; if its trace cannot be written, it is
//! reported all the same.
//!
//! Traces are numbered. Several processes may number traces in one folder: a process owns a number
//! if it sees no other trace with that number after it has placed its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use powerfail_device::host::Shown;

use super::say;
use crate::base::files::{Part, write_whole};
use crate::trace::{Signature, Trace};

/// The highest number of a trace.
const MOST: u16 = 9999;

/// A folder of findings.
pub(super) struct Folder<'a> {
    dir: &'a Path,
    /// The path of the trace for each kind of failure.
    kept: Mutex<BTreeMap<Signature, PathBuf>>,
}

impl Folder<'_> {
    /// Creates the folder if it does not exist, and checks that files can be created in it.
    ///
    /// # Errors
    /// One line: the folder or a file in it cannot be created.
    pub(super) fn open(dir: &Path) -> Result<Folder<'_>, String> {
        let shown = Shown(dir);
        fs::create_dir_all(dir).map_err(|e| format!("cannot create the folder {shown}: {e}"))?;
        let part = Part::beside(&dir.join("trace"));
        let mut part = part.map_err(|e| format!("cannot write in the folder {shown}: {e}"))?;
        if let Err(error) = part.fill(&[0; 4096]) {
            // A full disk may have room by then, and the story is printed in any case.
            say::note(format_args!("{shown}: {error}: findings may be reported but not saved"));
        }
        Ok(Folder { dir, kept: Mutex::default() })
    }

    /// Saves a trace, replacing an earlier one of the same kind, and returns its path.
    ///
    /// # Errors
    /// One line.
    pub(super) fn keep(&self, trace: &Trace) -> Result<PathBuf, String> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = trace.to_string().into_bytes();
        if let Some(path) = kept.get(&trace.broke) {
            write_whole(path, &bytes)?;
            return Ok(path.clone());
        }
        let path = write_numbered(self.dir, trace.broke.rule.name(), &bytes)?;
        kept.insert(trace.broke.clone(), path.clone());
        Ok(path)
    }

    /// The paths of the saved traces, by signature.
    pub(super) fn kept(&self) -> BTreeMap<Signature, PathBuf> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Writes a trace under an unused number.
fn write_numbered(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, String> {
    let said = |e: io::Error| format!("cannot write a trace in {}: {e}", Shown(dir));
    let mut part = Part::beside(&dir.join("trace")).map_err(said)?;
    part.fill(bytes).map_err(said)?;
    let mut number = 0;
    loop {
        let taken = numbers(dir).map_err(said)?;
        let free = (number + 1..=MOST).find(|number| !taken.contains_key(number));
        let full = || format!("{} has no free trace number: move some traces away", Shown(dir));
        number = free.ok_or_else(full)?;
        let path = dir.join(format!("{number:04}-{name}.trace"));
        match part.place(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            placed => placed.map_err(said)?,
        }
        // Of two processes that place at the same time, at least one sees the other and moves on.
        if numbers(dir).map_err(said)?.get(&number).is_none_or(|names| names.len() == 1) {
            return Ok(path);
        }
    }
}

/// The numbers at the start of file names in a folder, with those names.
fn numbers(dir: &Path) -> io::Result<BTreeMap<u16, BTreeSet<String>>> {
    let mut numbers: BTreeMap<u16, BTreeSet<String>> = BTreeMap::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let number = name.split_once('-').filter(|(number, _)| number.len() == 4);
        if let Some(number) = number.and_then(|(number, _)| number.parse().ok()) {
            numbers.entry(number).or_default().insert(name);
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_out_once() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::write(dir.path().join("0002-mine.txt"), "mine").expect("a file");
        let names = ["lost", "stale", "torn"];
        std::thread::scope(|scope| {
            for name in names {
                let write =
                    || write_numbered(dir.path(), name, name.as_bytes()).expect("there is room");
                scope.spawn(move || {
                    for _ in 0..20 {
                        assert_eq!(fs::read(write()).expect("it is there"), name.as_bytes());
                    }
                });
            }
        });
        let numbers = numbers(dir.path()).expect("the folder");
        assert!(numbers.values().all(|names| names.len() == 1), "{numbers:?}");
        assert_eq!(numbers.len(), 61);
        assert_eq!(fs::read_dir(dir.path()).expect("the folder").count(), 61, "no litter");
    }
}
