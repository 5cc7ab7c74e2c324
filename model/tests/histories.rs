//! Histories in a small language, each with the rule that it breaks or `-`.
//!
//! Requests are named by number. `7>2` publishes the write `w7` to sector 2, `7>2..4` to sectors 2
//! and 3; `z7>2` writes zeroes, `d7>2` discards; `r7<2` reads; `f7` flushes. `7 ok`, `7 err` and `7
//! unsupp` complete them; a read completes with its observation: `7=w3`, `7=0`, `7=initial`,
//! `7=torn`, `7=foreign`, `7=garbage`, `7=w3@9` (written for sector 9). `?2=w3` is a whole read.
//! `W` and `F` alone are shorthand: `W7>2` and `F7` publish and complete at once. `POWER`, `RESET`
//! and `KILL` end a life and begin the next on the same terms; a following `row=X` renegotiates,
//! and so do `fail`, after which the host may fail, `capacity=N` and `no limits`. `wb=0` and `wb=1`
//! switch the cache mode; `GROWN N`, `QUEUE RESET 7`, `SAVE` and `SAVED` or `UNSAVED`, `RECONNECT`
//! and `FAILURE` are the other events of a life. Only the last step may break a rule.

mod language;

use language::{Script, check, check_on};
use powerfail_model::{Kind, Profile, Reason, RequestId, Row, Rule};

/// Checks every history against the rule that it breaks.
fn table(rows: &[(&str, &str)]) {
    for (history, broken) in rows {
        check(history, broken);
    }
}

#[test]
fn a_flush_covers_what_completed_before_it_was_sent() {
    table(&[
        ("W7>2; F8; POWER; ?2=w7", "-"),
        ("W3>2; F4; W7>2; F8; POWER; ?2=w3", "stable-write-lost"),
        ("W7>2; F8; POWER; ?2=initial", "stable-write-lost"),
        ("W7>2; POWER; ?2=initial", "-"),
        ("W7>2; POWER; ?2=w7", "-"),
        // A flush may overtake requests in flight, and promises nothing about them.
        ("7>2; f8; 7 ok; 8 ok; POWER; ?2=initial", "-"),
        ("7>2; f8; 8 ok; 7 ok; POWER; ?2=initial", "-"),
        ("f8; 7>2; 7 ok; 8 ok; POWER; ?2=initial", "-"),
        ("7>2; 7 ok; f8; 8 ok; POWER; ?2=initial", "stable-write-lost"),
        // Only a flush that succeeds counts, and only for writes that succeeded.
        ("W7>2; f8; 8 err; POWER; ?2=initial", "-"),
        ("W7>2; f8; 8 unsupp; POWER; ?2=initial", "-"),
        ("7>2; 7 err; F8; POWER; ?2=initial", "-"),
        ("7>2; 7 err; F8; POWER; ?2=w7", "-"),
        ("W7>2; f8; POWER; ?2=initial", "-"),
        // Another sector keeps its content.
        ("W7>2; F8; W9>3; POWER; ?3=initial", "-"),
        ("W7>2; F8; W9>3; POWER; ?2=initial", "stable-write-lost"),
        ("W7>2..4; F8; POWER; ?3=initial", "stable-write-lost"),
    ]);
}

#[test]
fn a_completed_write_is_stable_as_its_row_says() {
    let lost = "W7>2; POWER; ?2=initial";
    let flushed = "W7>2; F8; POWER; ?2=initial";
    for (row, alone, with_flush) in [
        // A flush that returned OK counts even if it was not negotiated.
        ('A', "-", "stable-write-lost"),
        ('B', "flushless-write-lost", "flushless-write-lost"),
        ('C', "-", "stable-write-lost"),
        ('D', "write-through-lost", "write-through-lost"),
        ('E', "-", "stable-write-lost"),
        ('F', "write-through-lost", "write-through-lost"),
        ('G', "-", "stable-write-lost"),
    ] {
        check(&format!("row={row}; {lost}"), alone);
        check(&format!("row={row}; {flushed}"), with_flush);
    }
    // H: the mode changed in flight.
    table(&[
        ("row=F; 7>2; wb=1; wb=0; 7 ok; POWER; ?2=initial", "-"),
        ("row=G; 7>2; wb=0; 7 ok; POWER; ?2=initial", "-"),
        ("row=F; 7>2; wb=1; 7 ok; POWER; ?2=initial", "-"),
        ("row=G; 7>2; wb=0; 7 ok; F8; POWER; ?2=initial", "stable-write-lost"),
        ("row=F; wb=0; 7>2; wb=0; 7 ok; POWER; ?2=initial", "write-through-lost"),
    ]);
}

#[test]
fn the_literal_profile_counts_only_negotiated_flushes() {
    for row in ['A', 'E'] {
        let flushed = format!("row={row}; W7>2; F8; POWER; ?2=initial");
        check_on(Profile::Literal, &flushed, "-");
    }
    check_on(Profile::Literal, "row=C; W7>2; F8; POWER; ?2=initial", "stable-write-lost");
    check_on(Profile::Literal, "row=B; W7>2; POWER; ?2=initial", "flushless-write-lost");
}

#[test]
fn facts_of_a_completion_name_its_row() {
    for (history, row, stable) in [
        ("row=B; W7>2", Some(Row::B), true),
        ("row=C; W7>2", Some(Row::C), false),
        ("row=F; W7>2", Some(Row::F), true),
        ("row=G; 7>2; wb=0; 7 ok", Some(Row::H), false),
        ("row=G; wb=0; z7>2; 7 ok", Some(Row::F), true),
        ("row=G; wb=0; d7>2; 7 ok", None, false),
    ] {
        let facts = Script::play(Profile::Strict, history).oracle.last_completion();
        assert_eq!((facts.row, facts.stable), (row, stable), "{history}");
    }
    assert!(Script::play(Profile::Strict, "7>2; f8; 8 ok").oracle.last_completion().overtook_write);
    assert!(
        !Script::play(Profile::Strict, "f8; 7>2; 8 ok").oracle.last_completion().overtook_write
    );
}

#[test]
fn toggling_the_cache_mode_commits_nothing() {
    table(&[
        ("row=G; W7>2; wb=0; POWER; ?2=initial", "-"),
        ("row=G; W7>2; wb=0; W8>3; POWER; ?2=initial", "-"),
        // A flush in write-through mode counts.
        ("row=G; W7>2; wb=0; F8; POWER; ?2=initial", "stable-write-lost"),
        ("row=G; W7>2; wb=0; W9>2; POWER; ?2=w7", "write-through-lost"),
        ("row=F; W7>2; wb=1; POWER; ?2=initial", "write-through-lost"),
        // The mode belongs to the life.
        ("row=F; W7>2; RESET; row=C; W8>3; POWER; ?3=initial", "-"),
        ("row=F; W7>2; RESET; row=C; W8>3; POWER; ?2=initial", "write-through-lost"),
    ]);
}

#[test]
fn the_tempting_rules_are_wrong() {
    table(&[
        // A failed write may be lost from live reads too.
        ("7>2; 7 err; ?2=initial", "-"),
        ("7>2; 8>2; 8 err; ?2=initial", "-"),
        // A write without an answer may not land after a newer write.
        ("7>2; RESET; W8>2; ?2=w7", "late-effect"),
        // Reads that overlap writes order them.
        ("7>2; r4<2; 7 ok; 8>2; 4=w8; r5<2; 5=w7", "reads-disagree"),
        ("r4<2; 7>2; 4=w7; 8>2; 8 ok; ?2=w7", "reads-disagree"),
        // Reads that agree do not fix the content: a newer version may follow.
        ("7>2; r4<2; 4=initial; ?2=w7", "-"),
        ("7>2; 8>2; r4<2; 4=w7; r5<2; 5=w8", "-"),
        ("7>2; ?2=w7; ?2=initial", "reads-disagree"),
        // An observed write is protected once a later stable write depends on it.
        ("7>2; r4<2; 4=w7; 8>2; 8 ok; F9; POWER; ?2=w7", "stable-write-lost"),
        ("7>2; 8>2; 7 ok; r4<2; 8 ok; F9; 4=w8; POWER; ?2=w7", "stable-write-lost"),
        ("7>2; 8>2; 7 ok; 8 ok; F9; POWER; ?2=w7", "-"),
        ("7>2; 8>2; 7 ok; 8 ok; ?2=w8; F9; POWER; ?2=w7", "stable-write-lost"),
    ]);
}

#[test]
fn live_reads_go_forward() {
    table(&[
        ("?2=initial", "-"),
        ("W7>2; ?2=w7", "-"),
        ("W7>2; ?2=initial", "stale-read"),
        ("W7>2; W8>2; ?2=w7", "stale-read"),
        ("7>2; 8>2; 8 ok; 7 ok; ?2=w7; ?2=w8", "reads-disagree"),
        ("r4<2; 7>2; 7 ok; 4=initial", "-"),
        ("r4<2; 7>2; 7 ok; 4=w7", "-"),
        ("W7>2..4; ?3=w7", "-"),
        ("W7>2; ?3=w7", "never-written"),
        ("?2=w9", "never-written"),
        ("?2=0", "untouched-changed"),
        ("?2=torn", "torn-atom"),
        ("W7>2; ?2=foreign", "foreign-content"),
        ("W7>2; ?2=garbage", "never-written"),
        ("W7>3; ?2=w7@3", "misplaced"),
    ]);
}

/// Each read may have seen any of three hundred requests, so the explanations multiply without
/// bound.
#[test]
fn zeroes_of_hundreds_of_requests_are_judged() {
    let steps = |step: fn(usize) -> String| (1..=300).map(step).collect::<String>();
    let zeroes = steps(|id| format!("z{id}>2; "));
    let answers = steps(|id| format!("{id} ok; "));
    let reads = "?2=0; ".repeat(12);
    check(&format!("{zeroes}{reads}{answers}?2=0"), "-");
    check(&format!("{zeroes}{reads}{answers}W999>2; ?2=0"), "stale-read");
    check(&format!("{zeroes}{reads}{answers}W999>2; F1000; POWER; ?2=0"), "stable-write-lost");
}

#[test]
fn zeroes_are_written_and_discards_only_permitted() {
    table(&[
        ("z7>2; 7 ok; ?2=0", "-"),
        ("W3>2; z7>2; 7 ok; ?2=w3", "not-zeroed"),
        ("W3>2; z7>2; 7 ok; F8; POWER; ?2=w3", "stable-write-lost"),
        ("W3>2; F4; z7>2; 7 ok; POWER; ?2=w3", "-"),
        ("W3>2; F4; d7>2; 7 ok; ?2=w3", "-"),
        ("W3>2; F4; d7>2; 7 ok; ?2=0", "-"),
        ("W3>2; F4; d7>2; 7 ok; F8; POWER; ?2=w3", "-"),
        ("W3>2; F4; d7>2; 7 ok; F8; POWER; ?2=0", "-"),
        ("W3>2; F4; d7>2; POWER; ?2=0", "-"),
        // A discard touches nothing outside its range, and cannot land late.
        ("W3>2; F4; d7>3; 7 ok; F8; POWER; ?2=0", "stable-write-lost"),
        ("d7>2; 7 ok; W8>2; ?2=0", "stale-read"),
        ("d7>2; RESET; W8>2; ?2=0", "stale-read"),
        ("d7>2; 7 ok; W8>2; F9; POWER; ?2=0", "stable-write-lost"),
        ("d7>2; W8>2; 7 ok; ?2=0", "-"),
        // The zeroes may belong to several requests at once.
        ("z7>2; 7 ok; d8>2; 8 ok; ?2=0; W9>2; ?2=w9", "-"),
        ("d7>2; W8>2; z9>2; 9 ok; ?2=0; 7 ok; ?2=w8", "not-zeroed"),
        ("z7>2; z8>2; 9>2; ?2=0; ?2=w9; ?2=0", "-"),
        ("z7>2; 9>2; ?2=0; ?2=w9; ?2=0", "reads-disagree"),
        ("z7>2; z8>2; 9>2; ?2=0; ?2=w9; ?2=0; ?2=w9", "reads-disagree"),
    ]);
}

#[test]
fn an_unknown_image_is_fixed_by_reads() {
    table(&[
        ("W7>2; POWER; ?2=w7; ?2=initial", "image-changed"),
        ("W7>2; POWER; ?2=initial; ?2=w7", "image-changed"),
        ("W7>2; POWER; ?2=initial; POWER; ?2=w7", "untouched-changed"),
        // An unread sector may hold either content.
        ("W7>2; POWER; POWER; ?2=w7", "-"),
        ("W7>2; POWER; POWER; ?2=initial", "-"),
        ("W7>2; POWER; W8>2; POWER; ?2=w7", "-"),
        ("W7>2; POWER; W8>2; POWER; ?2=w8; ?2=w7", "image-changed"),
        ("W7>2; POWER; W8>2; F9; POWER; ?2=w7", "stable-write-lost"),
        ("W7>2; POWER; ?2=w7; F8; POWER; ?2=initial", "untouched-changed"),
        ("W7>2; POWER; W8>2; ?2=w7", "stale-read"),
        ("W7>2; d8>2; POWER; d9>2; ?2=0; ?2=0", "-"),
        ("W7>2; d8>2; POWER; d9>2; ?2=0; 9 ok; ?2=w7", "image-changed"),
    ]);
}

#[test]
fn a_reset_keeps_the_data_and_a_kill_the_cache() {
    table(&[
        ("W7>2; RESET; ?2=w7", "-"),
        ("W7>2; RESET; ?2=initial", "stale-read"),
        ("W7>2; KILL; ?2=initial", "stale-read"),
        ("W7>2; RESET; F8; POWER; ?2=initial", "stable-write-lost"),
        ("W7>2; KILL; F8; POWER; ?2=initial", "stable-write-lost"),
        ("W7>2; KILL; POWER; ?2=initial", "-"),
        ("W7>2; f8; RESET; POWER; ?2=initial", "-"),
        ("7>2; RESET; ?2=w7", "-"),
        ("7>2; RESET; ?2=initial; ?2=w7", "late-effect"),
        ("7>2; RESET; F8; POWER; ?2=initial", "-"),
        ("7>2; RESET; ?2=w7; F8; POWER; ?2=initial", "-"),
        ("7>2; RESET; W8>2; F9; POWER; ?2=w7", "stable-write-lost"),
        ("7>2; POWER; ?2=w7", "-"),
        ("7>2; POWER; ?2=initial; ?2=w7", "image-changed"),
    ]);
}

#[test]
fn only_a_request_that_syncs_can_tell_that_data_is_gone() {
    table(&[
        // A failed read has read nothing, and a failed write has changed its own range at most.
        ("fail; W7>2; r8<2; 8 err; ?2=initial", "stale-read"),
        ("fail; W7>2; r8<2; 8 err; ?2=w7", "-"),
        ("fail; W7>2; 8>3; 8 err; ?2=initial", "stale-read"),
        ("fail; W7>2; 8>3; 8 err; ?3=initial; ?3=w8", "reads-disagree"),
        ("fail; W7>2; r8<2; 8 err; KILL; ?2=initial", "stale-read"),
        ("fail; W7>2; r8<2; 8 err; F9; POWER; ?2=initial", "stable-write-lost"),
        // A failed write-through write may have failed in its sync.
        ("fail; row=A; W7>2; 8>3; 8 err; ?2=w7", "-"),
    ]);
}

#[test]
fn a_failed_sync_is_not_believed_the_next_time() {
    table(&[
        // The page cache reports success, and then the page is gone.
        ("fail; W7>2; f8; 8 err; F9; POWER; ?2=initial", "stable-write-lost"),
        ("fail; W7>2; f8; 8 err; RESET; F9; POWER; ?2=initial", "stable-write-lost"),
        ("fail; W7>2; f8; 8 err; W10>2; F9; POWER; ?2=initial", "stable-write-lost"),
        ("fail; W7>2; f8; 8 err; W10>2; F9; POWER; ?2=w10", "-"),
        ("fail; W7>2; f8; 8 err; POWER; ?2=initial", "-"),
        // Data that was not stable may come and go until it is written again.
        ("fail; W7>2; f8; 8 err; ?2=w7; ?2=initial", "-"),
        ("fail; W7>2; f8; 8 err; RESET; ?2=initial", "-"),
        ("fail; W7>2; f8; 8 err; W10>2; ?2=initial", "stale-read"),
        ("fail; W7>2; f8; 8 err; W10>2; ?2=w7", "stale-read"),
        ("fail; W7>2; F6; f8; 8 err; ?2=initial", "stale-read"),
        ("fail; W7>2; f8; 8 err; ?2=w9", "never-written"),
        ("fail; W7>2; f8; 8 err; POWER; ?2=initial; ?2=w7", "image-changed"),
        // The sync may have failed before its status was reported.
        ("fail; W7>2; f8; ?2=initial", "-"),
        ("fail; W7>2; f8; 8 ok; ?2=initial", "stale-read"),
        ("fail; W7>2; f8; RESET; ?2=initial", "-"),
        ("W7>2; f8; ?2=initial", "stale-read"),
        // A killed backend may have left older content on the medium than in the cache.
        ("fail; W7>2; f8; 8 err; KILL; ?2=initial", "-"),
        ("fail; W7>2; f8; 8 err; KILL; ?2=w7; ?2=initial", "image-changed"),
        ("fail; W7>2; f8; 8 err; KILL; ?2=w7; POWER; ?2=initial", "-"),
        ("fail; W7>2; f8; 8 err; KILL; ?2=w7; F9; POWER; ?2=initial", "stable-write-lost"),
        ("fail; W7>2; f8; 8 err; KILL; F9; POWER; ?2=initial", "-"),
        ("fail; W7>2; F6; f8; 8 err; KILL; ?2=initial", "stale-read"),
    ]);
}

#[test]
fn what_is_refused_has_no_effect() {
    table(&[
        ("row=R; 7>2; 7 err", "-"),
        ("row=R; 7>2; 7 ok", "read-only-served"),
        ("row=R; 7>2; 7 unsupp", "wrong-refusal"),
        ("row=R; 7>2; 7 err; ?2=w7", "refused-effect"),
        ("row=R; 7>2; ?2=w7", "refused-effect"),
        ("row=R; d7>2; 7 ok", "read-only-served"),
        ("row=R; z7>2; 7 err; ?2=0", "untouched-changed"),
        ("row=R; F7; ?2=initial", "-"),
        ("z7>2 flags=2; 7 unsupp", "-"),
        ("z7>2 flags=2; 7 ok", "unknown-flag-served"),
        ("z7>2 flags=2; 7 err", "wrong-refusal"),
        ("z7>2 flags=1; 7 ok; ?2=0", "-"),
        ("d7>2 flags=1; 7 unsupp", "-"),
        ("d7>2 flags=1; 7 ok", "discard-unmap-served"),
        ("W3>2; d7>2 flags=1; 7 unsupp; ?2=0", "stale-read"),
        ("7>15..17; 7 err", "-"),
        ("7>15..17; 7 ok", "beyond-capacity-served"),
        ("7>15..17; 7 err; ?15=w7", "refused-effect"),
        ("r7<16; 7=initial", "beyond-capacity-served"),
        ("z7>15..17; 7 ok", "beyond-capacity-served"),
        ("z7>0..9; 7 ok", "over-limit-served"),
        ("d7>0..9; 7 ok", "over-limit-served"),
        ("z7>0,1,2; 7 ok", "too-many-segments-served"),
        ("z7>0,15..17; 7 err; ?0=0", "untouched-changed"),
        ("7>2 bytes=100; 7 ok", "partial-sector-served"),
        ("z7>2 bytes=20; 7 ok", "partial-segment-served"),
        ("row=B-; z7>2; 7 ok", "unnegotiated-served"),
        ("row=B-; d7>2; 7 unsupp", "-"),
        ("x7; 7 unsupp", "-"),
        ("x7; 7 ok", "unknown-type-served"),
        ("7>2 beyond-limits; 7 ok", "-"),
        ("7>2 beyond-limits; 7 ok; ?2=initial", "stale-read"),
        ("7>2 beyond-limits; 7 err; ?2=initial", "-"),
        ("r7<2 beyond-limits; 7=0", "untouched-changed"),
        ("7>15..17 beyond-limits; 7 ok", "beyond-capacity-served"),
        ("7>2 malformed; 7 ok", "-"),
        ("7>2 malformed; 7 ok; ?2=w7", "refused-effect"),
        ("7>2; 7 err", "legal-request-failed"),
        ("fail; 7>2; 7 err", "-"),
        ("7>2; 7 unsupp; ?2=w7", "refused-effect"),
        ("fail; 7>2; 7 unsupp; ?2=w7", "refused-effect"),
        ("fail; 7>2; 7 unsupp", "legal-request-failed"),
        ("fail; 7>2; ?2=w7; 7 unsupp", "legal-request-failed"),
        ("7>2; 7 status=3", "unknown-status"),
        ("7>2; 7 status=255", "unknown-status"),
        ("i7; 7 ok", "-"),
    ]);
}

#[test]
fn each_request_is_used_exactly_once() {
    table(&[
        ("7>2; 7 ok; 7 ok", "used-twice"),
        ("7 ok", "used-unpublished"),
        ("7>2; RESET; 7 ok", "used-after-end"),
        ("7>2; KILL; 7 ok", "used-after-end"),
        ("7>2; QUIET", "never-used"),
        ("7>2; 7 ok; QUIET", "-"),
        ("7>2; RESET; QUIET", "-"),
        // A head published twice is owed two completions.
        ("f7; again 7; 7 ok; QUIET", "never-used"),
        ("f7; again 7; 7 ok; 7 ok; QUIET", "-"),
        ("f7; again 7; 7 ok; 7 ok; 7 ok", "used-twice"),
        ("r7<2; again 7; 7=initial; 8>2; 8 ok; 7=w8", "-"),
        ("r7<2; again 7; 7=initial; 7=w8", "never-written"),
        ("W3>2; f7; again 7; W9>2; 7 ok; 7 ok; POWER; ?2=w3", "-"),
    ]);
}

#[test]
fn the_literal_profile_forgives_what_the_text_does() {
    for (history, broken) in [
        ("W7>2; POWER; ?2=garbage", "-"),
        ("W7>2; F8; POWER; ?2=garbage", "never-written"),
        ("W7>2; F8; W9>2; POWER; ?2=foreign", "-"),
        ("W7>2; F8; W9>3; POWER; ?2=torn", "torn-atom"),
        ("7>2; 8>2; 7 ok; 8 ok; F9; POWER; ?2=torn", "-"),
        ("z7>2; 7 ok; F8; POWER; ?2=initial", "-"),
        ("W3>2; z7>2; 7 ok; ?2=w3", "not-zeroed"),
        ("d7>2; 7 ok; ?2=garbage", "-"),
        ("7>2; ?2=w7; ?2=initial", "-"),
        ("W7>2; ?2=initial", "stale-read"),
        ("W7>2; KILL; ?2=initial", "-"),
        ("W7>2; F8; KILL; ?2=initial", "stale-read"),
        ("7>15..17; 7 ok", "-"),
        ("row=R; 7>2; 7 ok", "read-only-served"),
    ] {
        check_on(Profile::Literal, history, broken);
    }
}

#[test]
fn a_violation_tells_its_story() {
    let violation = Script::play(Profile::Strict, "W3>2; F4; W7>2; F8; POWER; ?2=w3")
        .broken
        .expect("it breaks a rule");
    assert_eq!(violation.to_string(), "Sector 2 must hold w7. It holds w3.");
    assert_eq!(violation.rule.requirement(), "BLK-D-31");
    let because: Vec<String> = violation.because.iter().map(ToString::to_string).collect();
    let story = because.join("; ");
    for event in [
        "request 7 completed with OK",
        "flush 8 was submitted",
        "flush 8 completed",
        "the power was lost",
        "found w3",
    ] {
        assert!(story.contains(event), "{event}: {story}");
    }
    let sorted = violation.because.is_sorted_by_key(|reason| reason.at());
    assert!(sorted, "{story}");
}

#[test]
fn rules_have_names_of_their_own() {
    for &rule in Rule::ALL {
        assert_eq!(Rule::from_name(rule.name()), Some(rule));
        assert!(rule.name().chars().all(|c| c.is_ascii_lowercase() || c == '-'), "{}", rule.name());
        assert!(
            !rule.promise().ends_with('.')
                && !rule.requirement().is_empty()
                && !rule.clause().is_empty()
        );
    }
    let mut names: Vec<_> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    names.dedup();
    assert_eq!(names.len(), Rule::ALL.len());
}

#[test]
fn every_rule_of_the_oracle_is_broken_by_some_history_here() {
    let source = include_str!("histories.rs");
    let of_the_oracle = Rule::ALL.iter().take_while(|&&rule| rule != Rule::UsedLength);
    for rule in of_the_oracle {
        assert!(source.contains(&format!("\"{}\")", rule.name())), "{}", rule.name());
    }
}

#[test]
fn a_reset_of_a_queue_ends_its_requests_and_no_other() {
    table(&[
        ("7>2; QUEUE RESET 7; ?2=w7", "-"),
        ("7>2; QUEUE RESET 7; ?2=initial", "-"),
        ("7>2; QUEUE RESET 7; ?2=initial; ?2=w7", "late-effect"),
        ("7>2; QUEUE RESET 7; W8>2; ?2=w7", "late-effect"),
        ("7>2; QUEUE RESET 7; QUIET", "-"),
        ("7>2; 8>3; QUEUE RESET 7; QUIET", "never-used"),
        ("7>2; 8>3; QUEUE RESET 7; 8 ok; F9; POWER; ?3=initial", "stable-write-lost"),
        // What was answered before stays answered.
        ("W7>2; QUEUE RESET 7; F8; POWER; ?2=initial", "stable-write-lost"),
        // A read that was ended binds no later one.
        ("r6<2; 7>2; QUEUE RESET 6; 7 ok; ?2=initial", "stale-read"),
    ]);
}

#[test]
fn a_reset_of_a_queue_hides_whether_a_sync_failed() {
    table(&[
        ("fail; W7>2; f8; QUEUE RESET 8; ?2=initial", "-"),
        // A flush that succeeds now says that nothing is lost.
        ("fail; W7>2; f8; QUEUE RESET 8; F9; ?2=initial", "stale-read"),
        // It is over: what is written afterwards is there.
        ("fail; W7>2; f8; QUEUE RESET 8; W9>2; ?2=w7", "stale-read"),
        ("fail; W7>2; r8<3; QUEUE RESET 8; ?2=initial", "stale-read"),
        ("W7>2; f8; QUEUE RESET 8; ?2=initial", "stale-read"),
        ("fail; W7>2; f8; f9; QUEUE RESET 8; 9 ok; W10>2; ?2=w7", "stale-read"),
    ]);
}

#[test]
fn a_disk_that_grew_serves_its_new_sectors() {
    table(&[
        ("capacity=8; 7>10; 7 ok", "beyond-capacity-served"),
        ("capacity=8; 7>10; 7 err", "-"),
        ("capacity=8; GROWN 12; 7>10; 7 err", "legal-request-failed"),
        ("capacity=8; GROWN 12; W7>10; F8; POWER; ?10=initial", "stable-write-lost"),
        ("capacity=8; GROWN 12; ?10=initial", "-"),
        ("capacity=8; GROWN 12; 7>12; 7 ok", "beyond-capacity-served"),
        ("capacity=8; GROWN 12; RESET; ?10=initial", "-"),
    ]);
}

#[test]
fn a_save_is_a_flush_that_was_sent_when_it_began() {
    table(&[
        ("W7>2; SAVE; SAVED; POWER; ?2=initial", "stable-write-lost"),
        ("7>2; SAVE; 7 ok; SAVED; POWER; ?2=initial", "-"),
        ("SAVE; W7>2; SAVED; POWER; ?2=initial", "-"),
        ("W7>2; SAVE; POWER; ?2=initial", "-"),
        ("W7>2; SAVE; UNSAVED; POWER; ?2=initial", "-"),
        ("W6>2; SAVE; SAVED; W7>2; SAVE; UNSAVED; POWER; ?2=initial", "stable-write-lost"),
        // Until a save succeeds, its sync may have failed.
        ("fail; W7>2; SAVE; ?2=initial", "-"),
        ("fail; W7>2; SAVE; UNSAVED; ?2=initial", "-"),
        ("fail; W7>2; SAVE; SAVED; ?2=initial", "stale-read"),
        ("fail; W7>2; SAVE; UNSAVED; W8>2; ?2=w7", "stale-read"),
        ("fail; SAVE; SAVE; SAVED; W7>2; ?2=initial", "stale-read"),
        ("W7>2; SAVE; UNSAVED; ?2=initial", "stale-read"),
    ]);
}

#[test]
fn a_backend_that_did_not_start_has_seen_its_host_fail() {
    table(&[
        ("W7>2; FAILURE; ?2=initial", "-"),
        ("W7>2; FAILURE; W8>2; ?2=w7", "stale-read"),
        ("W7>2; FAILURE; KILL; ?2=initial", "-"),
        ("W7>2; FAILURE; KILL; ?2=initial; W8>2; ?2=initial", "stale-read"),
        ("W7>2; KILL; ?2=initial", "stale-read"),
    ]);
}

#[test]
fn an_oracle_says_what_it_knows() {
    let knows =
        |history: &str, id: u32| Script::play(Profile::Strict, history).oracle.knows(RequestId(id));
    assert!(knows("W7>2", 7) && knows("7>2; POWER", 7));
    assert!(!knows("W7>2", 6) && !knows("W7>2", 8) && !knows("W7>2", 70_000));
    let failed = |history: &str| Script::play(Profile::Strict, history).oracle.host_failed();
    for history in ["row=F; fail; 7>2; 7 err", "fail; f8; 8 err; RESET", "FAILURE"] {
        assert!(failed(history), "{history}");
    }
    // A write-back write does not sync, and a host has no part in a refusal.
    for history in ["fail; 7>2; 7 err", "row=F; fail; 7>99; 7 err", "FAILURE; POWER"] {
        assert!(!failed(history), "{history}");
    }
    for history in ["fail; W7>2", "fail; f7; 7 err; KILL", "fail; f7; 7 err; POWER"] {
        assert!(!failed(history), "{history}");
    }
}

#[test]
fn a_kind_of_request_has_a_name() {
    use Kind::{Discard, Flush, GetId, In, Other, Out, WriteZeroes};
    let names = [In, Out, Flush, GetId, Discard, WriteZeroes, Other(99)].map(Kind::name);
    assert_eq!(names, ["in", "out", "flush", "get-id", "discard", "write-zeroes", "other"]);
}

#[test]
fn a_violation_names_the_reads_that_ordered_the_versions() {
    let reads = |history: &str| -> Vec<u32> {
        let broken = Script::play(Profile::Strict, history).broken.expect("a broken rule");
        let saw = |reason: &Reason| match *reason {
            Reason::ReadSaw { id, .. } => Some(id.0),
            _ => None,
        };
        broken.because.iter().filter_map(saw).collect()
    };
    // The first read saw w8, so that w7 is overwritten.
    assert_eq!(reads("W7>2; 8>2; r4<2; 4=w8; r6<2; 6=w7"), [4, 6]);
    assert_eq!(reads("W7>2; 8>2; r4<2; 4=w8; r5<3; 5=initial; r6<2; 6=w7"), [4, 6]);
    assert_eq!(reads("W7>2; r4<2; 4=w7; r6<2; 6=initial"), [4, 6]);
    assert_eq!(reads("W7>2; r6<2; 6=initial"), [6]);
}

#[test]
fn a_limit_of_zero_is_none_and_an_empty_range_lies_anywhere() {
    table(&[
        ("z7>1..10; 7 ok", "over-limit-served"),
        ("no limits; z7>1..10; 7 ok", "-"),
        ("no limits; z7>1..10; 7 err", "legal-request-failed"),
        ("d7>1,2,3; 7 ok", "too-many-segments-served"),
        ("no limits; d7>1,2,3; 7 ok", "-"),
        ("no limits; d7>1,2,3; 7 err", "legal-request-failed"),
        ("z7>99; 7 ok", "beyond-capacity-served"),
        ("z7>99..99; 7 ok", "-"),
    ]);
}
