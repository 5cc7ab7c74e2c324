//! Backends of other projects: what the command says of them, and what it leaves behind.

mod twins;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn attach(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    command.arg("attach").args(args).arg("--out").arg(dir.join("out"));
    command.output().expect("the program starts")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn skipped(why: &str) {
    // Through the handle, because a passing test's prints are not shown.
    writeln!(std::io::stderr(), "\n*** SKIPPED, nothing was tested: {why} ***").expect("stderr");
}

/// Whether a file system can be mounted here.
fn can_mount() -> bool {
    let fuse = fs::OpenOptions::new().read(true).write(true).open("/dev/fuse");
    fuse.is_ok() && rustix::process::geteuid().is_root()
}

fn has(program: &str) -> bool {
    let found = Command::new(program).arg("--version").stdout(Stdio::null()).status();
    found.is_ok_and(|status| status.success())
}

#[test]
fn without_a_name_the_presets_are_listed() {
    let dir = tempfile::tempdir().unwrap();
    let output = attach(dir.path(), &[]);
    assert_eq!(output.status.code(), Some(0));
    let said = stdout(&output);
    for name in ["powerfail", "qemu-storage-daemon", "--spawn"] {
        assert!(said.contains(name), "{said}");
    }
}

#[test]
fn what_cannot_be_attached_is_said_in_one_line() {
    let dir = tempfile::tempdir().unwrap();
    for (args, says) in [
        (&["nothing"][..], "there is no preset `nothing`; there are powerfail"),
        (&["no/such.toml"], "cannot read no/such.toml"),
        (&["--spawn", "true {nbd}"], "its command does not contain {socket}"),
        (&["--spawn", "true {socket}"], "its command does not contain one of {nbd} and {file}"),
        (
            &["--spawn", "sh -c 'echo no disk >&2; exit 3' {socket} {nbd}"],
            "does not serve: it exited with code 3; it printed: no disk",
        ),
    ] {
        let output = attach(dir.path(), args);
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(says), "{args:?} said: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn our_own_server_keeps_every_row_and_every_promise() {
    if !can_mount() {
        return skipped("a file below a backend needs FUSE and root");
    }
    let dir = tempfile::tempdir().unwrap();
    let output = attach(dir.path(), &["powerfail", "--contract", "strict", "--seeds", "24"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{said}{}", stderr(&output));
    for row in ["B", "C", "D", "F", "G"] {
        let kept = |line: &str| line.starts_with(&format!("  {row}  ")) && line.ends_with("kept");
        assert!(said.lines().any(kept), "row {row}: {said}");
    }
    assert!(!said.contains("BROKEN"), "{said}");
}

#[test]
fn the_daemon_of_qemu_loses_writes_and_keeps_them_with_writethrough() {
    if !has("qemu-storage-daemon") {
        return skipped("there is no qemu-storage-daemon; it is in the package qemu-utils");
    }
    let dir = tempfile::tempdir().unwrap();
    let output = attach(dir.path(), &["qemu-storage-daemon"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(1), "{said}{}", stderr(&output));
    for row in ["B", "D", "F"] {
        let broken = |line: &str| {
            line.starts_with(&format!("  {row}  ")) && line.ends_with("BROKEN, 10 of 10 times")
        };
        assert!(said.lines().any(broken), "row {row}: {said}");
        let path = dir.path().join(format!("out/row-{row}.trace"));
        let trace = fs::read_to_string(&path).unwrap();
        let requests = trace.lines().filter(|line| line.starts_with("send ")).count();
        assert!(requests <= 3, "{trace}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
        let replayed = command.arg("replay").arg(&path).output().unwrap();
        assert_eq!(replayed.status.code(), Some(1), "{}", stdout(&replayed));
        assert!(stdout(&replayed).contains("reproduced 10 of 10 times"));
    }
    let output = attach(dir.path(), &["qemu-storage-daemon-writethrough", "--seeds", "24"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
}

/// The folders of attached backends of a process, and the file systems mounted in them.
fn leftovers(process: u32) -> Vec<String> {
    let ours = format!("powerfail-attach-{process}-");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(&ours)).map(str::to_owned);
    let folders = fs::read_dir(std::env::temp_dir()).unwrap().flatten();
    let folders = folders.map(|entry| entry.file_name().to_string_lossy().into_owned());
    mounts.chain(folders.filter(|name| name.starts_with(&ours))).collect()
}

#[test]
fn a_killed_run_leaves_nothing_that_the_next_does_not_remove() {
    if !can_mount() {
        return skipped("a file below a backend needs FUSE and root");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut processes = Vec::new();
    for nth in 0..12 {
        let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
        command.args(["attach", "powerfail", "--seeds", "100", "--out"]).arg(dir.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::park_timeout(Duration::from_millis(10 + 35 * nth));
        child.kill().unwrap();
        child.wait().unwrap();
        processes.push(child.id());
    }
    let output = attach(dir.path(), &["powerfail", "--seeds", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}{}", stdout(&output), stderr(&output));
    for process in processes {
        assert_eq!(leftovers(process), Vec::<String>::new());
    }
}
