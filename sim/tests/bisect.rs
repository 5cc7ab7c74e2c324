//! `git bisect run` with a saved trace names the commit that broke a device.
//!
//! The author of a device runs, in the repository of the device,
//!
//! ```sh
//! git bisect run sh -c 'cargo build || exit 125; cargo run -q -- replay --bisect ../saved.trace'
//! ```
//!
//! A commit that does not build is skipped: cargo itself would exit 101, which means a bad commit.
//! `--bisect` exits with 0, 1 or 125 for the others. The trace is outside the tree that git checks
//! out.
//!
//! The device is a copy of `sim/examples/plug-in`. It is built in the target folder of this test,
//! where its dependencies are already compiled; powerfail itself is compiled once more, without
//! optimisation, which is most of the cost of this test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SCRIPT: &str = "cargo build -q --offline || exit 125; \
                      cargo run -q --offline -- replay --bisect ../saved.trace";

/// The trace of the planted bug: a read does not return a completed write.
const TRACE: &str = "powerfail trace 2
device  own
disk    sim
broke   stale-read/stale/out
run     1
options devices=1 queues=1 ring=16 sectors=8 request-sectors=1 offer=version-1 writeback=1 \
segment-sectors=8 segments=1 granule=512 tear=1 transfer=1048576 discard-granularity=512 depth=32 \
read-only=no host-may-fail=no
witness w1=0 r2=any
events  0000000000000000
start a accept=version-1
send q0 w1 out 0+1
await a 1
send q0 r2 in 0+1
await a 2
end
";

/// The commits: the text that each replaces in the source, its replacement, and its subject.
const COMMITS: [(&str, &str, &str); 8] = [
    ("", "", "a device of its own"),
    ("let capacity =", "let capacity: u64 =", "say what a capacity is"),
    ("let start =", "let start: usize =", "say what a start is"),
    ("let Tiny(bytes,", "let Tiny(byte,", BROKEN),
    ("let Tiny(byte,", "let Tiny(bytes,", "finish it"),
    ("self.2.clear();", "self.2 = Vec::new();", "drop the rings at a reset"),
    ("place.copy_from_slice(&request.data(&host.ram))", "let _ = place;", PLANTED),
    ("let len =", "let len: usize =", "say what a length is"),
];
/// The commit in the middle, so that it is tried first.
const BROKEN: &str = "rename by halves";
const PLANTED: &str = "answer a write sooner";

fn run(program: &str, args: &[&str], dir: &Path) -> Output {
    let mut command = Command::new(program);
    command.args(args).current_dir(dir);
    // No user configuration, and no repository around this one.
    command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1");
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    command.env("CARGO_TARGET_DIR", target());
    let output = command.output();
    output.unwrap_or_else(|e| panic!("this test needs {program}, which does not start: {e}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

fn git(dir: &Path, args: &[&str]) -> String {
    let who = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost"];
    let output = run("git", &[&who[..], args].concat(), dir);
    let said = said(&output);
    assert!(output.status.success(), "git {args:?}: {said}");
    said
}

/// The target folder of this test.
fn target() -> PathBuf {
    let tmp = Path::new(env!("CARGO_TARGET_TMPDIR"));
    tmp.parent().expect("the folder for tests lies in the target folder").to_owned()
}

/// Writes the crate of the device: the example with the dependencies of this workspace.
fn write_crate(repo: &Path) {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &str| fs::read_to_string(here.join(path)).unwrap();
    let workspace = read("../Cargo.toml");
    let profile = &workspace[workspace.find("[profile.dev]").expect("there is a profile")..];
    let mut manifest = read("examples/plug-in/Cargo.toml")
        .replace("path = \"../..\"", &format!("path = {:?}", here.display().to_string()));
    manifest += profile;
    for name in ["powerfail", "powerfail-model", "powerfail-device"] {
        manifest += &format!("\n[profile.dev.package.{name}]\nopt-level = 0\n");
    }
    fs::create_dir_all(repo.join("src")).unwrap();
    fs::write(repo.join("Cargo.toml"), manifest).unwrap();
    fs::write(repo.join("Cargo.lock"), read("../Cargo.lock")).unwrap();
}

#[test]
fn bisecting_with_a_trace_names_the_commit_that_broke_the_device() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("bisect");
    let _ = fs::remove_dir_all(&dir);
    let repo = dir.join("repo");
    write_crate(&repo);
    fs::write(dir.join("saved.trace"), TRACE).unwrap();
    git(&repo, &["init", "-q"]);
    let mut source = include_str!("../examples/plug-in/src/main.rs").to_owned();
    for (from, to, subject) in COMMITS {
        assert!(source.contains(from), "the example has no `{from}` for `{subject}` to change");
        source = source.replacen(from, to, 1);
        fs::write(repo.join("src/main.rs"), &source).unwrap();
        git(&repo, &["add", "Cargo.toml", "src"]);
        git(&repo, &["commit", "-q", "--allow-empty", "-m", subject]);
    }
    let first = format!("HEAD~{}", COMMITS.len() - 1);
    git(&repo, &["bisect", "start", "HEAD", &first]);
    let found = git(&repo, &["bisect", "run", "sh", "-c", SCRIPT]);
    let log = git(&repo, &["bisect", "log"]);
    let line = |kind: &str, subject: &str| {
        log.lines().any(|line| line.starts_with(kind) && line.ends_with(subject))
    };
    assert!(line("# first bad commit", PLANTED), "{found}\n{log}");
    assert!(line("# skip", BROKEN), "{found}\n{log}");
}
