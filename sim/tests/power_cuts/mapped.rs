//! The shipped persistent memory keeps its promises on a mapped file under power cuts, and one with
//! wrong syncs does not.

use powerfail::devices::files::Files;
use powerfail::devices::pmem_file::{MapFault, Maps, PmemFile};
use powerfail::run::campaign::{Orders, Progress, campaign};
use powerfail::run::{Plan, run_seed, world};
use powerfail_model::Rule;
use tempfile::TempDir;

use crate::skipped;

/// Files for mapping, with power cuts; `None` without FUSE.
fn maps(fault: MapFault) -> Option<(Maps, TempDir)> {
    let place = tempfile::tempdir().expect("a place for files");
    let files = Files::mapped(place.path().join("memory"), true);
    Some((Maps { files: files.inspect_err(skipped).ok()?, fault }, place))
}

#[test]
fn flushed_stores_survive_a_thousand_cuts() {
    let Some((maps, place)) = maps(MapFault::None) else { return };
    let plan = Plan::default();
    let seeds = 1280;
    let orders = Orders { jobs: 2, keep_going: true, ..Orders::new(plan, seeds) };
    let report = campaign::<PmemFile<true>>(&maps, orders, &Progress::default(), |_| {});
    println!("{:?}", report.stats);
    for (signature, finding) in &report.findings {
        println!("{signature}: {} times, seed {}", finding.count, finding.seed);
    }
    assert!(report.divergence.is_none(), "not reproducible: {:?}", report.divergence);
    assert_eq!(report.failures, 0);
    let stats = report.stats;
    assert!(stats.volatile_losses >= 1000, "there was something to lose");
    assert!(stats.sectors_lost > 1000 && stats.sectors_kept > 1000, "and some of it survived");
    assert!(stats.kills > 0 && stats.resets > 0 && stats.failures > 0);
    drop(maps);
    let left = std::fs::read_dir(place.path()).expect("the place is there").count();
    assert_eq!(left, 0, "nothing stays that the run has made");
}

#[test]
fn a_mapping_that_is_not_synced_as_it_should_be_is_caught() {
    const PATIENCE: u64 = 200;
    for fault in [MapFault::NoSync, MapFault::FirstPageOnly, MapFault::OtherFile] {
        let Some((maps, _place)) = maps(fault) else { return };
        let plan = Plan::default();
        let mut world = world::<PmemFile<true>>(&maps, plan, 0);
        let caught = (0..PATIENCE).find_map(|seed| {
            let verdict = run_seed(&mut world, plan, seed, |_| {});
            verdict.failure.map(|failure| (seed, failure.violation.rule))
        });
        println!("{fault:?}: {caught:?}");
        let (_, rule) = caught.unwrap_or_else(|| panic!("{fault:?} passes {PATIENCE} seeds"));
        assert_eq!(rule, Rule::FlushedStoreLost, "{fault:?}");
    }
}

#[test]
fn a_mapped_file_without_power_cuts_shows_what_was_stored() {
    let place = tempfile::tempdir().expect("a place for files");
    let files = Files::mapped(place.path().join("memory"), false).expect("a file");
    let maps = Maps { files, fault: MapFault::None };
    let plan = Plan::default();
    let orders = Orders { jobs: 2, keep_going: true, ..Orders::new(plan, 512) };
    let report = campaign::<PmemFile<false>>(&maps, orders, &Progress::default(), |_| {});
    assert_eq!(report.failures, 0, "{:?}", report.findings);
    assert!(report.divergence.is_none() && report.stats.kills > 0);
}
