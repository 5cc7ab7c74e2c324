//! Known findings: they are counted, they neither stop nor fail a set of runs, and they hide no
//! other finding.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use serde_json::Value;

const LOST: &str = "stable-write-lost/lost/out";
const NEVER: &str = "never-used/protocol/in";

struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place { dir: tempfile::tempdir().unwrap() }
    }

    fn out(&self) -> PathBuf {
        self.dir.path().join("out")
    }

    /// A file of findings, each a signature and further lines.
    fn findings(&self, findings: &[(&str, &str)]) -> String {
        let mut text = String::new();
        for (signature, more) in findings {
            text += "[[finding]]\n";
            text += &format!("signature = \"{signature}\"\nlink = \"https://x.org/7\"\n{more}\n");
        }
        let path = self.dir.path().join("findings.toml");
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }

    fn run(&self, known: &str, more: &[&str]) -> Output {
        let out = self.out().display().to_string();
        Command::new(env!("CARGO_BIN_EXE_powerfail"))
            .args(["run", "--profile", "bench", "--known", known, "--out", &out])
            .args(more)
            .output()
            .expect("the program starts")
    }

    fn traces(&self) -> usize {
        let entries = fs::read_dir(self.out()).unwrap().flatten();
        entries.filter(|e| e.path().extension().is_some_and(|ending| ending == "trace")).count()
    }

    fn summary(&self) -> Value {
        serde_json::from_slice(&fs::read(self.out().join("summary.json")).unwrap()).unwrap()
    }
}

fn said(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// A disk on which every flush returns without a sync, and so each block of runs fails.
const EARLY: [&str; 2] = ["--disk", "wrong:early-flush"];

/// The rules that break on [`EARLY`] in so many seeds.
fn broken(seeds: &str) -> Vec<String> {
    let place = Place::new();
    let none = place.findings(&[]);
    let output = place.run(&none, &[&EARLY[..], &["--seeds", seeds, "--keep-going"]].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output.stderr));
    let summary = place.summary();
    let violations = summary["violations"].as_array().unwrap().iter();
    violations.map(|violated| violated["signature"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn runs_with_only_known_findings_go_on_to_the_end_and_pass() {
    let place = Place::new();
    let mut all = broken("600");
    assert!(all.iter().any(|signature| signature == LOST), "{all:?}");
    all.push(NEVER.to_owned());
    let findings: Vec<(&str, &str)> = all.iter().map(|s| (s.as_str(), "")).collect();
    let known = place.findings(&findings);
    let output = place.run(&known, &[&EARLY[..], &["--seeds", "600"]].concat());
    let text = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}{}", said(&output.stderr));
    assert!(text.contains("nothing new: every finding is known"), "{text}");
    assert!(text.contains(&format!("known: {LOST} in ")), "{text}");
    assert!(text.contains(&format!("known, not seen: {NEVER} (https://x.org/7)")), "{text}");
    assert!(!text.contains("VIOLATED"), "a known finding was reported: {text}");
    assert_eq!(place.traces(), 0, "a known finding was shrunk");
    let summary = place.summary();
    assert_eq!(summary["runs"], 600, "a known finding has stopped the runs");
    let violations = summary["violations"].as_array().unwrap();
    assert!(violations.iter().all(|violated| violated["known"] == "https://x.org/7"));
    assert_eq!(violations.len(), all.len() - 1);
}

#[test]
fn a_new_finding_is_told_beside_known_ones() {
    let place = Place::new();
    let known = place.findings(&[(NEVER, ""), ("stale-read/stale/out", "")]);
    let output = place.run(&known, &[&EARLY[..], &["--seeds", "600"]].concat());
    let text = said(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("VIOLATED") && !text.contains("nothing new"), "{text}");
    assert!(place.traces() > 0);
    let summary = place.summary();
    assert!(summary["runs"].as_u64().unwrap() < 600, "a new finding stops the runs");
    let violations = summary["violations"].as_array().unwrap();
    let lost = violations.iter().find(|violated| violated["signature"] == LOST).unwrap();
    assert!(lost.get("known").is_none(), "{lost}");
}

#[test]
fn a_known_finding_that_is_gone_is_said_so() {
    let place = Place::new();
    let known = place.findings(&[(LOST, "expires = \"9999-12-31\"")]);
    let output = place.run(&known, &["--seeds", "256"]);
    let text = said(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{text}");
    let line = format!("known, not seen: {LOST} (https://x.org/7, until 9999-12-31)");
    assert!(text.contains(&line) && !text.contains("nothing new"), "{text}");
}

#[test]
fn a_file_that_makes_no_sense_is_refused_before_anything_runs() {
    let place = Place::new();
    let missing = place.dir.path().join("none.toml").display().to_string();
    let refused = |known: &str, says: &str| {
        let output = place.run(known, &[]);
        let line = said(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{line}");
        assert!(line.contains(says) && line.lines().count() == 1, "{says} expected: {line}");
        assert!(!place.out().exists(), "something ran");
    };
    refused(&missing, "cannot read");
    let twice = place.findings(&[(LOST, ""), (LOST, "")]);
    refused(&twice, "findings.toml: line 6: stable-write-lost/lost/out is listed twice");
    refused(&place.findings(&[("bad-luck", "")]), "line 2: `bad-luck` is not a signature");
    refused(&place.findings(&[(LOST, "seed = 5")]), "line 4: unknown field `seed`");
    let old = place.findings(&[(LOST, "expires = \"2020-02-29\"")]);
    refused(&old, "line 4: stable-write-lost/lost/out expired on 2020-02-29; see https://x.org/7");
}
