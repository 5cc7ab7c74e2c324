//! A reduction leaves out only schedules whose results cannot be distinguished.
//!
//! Each reduction is switched off in turn, and all of them together. The verdict, the broken rules,
//! the smallest number of requests and power losses, and the images that a power loss may leave
//! must stay the same, for the shipped devices and for every mutant that the scope can show.

use std::collections::BTreeSet;

use powerfail::devices::blk::Blk;
use powerfail::devices::faulty::{DiskFault, Wrong, WrongDevice, WrongDisk, WrongMemory};
use powerfail::devices::pmem::Pmem;
use powerfail::dut::{DeviceUnderTest, Profile};
use powerfail::explore::{
    Counterexample, Effort, Progress, Reduction, RequestKind, Row, Scope, explore, shortest,
};
use powerfail::world::action::Action;
use powerfail_model::Rule;

/// All reductions but one, for each of them, and no reduction.
fn lesser() -> [Reduction; 5] {
    let all = Reduction::ALL;
    [
        Reduction { lazy: false, ..all },
        Reduction { sleep: false, ..all },
        Reduction { mirror: false, ..all },
        Reduction { alike: false, ..all },
        Reduction::NONE,
    ]
}

fn effort() -> Effort {
    Effort { keep_going: true, keep_images: true, ..Effort::on(2) }
}

/// Two requests of every kind on one queue.
fn small() -> Scope {
    Scope { requests: 2, ..Scope::default() }
}

/// The results of a search: the broken rules, and the images.
fn found<D: DeviceUnderTest>(
    setup: &D::Setup,
    scope: &Scope,
) -> (BTreeSet<Rule>, BTreeSet<(usize, u128)>) {
    let report = explore::<D>(setup, scope, effort(), &Progress::default());
    assert!(report.is_complete(), "{scope}");
    (report.broken.iter().map(|(signature, _)| signature.rule).collect(), report.images)
}

#[test]
fn the_images_a_power_loss_may_leave_are_the_same_without_each_reduction() {
    fn holds<D: DeviceUnderTest>(setup: &D::Setup, scope: &Scope) {
        // Mirrored workloads leave different images, so that reduction is off in both searches.
        let with = |reduction| Scope {
            reduction: Reduction { mirror: false, ..reduction },
            ..scope.clone()
        };
        let (broken, images) = found::<D>(setup, &with(Reduction::ALL));
        assert!(broken.is_empty(), "{broken:?}");
        assert!(images.len() > 30, "{} images are no measure", images.len());
        for reduction in lesser() {
            let scope = with(reduction);
            let other = found::<D>(setup, &scope);
            assert_eq!(other.0, broken, "{scope}");
            let (more, fewer) =
                (other.1.difference(&images).count(), images.difference(&other.1).count());
            assert_eq!((more, fewer), (0, 0), "{scope}: images gained and lost");
        }
    }
    holds::<Blk>(&(), &small());
    // One request in flight, so that an overwritten content can survive only if it was written back
    // between the two writes.
    holds::<Blk>(&(), &Scope { in_flight: 1, rows: vec![Row::C, Row::E], ..small() });
    holds::<Blk>(&(), &Scope { queues: 2, rows: vec![Row::C, Row::D], ..small() });
    let faults = vec![Row::B, Row::C];
    holds::<Blk>(
        &(),
        &Scope {
            faults: 1,
            rows: faults,
            kinds: vec![RequestKind::Out, RequestKind::Flush],
            ..small()
        },
    );
    holds::<Pmem>(&(), &Scope { requests: 3, faults: 1, ..small() });
    let contract = Some(Profile::Literal);
    holds::<Blk>(&(), &Scope { contract, rows: vec![Row::B, Row::C], ..small() });
}

#[test]
fn a_search_judges_by_the_contract_that_it_is_given() {
    let setup = DiskFault::ZeroesNotSynced;
    for (contract, breaks) in
        [(None, true), (Some(Profile::Strict), true), (Some(Profile::Literal), false)]
    {
        let scope = Scope { contract, rows: vec![Row::C], ..small() };
        let (broken, _) = found::<WrongDisk>(&setup, &scope);
        assert_eq!(!broken.is_empty(), breaks, "{contract:?}: {broken:?}");
    }
}

#[test]
fn a_reduced_search_of_two_lives_comes_to_the_same_verdict() {
    let scope = Scope { crashes: 2, rows: vec![Row::G], ..small() };
    for reduction in lesser() {
        let (broken, _) = found::<Blk>(&(), &Scope { reduction, ..scope.clone() });
        assert!(broken.is_empty(), "{broken:?}");
    }
}

/// The length of a counterexample for its reader: requests sent, and power losses.
fn length(found: &Counterexample) -> (usize, usize) {
    let sent = found.actions.iter().filter(|action| matches!(action, Action::Send { .. })).count();
    let cut = found.actions.iter().filter(|action| matches!(action, Action::Crash(_))).count();
    (sent, cut)
}

#[test]
fn what_is_wrong_is_broken_alike_and_as_shortly_without_each_reduction() {
    fn holds<D: DeviceUnderTest>(name: &str, setup: &D::Setup, scope: &Scope) -> bool {
        let all =
            Scope { reduction: Reduction { mirror: false, ..Reduction::ALL }, ..scope.clone() };
        let (broken, _) = found::<D>(setup, &all);
        let least = shortest::<D>(setup, &all, Effort::on(2), &Progress::default());
        assert_eq!(broken.is_empty(), least.is_none(), "{name}");
        for reduction in lesser() {
            let scope =
                Scope { reduction: Reduction { mirror: false, ..reduction }, ..scope.clone() };
            let (rules, _) = found::<D>(setup, &scope);
            assert_eq!(rules, broken, "{name}: {scope}");
            let other = shortest::<D>(setup, &scope, Effort::on(2), &Progress::default());
            let other = other.as_ref().map(length);
            assert_eq!(other, least.as_ref().map(length), "{name}: {scope}");
        }
        !broken.is_empty()
    }
    // One sector, and one row of each sort, are enough to distinguish searches.
    let scope = Scope { sectors: 1, rows: vec![Row::B, Row::C, Row::F], ..small() };
    let mut shown = 0;
    for wrong in Wrong::all() {
        let name = wrong.name();
        shown += usize::from(match wrong {
            Wrong::Disk(fault) => holds::<WrongDisk>(name, &fault, &scope),
            Wrong::Device(fault) => holds::<WrongDevice>(name, &fault, &scope),
            Wrong::Memory(fault) => holds::<WrongMemory>(name, &fault, &scope),
        });
    }
    assert!(shown >= 30, "only {shown} wrong things are broken in this scope");
}

#[test]
fn a_reduced_search_takes_a_fraction_of_the_steps() {
    let steps = |reduction| {
        let scope = Scope { reduction, rows: vec![Row::G], ..small() };
        explore::<Blk>(&(), &scope, Effort::on(2), &Progress::default()).tally.steps
    };
    let (all, none) = (steps(Reduction::ALL), steps(Reduction::NONE));
    assert!(none > 20 * all, "{none} steps without, {all} with");
}
