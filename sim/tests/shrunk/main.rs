//! Shrinking of a failing seed: the length of the result, its meaning, and the condition that it
//! names.

mod found;
mod hangs_on;
mod table;

use std::sync::Mutex;

use found::Story;
use powerfail::devices::faulty::{DiskFault, Wrong, WrongDisk};
use powerfail::run::Replayed;
use powerfail::run::{Plan, run_number, run_seed, world};
use powerfail::shrink::{Effort, shrink};
use powerfail::trace::Signature;
use powerfail_model::Rule;
use table::SHORTEST;

/// Shrinks a failure for every row of the table, on two threads; in the order of the table.
fn stories() -> Vec<Story> {
    let rows = Mutex::new(SHORTEST.iter().enumerate());
    let stories = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some((at, &(name, rule, _))) = rows.lock().unwrap().next() else { break };
                    let wrong = Wrong::from_name(name).expect("a known name");
                    let story = Story::of(wrong, rule, 0);
                    stories.lock().unwrap().push((at, story));
                }
            });
        }
    });
    let mut stories = stories.into_inner().unwrap();
    stories.sort_by_key(|(at, _)| *at);
    stories.into_iter().map(|(_, story)| story).collect()
}

#[test]
fn everything_wrong_has_a_short_story() {
    std::panic::set_hook(Box::new(|_| {}));
    let stories = stories();
    let _ = std::panic::take_hook();
    let mut bad = Vec::new();
    println!(
        "{:26} {:>5} {:>5} {:>5} {:>5}  fails if and only if",
        "", "seed", "from", "to", "best"
    );
    for ((name, _, shortest), story) in SHORTEST.iter().zip(&stories) {
        let short = &story.short;
        let (from, to) = (short.from, short.actions.len());
        let only_if = short.only_if.as_deref().unwrap_or("-");
        println!("{name:26} {:5} {from:5} {to:5} {shortest:5}  {only_if}", story.seed);
        if to > shortest + 2 {
            bad.push(format!("{name} takes {to} actions, {shortest} would do"));
        }
        // Its fifth buffer is the first that lies in two regions of memory.
        let requests = if *name == "first-region-only" { 5 } else { 4 };
        if story.requests() > requests || story.faults() > 1 || story.crashes() > 1 {
            bad.push(format!(
                "{name} takes {} requests, {} faults and {} crashes",
                story.requests(),
                story.faults(),
                story.crashes()
            ));
        }
        if story.there != Replayed::Fails || story.here != Replayed::Passes {
            bad.push(format!("{name}: {:?} there and {:?} here", story.there, story.here));
        }
        if story.again != to {
            bad.push(format!("{name} has {to} actions, and shrunk again {}", story.again));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn everything_wrong_is_in_the_table() {
    let missing: Vec<&str> = Wrong::all()
        .map(Wrong::name)
        .filter(|name| !SHORTEST.iter().any(|(listed, ..)| listed == name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_failure_of_500_actions_is_shrunk_with_bounded_work() {
    let wrong = Wrong::from_name("writeback-not-reset").expect("a known name");
    let story = Story::of(wrong, Rule::WriteThroughLost, 500);
    assert!(story.short.from >= 500);
    assert!(story.short.actions.len() <= 12, "{:#?}", story.short.actions);
    assert!(story.short.replays <= 40_000, "{} replays", story.short.replays);
}

#[test]
fn the_result_is_the_same_for_any_number_of_threads() {
    let setup = DiskFault::SyncRetried;
    let plan = Plan::default();
    let mut world = world::<WrongDisk>(&setup, plan, 0);
    let mut shrunk = 0;
    for seed in 0..2000 {
        let mut actions = Vec::new();
        let verdict = run_seed(&mut world, plan, seed, |action| actions.push(*action));
        let Some(failure) = verdict.failure else { continue };
        let signature = Signature::of(&failure.violation);
        let shape = *world.shape();
        let on = |jobs| {
            let effort = Effort::plenty(jobs);
            let run = run_number(seed);
            let short = shrink::<WrongDisk>(&setup, shape, run, &actions, &signature, &effort);
            let short = short.expect("it replays");
            (short.actions, short.hash, short.only_if)
        };
        assert_eq!(on(1), on(3), "seed {seed}");
        shrunk += 1;
        if shrunk == 3 {
            return;
        }
    }
    panic!("only {shrunk} failures");
}

#[test]
fn a_budget_that_is_used_up_gives_what_there_is_and_shrinking_goes_on_from_there() {
    let setup = DiskFault::EarlyFlush;
    let plan = Plan::default();
    let mut world = world::<WrongDisk>(&setup, plan, 0);
    for seed in 0..2000 {
        let mut actions = Vec::new();
        let verdict = run_seed(&mut world, plan, seed, |action| actions.push(*action));
        let Some(failure) = verdict.failure else { continue };
        let signature = Signature::of(&failure.violation);
        let shape = *world.shape();
        let effort = Effort { replays: 3, ..Effort::plenty(1) };
        let run = run_number(seed);
        let part = shrink::<WrongDisk>(&setup, shape, run, &actions, &signature, &effort).unwrap();
        assert!(!part.complete && part.actions.len() <= actions.len());
        let plenty = Effort::plenty(1);
        let (shape, run, actions) = (part.shape, part.run, part.actions);
        let whole = shrink::<WrongDisk>(&setup, shape, run, &actions, &signature, &plenty).unwrap();
        assert!(whole.complete && whole.actions.len() <= 9, "{:#?}", whole.actions);
        return;
    }
    panic!("nothing fails");
}
