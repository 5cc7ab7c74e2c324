//! Files that are none are refused in a line, and nobody waits for them.

use std::fs;

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::{Place, end};

/// What is no file, in a place: a pipe without a writer, a folder, and what has no end.
fn no_files(place: &Place) -> [String; 4] {
    let fifo = place.path("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    let large = place.path("large");
    let file = fs::File::create(&large).expect("a file");
    file.set_len(1 << 40).expect("with a hole");
    let text = |path: std::path::PathBuf| path.display().to_string();
    [text(fifo), place.0.path().display().to_string(), "/dev/zero".to_owned(), text(large)]
}

#[test]
fn what_is_no_file_is_refused_in_a_line() {
    let place = Place::new();
    for path in no_files(&place) {
        let path = path.as_str();
        for args in [
            &["run", "--seeds", "1", "--known", path][..],
            &["replay", path],
            &["replay", path, "--rewrite"],
            &["shrink", path],
            &["image", path, "-o", "i"],
            &["export", path, "--log-writes", "l"],
        ] {
            let ran = place.powerfail(args);
            assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{args:?}: {}", ran.err);
            assert!(ran.err.contains(path) && ran.err.lines().count() == 1, "{}", ran.err);
        }
        let child = place.command(&["replay", path, "--bisect"]).spawn().expect("it starts");
        assert_eq!(end(child).code(), Some(125));
    }
}

#[test]
fn a_checkpoint_that_is_no_file_is_refused_in_a_line() {
    let place = Place::new();
    let args = ["explore", "--requests", "6", "--for", "0s", "--out", "d"];
    let ran = place.powerfail(&args);
    assert_eq!(ran.code, Some(6), "{}", ran.err);
    let name = place.files("d").pop().expect("a checkpoint");
    let path = place.path("d").join(&name);
    let refused = |why: &str| {
        let ran = place.powerfail(&args);
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{why}: {}", ran.err);
        assert!(ran.err.contains(&name) && ran.err.lines().count() == 1, "{}", ran.err);
        fs::remove_file(&path).or_else(|_| fs::remove_dir(&path)).expect("it is there");
    };
    fs::remove_file(&path).expect("it is there");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0).expect("a pipe");
    refused("a pipe");
    fs::create_dir(&path).expect("a folder");
    refused("a folder");
    std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
    refused("a link");
    fs::File::create(&path).expect("a file").set_len(1 << 40).expect("with a hole");
    refused("too large");
}

#[test]
fn there_is_no_seed_behind_the_last() {
    let place = Place::new();
    let last = u64::MAX.to_string();
    for args in [
        &["--from", &last, "--seeds", "10"][..],
        &["--from", &last],
        &["--seeds", &last, "--from", "2"],
    ] {
        let ran = place.powerfail(&[&["run", "--out", "d"], args].concat());
        assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{}", ran.err);
        assert!(ran.err.contains("exceeds the last seed"), "{}", ran.err);
    }
    let ran = place.powerfail(&["run", "--from", &last, "--seeds", "1", "--out", "d"]);
    assert!(matches!(ran.code, Some(0 | 4)), "{}", ran.err);
}
