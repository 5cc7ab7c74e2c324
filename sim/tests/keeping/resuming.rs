//! A checkpoint that is damaged is refused by its name, or done again; it is never believed.

use std::fs;

use crate::{Place, Said, until};

const SEARCH: [&str; 9] =
    ["explore", "--requests", "3", "--rows", "A", "--jobs", "1", "--out", "d"];

/// What is the same for any machine, and whether the search went on.
fn counts(ran: &Said) -> (Vec<String>, bool) {
    let line = |name: &str| ran.out.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let names =
        ["  complete", "  classes of schedules", "  states", "  crash images", "  idle states"];
    (names.map(|name| line(name).to_owned()).into(), ran.out.starts_with("resumes after"))
}

/// A search that was stopped with so many parts finished; its checkpoint.
fn stopped(place: &Place, lines: usize) -> std::path::PathBuf {
    let mut child = place.command(&SEARCH).spawn().expect("it starts");
    let checkpoint = || {
        let path = place.path("d").join(place.files("d").first()?);
        let text = fs::read_to_string(&path).unwrap_or_default();
        (text.lines().count() > lines).then_some(path)
    };
    until(&mut child, || checkpoint().is_some());
    child.kill().expect("it is ours");
    child.wait().expect("it ends");
    checkpoint().expect("it stays")
}

#[test]
fn a_killed_search_goes_on_and_comes_to_the_same() {
    let place = Place::new();
    let (whole, _) = counts(&place.powerfail(&SEARCH));
    assert_eq!(place.files("d"), [""; 0]);
    let checkpoint = stopped(&place, 12);
    let good = fs::read(&checkpoint).expect("it is there");
    let (again, went_on) = counts(&place.powerfail(&SEARCH));
    assert!(went_on);
    assert_eq!(again, whole);
    assert!(!checkpoint.exists(), "a search that is through leaves none");
    // The last line may be half written, or never have come to the disk.
    let last = good[..good.len() - 1].iter().rposition(|&byte| byte == b'\n').expect("lines") + 1;
    for torn in [good[..good.len() - 3].to_vec(), [&good[..last], &[0; 99]].concat()] {
        fs::write(&checkpoint, torn).expect("a file");
        let ran = place.powerfail(&SEARCH);
        assert_eq!(counts(&ran), (whole.clone(), true), "{}", ran.err);
    }
}

#[test]
fn a_damaged_checkpoint_is_refused_by_its_name() {
    let place = Place::new();
    let checkpoint = stopped(&place, 12);
    let text = fs::read_to_string(&checkpoint).expect("it is there");
    let name = checkpoint.file_name().expect("a name").to_string_lossy().into_owned();
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let refused = |spoilt: String, how: &str| {
        assert_ne!(spoilt, text, "{how}");
        fs::write(&checkpoint, &spoilt).expect("a file");
        let ran = place.powerfail(&SEARCH);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{how}: {}", ran.err);
        assert!(ran.err.contains(&name) && ran.err.contains("remove it"), "{}", ran.err);
        assert_eq!(ran.err.lines().count(), 1, "{}", ran.err);
        assert_eq!(fs::read_to_string(&checkpoint).expect("it is there"), spoilt, "it is left");
    };
    // Later lives that are taken out of finished parts.
    let without: Vec<String> = lines
        .iter()
        .map(|line| match line.split_once("\"fresh\":[[") {
            Some((before, _)) => format!("{before}\"fresh\":[]}}\n"),
            None => (*line).to_owned(),
        })
        .collect();
    refused(without.concat(), "without later lives");
    let at = text.find("\"states\":").expect("a figure") + "\"states\":".len();
    let digit = if text[at..].starts_with('7') { "8" } else { "7" };
    refused(format!("{}{digit}{}", &text[..at], &text[at + 1..]), "another figure");
    for nth in [0, 1, lines.len() / 2] {
        let mut spoilt = lines.clone();
        spoilt.remove(nth);
        refused(spoilt.concat(), "a line less");
        let mut spoilt = lines.clone();
        spoilt.insert(nth, lines[nth]);
        refused(spoilt.concat(), "a line twice");
        let mut spoilt = lines.clone();
        spoilt.swap(nth, nth + 1);
        refused(spoilt.concat(), "two lines swapped");
    }
    fs::remove_file(&checkpoint).expect("as it says");
    assert_eq!(place.powerfail(&SEARCH).code, Some(0));
}

#[test]
fn two_searches_in_one_folder_do_not_meet() {
    let place = Place::new();
    let both = [0, 1].map(|_| {
        let mut command = place.command(&SEARCH);
        command.stdout(std::process::Stdio::piped()).spawn().expect("it starts")
    });
    let both = both.map(|child| {
        let output = child.wait_with_output().expect("it ends");
        let out = String::from_utf8(output.stdout).expect("text");
        counts(&Said { code: output.status.code(), out, err: String::new() })
    });
    assert_eq!(both[0], both[1]);
    assert!(both[0].0[0].starts_with("  complete: "), "{both:?}");
    assert_eq!(place.files("d"), [""; 0]);
}
