//! The shipped device keeps its promises over many seeds, and the seeds reach the situations they
//! should.

use powerfail::devices::blk::Blk;
use powerfail::devices::blk_pmem::BlkPmem;
use powerfail::devices::pmem::Pmem;
use powerfail::dut::DeviceUnderTest;
use powerfail::guest::Kind;
use powerfail::run::Plan;
use powerfail::run::campaign::{Orders, Progress, Report, campaign};
use powerfail::schedule::Schedule;
use powerfail::schedule::options::Preset;
use powerfail::world::coverage::Situation;

fn run(preset: Preset, schedule: Schedule, seeds: u64) -> Report {
    run_on::<Blk>(&(), preset, schedule, seeds)
}

fn run_on<D: DeviceUnderTest>(
    setup: &D::Setup,
    preset: Preset,
    schedule: Schedule,
    seeds: u64,
) -> Report {
    let plan = Plan { preset, schedule, contract: None };
    let orders = Orders { jobs: 2, keep_going: true, ..Orders::new(plan, seeds) };
    let report = campaign::<D>(setup, orders, &Progress::default(), |_| {});
    println!("{preset} {schedule}: {:?}", report.stats);
    for (signature, finding) in &report.findings {
        println!("{signature}: {} times, seed {}", finding.count, finding.seed);
    }
    if let Some(divergence) = &report.divergence {
        panic!("not reproducible: {divergence:?}");
    }
    assert_eq!(report.failures, 0, "our device broke a promise, or the oracle is wrong");
    report
}

#[test]
fn a_hundred_thousand_seeds_are_silent_and_reach_every_situation() {
    let report = run(Preset::Swarm, Schedule::Uniform, 100_000);
    reached_everything(&report, <Blk>::KINDS);
    let stats = &report.stats;
    assert!(stats.requests >= 64 * stats.runs, "too few requests: {stats:?}");
    assert!(stats.power_losses >= stats.runs, "too few power losses: {stats:?}");
    assert!(stats.sectors_lost > 0 && stats.sectors_kept > 0);
}

fn reached_everything(report: &Report, kinds: [Kind; 2]) {
    for situation in Situation::of(kinds) {
        println!("{:>12}  {}", report.coverage.count(situation), situation.name());
    }
    let missing: Vec<Situation> = report.coverage.missing(kinds).collect();
    assert!(missing.is_empty(), "never reached: {missing:?}");
}

#[test]
fn a_persistent_memory_is_silent_and_reaches_every_situation() {
    let report = run_on::<Pmem>(&(), Preset::Swarm, Schedule::Uniform, 100_000);
    reached_everything(&report, Pmem::KINDS);
    run_on::<Pmem>(&(), Preset::Swarm, Schedule::Pct, 30_000);
    run_on::<Pmem>(&(), Preset::Calm, Schedule::Uniform, 10_000);
    run_on::<Pmem>(&(), Preset::Swarm, Schedule::Naive, 10_000);
    run_on::<Pmem>(&(), Preset::Bench, Schedule::Uniform, 5_000);
}

#[test]
fn a_disk_and_a_memory_of_one_guest_are_silent() {
    let report = run_on::<BlkPmem>(&(), Preset::Swarm, Schedule::Uniform, 30_000);
    reached_everything(&report, BlkPmem::KINDS);
    run_on::<BlkPmem>(&(), Preset::Swarm, Schedule::Pct, 10_000);
}

#[test]
fn orders_by_priority_are_silent() {
    run(Preset::Swarm, Schedule::Pct, 30_000);
}

#[test]
fn calm_and_naive_runs_are_silent() {
    run(Preset::Calm, Schedule::Uniform, 10_000);
    run(Preset::Swarm, Schedule::Naive, 10_000);
    run(Preset::Bench, Schedule::Uniform, 5_000);
}
