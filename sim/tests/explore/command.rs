//! The command: what it says, how it ends, and that it goes on where it was stopped.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn explore(out: &Path, args: &str) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    command.arg("explore").args(args.split_whitespace()).arg("--out").arg(out);
    let Output { status, stdout, stderr } = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code(), text(stdout), text(stderr))
}

/// What is the same for any number of threads and any machine.
fn counts(statement: &str) -> Vec<String> {
    let lines = statement.lines().filter(|line| !line.contains("took "));
    lines.map(|line| line.split("  ").filter(|part| !part.contains("/s")).collect()).collect()
}

const SMALL: &str = "--requests 2 --rows B,G";

#[test]
fn a_statement_says_what_was_covered_and_is_the_same_for_any_number_of_threads() {
    let out = tempfile::tempdir().unwrap();
    let (code, said, _) = explore(out.path(), &format!("{SMALL} --jobs 1"));
    assert_eq!(code, Some(0), "{said}");
    for part in [
        "blk: every workload of up to 2 requests (out, flush, write-zeroes, discard) over 2 sectors on 1 queue,",
        "1 power loss, no host failure, rows B G",
        "complete: no promise is broken",
        "classes of schedules",
        "by 128-bit fingerprints: two collide with a probability below 1 in 2^",
        "crash images represented",
        "--reduce lazy,sleep,mirror,alike",
    ] {
        assert!(said.contains(part), "`{part}` is missing:\n{said}");
    }
    let (_, again, _) = explore(out.path(), &format!("{SMALL} --jobs 3"));
    assert_eq!(counts(&said), counts(&again));
    assert_eq!(fs::read_dir(out.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_stopped_search_goes_on_where_it_was_and_comes_to_the_same() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (_, whole, _) = explore(one.path(), SMALL);
    let (code, said, _) = explore(two.path(), &format!("{SMALL} --for 0s"));
    if code == Some(0) {
        // It was done before anybody could stop it.
        return assert_eq!(counts(&said), counts(&whole));
    }
    assert_eq!(code, Some(6), "{said}");
    assert!(said.contains("NOT COMPLETE") && said.contains("resumes from here"), "{said}");
    let (code, said, _) = explore(two.path(), SMALL);
    assert_eq!(code, Some(0), "{said}");
    let said: String = said
        .lines()
        .filter(|line| !line.starts_with("resumes after"))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(counts(&said), counts(&whole));
}

#[test]
fn a_counterexample_is_a_story_and_a_trace_that_fails() {
    let out = tempfile::tempdir().unwrap();
    let (code, said, _) = explore(out.path(), "--requests 2 --rows C --device wrong:early-flush");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("row C   VIOLATED   a stable write must survive power loss"), "{said}");
    assert!(said.contains("3 requests, 1 crash"), "a write, a flush and a read:\n{said}");
    let traces: Vec<_> =
        fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    for trace in &traces {
        assert!(said.contains(&trace.display().to_string()), "{trace:?} is not told:\n{said}");
        let replayed =
            Command::new(env!("CARGO_BIN_EXE_powerfail")).arg("replay").arg(trace).output();
        assert_eq!(replayed.expect("the program starts").status.code(), Some(1), "{trace:?}");
    }
    assert!(!traces.is_empty());
}

#[test]
fn a_scope_that_makes_no_sense_gets_one_line() {
    let out = tempfile::tempdir().unwrap();
    for (args, says) in [
        ("--requests 0", "--requests 0 is not within 1 and 12"),
        ("--in-flight 9", "--in-flight 9 is not within 1 and 4"),
        ("--kinds fly", "there is no kind of request `fly`"),
        ("--rows Z", "there is no row `Z` of the stability table"),
        ("--kinds flush --rows B", "in row B a guest can ask for none of that"),
        ("--device pmem --kinds discard", "a persistent memory knows none of that"),
        ("--device pmem --queues 2", "a persistent memory has one queue"),
        ("--features ro", "a search can add only"),
        ("--reduce half", "there is no reduction `half`"),
        ("--device blk+pmem", "a search has one device"),
        ("--jobs 0", "searches nothing"),
    ] {
        let (code, said, error) = explore(out.path(), args);
        assert_eq!((code, said.as_str()), (Some(2), ""), "{args}: {error}");
        assert!(error.contains(says), "{args} said: {error}");
    }
}
