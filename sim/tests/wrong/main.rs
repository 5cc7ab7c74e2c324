//! Tests of the tester: every mutant is caught soon, by an expected rule; and every rule catches a
//! mutant.

mod hunt;
mod literal;

use std::sync::OnceLock;

use hunt::{Bag, everything};
use powerfail_model::Rule;

/// The number of catches of each mutant.
const CATCHES: u32 = 27;
/// The most seeds until a catch, at the median over the ranges.
const SOON: u64 = 1000;

/// Rules that no mutant breaks, and the reason.
const NOBODY_BREAKS: [(Rule, &str); 0] = [];

/// The clauses of the contract about persistence, each with a mutant that breaks only it.
const CLAUSES: [(&str, &str, Rule); 13] = [
    ("a flush promotes what completed before it", "early-flush", Rule::StableWriteLost),
    ("where FLUSH is refused a write is stable", "flush-refusal-ignored", Rule::FlushlessWriteLost),
    ("under writeback = 0 a write is stable", "writeback-ignored", Rule::WriteThroughLost),
    ("writeback is per life", "writeback-not-reset", Rule::WriteThroughLost),
    ("a failed sync promotes nothing", "sync-error-swallowed", Rule::StableWriteLost),
    ("a failed sync is not believed the next time", "sync-retried", Rule::StableWriteLost),
    ("nor across a reset", "failure-forgotten-at-reset", Rule::StableWriteLost),
    ("a write-zeroes is a write", "zeroes-not-synced", Rule::StableWriteLost),
    ("a discard ends at its completion", "late-discard", Rule::StaleRead),
    ("after a reset nothing lands", "late-after-reset", Rule::LateEffect),
    ("a reset keeps the data", "reset-drops-cache", Rule::StaleRead),
    ("a save makes stable what completed", "save-without-sync", Rule::StableWriteLost),
    ("a read fixes an unknown image", "image-flickers", Rule::ImageChanged),
];

/// The three rules of a lost stable write.
const LOST: [Rule; 3] = [Rule::StableWriteLost, Rule::WriteThroughLost, Rule::FlushlessWriteLost];

fn bags() -> &'static [Bag] {
    static BAGS: OnceLock<Vec<Bag>> = OnceLock::new();
    BAGS.get_or_init(|| {
        // Mutants may panic thousands of times.
        std::panic::set_hook(Box::new(|_| {}));
        let bags = everything(CATCHES);
        let _ = std::panic::take_hook();
        bags
    })
}

#[test]
fn everything_wrong_is_caught_soon_by_the_rule_that_should() {
    println!("{:26} {:>6} {:>6}  rules", "wrong", "median", "p95");
    let mut bad = Vec::new();
    for bag in bags() {
        let name = bag.wrong.name();
        println!("{name:26} {:6} {:6}  {}", bag.median(), bag.p95(), bag.listing());
        if bag.median() > SOON {
            bad.push(format!("{name} takes {} seeds", bag.median()));
        }
        let listed = bag.wrong.caught_by();
        let by = |rule: &Rule| listed.contains(rule);
        if !bag.usual().as_ref().is_some_and(by) {
            bad.push(format!("{name} is usually caught by {:?}", bag.usual()));
        }
        let odd: u32 = bag.rules.iter().filter(|(rule, _)| !by(rule)).map(|(_, n)| n).sum();
        if odd * 4 > bag.caught() {
            bad.push(format!("{name} is caught by another rule: {}", bag.listing()));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn every_rule_has_something_wrong_that_it_catches() {
    let mut decoration = Vec::new();
    for rule in Rule::ALL.iter().chain(Rule::OF_PMEM) {
        let why = NOBODY_BREAKS.iter().find(|(other, _)| other == rule).map(|(_, why)| why);
        let usually: Vec<&str> = bags()
            .iter()
            .filter(|bag| bag.usual() == Some(*rule))
            .map(|bag| bag.wrong.name())
            .collect();
        println!("{:26} {}{}", rule.name(), usually.join(", "), why.unwrap_or(&""));
        if usually.is_empty() != why.is_some() {
            decoration.push(rule.name());
        }
    }
    assert!(decoration.is_empty(), "rules without a wrong device: {decoration:?}");
}

#[test]
fn every_clause_about_persistence_is_held_by_one_rule() {
    for (clause, name, rule) in CLAUSES {
        let bag = bags().iter().find(|bag| bag.wrong.name() == name).expect("a known name");
        println!("{clause:44} {name:26} {}", bag.listing());
        // If FLUSH is not accepted, or in write-through mode, another rule names the same loss. A
        // reset that loses a write of zeroes reads as not zeroed.
        let kin = |other: &Rule| {
            *other == rule
                || (LOST.contains(&rule) && LOST.contains(other))
                || (rule == Rule::StaleRead && *other == Rule::NotZeroed)
        };
        assert!(bag.usual().as_ref().is_some_and(kin), "{clause}: {}", bag.listing());
        let by_kin: u32 = bag.rules.iter().filter(|(other, _)| kin(other)).map(|(_, n)| n).sum();
        let share = 100 * by_kin / bag.caught();
        assert!(share >= 50, "{clause}: {share} % by {}", rule.name());
    }
}
