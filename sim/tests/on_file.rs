//! Our device keeps its promises on a real file too, and a wrong file disk is noticed there.

use powerfail::campaign::{Gauge, Orders, Report, campaign};
use powerfail::on_file::{Files, OnFile};
use powerfail::run::{Plan, run_seed, world};
use powerfail::wrong::DiskFault;

fn run(fault: Option<DiskFault>, seeds: u64) -> Report {
    let place = tempfile::tempdir().expect("a place for files");
    let files = Files::new(place.path().join("disk"), fault).expect("a file can be written");
    let plan = Plan::default();
    let orders = Orders { plan, from: 0, seeds, jobs: 2, limit: None, keep_going: true };
    let report = campaign::<OnFile>(&files, orders, &Gauge::default(), |_| {});
    println!("{fault:?}: {:?}", report.stats);
    for (signature, finding) in &report.findings {
        println!("{signature}: {} times, seed {}", finding.count, finding.seed);
    }
    assert!(report.divergence.is_none(), "not reproducible: {:?}", report.divergence);
    report
}

#[test]
fn five_hundred_seeds_pass_on_a_file() {
    let report = run(None, 500);
    assert_eq!(report.failures, 0);
    assert!(report.stats.kills >= 500, "a run without power losses has backends that die");
    assert!(report.stats.resets > 0);
}

#[test]
fn wrong_file_disks_are_noticed() {
    for fault in [
        DiskFault::MisdirectedUp,
        DiskFault::MisdirectedDown,
        DiskFault::CutShort,
        DiskFault::DroppedWrite,
    ] {
        assert!(run(Some(fault), 200).failures > 10, "{} passes", fault.name());
    }
}

#[test]
fn a_cloned_world_has_files_of_its_own() {
    let place = tempfile::tempdir().expect("a place for files");
    let files = Files::new(place.path().join("disk"), None).expect("a file can be written");
    let plan = Plan::default();
    let mut one = world::<OnFile>(&files, plan, 0);
    let mut other = one.clone();
    for seed in 0..20 {
        let hash = run_seed(&mut one, plan, seed, |_| {}).hash;
        assert_eq!(run_seed(&mut other, plan, seed, |_| {}).hash, hash);
    }
    drop((one, other, files));
    let left = std::fs::read_dir(place.path()).expect("the place is there").count();
    assert_eq!(left, 0, "nothing stays that the run has made");
}
