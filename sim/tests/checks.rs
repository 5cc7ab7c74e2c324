//! `powerfail::check`: what the tests of another project's device see.

use std::panic::{AssertUnwindSafe, catch_unwind};

use powerfail::check;
use powerfail::devices::blk::Blk;
use powerfail::devices::faulty::{Wrong, WrongDisk};
use powerfail::dut::Rule;
use powerfail::run::{Replayed, judge};
use powerfail::schedule::options::Preset;
use powerfail::world::World;

/// The set-up of a mutant of the disk.
fn wrong(name: &str) -> <WrongDisk as powerfail::dut::DeviceUnderTest>::Setup {
    match Wrong::from_name(name) {
        Some(Wrong::Disk(fault)) => fault,
        _ => panic!("{name} is no disk"),
    }
}

/// What an assertion panics with.
fn said(assertion: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(assertion)).expect_err("it holds");
    panic.downcast_ref::<String>().expect("a message").clone()
}

#[test]
fn a_correct_device_is_silent() {
    let checked = check::<Blk>((), 2_000).run();
    checked.assert_silent();
    assert_eq!(checked.seeds, 2_000);
    assert!(checked.losses.unwrap() > 1_000, "{:?}", checked.losses);
}

#[test]
fn the_message_is_the_story_and_a_trace_that_replays() {
    let check = check::<WrongDisk>(wrong("early-flush"), 2_000).preset(Preset::Bench);
    let message = said(|| check.assert_silent());
    for part in ["VIOLATED", "power loss", "It fails if and only if", "replay_dir"] {
        assert!(message.contains(part), "no `{part}` in:\n{message}");
    }
    let at = message.find("\npowerfail trace").expect("a trace") + 1;
    let trace: powerfail::trace::Trace = message[at..].parse().expect("it is whole");
    let mut world = World::<WrongDisk>::new(wrong("early-flush"), trace.shape, trace.run);
    assert_eq!(judge(&mut world, &trace).replayed, Replayed::Fails);
    let mut world = World::<Blk>::new((), trace.shape, trace.run);
    assert_eq!(judge(&mut world, &trace).replayed, Replayed::Passes);
}

#[test]
fn the_result_does_not_depend_on_the_number_of_threads() {
    let found = |jobs| {
        let check = check::<WrongDisk>(wrong("early-flush"), 2_000).jobs(jobs);
        check.assert_finds(Rule::StableWriteLost).to_string()
    };
    assert_eq!(found(1), found(3));
}

#[test]
fn a_wanted_finding_is_looked_for_past_others() {
    let check = check::<WrongDisk>(wrong("early-flush"), 4_000);
    let first = check.run().findings[0].signature.rule;
    let finding = check.assert_finds(Rule::StableWriteLost);
    assert_eq!(finding.signature.rule, Rule::StableWriteLost);
    let message = said(|| {
        check.assert_finds(Rule::WrongIdentity);
    });
    assert!(message.starts_with("4000 seeds do not break `wrong-identity`, but "), "{message}");
    assert!(message.contains(first.name()), "{message}");
    let message = said(|| {
        check.run().assert_finds(Rule::WrongIdentity);
    });
    assert!(message.contains("was not broken; found: ["), "{message}");
}

#[test]
fn runs_that_measure_nothing_are_not_silent() {
    // A seed whose power losses hit nothing volatile.
    let seed = (0..2_000).find(|&seed| check::<Blk>((), 1).from(seed).run().losses == Some(0));
    let check = check::<Blk>((), 1).from(seed.expect("there is one"));
    let message = said(|| check.assert_silent());
    assert_eq!(message, "not measured: in 1 seeds no power loss hit volatile data");
}
