//! Whoever takes what is printed, or does not: exit codes and files are the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeWriter, Write as _};
use std::process::{Command, Stdio};

use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Place, WRONG, end, said, until};

/// A command, its exit code, and the beginnings of the names of the files it leaves.
const COMMANDS: [(&str, i32, &[&str]); 20] = [
    ("run --seeds 256 --out d W", 1, &["0001-", "summary.json"]),
    ("run --seeds 256 --out d", 0, &["summary.json"]),
    ("run --seeds 256 --disk file:x --profile bench --out d", 0, &["summary.json"]),
    ("explore --requests 1 --rows B --out d", 0, &[]),
    ("explore --requests 2 --rows C --device wrong:early-flush --out d", 1, &["0001-", "0002-"]),
    ("replay a.trace", 1, &[]),
    ("replay a.trace --all", 1, &[]),
    ("replay a.trace --bisect", 1, &[]),
    ("replay a.trace --bisect --device blk", 0, &[]),
    ("replay none.trace --bisect", 125, &[]),
    ("replay a.trace --until 3", 0, &[]),
    ("replay without.trace", 5, &[]),
    ("replay none.trace", 2, &[]),
    ("replay --seed 1 --all", 0, &[]),
    ("shrink --seed 2 --budget 1s -o d/s.trace W", 0, &["s.trace"]),
    ("image a.trace -o d/i", 0, &["i"]),
    ("export a.trace --log-writes d/l", 0, &["l"]),
    ("wrong", 0, &[]),
    ("hash --seed 1", 0, &[]),
    ("run --seeds 0", 2, &[]),
];

/// A pipe whose reader has gone.
fn left() -> PipeWriter {
    let (reader, writer) = io::pipe().expect("a pipe");
    drop(reader);
    writer
}

fn full() -> File {
    OpenOptions::new().write(true).open("/dev/full").expect("it is there")
}

/// Does every command, with streams that `spoil` has spoilt.
fn all_keep_their_word(spoil: impl Fn(&Place, &[&str]) -> Command) {
    for (command, code, files) in COMMANDS {
        let place = Place::new();
        fs::create_dir(place.path("d")).expect("a folder");
        let without: Vec<&str> =
            crate::TRACE.lines().filter(|line| !line.contains(" flush")).collect();
        fs::write(place.path("without.trace"), without.join("\n")).expect("a trace");
        let mut args: Vec<&str> = command.split(' ').collect();
        if args.last() == Some(&"W") {
            args.pop();
            args.extend(WRONG);
        }
        let child = spoil(&place, &args).spawn().expect("it starts");
        assert_eq!(end(child).code(), Some(code), "{command}");
        let left = place.files("d");
        assert_eq!(left.len(), files.len(), "{command} left {left:?}");
        assert!(left.iter().zip(files).all(|(name, begins)| name.starts_with(begins)), "{left:?}");
        if args[0] == "run" {
            place.assert_whole("d");
        }
    }
}

#[test]
fn nobody_reads_any_more() {
    all_keep_their_word(|place, args| {
        let mut command = place.command(args);
        command.stdout(left()).stderr(left());
        command
    });
}

#[test]
fn both_streams_are_full() {
    all_keep_their_word(|place, args| {
        let mut command = place.command(args);
        command.stdout(full()).stderr(full());
        command
    });
}

#[test]
fn both_streams_are_closed() {
    all_keep_their_word(|place, args| place.after("exec >&- 2>&-", args));
}

#[test]
fn a_log_that_nobody_reads_holds_nothing_up() {
    let place = Place::new();
    let (_reader, mut writer) = io::pipe().expect("a pipe");
    let size = fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    writer.write_all(&vec![b'x'; size]).expect("there is room");
    let args = [&["run", "--seeds", "256", "--out", "d"][..], &WRONG].concat();
    let child = place.command(&args).stderr(writer).spawn().expect("it starts");
    assert_eq!(end(child).code(), Some(1));
    place.assert_whole("d");
}

#[test]
fn a_reader_that_takes_nothing_is_waited_for_with_everything_kept() {
    let place = Place::new();
    let (_reader, mut writer) = io::pipe().expect("a pipe");
    let size = fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    writer.write_all(&vec![b'x'; size]).expect("there is room");
    let args = [&["run", "--seeds", "256", "--out", "d"][..], &WRONG].concat();
    let mut child = place.command(&args).stdout(writer).spawn().expect("it starts");
    until(&mut child, || place.files("d").len() == 2);
    let pid = Pid::from_child(&child);
    kill_process(pid, Signal::TERM).expect("it is ours");
    assert_eq!(end(child).code(), Some(1), "a signal ends the wait, and nothing else");
    place.assert_whole("d");
}

#[test]
fn a_slow_reader_misses_nothing() {
    let place = Place::new();
    let all = place.powerfail(&["replay", "--seed", "1", "--all"]).out;
    let (mut reader, writer) = io::pipe().expect("a pipe");
    fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    let mut command = place.command(&["replay", "--seed", "1", "--all"]);
    let child = command.stdout(writer).spawn().expect("it starts");
    drop(command);
    let mut taken = Vec::new();
    let mut part = [0; 512];
    while let read @ 1.. = io::Read::read(&mut reader, &mut part).expect("it reads") {
        taken.extend(&part[..read]);
        std::thread::yield_now();
    }
    assert_eq!(end(child).code(), Some(0));
    assert!(all.len() > 4096, "it fits into the pipe");
    assert_eq!(String::from_utf8(taken).expect("text"), all);
}

#[test]
fn a_device_that_panics_is_a_result_and_says_nothing_else() {
    let place = Place::new();
    let args = ["run", "--device", "wrong:panics", "--seeds", "512", "--out", "d"];
    let ran = place.powerfail(&args);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.out.contains("VIOLATED") && ran.out.contains("Panic message:"), "{}", ran.out);
    for line in ran.err.lines() {
        assert!(line.contains(" breaks device-panicked/"), "{line}");
    }
}

#[test]
fn threads_that_the_host_does_not_give_are_told_in_a_line() {
    let place = Place::new();
    for args in [
        &["run", "--seeds", "100", "--jobs", "9000"][..],
        &["explore", "--requests", "1", "--jobs", "9000"],
        &["shrink", "a.trace", "--jobs", "9000"],
    ] {
        let mut command = place.after("ulimit -v 2000000", args);
        command.stdout(Stdio::piped());
        let ran = said(command);
        assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.err);
        assert!(ran.err.contains("cannot start 9000 threads, only "), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert_eq!(ran.out, "");
    }
    assert!(place.files("out").is_empty());
}
