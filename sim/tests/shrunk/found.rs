//! Failures to shrink: the first seeds in which a mutant breaks a certain rule.

use powerfail::devices::blk::Blk;
use powerfail::devices::faulty::{Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::devices::pmem::Pmem;
use powerfail::dut::DeviceUnderTest;
use powerfail::host::disk::Outcome;
use powerfail::run::{Plan, run_number, run_seed, world};
use powerfail::run::{Replayed, judge};
use powerfail::shrink::{Effort, Shrunk, shrink};
use powerfail::trace::Signature;
use powerfail::world::World;
use powerfail::world::action::{Action, CrashKind};
use powerfail_model::{Class, Rule};

/// The most seeds of a search.
const PATIENCE: u64 = 20_000;

/// A failure that was found and shrunk.
#[derive(Debug)]
pub(crate) struct Story {
    pub(crate) seed: u64,
    pub(crate) short: Shrunk,
    /// The results of the shrunk trace on the mutant and on the shipped device, and of shrinking it
    /// again.
    pub(crate) there: Replayed,
    pub(crate) here: Replayed,
    pub(crate) again: usize,
}

impl Story {
    /// The first failure of a mutant that breaks this rule and has at least `least` actions,
    /// shrunk.
    pub(crate) fn of(wrong: Wrong, rule: Rule, least: usize) -> Story {
        match wrong {
            Wrong::Disk(fault) => found::<WrongDisk, Blk>(fault, wrong, rule, least),
            Wrong::Device(fault) => found::<WrongDevice, Blk>(fault, wrong, rule, least),
            Wrong::Memory(fault) => found::<WrongMemory, Pmem>(fault, wrong, rule, least),
        }
    }

    pub(crate) fn count(&self, is: impl Fn(&Action) -> bool) -> usize {
        self.short.actions.iter().filter(|action| is(action)).count()
    }

    pub(crate) fn requests(&self) -> usize {
        self.count(|a| matches!(a, Action::Send { .. } | Action::SendAgain { .. }))
    }

    pub(crate) fn faults(&self) -> usize {
        self.count(|a| match a {
            Action::Complete { outcome, .. } => !matches!(outcome, Outcome::Ok { .. }),
            Action::Evict { .. } => true,
            _ => false,
        })
    }

    pub(crate) fn crashes(&self) -> usize {
        self.count(|a| {
            matches!(a, Action::Crash(CrashKind::Power { .. } | CrashKind::Backend { .. }))
        })
    }
}

/// The rules of a lost stable write.
const LOST: [Rule; 3] = [Rule::StableWriteLost, Rule::WriteThroughLost, Rule::FlushlessWriteLost];

fn found<D: DeviceUnderTest, Ours: DeviceUnderTest>(
    setup: D::Setup,
    wrong: Wrong,
    rule: Rule,
    least: usize,
) -> Story {
    let plan = Plan::default();
    let mut tried = world::<D>(&setup, plan, 0);
    for seed in 0..PATIENCE {
        let mut actions = Vec::new();
        let verdict = run_seed(&mut tried, plan, seed, |action| actions.push(*action));
        let Some(failure) = verdict.failure else { continue };
        if failure.violation.rule == Rule::DevicePanicked {
            tried.renew();
        }
        if failure.violation.rule != rule || actions.len() < least {
            continue;
        }
        let signature = Signature::of(&failure.violation);
        // A lost write below which an older one reappears is another failure: it takes a request
        // and a reset more than the shortest known.
        if LOST.contains(&rule) && signature.class == Class::Resurrected {
            continue;
        }
        let shape = *tried.shape();
        let effort = Effort::plenty(1);
        let short = shrink::<D>(&setup, shape, run_number(seed), &actions, &signature, &effort)
            .unwrap_or_else(|| panic!("seed {seed} of {} does not replay", wrong.name()));
        assert!(short.complete, "{} seed {seed}: {} replays", wrong.name(), short.replays);
        let trace = short.trace("blk", "sim");
        let mut world = World::<D>::new(setup.clone(), trace.shape, trace.run);
        let there = judge(&mut world, &trace).replayed;
        let mut ours = World::<Ours>::new(Ours::Setup::default(), trace.shape, trace.run);
        let here = judge(&mut ours, &trace).replayed;
        let again =
            shrink::<D>(&setup, short.shape, short.run, &short.actions, &signature, &effort)
                .map_or(usize::MAX, |again| again.actions.len());
        return Story { seed, short, there, here, again };
    }
    panic!("{} never breaks {} in {PATIENCE} seeds", wrong.name(), rule.name());
}
