//! The command line from a user's view: exit codes, one clear line for invalid input, and counts
//! that do not depend on the number of threads.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use powerfail::devices::blk::Blk;
use powerfail::run::{Plan, run_seed, world};

fn powerfail(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_powerfail")).args(args).output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Runs an invalid command and returns its one line.
fn nonsense(args: &[&str]) -> String {
    let output = powerfail(args);
    let said = String::from_utf8(output.stderr.clone()).expect("text");
    assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
    assert!(output.stdout.is_empty(), "{args:?} printed {}", stdout(&output));
    said
}

fn trace_file(dir: &Path, text: &str) -> String {
    let path = dir.join("a.trace");
    fs::write(&path, text).unwrap();
    path.display().to_string()
}

const TRACE: &str = include_str!("../../traces/0001-early-flush.trace");

#[test]
fn nonsense_gets_one_line_with_the_place() {
    let dir = tempfile::tempdir().unwrap();
    for (args, says) in [
        (&["run", "--profile", "loud"][..], "there is no profile `loud`"),
        (&["run", "--schedule", "best"], "there is no schedule `best`"),
        (&["run", "--contract", "loose"], "there are strict and literal"),
        (&["run", "--device", "floppy"], "there is no device `floppy`"),
        (&["run", "--disk", "wrong:nothing"], "there is no mutant `nothing`"),
        (&["run", "--seeds", "0"], "runs nothing"),
        (&["run", "--seeds", "many"], "many"),
        (&["run", "--for", "soon"], "soon"),
        (&["replay", "no/such/file"], "cannot read no/such/file"),
        (&["replay"], "required"),
        (&["fly"], "fly"),
    ] {
        let said = nonsense(args);
        assert!(said.contains(says), "{args:?} said: {said}");
    }
    let line = TRACE.lines().position(|line| line.starts_with("events")).unwrap() + 2;
    let spoil = |from: &str, to: &str| TRACE.replacen(from, to, 1);
    for (text, says) in [
        (String::new(), "line 1: this is not a trace"),
        ("\u{0}\u{1}\u{2}".to_owned(), "line 1: this is not a trace"),
        (spoil("powerfail trace 2", "powerfail trace 9"), "format version `9` is unknown"),
        (spoil("\nstart a", "\nfly a"), &*format!("line {line}: there is no action `fly`")),
        (spoil("\nrun ", "\nruns "), "there is no header `runs`"),
        (spoil("queues=", "queues=9"), "a world cannot have"),
        (spoil("profile Strict", "profile Loose"), "there is no profile `Loose`"),
        (spoil("stable-write-lost/lost/out", "bad-luck"), "`bad-luck` is not a signature"),
        (spoil("\nend\n", "\n"), "its last line is not `end`"),
        (TRACE.lines().take(5).collect::<Vec<_>>().join("\n"), "the header has no"),
    ] {
        let path = trace_file(dir.path(), &text);
        let said = nonsense(&["replay", &path]);
        assert!(said.contains(says), "{says} expected, said: {said}");
        assert!(said.contains("a.trace"), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn a_broken_promise_is_told_kept_and_replayed() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let output =
        powerfail(&["run", "--disk", "wrong:early-flush", "--seeds", "512", "--out", &out]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("VIOLATED   a stable write must survive power loss"), "{said}");
    assert!(said.contains("host disk"), "{said}");
    let traces: Vec<String> = fs::read_dir(&out)
        .unwrap()
        .map(|entry| entry.unwrap().path().display().to_string())
        .filter(|path| path.ends_with("-stable-write-lost.trace"))
        .collect();
    assert!(!traces.is_empty());
    let again = powerfail(&["replay", &traces[0]]);
    assert_eq!(again.status.code(), Some(1), "{}", stdout(&again));
    let ours = powerfail(&["replay", &traces[0], "--device", "blk"]);
    assert_eq!(ours.status.code(), Some(0), "{}", stdout(&ours));
}

#[test]
fn the_contract_is_chosen_recorded_and_named_with_every_verdict() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out").display().to_string();
    let run = ["run", "--seeds", "512", "--contract", "literal", "--out", &out];
    let ours = stdout(&powerfail(&run));
    let assumed = "contract Literal, which assumes: read-your-writes (AMB-09), a reset keeps completed data (AMB-21)";
    assert!(ours.contains(assumed), "{ours}");
    let said = stdout(&powerfail(&[&run[..], &["--disk", "wrong:early-flush"]].concat()));
    assert!(said.contains("(Literal, 512-byte atoms)"), "{said}");
    let mut paths = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let trace = paths.find(|path| path.to_string_lossy().ends_with("-stable-write-lost.trace"));
    let trace = trace.expect("the mutant was caught and its trace kept");
    assert!(fs::read_to_string(&trace).unwrap().contains("  profile Literal atom=512\n"));
    let trace = trace.display().to_string();
    for (args, named) in [
        (&["replay", &trace][..], "(Literal, 512-byte atoms)"),
        (&["replay", &trace, "--contract", "strict"], "(Strict, 512-byte atoms)"),
        (&["replay", &trace, "--device", "blk"], "(contract Literal, which assumes: "),
        (&["replay", "--seed", "7"], "(contract Strict, which assumes: "),
    ] {
        let said = stdout(&powerfail(args));
        assert!(said.contains(named), "{args:?} said: {said}");
    }
    let old = TRACE.replacen("  profile Strict", "", 1);
    let said = stdout(&powerfail(&["replay", &trace_file(dir.path(), &old)]));
    assert!(said.contains("(Strict, 512-byte atoms)"), "{said}");
}

#[test]
fn the_summary_is_the_same_for_any_number_of_jobs() {
    let summary = |jobs: &str| {
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().display().to_string();
        let args = ["run", "--seeds", "1500", "--jobs", jobs, "--out", &out];
        assert_eq!(powerfail(&args).status.code(), Some(0));
        fs::read_to_string(dir.path().join("summary.json")).unwrap()
    };
    let one = summary("1");
    assert!(one.contains("\"violations\": []"), "{one}");
    assert_eq!(one, summary("2"));
}

#[test]
fn a_set_of_runs_that_cuts_nothing_volatile_is_not_measured() {
    let plan = Plan::default();
    let idle = (0..10_000).find(|&seed| {
        let mut world = world::<Blk>(&(), plan, seed);
        run_seed(&mut world, plan, seed, |_| {});
        world.stats().volatile_losses == 0
    });
    let seed = idle.expect("some run has nothing volatile").to_string();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().display().to_string();
    let output = powerfail(&["run", "--seeds", "1", "--from", &seed, "--out", &out]);
    assert_eq!(output.status.code(), Some(4));
    assert!(stdout(&output).contains("NOT MEASURED"));
}

#[test]
fn a_trace_whose_situation_is_gone_is_not_a_pass() {
    let dir = tempfile::tempdir().unwrap();
    // Without the flush no promise is broken.
    let without: Vec<&str> = TRACE.lines().filter(|line| !line.contains(" flush")).collect();
    let path = trace_file(dir.path(), &without.join("\n"));
    let output = powerfail(&["replay", &path]);
    assert_eq!(output.status.code(), Some(5), "{}", stdout(&output));
    assert!(stdout(&output).contains("did not reach its situation"));
}

#[test]
fn a_file_that_was_there_is_not_touched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.img");
    let disk = format!("file:{}", path.display());
    fs::write(&path, b"the user's data").unwrap();
    fs::write(dir.path().join("disk.img.1"), b"more of it").unwrap();
    let said = nonsense(&["run", "--disk", &disk, "--seeds", "1"]);
    assert!(said.contains("exists, and a run would overwrite it"), "{said}");
    assert_eq!(fs::read(&path).unwrap(), b"the user's data");

    fs::remove_file(&path).unwrap();
    let out = dir.path().join("out").display().to_string();
    for _ in 0..2 {
        let args = ["run", "--disk", &disk, "--seeds", "600", "--jobs", "2", "--out", &out];
        assert_eq!(powerfail(&args).status.code(), Some(0));
        assert!(!path.exists(), "a run removes what it made");
    }
    assert_eq!(fs::read(dir.path().join("disk.img.1")).unwrap(), b"more of it");
}

#[test]
fn everything_wrong_is_listed() {
    let said = stdout(&powerfail(&["wrong"]));
    for wrong in powerfail::devices::faulty::Wrong::all() {
        assert!(said.contains(wrong.name()) && said.contains(wrong.summary()));
    }
}
