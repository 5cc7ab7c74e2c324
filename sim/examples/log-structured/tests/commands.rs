//! The command line of a program with named set-ups.

use std::path::Path;
use std::process::Command;

/// The exit code and the output of the program, in the folder of this test.
fn command(args: &[&str]) -> (Option<i32>, String) {
    let out = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let output = Command::new(env!("CARGO_BIN_EXE_log-structured"))
        .args(args)
        .current_dir(out)
        .output()
        .expect("the program starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).into_owned())
}

#[test]
fn an_unknown_name_lists_the_others() {
    let (code, said) = command(&["run", "--device", "nonsense"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("there are log, superblock-first, no-checksum"), "{said}");
}

#[test]
fn a_trace_names_its_set_up() {
    let (code, said) =
        command(&["run", "--device", "wrong-order", "--seeds", "512", "--out", "named"]);
    assert_eq!(code, Some(1), "{said}");
    let trace = said.split_whitespace().find(|word| word.ends_with(".trace")).expect("a trace");
    let (code, said) = command(&["replay", trace]);
    assert_eq!(code, Some(1), "{said}");
    let (code, said) = command(&["replay", trace, "--device", "log"]);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_search_says_why_it_refuses_the_device() {
    let (code, said) = command(&["explore", "--device", "log"]);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("has a medium of its own form"), "{said}");
}

#[test]
fn the_summary_tells_what_is_out_of_reach() {
    let (code, said) = command(&["run", "--seeds", "2000", "--out", "reach"]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("out of reach of this device"), "{said}");
    assert!(said.contains("the reset of one queue: "), "{said}");
}
