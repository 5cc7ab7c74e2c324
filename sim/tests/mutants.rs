//! The bank of real bugs in `sim/mutants`: each patch has a complete header and still applies.
//!
//! Not here: whether a bug is found, which `sim/mutants/run` measures.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use powerfail_model::Rule;

/// The keys of a bug, those it must have first.
const OF_A_BUG: (&[&str], &[&str]) = (
    &["Bug", "System", "Link", "Class", "Rule", "Tool"],
    &["Args", "Claim", "Says", "Missed", "Note"],
);
/// The keys of a neutral edit, those it must have first.
const OF_AN_EDIT: (&[&str], &[&str]) = (&["Edit", "Why legal"], &["Args", "Flagged"]);

const TOOLS: &[&str] = &["seeds", "loom", "tests"];

fn bank() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("mutants")
}

/// The patches of a folder, each with its name.
fn patches(folder: &Path) -> Vec<(String, PathBuf)> {
    let mut patches: Vec<(String, PathBuf)> = fs::read_dir(folder)
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "patch"))
        .map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path))
        .collect();
    patches.sort();
    patches
}

/// The lines before the difference, as keys and values.
fn header(name: &str, text: &str) -> Vec<(String, String)> {
    let lines = text.lines().take_while(|line| !line.starts_with("diff "));
    let pair = |line: &str| {
        let (key, value) = line.split_once(": ").unwrap_or_else(|| {
            panic!("{name}: `{line}` is not a line of a header, such as `Rule: never-used`")
        });
        (key.to_owned(), value.to_owned())
    };
    lines.filter(|line| !line.is_empty()).map(pair).collect()
}

/// What is wrong with a header.
fn defects(name: &str, header: &[(String, String)], keys: (&[&str], &[&str])) -> Vec<String> {
    let (required, optional) = keys;
    let mut defects = Vec::new();
    for key in required {
        if !header.iter().any(|(other, value)| other == key && !value.trim().is_empty()) {
            defects.push(format!("{name}: the header has no {key}"));
        }
    }
    for (at, (key, _)) in header.iter().enumerate() {
        if !required.contains(&key.as_str()) && !optional.contains(&key.as_str()) {
            defects.push(format!("{name}: there is no key {key}"));
        }
        if header[..at].iter().any(|(other, _)| other == key) {
            defects.push(format!("{name}: {key} stands twice"));
        }
    }
    defects
}

fn value<'a>(header: &'a [(String, String)], key: &str) -> Option<&'a str> {
    header.iter().find(|(other, _)| other == key).map(|(_, value)| value.as_str())
}

fn bug_defects(name: &str, header: &[(String, String)]) -> Vec<String> {
    let mut defects = defects(name, header, OF_A_BUG);
    for rule in value(header, "Rule").unwrap_or_default().split_whitespace() {
        if Rule::from_name(rule).is_none() {
            defects.push(format!("{name}: there is no rule {rule}"));
        }
    }
    let tool = value(header, "Tool").unwrap_or_default();
    if !TOOLS.contains(&tool) {
        defects.push(format!("{name}: Tool is {tool}, not one of {}", TOOLS.join(", ")));
    }
    if tool != "seeds" && (value(header, "Claim").is_none() || value(header, "Says").is_none()) {
        let missed = value(header, "Missed").is_some();
        if !missed {
            defects.push(format!("{name}: Claim and Says name the test that must fail"));
        }
    }
    defects
}

#[test]
fn every_patch_has_a_complete_header_and_applies() {
    let bank = bank();
    let root = bank.join("../..");
    let (bugs, edits) = (patches(&bank), patches(&bank.join("neutral")));
    assert!(bugs.len() >= 50 && edits.len() >= 12, "{} bugs, {} edits", bugs.len(), edits.len());
    let mut defects = Vec::new();
    for (name, path) in bugs.iter().chain(&edits) {
        let text = fs::read_to_string(path).expect("a patch is text");
        let header = header(name, &text);
        if edits.iter().any(|(edit, _)| edit == name) {
            defects.extend(self::defects(name, &header, OF_AN_EDIT));
        } else {
            defects.extend(bug_defects(name, &header));
        }
        // Patches are made for the top folder of a working copy, or of an archive without git.
        let applied = Command::new("git")
            .args(["apply", "--check"])
            .arg(path.canonicalize().expect("it was just read"))
            .current_dir(&root)
            .output()
            .expect("git runs");
        if !applied.status.success() {
            let said = String::from_utf8_lossy(&applied.stderr);
            let first = said.lines().next().unwrap_or_default();
            defects.push(format!("{name}: the patch does not apply: {first}"));
        }
    }
    let quick = fs::read_to_string(bank.join("quick")).expect("the list for CI is there");
    for wanted in quick.lines() {
        if !bugs.iter().chain(&edits).any(|(name, _)| name == wanted) {
            defects.push(format!("quick: there is no patch {wanted}"));
        }
    }
    assert!(defects.is_empty(), "\n{}", defects.join("\n"));
}
