//! The condition of a failure: the sentence, and the same change made by hand.

use powerfail::base::sectors::SectorSet;
use powerfail::devices::faulty::{Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::dut::DeviceUnderTest;
use powerfail::guest::wire::feature;
use powerfail::host::disk::Outcome;
use powerfail::run::replay;
use powerfail::world::World;
use powerfail::world::action::Action;
use powerfail_model::Rule;

use crate::found::Story;

/// Whether actions break a promise on a mutant.
fn fails(wrong: Wrong, story: &Story, actions: &[Action]) -> bool {
    fn on<D: DeviceUnderTest>(setup: D::Setup, story: &Story, actions: &[Action]) -> bool {
        let (shape, run) = (story.short.shape, story.short.run);
        let mut world = World::<D>::new(setup, shape, run);
        replay(&mut world, shape, run, actions, |_| {}).failure.is_some()
    }
    match wrong {
        Wrong::Disk(fault) => on::<WrongDisk>(fault, story, actions),
        Wrong::Device(fault) => on::<WrongDevice>(fault, story, actions),
        Wrong::Memory(fault) => on::<WrongMemory>(fault, story, actions),
    }
}

/// Checks the sentence, that the run fails without the change, and that it passes with it.
fn check(name: &str, rule: Rule, says: &str, change: impl Fn(&mut Vec<Action>)) {
    let wrong = Wrong::from_name(name).expect("a known name");
    let story = Story::of(wrong, rule, 0);
    assert_eq!(story.short.only_if.as_deref(), Some(says), "{name}");
    let mut actions = story.short.actions.clone();
    assert!(fails(wrong, &story, &actions), "{name} as it is");
    change(&mut actions);
    assert_ne!(actions, story.short.actions, "{name}: the change changes nothing");
    assert!(!fails(wrong, &story, &actions), "{name} with the change");
}

fn position(actions: &[Action], is: impl Fn(&Action) -> bool) -> usize {
    actions.iter().position(is).expect("the story has such a line")
}

#[test]
fn a_flush_sent_before_the_write_came_back_promises_nothing() {
    let says = "z1 is answered before f2 is sent";
    check("early-flush", Rule::StableWriteLost, says, |actions| {
        let wait = position(actions, |a| matches!(a, Action::Await { id: 1, .. }));
        actions.swap(wait, wait + 1);
    });
}

#[test]
fn a_sync_that_does_not_fail_loses_nothing() {
    check("sync-retried", Rule::StableWriteLost, "the host's sync fails", |actions| {
        for action in actions {
            if let Action::Complete { outcome, .. } = action {
                *outcome = Outcome::Ok { landed: SectorSet::EMPTY };
            }
        }
    });
}

#[test]
fn a_guest_that_accepts_flush_is_owed_less() {
    let says = "the guest does not accept flush";
    check("flush-refusal-ignored", Rule::FlushlessWriteLost, says, |actions| {
        if let Action::Start { accept, .. } = &mut actions[0] {
            *accept |= feature::FLUSH;
        }
    });
}

#[test]
fn a_guest_that_leaves_the_cache_mode_alone_is_owed_less() {
    let says = "the guest sets writeback to 0";
    check("writeback-ignored", Rule::WriteThroughLost, says, |actions| {
        actions.retain(|action| !matches!(action, Action::Writeback { .. }));
    });
}

#[test]
fn what_a_reset_drops_stays_without_one() {
    check("reset-drops-cache", Rule::StaleRead, "the device is reset", |actions| {
        let reset = position(actions, |a| matches!(a, Action::Reset { .. }));
        let start = position(&actions[reset..], |a| matches!(a, Action::Start { .. })) + reset;
        actions.remove(start);
        actions.remove(reset);
    });
}

#[test]
fn a_read_sent_before_the_zeroes_were_written_may_see_what_was_there() {
    let says = "z1 is answered before r2 is sent";
    check("zeroes-nothing", Rule::NotZeroed, says, |actions| {
        let wait = position(actions, |a| matches!(a, Action::Await { id: 1, .. }));
        actions.swap(wait, wait + 1);
    });
}
