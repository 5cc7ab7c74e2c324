//! A mapped file under a real kernel: visibility of its stores, data that outlives the process, and
//! rejected files.
//!
//! Tests that need a second process run themselves again, and exchange lines with it.
#![cfg(target_os = "linux")]

use powerfail_device::Errno;
use powerfail_device::Token;
use powerfail_device::host::{MapError, MapLane, MappedFile, OpenError};
use powerfail_device::pmem::Backing;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use vm_memory::{Bytes, FileOffset, GuestAddress, GuestMemoryMmap};

const SIZE: u64 = 1 << 16;
/// The variable that tells the second process the path of the file.
const FILE: &str = "POWERFAIL_MAPPED_FILE";

fn scratch(size: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).expect("a file");
    file.as_file().set_len(size).expect("room for it");
    file
}

fn store(map: &MappedFile, at: usize, value: u64) {
    map.memory().write_obj(value, at).expect("inside");
}

fn load(map: &MappedFile, at: usize) -> u64 {
    map.memory().read_obj(at).expect("inside")
}

/// The word in the file, as a read returns it.
fn in_file(path: &Path, at: u64) -> u64 {
    let mut word = [0; 8];
    File::open(path).and_then(|file| file.read_exact_at(&mut word, at)).expect("it is there");
    u64::from_ne_bytes(word)
}

/// Syncs through the lane.
fn sync(lane: &mut MapLane) -> Result<(), Errno> {
    let token = Token::new(0, 7);
    lane.submit(token);
    assert_eq!(lane.room(), 0, "one at a time");
    lane.wait();
    let synced = lane.complete().expect("it was waited for");
    assert_eq!((synced.token, lane.room()), (token, 1));
    assert_eq!(lane.complete(), None, "and completed once");
    synced.result
}

/// Runs this test again in a second process.
fn again(name: &str, path: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", name, "--nocapture"]).env(FILE, path);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it runs twice")
}

/// In the second process, the path of the file.
fn given() -> Option<PathBuf> {
    std::env::var_os(FILE).map(PathBuf::from)
}

/// The next line of the second process, among those of the test harness.
fn hear(from: &mut impl BufRead) -> u64 {
    let mut line = String::new();
    while from.read_line(&mut line).expect("it lives") > 0 {
        if let Some((_, word)) = line.split_once("says ") {
            return word.trim().parse().expect("a number");
        }
        line.clear();
    }
    panic!("it ended without a word");
}

fn say(word: u64) {
    println!("says {word}");
}

#[test]
fn what_is_stored_is_in_the_file_and_what_is_written_is_in_the_memory() {
    let file = scratch(SIZE);
    let map = Arc::new(MappedFile::open(file.path()).unwrap());
    assert_eq!(map.size(), SIZE);
    let mut lane = MapLane::of(Arc::clone(&map)).unwrap();
    store(&map, 4096, 7);
    assert_eq!(sync(&mut lane), Ok(()));
    assert_eq!(in_file(file.path(), 4096), 7);
    file.as_file().write_all_at(&9_u64.to_ne_bytes(), 8).unwrap();
    assert_eq!(load(&map, 8), 9);
    let other = map.again().unwrap();
    store(&other, 16, 11);
    assert_eq!(load(&map, 16), 11);
}

/// The other process maps the file as VMMs do. Patch v2: "updates are visible to other processes
/// mapping the same memory region".
#[test]
fn two_processes_see_each_others_stores() {
    if let Some(path) = given() {
        let file = File::options().read(true).write(true).open(path).unwrap();
        let ranges = [(GuestAddress(0), SIZE as usize, Some(FileOffset::new(file, 0)))];
        let memory = GuestMemoryMmap::<()>::from_ranges_with_files(ranges).unwrap();
        let mut input = std::io::stdin().lock();
        let at = hear(&mut input);
        say(memory.read_obj(GuestAddress(at)).unwrap());
        memory.write_obj(22_u64, GuestAddress(at + 4096)).unwrap();
        say(0);
        hear(&mut input);
        return;
    }
    let file = scratch(SIZE);
    let map = MappedFile::open(file.path()).unwrap();
    let mut other = again("two_processes_see_each_others_stores", file.path());
    let mut said = BufReader::new(other.stdout.take().unwrap());
    let mut input = other.stdin.take().unwrap();
    store(&map, 64, 11);
    writeln!(input, "says 64").unwrap();
    assert_eq!(hear(&mut said), 11);
    hear(&mut said);
    assert_eq!(load(&map, 64 + 4096), 22);
    writeln!(input, "says 0").unwrap();
    assert!(other.wait().unwrap().success());
}

/// The second process stores one word after another, flushes every other one and reports it; it is
/// killed in the middle of that.
#[test]
fn what_was_flushed_is_there_after_a_kill_and_the_file_can_be_opened_again() {
    if let Some(path) = given() {
        let map = Arc::new(MappedFile::open(&path).unwrap());
        let mut lane = MapLane::of(Arc::clone(&map)).unwrap();
        // The loop is endless: the process blocks when its output is not read, until it is killed.
        for word in (1..SIZE / 8).cycle() {
            store(&map, 8 * word as usize, word);
            if word % 2 == 0 {
                sync(&mut lane).unwrap();
                say(word);
            }
        }
        unreachable!("it is killed");
    }
    let file = scratch(SIZE);
    for _ in 0..3 {
        let mut other = again(
            "what_was_flushed_is_there_after_a_kill_and_the_file_can_be_opened_again",
            file.path(),
        );
        let mut said = BufReader::new(other.stdout.take().unwrap());
        while hear(&mut said) < 40 {}
        assert!(
            matches!(MappedFile::open(file.path()), Err(MapError::Open(OpenError::InUse(_)))),
            "it is alone with it while it lives"
        );
        other.kill().unwrap();
        other.wait().unwrap();
        let map = MappedFile::open_as(file.path(), SIZE).unwrap();
        for word in 1..=40 {
            assert_eq!(load(&map, 8 * word), word as u64);
        }
        map.memory().write_slice(&[0; SIZE as usize], 0).unwrap();
        map.sync().unwrap();
    }
}

#[test]
fn a_file_that_shrinks_reads_as_zeroes_and_no_flush_succeeds_on_it() {
    let file = scratch(SIZE);
    let map = Arc::new(MappedFile::open(file.path()).unwrap());
    let mut lane = MapLane::of(Arc::clone(&map)).unwrap();
    store(&map, 8192, 7);
    assert!(!map.is_shrunk());
    file.as_file().set_len(4096).unwrap();
    assert_eq!(load(&map, 8192), 0, "no signal comes");
    assert!(map.is_shrunk());
    assert_eq!(sync(&mut lane), Err(Errno::EIO));
    file.as_file().set_len(SIZE).unwrap();
    assert_eq!(sync(&mut lane), Err(Errno::EIO), "the mapped data is gone all the same");
}

#[test]
fn a_file_that_shrinks_where_nobody_looks_fails_the_flush_too() {
    let file = scratch(SIZE);
    let map = Arc::new(MappedFile::open(file.path()).unwrap());
    let mut lane = MapLane::of(Arc::clone(&map)).unwrap();
    file.as_file().set_len(SIZE - 4096).unwrap();
    assert_eq!(sync(&mut lane), Err(Errno::EIO));
}

#[test]
fn a_file_that_grows_is_served_as_far_as_it_was() {
    let file = scratch(SIZE);
    let map = Arc::new(MappedFile::open(file.path()).unwrap());
    let mut lane = MapLane::of(Arc::clone(&map)).unwrap();
    file.as_file().set_len(2 * SIZE).unwrap();
    store(&map, 0, 7);
    assert_eq!(sync(&mut lane), Ok(()));
    assert_eq!((map.size(), map.is_shrunk()), (SIZE, false));
}

#[test]
fn a_size_that_cannot_be_or_is_not_the_announced_one_is_refused_in_words() {
    for (size, announced, words) in [
        (0, 0, "whole number of pages"),
        (4096 + 512, 4096, "whole number of pages"),
        (SIZE, 2 * SIZE, "neither grows nor shrinks"),
        (2 * SIZE, SIZE, "neither grows nor shrinks"),
    ] {
        let file = scratch(size);
        let refused = MappedFile::open_as(file.path(), announced).unwrap_err().to_string();
        assert!(refused.contains(words), "{refused}");
        assert!(refused.contains(&size.to_string()), "{refused}");
    }
}

#[test]
fn a_lane_that_is_dropped_carries_out_what_it_accepted() {
    let file = scratch(SIZE);
    let map = Arc::new(MappedFile::open(file.path()).unwrap());
    for generation in 0..20 {
        let mut lane = MapLane::of(Arc::clone(&map)).unwrap();
        store(&map, 0, generation);
        lane.submit(Token::new(0, generation as u32));
        drop(lane);
        assert_eq!(Arc::strong_count(&map), 1, "its thread has ended");
    }
}
