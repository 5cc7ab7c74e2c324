//! The seam for devices of other projects.

mod chooser;
mod device;
mod worker;

use chooser::Chooser;
use device::{Quirk, Tiny};
use powerfail::check;
use powerfail::dut::Rule;
use powerfail::run::{Replayed, judge};
use powerfail::schedule::Schedule;
use powerfail::trace::Trace;
use powerfail::world::{Reach, World};
use worker::{Slip, Worker};

use powerfail::world::action::Action;
use powerfail::world::coverage::Situation;

const SEEDS: u64 = 4_000;

/// The rule, the note and the kind of the first finding.
fn first(quirk: Quirk) -> (Rule, String) {
    let checked = check::<Tiny>(quirk, SEEDS).run();
    let finding = checked.findings.first().expect("a finding");
    (finding.signature.rule, finding.story.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[test]
fn a_failure_without_a_report_is_no_excuse_even_where_the_host_may_fail() {
    let (rule, story) = first(Quirk::Fails);
    assert_eq!(rule, Rule::LegalRequestFailed);
    assert!(story.contains("The device had reported no failed sync"), "{story}");
}

#[test]
fn a_reported_failure_excuses_the_requests_that_were_outstanding() {
    check::<Tiny>(Quirk::FailsAndReports, SEEDS).assert_silent();
}

#[test]
fn a_reported_failure_does_not_excuse_requests_sent_later() {
    assert_eq!(first(Quirk::FailsLater).0, Rule::LegalRequestFailed);
}

#[test]
fn a_reported_sync_failure_excuses_what_follows() {
    check::<Tiny>(Quirk::SyncFails, SEEDS).assert_silent();
}

#[test]
fn a_device_wraps_its_rings_unless_it_says_that_it_cannot() {
    let wrapped = |report: &powerfail::run::campaign::Report| {
        report.coverage.count(Situation::UsedWrapped) > 0
    };
    let checked = check::<Tiny>(Quirk::None, SEEDS).run();
    checked.assert_silent();
    assert!(wrapped(&checked.report));
    // A device that ignores the start index is found, not spared.
    assert!(!check::<Tiny>(Quirk::StartsAtZero, SEEDS).run().findings.is_empty());
    let checked = check::<Tiny<false>>(Quirk::StartsAtZero, SEEDS).run();
    checked.assert_silent();
    assert!(!wrapped(&checked.report));
}

#[test]
fn what_a_device_cannot_reach_is_told_from_what_was_not_reached() {
    let report = check::<Tiny<false>>(Quirk::None, SEEDS).run().report;
    let reach = Reach::of::<Tiny<false>>(&report.stats);
    let lack = |wanted| reach.situations().find(|(situation, _)| *situation == wanted).unwrap().1;
    assert_eq!(lack(Situation::DiskFull), Some("the simulated disk"));
    assert_eq!(lack(Situation::QueuePlacedSmaller), Some("the reset of one queue"));
    assert_eq!(lack(Situation::RowG), Some("a feature that it never offers"));
    let base = lack(Situation::UsedWrapped).expect("it says so");
    assert!(base.contains("RING_BASE"), "{base}");
    assert_eq!(lack(Situation::RowA), None);
    for (situation, lack) in reach.situations() {
        let count = report.coverage.count(situation);
        assert!(lack.is_none() || count == 0, "{situation:?} needs {lack:?} and has {count}");
    }
}

#[test]
fn our_own_device_lacks_nothing() {
    use powerfail::devices::blk::Blk;
    let report = check::<Blk>((), 2_000).run().report;
    let lacks = Reach::of::<Blk>(&report.stats).situations().find(|(_, lack)| lack.is_some());
    assert_eq!(lacks, None);
}

#[test]
fn a_panic_of_the_device_is_a_finding() {
    let (rule, story) = first(Quirk::Panics);
    assert_eq!(rule, Rule::DevicePanicked);
    assert!(story.contains("the third step"), "{story}");
}

#[test]
fn choices_of_a_device_are_drawn_and_reach_every_outcome() {
    let checked = check::<Chooser>(false, SEEDS).run();
    checked.assert_silent();
    assert!(checked.report.stats.volatile_losses > 1_000);
}

#[test]
fn a_choice_that_leads_to_a_failure_is_recorded_shrunk_and_replayed() {
    let finding = check::<Chooser>(true, SEEDS).assert_finds(Rule::StaleRead);
    let choices: Vec<String> = finding
        .trace
        .actions
        .iter()
        .filter(|action| matches!(action, Action::Choose { .. }))
        .map(ToString::to_string)
        .collect();
    assert_eq!(choices, ["choose a 42"], "{}", finding.trace);
    assert!(finding.story.contains("drops the write"), "{}", finding.story);

    let read: Trace = finding.trace.to_string().parse().unwrap();
    let replayed = |trace: &Trace| {
        judge(&mut World::<Chooser>::new(true, trace.shape, trace.run), trace).replayed
    };
    assert_eq!(replayed(&read), Replayed::Fails);
    let mut without = read;
    without.actions.retain(|action| !matches!(action, Action::Choose { .. }));
    assert_eq!(replayed(&without), Replayed::Passes);
}

#[test]
fn a_device_that_chooses_must_say_so() {
    let checked = check::<Chooser<false>>(true, SEEDS).run();
    let finding = &checked.findings[0];
    assert_eq!(finding.signature.rule, Rule::DevicePanicked);
    assert!(finding.story.contains("CHOOSES"), "{}", finding.story);
}

#[test]
fn background_work_is_scheduled_until_everything_is_answered() {
    for schedule in [Schedule::Uniform, Schedule::Pct, Schedule::Naive] {
        check::<Worker>(Slip::None, SEEDS).schedule(schedule).assert_silent();
    }
}

#[test]
fn a_mistake_of_background_work_is_found() {
    let finding = check::<Worker>(Slip::Skips, SEEDS).assert_finds(Rule::StaleRead);
    let read: Trace = finding.trace.to_string().parse().unwrap();
    let mut world = World::<Worker>::new(Slip::Skips, read.shape, read.run);
    assert_eq!(judge(&mut world, &read).replayed, Replayed::Fails);
    let _ = check::<Worker>(Slip::Sleeps, SEEDS).assert_finds(Rule::NeverUsed);
    let finding = check::<Worker>(Slip::Signals, SEEDS).assert_finds(Rule::DevicePanicked);
    assert!(finding.story.contains("no queue to signal"), "{}", finding.story);
}

#[test]
fn a_slow_reset_is_busy_and_an_endless_one_is_broken() {
    check::<Worker>(Slip::SlowReset(1_000), SEEDS / 4).assert_silent();
    let _ = check::<Worker>(Slip::SlowReset(u32::MAX), SEEDS).assert_finds(Rule::ResetNotShown);
}
