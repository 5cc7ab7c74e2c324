//! `powerfail explain` finds every citation of a report, a trace or the help.

use std::process::{Command, Output, Stdio};

use powerfail_model::{Rule, law};

fn explain(names: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    command.arg("explain").args(names).output().expect("the program starts")
}

/// Explains names that exist and returns the text.
fn explained(names: &[&str]) -> String {
    let output = explain(names);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!((output.status.code(), &*said), (Some(0), ""), "{names:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(!text.contains(['`', '*', '[']), "Markdown is left in: {text}");
    text
}

/// Explains a name that does not exist and returns the line that says so.
fn refused(name: &str) -> String {
    let output = explain(&[name]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(2), "{name}: {said}");
    assert!(output.stdout.is_empty() && said.lines().count() == 1, "{name}: {said}");
    said
}

fn rules() -> impl Iterator<Item = Rule> {
    Rule::ALL.iter().chain(Rule::OF_PMEM).copied()
}

/// A text without its line breaks.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn every_requirement_is_explained() {
    let all: Vec<&str> = law::requirements().map(|requirement| requirement.id).collect();
    let text = joined(&explained(&all));
    for requirement in law::requirements() {
        let head = format!("{} virtio 1.4, {}", requirement.id, requirement.sections);
        assert!(text.contains(&head), "{head}");
        let words = joined(&requirement.text.replace(['`', '*'], ""));
        assert!(text.contains(&words), "{words}");
    }
}

#[test]
fn every_row_is_explained() {
    for row in law::rows() {
        let letter = row.letter.to_string();
        let text = explained(&[&letter]);
        assert!(text.starts_with(&format!("row {letter}   virtio 1.4, 5.2.6.2")), "{text}");
        assert!(joined(&text).contains(&joined(&row.text.replace('`', ""))), "{text}");
        for name in [letter.to_lowercase(), format!("row:{letter}"), format!("Row {letter}")] {
            assert_eq!(explained(&[&name]), text);
        }
    }
}

#[test]
fn every_rule_is_explained_with_its_requirement() {
    let all: Vec<&str> = rules().map(Rule::name).collect();
    let text = joined(&explained(&all));
    for rule in rules() {
        let (name, clause, id) = (rule.name(), rule.clause(), rule.requirement());
        let (_, entry) =
            text.split_once(&format!("{name} virtio 1.4, {clause} rule ")).expect(name);
        assert!(entry[1..].starts_with(&rule.promise()[1..]), "{name}");
        assert!(entry[rule.promise().len()..].starts_with(&format!(". {id} ")), "{name}");
    }
}

#[test]
fn the_end_of_a_story_can_be_followed_as_it_stands() {
    let text = explained(&["(BLK-D-31, stable-write-lost)"]);
    assert_eq!(text, explained(&["blk-d-31", "STABLE-WRITE-LOST"]));
    assert!(text.contains("A stable write must survive power loss."), "{text}");
}

#[test]
fn without_a_name_all_names_are_listed() {
    let text = explained(&[]);
    let words: Vec<&str> = text.split_whitespace().collect();
    let ids = law::requirements().map(|requirement| requirement.id.to_owned());
    let rows = law::rows().map(|row| row.letter.to_string());
    for name in ids.chain(rows).chain(rules().map(|rule| rule.name().to_owned())) {
        assert!(words.contains(&&*name), "{name} is missing");
    }
}

#[test]
fn nonsense_is_refused_in_one_line_with_similar_names() {
    for (name, says) in [
        ("blk-d-99", "`BLK-D-"),
        ("blk-d31", "`BLK-D-31`"),
        ("stable-write-lsot", "`stable-write-lost` is similar"),
        ("row:J", "`row:A`"),
        ("write-lost", "`stable-write-lost`"),
        ("floppy", "`powerfail explain` lists all"),
        ("I", "`powerfail explain` lists all"),
        ("row", "there is no requirement, row or rule `row`"),
        ("", "no name is given"),
        ("\u{1b}[2J", "\\u{1b}[2J"),
        ("Blk-D-99", "`Blk-D-99`"),
        (&"x".repeat(9999), "lists all"),
    ] {
        let said = refused(name);
        assert!(said.contains(says) && said.len() < 200, "{name} said: {said}");
    }
    let output = explain(&["G", "floppy"]);
    assert!(output.stdout.is_empty(), "one name is unknown, so nothing is explained");
}

#[test]
fn a_closed_output_changes_no_exit_code() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = Command::new(env!("CARGO_BIN_EXE_powerfail"));
    let status = command.arg("explain").stdout(Stdio::from(writer)).status().expect("it starts");
    assert_eq!(status.code(), Some(0));
}
