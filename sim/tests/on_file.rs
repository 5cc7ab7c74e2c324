//! The shipped device keeps its promises on a real file, with and without io_uring, and a mutant of
//! the file disk is caught there.

use powerfail::devices::blk_file::{BlkFile, FileLane};
use powerfail::devices::faulty::{DiskFault, FaultyDisk};
use powerfail::devices::files::Files;
use powerfail::run::campaign::{Orders, Progress, Report, campaign};
use powerfail::run::{Plan, run_seed, world};
use powerfail_device::host::{FileDisk, SerialUring};

fn run<L: FileLane>(fault: Option<DiskFault>, seeds: u64) -> Report {
    let place = tempfile::tempdir().expect("a place for files");
    let files = Files::new(place.path().join("disk")).expect("a file can be written");
    let plan = Plan::default();
    let orders = Orders { jobs: 2, keep_going: true, ..Orders::new(plan, seeds) };
    let report = campaign::<BlkFile<L, Option<FaultyDisk>>>(
        &(files, fault),
        orders,
        &Progress::default(),
        |_| {},
    );
    println!("{fault:?}: {:?}", report.stats);
    for (signature, finding) in &report.findings {
        println!("{signature}: {} times, seed {}", finding.count, finding.seed);
    }
    assert!(report.divergence.is_none(), "not reproducible: {:?}", report.divergence);
    report
}

fn passes<L: FileLane>() {
    let report = run::<L>(None, 500);
    assert_eq!(report.failures, 0);
    assert!(report.stats.kills >= 500, "a run without power losses has backends that die");
    assert!(report.stats.resets > 0);
}

#[test]
fn five_hundred_seeds_pass_on_a_file() {
    passes::<FileDisk>();
}

#[test]
fn five_hundred_seeds_pass_over_io_uring() {
    passes::<SerialUring>();
}

#[test]
fn wrong_file_disks_are_noticed() {
    for fault in [
        DiskFault::MisdirectedUp,
        DiskFault::MisdirectedDown,
        DiskFault::CutShort,
        DiskFault::DroppedWrite,
    ] {
        assert!(run::<FileDisk>(Some(fault), 200).failures > 10, "{} passes", fault.name());
    }
}

#[test]
fn a_wrong_disk_over_io_uring_is_noticed() {
    assert!(run::<SerialUring>(Some(DiskFault::DroppedWrite), 200).failures > 10);
}

#[test]
fn a_file_and_a_ring_come_to_the_same() {
    let place = tempfile::tempdir().expect("a place for files");
    let files = |name: &str| (Files::new(place.path().join(name)).expect("a file"), ());
    let (file, ring) = (files("file"), files("ring"));
    let plan = Plan::default();
    let mut on_file = world::<BlkFile>(&file, plan, 0);
    let mut on_ring = world::<BlkFile<SerialUring>>(&ring, plan, 0);
    for seed in 0..100 {
        let hash = run_seed(&mut on_file, plan, seed, |_| {}).hash;
        assert_eq!(run_seed(&mut on_ring, plan, seed, |_| {}).hash, hash, "seed {seed}");
    }
}

#[test]
fn a_cloned_world_has_files_of_its_own() {
    let place = tempfile::tempdir().expect("a place for files");
    let files = (Files::new(place.path().join("disk")).expect("a file can be written"), ());
    let plan = Plan::default();
    let mut one = world::<BlkFile>(&files, plan, 0);
    let mut other = one.clone();
    for seed in 0..20 {
        let hash = run_seed(&mut one, plan, seed, |_| {}).hash;
        assert_eq!(run_seed(&mut other, plan, seed, |_| {}).hash, hash);
    }
    drop((one, other, files));
    let left = std::fs::read_dir(place.path()).expect("the place is there").count();
    assert_eq!(left, 0, "nothing stays that the run has made");
}
