//! Histories of a persistent memory in a small language, each with the rule that it breaks or `-`.
//!
//! Events are named by number. `s7@2` stores `w7` to word 2, `s7@2..4` to words 2 and 3; `?2=w7` is
//! a load. `f7` submits a flush, `t7:5` a request of type 5, `m7` a malformed one; `7=0`, `7=-1`,
//! `7=1` and `7=none` are their responses. `F7` submits a flush that returns 0 at once. `POWER`,
//! `RESET` and `KILL` end a life and begin the next; `fail` begins one in which the host may fail.
//! Only the last step may break a rule.

use powerfail_model::{
    Atom, Content, Observed, PmemOracle, PmemRequest, Profile, RequestId, Rule, Violation,
};

const WORDS: u32 = 8;

/// Checks every history against the rule that it breaks.
fn table(rows: &[(&str, &str)]) {
    for (history, broken) in rows {
        check(Profile::Strict, history, broken);
    }
}

fn check(profile: Profile, history: &str, broken: &str) {
    let found = play(profile, history).err();
    let rule = found.as_ref().map_or("-", |violation| violation.rule.name());
    assert_eq!(rule, broken, "{history}: {found:#?}");
}

fn play(profile: Profile, history: &str) -> Result<(), Violation> {
    let mut oracle = PmemOracle::new(profile, WORDS);
    oracle.begin_life(false);
    let (mut may_fail, mut spare) = (false, 1000);
    let mut told = Ok(());
    for step in history.split(';').map(str::trim) {
        // Many histories contain a failed flush although they test something else.
        let harmless = |violation: &Violation| violation.rule == Rule::LegalFlushFailed;
        assert!(told.as_ref().err().is_none_or(harmless), "{history}: {told:?} before {step}");
        may_fail |= step == "fail";
        told = if ends_life(&mut oracle, step) {
            oracle.begin_life(may_fail);
            Ok(())
        } else {
            event(&mut oracle, step, &mut spare)
        };
    }
    told
}

fn ends_life(oracle: &mut PmemOracle, step: &str) -> bool {
    match step {
        "POWER" => oracle.power_loss().expect("never wrong by itself"),
        "RESET" | "fail" => oracle.reset_shown(),
        "KILL" => oracle.backend_kill(),
        _ => return false,
    }
    true
}

fn event(oracle: &mut PmemOracle, step: &str, spare: &mut u32) -> Result<(), Violation> {
    if step == "QUIET" {
        return oracle.quiesce();
    }
    let (what, rest) = step.split_at(1);
    if what == "?" {
        let (word, seen) = rest.split_once('=').expect("?word=content");
        *spare += 1;
        return oracle.load(RequestId(*spare), Atom(number(word)), &[observed(seen)]);
    }
    if let Some((id, ret)) = step.split_once('=') {
        let ret = match ret {
            "none" => None,
            ret => Some(ret.parse::<i32>().expect("a number").cast_unsigned()),
        };
        return oracle.complete(named(id), ret);
    }
    match what {
        "s" => {
            let (id, words) = rest.split_once('@').expect("id@word");
            let (first, end) = match words.split_once("..") {
                Some((first, end)) => (number(first), number(end)),
                None => (number(words), number(words) + 1),
            };
            oracle.store(named(id), Atom(first), end - first);
        }
        "f" | "F" => oracle.submit(named(rest), PmemRequest::Flush),
        "t" => {
            let (id, kind) = rest.split_once(':').expect("id:type");
            oracle.submit(named(id), PmemRequest::Other(number(kind)));
        }
        "m" => oracle.submit(named(rest), PmemRequest::Malformed),
        _ => panic!("{step} is no event"),
    }
    if what == "F" { oracle.complete(named(rest), Some(0)) } else { Ok(()) }
}

fn number(text: &str) -> u32 {
    text.parse().expect("a number")
}

fn named(text: &str) -> RequestId {
    RequestId(number(text))
}

fn observed(text: &str) -> Observed {
    match text {
        "torn" => Observed::Torn,
        "garbage" => Observed::Garbage,
        "initial" => Observed::Content(Content::INITIAL),
        text => Observed::Content(Content::of(named(text.strip_prefix('w').expect("wN")))),
    }
}

#[test]
fn a_flush_covers_what_was_visible_before_it_was_submitted() {
    table(&[
        ("s7@2; F8; POWER; ?2=w7", "-"),
        ("s7@2; F8; POWER; ?2=initial", "flushed-store-lost"),
        ("s7@2; POWER; ?2=initial", "-"),
        ("s7@2; POWER; ?2=w7", "-"),
        // A store after the submission may be covered, but need not be.
        ("f8; s7@2; 8=0; POWER; ?2=initial", "-"),
        ("f8; s7@2; 8=0; POWER; ?2=w7", "-"),
        ("s6@2; f8; s7@2; 8=0; POWER; ?2=w6", "-"),
        ("s6@2; f8; s7@2; 8=0; POWER; ?2=w7", "-"),
        ("s6@2; f8; s7@2; 8=0; POWER; ?2=initial", "flushed-store-lost"),
        // The latest-submitted flush counts, in any order of responses.
        ("s5@2; f8; s6@2; f9; 9=0; 8=0; POWER; ?2=w5", "flushed-store-lost"),
        ("s5@2; f8; s6@2; f9; 8=0; POWER; ?2=w5", "-"),
        ("s5@2; f8; s6@2; f9; 8=0; POWER; ?2=w6", "-"),
        ("s5@2; f8; POWER; ?2=initial", "-"),
        // Each word of a store is independent, and no other word is affected.
        ("s7@2..4; POWER; ?2=w7; ?3=initial", "-"),
        ("s7@2..4; F8; POWER; ?3=initial", "flushed-store-lost"),
        ("s7@2; F8; s9@3; POWER; ?3=initial", "-"),
        ("s7@2; F8; s9@3; POWER; ?2=initial", "flushed-store-lost"),
        ("s7@2; POWER; ?3=garbage", "never-written"),
        ("s7@2; POWER; ?2=torn", "torn-atom"),
    ]);
}

#[test]
fn a_power_loss_leaves_a_content_since_the_last_flush() {
    table(&[
        ("s5@2; F6; s7@2; s8@2; s9@2; POWER; ?2=w5", "-"),
        ("s5@2; F6; s7@2; s8@2; s9@2; POWER; ?2=w8", "-"),
        ("s4@2; s5@2; F6; s7@2; POWER; ?2=w4", "flushed-store-lost"),
        ("s7@2; POWER; ?2=w7; ?2=initial", "image-changed"),
        ("s7@2; POWER; POWER; ?2=initial", "-"),
        ("s7@2; POWER; ?2=w7; POWER; ?2=initial", "untouched-changed"),
        ("s7@2; POWER; s8@2; F9; POWER; ?2=w7", "flushed-store-lost"),
    ]);
}

#[test]
fn a_load_returns_the_last_store_and_makes_nothing_stable() {
    table(&[
        ("s7@2; ?2=w7", "-"),
        ("s7@2; ?2=initial", "stale-load"),
        ("s7@2; s8@2; ?2=w7", "stale-load"),
        ("s7@2; ?2=w7; POWER; ?2=initial", "-"),
        ("s7@2; ?3=w7", "never-written"),
    ]);
}

#[test]
fn a_reset_and_a_kill_change_nothing() {
    for end in ["RESET", "KILL"] {
        let row = |steps: &str, broken| {
            check(Profile::Strict, &steps.replace("END", end), broken);
        };
        row("s7@2; END; ?2=w7", "-");
        row("s7@2; END; ?2=initial", "stale-load");
        row("s7@2; END; POWER; ?2=initial", "-");
        row("s7@2; END; F8; POWER; ?2=initial", "flushed-store-lost");
        row("s7@2; F8; END; POWER; ?2=initial", "flushed-store-lost");
        row("s7@2; f8; END; POWER; ?2=initial", "-");
        row("f8; END; 8=0", "used-after-end");
    }
}

#[test]
fn by_the_letter_a_reset_may_lose_what_was_not_flushed() {
    for (history, broken) in [
        ("s7@2; RESET; ?2=initial", "-"),
        ("s7@2; RESET; ?2=w7", "-"),
        // The Literal profile does not require data that was not stable to survive a reset.
        ("s7@2; RESET; ?2=initial; ?2=w7", "-"),
        ("s7@2; F8; RESET; ?2=initial", "stale-load"),
        ("s7@2; RESET; ?2=w7; POWER; ?2=initial", "-"),
        ("s7@2; RESET; s9@2; F8; POWER; ?2=w7", "flushed-store-lost"),
        ("s7@2; ?2=initial", "stale-load"),
        ("t8:5; 8=0", "-"),
        ("f8; 8=1", "no-such-return"),
    ] {
        check(Profile::Literal, history, broken);
    }
}

#[test]
fn a_flush_that_failed_promotes_nothing_and_binds_the_next() {
    table(&[
        ("fail; s7@2; f8; 8=-1; POWER; ?2=initial", "-"),
        ("fail; s7@2; f8; 8=-1; F9; POWER; ?2=initial", "flushed-store-lost"),
        ("fail; s7@2; f8; 8=-1; RESET; F9; POWER; ?2=initial", "flushed-store-lost"),
        ("fail; s7@2; f8; 8=-1; s10@2; F9; POWER; ?2=w7", "flushed-store-lost"),
        ("fail; s7@2; f8; 8=-1; s10@2; F9; POWER; ?2=w10", "-"),
        // Data that was not stable may fall back until it is stored again.
        ("fail; s7@2; f8; 8=-1; ?2=initial", "-"),
        ("fail; s7@2; f8; 8=-1; s10@2; ?2=w7", "stale-load"),
        ("fail; s7@2; F8; f9; 9=-1; ?2=initial", "stale-load"),
        ("fail; s7@2; f8; 8=0; ?2=initial", "stale-load"),
        // The content of a killed backend may differ from that of the medium.
        ("fail; s7@2; f8; 8=-1; KILL; ?2=initial", "-"),
        ("fail; s7@2; f8; 8=-1; KILL; ?2=w7; ?2=initial", "image-changed"),
        // A healthy host is no excuse.
        ("f8; 8=-1", "legal-flush-failed"),
    ]);
}

#[test]
fn a_request_returns_0_or_minus_1_and_an_unknown_type_never_0() {
    table(&[
        ("f8; 8=0", "-"),
        ("fail; f8; 8=1", "no-such-return"),
        ("f8; 8=1", "no-such-return"),
        ("f8; 8=none", "no-such-return"),
        ("t8:1; 8=-1", "-"),
        ("t8:1; 8=0", "unknown-pmem-type-served"),
        ("t8:4; 8=2", "no-such-return"),
        ("t8:4; 8=none", "no-such-return"),
        ("s7@2; t8:4; 8=-1; POWER; ?2=initial", "-"),
        ("m8; 8=none", "-"),
        ("m8; 8=-1", "-"),
        ("s7@2; m8; 8=0; POWER; ?2=initial", "-"),
        ("f8; 8=0; 8=0", "used-twice"),
        ("9=0", "used-unpublished"),
        ("f8; QUIET", "never-used"),
        ("f8; 8=0; QUIET", "-"),
    ]);
}

#[test]
fn every_rule_of_a_persistent_memory_is_broken_by_some_history_here() {
    let source = include_str!("stores.rs");
    for rule in Rule::OF_PMEM {
        // The location of the memory is in registers, which the oracle does not see.
        let seen = *rule != Rule::RegionUntrue;
        let broken = source.contains(&format!("\"{}\")", rule.name()));
        assert_eq!(broken, seen, "{}", rule.name());
        assert_eq!(Rule::from_name(rule.name()), Some(*rule));
        assert!(!Rule::ALL.contains(rule), "{rule:?} is no rule of a disk");
    }
}

#[test]
fn a_violation_reads_as_one_of_a_memory() {
    let says = |history| play(Profile::Strict, history).expect_err("wrong").to_string();
    assert_eq!(says("s7@2; F8; POWER; ?2=initial"), "Word 2 must hold w7. It holds initial.");
    assert_eq!(
        says("t8:4; 8=0"),
        "A request of an unknown type must not return 0; it happened at request 8. It returned 0."
    );
    assert_eq!(
        says("f8; 8=1"),
        "A request must return 0 or -1; it happened at request 8. It returned 1."
    );
}

#[test]
fn no_type_of_a_memory_is_that_of_a_block_device() {
    // Every number that a block device gives a meaning, the zone requests among them.
    for number in 1..32 {
        for (ret, rule) in [(u32::MAX, None), (0, Some(Rule::UnknownPmemTypeServed))] {
            let mut oracle = PmemOracle::new(Profile::Strict, 4);
            oracle.begin_life(false);
            oracle.submit(RequestId(1), PmemRequest::Other(number));
            let told = oracle.complete(RequestId(1), Some(ret));
            assert_eq!(told.err().map(|violation| violation.rule), rule, "{number}");
        }
    }
}
