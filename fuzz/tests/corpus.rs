//! Replay of the checked-in corpora without a fuzzer, so that old findings are checked on every
//! toolchain.

use std::fs;
use std::path::{Path, PathBuf};

use powerfail_fuzz::{TARGETS, Target};

/// Most files of one corpus, and most bytes of all of them: every test run replays a corpus.
const MOST: (usize, u64) = (40, 200 << 10);

fn corpus(name: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(!files.is_empty(), "{} is empty: nothing was replayed", folder.display());
    files
}

fn replay((name, target): Target) {
    let files = corpus(name);
    let sizes = files.iter().map(|file| fs::metadata(file).expect("a file").len());
    let bytes: u64 = sizes.sum();
    assert!(
        files.len() <= MOST.0 && bytes <= MOST.1,
        "{name}: {} files, {bytes} bytes",
        files.len()
    );
    for file in &files {
        // Printed first, so that a panic is preceded by its file.
        println!("{}", file.display());
        target(&fs::read(file).expect("a file"));
    }
}

#[test]
fn runs_keep_their_promises() {
    replay(TARGETS[0]);
}

#[test]
fn hostile_guests_hurt_nobody() {
    replay(TARGETS[1]);
}

#[test]
fn chains_are_parsed_as_the_standard_says() {
    replay(TARGETS[2]);
}

#[test]
fn registers_are_as_the_standard_says() {
    replay(TARGETS[3]);
}

#[test]
fn traces_are_refused_or_read() {
    replay(TARGETS[4]);
}

#[test]
fn hostile_guests_of_a_memory_hurt_nobody() {
    replay(TARGETS[5]);
}

#[test]
fn whatever_a_front_end_says_the_next_one_is_served() {
    replay(TARGETS[6]);
}

#[test]
fn records_of_any_bytes_are_refused_or_gone_on_with() {
    replay(TARGETS[7]);
}

#[test]
fn every_corpus_belongs_to_a_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut found: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    found.sort();
    let mut names: Vec<&str> = TARGETS.iter().map(|target| target.0).collect();
    names.sort_unstable();
    assert_eq!(found, names);
}
