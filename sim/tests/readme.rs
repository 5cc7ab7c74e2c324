//! The README's first screen equals the output of its command.

use std::process::Command;

const README: &str = include_str!("../../README.md");

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
