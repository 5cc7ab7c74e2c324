//! A passing run can be printed, and an updated trace keeps its comments.

use std::fs;

use powerfail::trace::VERSION;

use crate::{Place, TRACE, whole_trace};

#[test]
fn a_run_that_passes_is_told_from_its_start_to_its_end() {
    let place = Place::new();
    let short = place.powerfail(&["replay", "--seed", "7"]);
    assert_eq!((short.code, short.out.lines().count()), (Some(0), 1), "{}", short.out);
    for args in [
        &["--seed", "7"][..],
        &["--seed", "7", "--device", "pmem"],
        &["--seed", "7", "--device", "blk+pmem"],
    ] {
        let told = place.powerfail(&[&["replay", "--all"], args].concat());
        assert_eq!(told.code, Some(0), "{}", told.err);
        assert!(told.out.starts_with("seed 7   no promise is broken\n"), "{}", told.out);
        let last = told.out.lines().last().expect("lines");
        assert!(last.starts_with("seed 7 passes: "), "{last}");
        let actions = last.split(' ').nth(3).and_then(|count| count.parse().ok());
        let actions: usize = actions.expect("a count");
        for part in ["start", "power loss", "submit", "life 2", " request"] {
            assert!(told.out.contains(part), "`{part}` is missing:\n{}", told.out);
        }
        // Most actions have a line, and their effects have others.
        assert!(told.out.lines().count() > actions / 2, "{}", told.out);
    }
    let trace = place.powerfail(&["replay", "a.trace", "--device", "blk", "--all"]);
    assert_eq!(trace.code, Some(0), "{}", trace.err);
    assert!(trace.out.contains("a.trace   no promise is broken"), "{}", trace.out);
    assert!(trace.out.contains("r3 ok"), "{}", trace.out);
}

#[test]
fn remarks_outlive_a_rewrite() {
    let place = Place::new();
    let remarked = TRACE
        .replacen("\nrun ", "\n# the number of the run\n\nrun ", 1)
        .replacen("\ncrash", "\n  # here the power goes\ncrash", 1)
        .replacen("\nend\n", "\n\n# all is said\nend\n# see the issue\n", 1);
    fs::write(place.path("a.trace"), &remarked).expect("a trace");
    let ran = place.powerfail(&["replay", "a.trace", "--rewrite"]);
    assert_eq!(ran.code, Some(1), "{}", ran.err);
    assert!(ran.out.contains("a.trace is rewritten"), "{}", ran.out);
    let after = fs::read_to_string(place.path("a.trace")).expect("it is there");
    assert!(after.starts_with(&format!("powerfail trace {VERSION}\n")), "{after}");
    for kept in [
        "\n# the number of the run\n\nrun ",
        "\n  # here the power goes\ncrash power",
        "\n\n# all is said\nend\n# see the issue\n",
    ] {
        assert!(after.contains(kept), "{kept:?} is missing:\n{after}");
    }
    whole_trace(&place.path("a.trace"));
    let ran = place.powerfail(&["replay", "a.trace", "--rewrite"]);
    assert!(ran.out.contains("a.trace is up to date"), "{}", ran.out);
}
