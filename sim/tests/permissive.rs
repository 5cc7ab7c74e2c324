//! Legal behaviour that looks wrong: the oracle reports no violation.
//!
//! The permissive device uses every liberty of the contract, over 100,000 seeds. Each liberty
//! alone, on an otherwise plain device, runs over fewer seeds. `POWERFAIL_SEEDS=200000` sets
//! another number for each run that has to be silent.

use powerfail::devices::permissive::{
    Liberty, LiteralDevice, LiteralMemory, MemoryLiberty, PermissiveDevice, PermissiveMemory,
};
use powerfail::dut::{DeviceUnderTest, Profile};
use powerfail::run::Plan;
use powerfail::run::campaign::{Orders, Progress, Report, campaign};
use powerfail::schedule::Schedule;
use powerfail::schedule::options::Preset;
use powerfail::world::coverage::Situation;

/// Situations that a run of the permissive device reaches often.
const REACHED: [Situation; 5] = [
    Situation::FlushOvertakesWrite,
    Situation::CrashWithThreeLoose,
    Situation::OverlapOnTwoQueues,
    Situation::DiscardUnderWrite,
    Situation::WritebackInFlight,
];

/// How many seeds a silent run takes: what `POWERFAIL_SEEDS` says, or `default`.
fn seeds(default: u64) -> u64 {
    match std::env::var("POWERFAIL_SEEDS") {
        Ok(text) => text.parse().expect("POWERFAIL_SEEDS is a number"),
        Err(_) => default,
    }
}

/// Runs seeds and returns the violations, one line for each kind.
fn heard(liberty: Option<Liberty>, preset: Preset, schedule: Schedule, seeds: u64) -> Vec<String> {
    let (report, said) = heard_of::<PermissiveDevice>(liberty, preset, schedule, seeds);
    if liberty.is_none() && schedule == Schedule::Uniform {
        for situation in REACHED {
            assert!(report.coverage.count(situation) > 1000, "too tame: {}", situation.name());
        }
    }
    said
}

fn heard_of<D: DeviceUnderTest>(
    liberty: D::Setup,
    preset: Preset,
    schedule: Schedule,
    seeds: u64,
) -> (Report, Vec<String>) {
    heard_by::<D>(liberty, Plan { preset, schedule, contract: None }, seeds)
}

/// Runs seeds, judged by a contract, and returns what the oracle said.
fn heard_by<D: DeviceUnderTest>(
    liberty: D::Setup,
    plan: Plan,
    seeds: u64,
) -> (Report, Vec<String>) {
    let Plan { preset, schedule, .. } = plan;
    let orders = Orders { jobs: 2, keep_going: true, ..Orders::new(plan, seeds) };
    let report = campaign::<D>(&liberty, orders, &Progress::default(), |_| {});
    assert!(report.divergence.is_none(), "not reproducible: {:?}", report.divergence);
    let stats = &report.stats;
    println!(
        "{liberty:?} {preset} {schedule}: {} runs, {} requests, {} power losses, {} failures heard",
        stats.runs, stats.requests, stats.power_losses, report.failures
    );
    let finding = |(signature, finding): (_, &powerfail::run::campaign::Finding)| {
        format!("{signature}: {} times, seed {}", finding.count, finding.seed)
    };
    let said = report.findings.iter().map(finding).collect();
    (report, said)
}

#[test]
fn the_oracle_is_silent_about_the_permissive_device() {
    let uniform = heard(None, Preset::Swarm, Schedule::Uniform, seeds(100_000));
    assert_eq!(uniform, Vec::<String>::new());
    let pct = heard(None, Preset::Swarm, Schedule::Pct, seeds(30_000));
    assert_eq!(pct, Vec::<String>::new());
}

#[test]
fn the_oracle_is_silent_about_every_liberty() {
    for liberty in Liberty::ALL {
        let said = heard(Some(liberty), Preset::Swarm, Schedule::Uniform, seeds(4000));
        assert_eq!(said, Vec::<String>::new(), "{liberty:?}");
    }
}

#[test]
fn the_oracle_is_silent_about_the_permissive_memory_and_every_liberty_of_it() {
    for (schedule, default) in [(Schedule::Uniform, 100_000), (Schedule::Pct, 30_000)] {
        let (report, said) =
            heard_of::<PermissiveMemory>(None, Preset::Swarm, schedule, seeds(default));
        assert_eq!(said, Vec::<String>::new());
        for situation in [Situation::CrashWithThreeLoose, Situation::StoreDuringFlush] {
            assert!(report.coverage.count(situation) > 1000, "too tame: {}", situation.name());
        }
    }
    for liberty in MemoryLiberty::ALL {
        let (preset, schedule) = (Preset::Swarm, Schedule::Uniform);
        let (_, said) = heard_of::<PermissiveMemory>(Some(liberty), preset, schedule, seeds(4000));
        assert_eq!(said, Vec::<String>::new(), "{liberty:?}");
    }
}

/// Runs judged by Strict, though the device asks for Literal.
const STRICT: Plan =
    Plan { preset: Preset::Swarm, schedule: Schedule::Uniform, contract: Some(Profile::Strict) };
/// Runs judged by the contract of the device.
const LITERAL: Plan = Plan { contract: None, ..STRICT };

/// A liberty that only Literal allows is a violation under Strict within so many seeds.
const SOON: u64 = 1000;

#[test]
fn the_literal_device_is_silent_under_literal_and_caught_under_strict() {
    let pct = Plan { schedule: Schedule::Pct, ..LITERAL };
    for (plan, default) in [(LITERAL, 60_000), (pct, 30_000)] {
        let (_, said) = heard_by::<LiteralDevice>(None, plan, seeds(default));
        assert_eq!(said, Vec::<String>::new());
    }
    let (report, said) = heard_by::<LiteralDevice>(None, STRICT, SOON);
    println!("under Strict: {said:#?}");
    assert!(report.failures > 0, "nothing was caught under Strict");
}

#[test]
fn the_literal_memory_is_silent_under_literal_and_caught_under_strict() {
    let pct = Plan { schedule: Schedule::Pct, ..LITERAL };
    for (plan, default) in [(LITERAL, 60_000), (pct, 30_000)] {
        let (_, said) = heard_by::<LiteralMemory>(None, plan, seeds(default));
        assert_eq!(said, Vec::<String>::new());
    }
    let (report, said) = heard_by::<LiteralMemory>(None, STRICT, SOON);
    println!("under Strict: {said:#?}");
    assert!(report.failures > 0, "nothing was caught under Strict");
}

#[test]
fn every_liberty_that_only_literal_allows_is_silent_there_and_caught_under_strict() {
    let seeds = seeds(4000);
    let mut bad = Vec::new();
    let mut judge = |name: String, silent: Vec<String>, caught: Report| {
        if !silent.is_empty() {
            bad.push(format!("{name} under Literal: {silent:?}"));
        }
        if caught.failures == 0 {
            bad.push(format!("{name} is not caught under Strict in {SOON} seeds"));
        }
    };
    for liberty in Liberty::LITERAL {
        let only = Some(liberty);
        let silent = heard_by::<LiteralDevice>(only, LITERAL, seeds).1;
        judge(format!("{liberty:?}"), silent, heard_by::<LiteralDevice>(only, STRICT, SOON).0);
    }
    for liberty in MemoryLiberty::LITERAL {
        let only = Some(liberty);
        let silent = heard_by::<LiteralMemory>(only, LITERAL, seeds).1;
        judge(format!("{liberty:?}"), silent, heard_by::<LiteralMemory>(only, STRICT, SOON).0);
    }
    assert!(bad.is_empty(), "{bad:#?}");
}
