//! Hunts for mutants: the number of seeds until each is caught, and the rules that catch it.

use std::collections::BTreeMap;
use std::sync::Mutex;

use powerfail::devices::faulty::{Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::dut::{DeviceUnderTest, Profile};
use powerfail::run::{Plan, run_seed, world};
use powerfail_model::Rule;

/// The number of disjoint ranges of seeds.
pub(crate) const RANGES: u64 = 9;
/// A range starts at every multiple of this.
const STRIDE: u64 = 1_000_000;
/// The most seeds of a range.
pub(crate) const PATIENCE: u64 = 5000;

/// After this many seeds a range ends at its next catch.
const ENOUGH: u64 = 1000;

/// The results of a hunt.
#[derive(Clone, Debug)]
pub(crate) struct Bag {
    pub(crate) wrong: Wrong,
    /// Seeds until the first catch, per range, sorted.
    pub(crate) until: Vec<u64>,
    /// The number of catches by each rule.
    pub(crate) rules: BTreeMap<Rule, u32>,
}

impl Bag {
    pub(crate) fn median(&self) -> u64 {
        self.until[self.until.len() / 2]
    }

    /// With so few ranges the 95th percentile is the maximum.
    pub(crate) fn p95(&self) -> u64 {
        self.until[(self.until.len() * 95).div_ceil(100) - 1]
    }

    /// The rule with the most catches.
    pub(crate) fn usual(&self) -> Option<Rule> {
        self.rules.iter().max_by_key(|(_, count)| **count).map(|(rule, _)| *rule)
    }

    pub(crate) fn caught(&self) -> u32 {
        self.rules.values().sum()
    }

    /// `rule 12, other 3`, most frequent first.
    pub(crate) fn listing(&self) -> String {
        let mut rules: Vec<(Rule, u32)> = self.rules.iter().map(|(r, n)| (*r, *n)).collect();
        rules.sort_by_key(|&(rule, count)| (std::cmp::Reverse(count), rule));
        let words = rules.iter().map(|(rule, count)| format!("{} {count}", rule.name()));
        words.collect::<Vec<_>>().join(", ")
    }
}

/// Searches every range until its first catch, and continues through the first ranges until
/// `catches` are made in all.
pub(crate) fn hunt(wrong: Wrong, catches: u32) -> Bag {
    match wrong {
        Wrong::Disk(fault) => hunt_device::<WrongDisk>(wrong, fault, catches),
        Wrong::Device(fault) => hunt_device::<WrongDevice>(wrong, fault, catches),
        Wrong::Memory(fault) => hunt_device::<WrongMemory>(wrong, fault, catches),
    }
}

fn hunt_device<D: DeviceUnderTest>(wrong: Wrong, setup: D::Setup, catches: u32) -> Bag {
    let plan = Plan::default();
    let mut world = world::<D>(&setup, plan, 0);
    let mut bag = Bag { wrong, until: Vec::new(), rules: BTreeMap::new() };
    let per_range = u64::from(catches).div_ceil(RANGES) as u32;
    for range in 0..RANGES {
        let (mut until, mut found) = (PATIENCE, 0);
        for nth in 0..PATIENCE {
            let verdict = run_seed(&mut world, plan, range * STRIDE + nth, |_| {});
            let Some(failure) = verdict.failure else { continue };
            if failure.violation.rule == Rule::DevicePanicked {
                world.renew();
            }
            *bag.rules.entry(failure.violation.rule).or_default() += 1;
            until = until.min(nth + 1);
            found += 1;
            if found >= per_range || nth > ENOUGH {
                break;
            }
        }
        bag.until.push(until);
    }
    bag.until.sort_unstable();
    bag
}

/// Hunts every mutant, on two threads; in the order of their list.
pub(crate) fn everything(catches: u32) -> Vec<Bag> {
    let all: Vec<Wrong> = Wrong::all().collect();
    let next = Mutex::new(0..all.len());
    let bags = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                loop {
                    let Some(at) = next.lock().expect("no thread has panicked").next() else {
                        break;
                    };
                    let bag = hunt(all[at], catches);
                    bags.lock().expect("no thread has panicked").push((at, bag));
                }
            });
        }
    });
    let mut bags = bags.into_inner().expect("no thread has panicked");
    bags.sort_by_key(|(at, _)| *at);
    bags.into_iter().map(|(_, bag)| bag).collect()
}

/// The seeds, from zero on, until a mutant is caught under a contract; `None` if it is not within
/// `most`.
pub(crate) fn until_caught(wrong: Wrong, contract: Profile, most: u64) -> Option<u64> {
    match wrong {
        Wrong::Disk(fault) => seeds_until::<WrongDisk>(fault, contract, most),
        Wrong::Device(fault) => seeds_until::<WrongDevice>(fault, contract, most),
        Wrong::Memory(fault) => seeds_until::<WrongMemory>(fault, contract, most),
    }
}

fn seeds_until<D: DeviceUnderTest>(setup: D::Setup, contract: Profile, most: u64) -> Option<u64> {
    let plan = Plan { contract: Some(contract), ..Plan::default() };
    let mut world = world::<D>(&setup, plan, 0);
    (0..most).find(|seed| run_seed(&mut world, plan, *seed, |_| {}).failure.is_some())
}
