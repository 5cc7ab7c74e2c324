//! Signals: reported findings are kept, files are whole, and no other file is left behind.

use std::fs;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use powerfail::base::prng::Prng;
use rustix::pipe::fcntl_setpipe_size;
use rustix::process::{Pid, Signal, kill_process};

use crate::{Place, WRONG, end, pause, until, whole_summary, whole_trace};

fn send(child: &Child, signal: Signal) {
    // The process may have ended already.
    let _ = kill_process(Pid::from_child(child), signal);
}

/// Runs that fail and take a while.
fn long(place: &Place) -> Child {
    let args = ["run", "--keep-going", "--seeds", "20000", "--jobs", "1", "--out", "d"];
    let mut command = place.command(&[&args[..], &WRONG].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
}

/// The path in the first line that reports a finding.
fn told(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let line = lines.next().expect("something is found").expect("text");
    let (what, path) = line.rsplit_once(": ").expect("a path");
    assert!(what.contains("seed ") && what.contains(" breaks "), "{line}");
    // The rest of the output is not read, which must not block the command.
    path.to_owned()
}

#[test]
fn what_was_told_outlives_any_signal() {
    for signal in [Signal::KILL, Signal::TERM, Signal::HUP, Signal::INT] {
        let place = Place::new();
        let mut child = long(&place);
        let path = told(&mut child);
        let trace = whole_trace(&place.path(&path));
        assert!(trace.actions.len() > 50, "no finding is shrunk before it is reported");
        send(&child, signal);
        let status = end(child);
        whole_trace(&place.path(&path));
        let replayed = place.powerfail(&["replay", &path]);
        assert_eq!(replayed.code, Some(1), "{signal:?}: {}", replayed.err);
        if signal == Signal::KILL {
            continue;
        }
        assert_eq!(status.code(), Some(1), "{signal:?}");
        place.assert_whole("d");
        let summary = whole_summary(&place.path("d/summary.json"));
        let found = summary["violations"].as_array().expect("a list");
        assert!(found.iter().any(|found| found["signature"] == trace.broke.to_string()));
    }
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    // A full pipe keeps the command from ending at the first signal.
    let (_reader, mut writer) = io::pipe().expect("a pipe");
    let size = fcntl_setpipe_size(&writer, 4096).expect("a small pipe");
    writer.write_all(&vec![b'x'; size]).expect("there is room");
    let args = ["run", "--seeds", "256", "--out", "d"];
    let mut child = place.command(&args).stdout(writer).spawn().expect("it starts");
    until(&mut child, || place.path("d/summary.json").exists());
    send(&child, Signal::TERM);
    send(&child, Signal::INT);
    let status = end(child);
    let by = status.signal().expect("by a signal");
    assert!(by == Signal::TERM.as_raw() || by == Signal::INT.as_raw(), "{by}");
    place.assert_whole("d");
}

/// At any moment of a signal, every reported trace is present and whole, as is every other file.
fn at_any_moment(args: &[&str], longest: Duration, codes: &[i32]) {
    let mut prng = Prng::new(args.len() as u64);
    for nth in 0..24 {
        let signal = [Signal::TERM, Signal::INT, Signal::HUP][nth % 3];
        let place = Place::new();
        fs::create_dir(place.path("d")).expect("a folder");
        let mut command = place.command(args);
        command.stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("it is piped"));
        let wait = longest * prng.below(1000) / 1000;
        let begun = Instant::now();
        while begun.elapsed() < wait {
            pause();
        }
        send(&child, signal);
        let status = end(child);
        // Before `main` the signal's default action ends the process.
        let early = status.signal() == Some(signal.as_raw()) && place.files("d").is_empty();
        let code = status.code();
        assert!(early || code.is_some_and(|code| codes.contains(&code)), "{args:?}: {status}");
        for line in stderr.lines() {
            let line = line.expect("text");
            let told =
                [" breaks ", " fails with ", " after "].iter().any(|what| line.contains(what));
            assert!(told, "{line}");
            let (_, path) = line.rsplit_once(": ").expect("a path");
            whole_trace(&place.path(path));
        }
        place.assert_whole("d");
    }
}

#[test]
fn runs_are_ended_at_any_moment() {
    let args = [&["run", "--seeds", "2000", "--keep-going", "--out", "d"][..], &WRONG].concat();
    at_any_moment(&args, Duration::from_millis(700), &[0, 1, 4]);
}

#[test]
fn a_search_is_ended_at_any_moment() {
    let args = ["explore", "--requests", "3", "--rows", "A,G", "--out", "d"];
    at_any_moment(&args, Duration::from_millis(400), &[0, 6]);
    let args = ["explore", "--requests", "3", "--rows", "C", "--device", "wrong:early-flush"];
    let args = [&args[..], &["--out", "d"]].concat();
    at_any_moment(&args, Duration::from_millis(300), &[1, 6]);
}

#[test]
fn shrinking_is_ended_at_any_moment() {
    let args = [&["shrink", "--seed", "2", "-o", "d/s.trace"][..], &WRONG].concat();
    at_any_moment(&args, Duration::from_millis(400), &[0]);
}
