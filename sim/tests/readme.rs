//! The README's first screen equals the output of its command, and counts on pages are true.

use std::process::Command;

use powerfail::devices::faulty::Wrong;

const README: &str = include_str!("../../README.md");
const STATUS: &str = include_str!("../STATUS.md");
const EXPLORED: &str = include_str!("../src/explore/README.md");
/// A table with one line for each mutant in scope, below two lines of heading.
const IN_SCOPE: &str = include_str!("../src/explore/WRONG.md");

#[test]
fn the_first_screen_is_the_output_of_its_command() {
    let block = README.split("```console\n").nth(1).and_then(|rest| rest.split("```").next());
    let (command, screen) = block.and_then(|b| b.split_once('\n')).expect("a command and a screen");
    let args = command.strip_prefix("$ cargo run --release -- ").expect("a command to run");
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_powerfail"))
        .args(args.split(' '))
        .current_dir(dir.path())
        .output()
        .expect("the program starts");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert_eq!(output.status.code(), Some(1), "{printed}");
    let story = printed.split("\n\n  runs  ").next().unwrap_or_default();
    assert_eq!(story.trim_end(), screen.trim_end());
}

#[test]
fn pages_count_the_mutants_that_there_are() {
    let memories = Wrong::all().filter(|wrong| matches!(wrong, Wrong::Memory(_))).count();
    let others = Wrong::all().count() - memories;
    let in_scope = IN_SCOPE.lines().filter(|line| line.starts_with('|')).count() - 2;
    let said = [
        (STATUS, format!("| {others} mutants of disks and devices, each caught")),
        (STATUS, format!("for each of the {others}, within two actions")),
        (STATUS, format!("; {memories} mutants of memories, each caught")),
        (STATUS, format!("[{in_scope} mutants](src/explore/WRONG.md)")),
        (README, format!("each of the {in_scope} mutants in scope")),
        (EXPLORED, format!("each of the {in_scope} mutants in scope")),
    ];
    for (page, sentence) in said {
        assert!(page.contains(&sentence), "no page says `{sentence}`");
    }
}
