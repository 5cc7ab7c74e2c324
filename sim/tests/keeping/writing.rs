//! Output folders that cannot be written, that another process writes to, or that hold earlier
//! files.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Stdio;

use crate::{Place, TRACE, WRONG, said, whole_summary, whole_trace};

#[test]
fn a_folder_that_cannot_be_written_is_noticed_before_anything_runs() {
    let place = Place::new();
    fs::write(place.path("file"), "precious").expect("a file");
    // In the second folder even root cannot create a file.
    for out in ["file/d", "/proc/self/task", "file"] {
        for args in [
            // More work than the test would wait for.
            &["run", "--seeds", "18446744073709551615", "--out", out][..],
            &["explore", "--requests", "9", "--out", out],
        ] {
            let ran = place.powerfail(args);
            assert_eq!(ran.code, Some(2), "{args:?}: {}", ran.err);
            assert!(ran.err.contains(out) && ran.err.lines().count() == 1, "{}", ran.err);
            assert_eq!(ran.out, "");
        }
        let output = format!("{out}/s.trace");
        let args = [&["shrink", "--seed", "2", "-o", &output][..], &WRONG].concat();
        let ran = place.powerfail(&args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
    }
    assert_eq!(fs::read(place.path("file")).expect("it is there"), b"precious");
}

/// As on a full disk: files can be created, and no byte can be written to them.
const FULL: &str = "ulimit -f 0";

#[test]
fn what_cannot_be_kept_is_told_all_the_same() {
    let place = Place::new();
    let args = [&["run", "--seeds", "256", "--out", "d"][..], &WRONG].concat();
    let ran = said(place.after(FULL, &args));
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.out.contains("seed 2 (103 runs)   VIOLATED"), "{}", ran.out);
    let again = "powerfail replay --seed 2 --device blk --disk wrong:early-flush --profile bench";
    assert!(ran.out.contains(again), "{}", ran.out);
    assert!(ran.out.contains("situations reached"), "{}", ran.out);
    assert!(
        ran.err.contains("seed 2 breaks stable-write-lost/lost/out; cannot write"),
        "{}",
        ran.err
    );
    let replayed = place.powerfail(&again.split(' ').skip(1).collect::<Vec<_>>());
    assert_eq!(replayed.code, Some(1), "{}", replayed.err);

    let ran = said(place.after(FULL, &["run", "--seeds", "256", "--out", "d"]));
    assert_eq!(ran.code, Some(2), "a summary that is not there is no success");
    assert!(ran.out.contains("situations reached"), "{}", ran.out);
    assert!(ran.err.contains("cannot write d/summary.json"), "{}", ran.err);

    let args = [&["shrink", "--seed", "2", "-o", "d/s.trace"][..], &WRONG].concat();
    let ran = said(place.after(FULL, &args));
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.out.contains("seed 2   VIOLATED"), "{}", ran.out);
    assert!(ran.err.contains("cannot write d/s.trace"), "{}", ran.err);
    assert_eq!(place.files("d"), [""; 0], "nothing half is left");
}

#[test]
fn a_search_on_a_full_disk_does_not_begin() {
    let place = Place::new();
    let ran = said(place.after(FULL, &["explore", "--requests", "9", "--out", "d"]));
    assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
    assert!(ran.err.contains("cannot write d/explore-"), "{}", ran.err);
}

#[test]
fn runs_in_one_folder_do_not_meet() {
    for round in 0..4 {
        let place = Place::new();
        let disks = ["wrong:early-flush", "wrong:misdirected-up", "wrong:early-flush"];
        let children = [0, 1, 2].map(|nth| {
            let from = ((round * 3 + nth) * 100_000).to_string();
            let mut command =
                place.command(&["run", "--seeds", "512", "--jobs", "1", "--out", "d"]);
            command.args(["--profile", "bench", "--from", &from, "--disk", disks[nth]]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
        });
        let mut named = BTreeSet::new();
        for child in children {
            let output = child.wait_with_output().expect("it ends");
            let out = String::from_utf8(output.stdout).expect("text");
            let err = String::from_utf8(output.stderr).expect("text");
            assert_eq!(output.status.code(), Some(1), "{err}");
            for line in out.lines() {
                if let Some((_, path)) = line.split_once("powerfail replay ") {
                    assert!(named.insert(path.to_owned()), "{path} is named twice");
                    whole_trace(&place.path(path));
                }
            }
        }
        place.assert_whole("d");
        let numbers: BTreeSet<String> =
            named.iter().map(|path| path.chars().take(6).collect()).collect();
        assert_eq!(numbers.len(), named.len(), "a number is given twice: {named:?}");
        assert!(named.len() >= 3, "{named:?}");
        whole_summary(&place.path("d/summary.json"));
    }
}

#[test]
fn what_was_there_is_not_touched_and_no_link_is_followed() {
    let place = Place::new();
    fs::create_dir(place.path("d")).expect("a folder");
    fs::write(place.path("victim"), "precious").expect("a file");
    fs::write(place.path("d/0001-mine.trace"), "precious").expect("a file");
    let parts = ["summary.part", "0002-stable-write-lost.part", "summary.json", "s.part"];
    for part in parts {
        symlink("../victim", place.path("d").join(part)).expect("a link");
    }
    let args = [&["run", "--seeds", "256", "--out", "d"][..], &WRONG].concat();
    assert_eq!(place.powerfail(&args).code, Some(1));
    let args = [&["shrink", "--seed", "2", "-o", "d/s.trace"][..], &WRONG].concat();
    assert_eq!(place.powerfail(&args).code, Some(0));
    for path in ["victim", "d/0001-mine.trace"] {
        assert_eq!(fs::read(place.path(path)).expect("it is there"), b"precious", "{path}");
    }
    // A link with this number counts as an existing file.
    whole_trace(&place.path("d/0003-stable-write-lost.trace"));
    whole_trace(&place.path("d/s.trace"));
    let summary = place.path("d/summary.json");
    assert!(!summary.symlink_metadata().expect("it is there").is_symlink());
    whole_summary(&summary);
}

#[test]
fn shrinking_replaces_only_what_it_was_told_to() {
    let place = Place::new();
    fs::write(place.path("b.short.trace"), TRACE).expect("a trace");
    fs::write(place.path("a.short.trace"), "precious").expect("a file");
    for args in [
        &["shrink", "a.trace"][..],
        &["shrink", "b.short.trace"],
        &["shrink", "a.trace", "-o", "a.trace"],
        &["shrink", "a.trace", "-o", "a.short.trace"],
    ] {
        let ran = place.powerfail(args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?}: {}", ran.err);
        assert!(ran.err.contains(" exists: give --force to replace it"), "{}", ran.err);
    }
    let read = |name| fs::read_to_string(place.path(name)).expect("it is there");
    assert_eq!(read("a.short.trace"), "precious");
    assert_eq!((read("a.trace"), read("b.short.trace")), (TRACE.to_owned(), TRACE.to_owned()));
    assert_eq!(place.powerfail(&["shrink", "a.trace", "--force"]).code, Some(0));
    whole_trace(&place.path("a.short.trace"));
    assert_eq!(place.powerfail(&["shrink", "b.short.trace", "--force"]).code, Some(0));
    assert_ne!(read("b.short.trace"), TRACE, "it is in the format of today");
    assert_eq!(read("a.trace"), TRACE);
}

#[test]
fn shrinking_makes_no_trace_longer() {
    let place = Place::new();
    let args = ["shrink", "--seed", "2", "--budget", "0s", "-o", "long.trace"];
    assert_eq!(place.powerfail(&[&args[..], &WRONG].concat()).code, Some(0));
    let mut before = whole_trace(&place.path("long.trace")).actions.len();
    assert!(before <= 252, "the seed has 252 actions, and the trace {before}");
    for budget in ["0s", "20ms", "80ms", "10s"] {
        let args = ["shrink", "long.trace", "--force", "-o", "long.trace", "--budget", budget];
        let ran = place.powerfail(&args);
        assert_eq!(ran.code, Some(0), "{}", ran.err);
        let after = whole_trace(&place.path("long.trace")).actions.len();
        assert!(after <= before, "{before} actions, and then {after}");
        before = after;
    }
    assert!(before < 20, "{before} actions");
}

#[test]
fn a_command_that_is_told_can_be_copied_whatever_the_folder_is_called() {
    for out in ["two words", "it's", "-d"] {
        let place = Place::new();
        let out = format!("--out={out}");
        let ran = place.powerfail(&[&["run", "--seeds", "256", &out][..], &WRONG].concat());
        assert_eq!(ran.code, Some(1), "{}", ran.err);
        let told = ran.out.lines().find_map(|line| line.trim().strip_prefix("powerfail replay "));
        let told = told.unwrap_or_else(|| panic!("no command: {}", ran.out));
        let again = place.after(&format!("eval \"set -- replay {told}\""), &[]);
        assert_eq!(said(again).code, Some(1), "{told}");
    }
}
