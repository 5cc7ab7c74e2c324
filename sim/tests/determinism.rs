//! A run is a pure function of its seed, and a world of its actions.

use std::process::Command;

use powerfail::base::choose::Tape;
use powerfail::base::prng::Prng;
use powerfail::devices::blk::Blk;
use powerfail::run::campaign::{Orders, Progress, campaign};
use powerfail::run::{Plan, lead, replay, run_number, run_seed, world};
use powerfail::schedule::options::Preset;
use powerfail::schedule::{Schedule, Scheduler};
use powerfail::world::action::Action;

const PLAN: Plan = Plan { preset: Preset::Swarm, schedule: Schedule::Uniform, contract: None };

#[test]
fn a_seed_gives_the_same_events_twice_and_in_a_used_world() {
    let mut used = world::<Blk>(&(), PLAN, 0);
    for seed in 0..400 {
        let mut fresh = world::<Blk>(&(), PLAN, seed);
        let first = run_seed(&mut fresh, PLAN, seed, |_| {}).hash;
        let second = run_seed(&mut fresh, PLAN, seed, |_| {}).hash;
        let third = run_seed(&mut used, PLAN, seed, |_| {}).hash;
        assert_eq!((first, first), (second, third), "seed {seed}");
    }
}

#[test]
fn a_seed_gives_the_same_events_in_another_process() {
    for seed in [0_u64, 7, 4711] {
        let here = run_seed(&mut world::<Blk>(&(), PLAN, seed), PLAN, seed, |_| {}).hash;
        let program = env!("CARGO_BIN_EXE_powerfail");
        let output = Command::new(program).args(["hash", "--seed", &seed.to_string()]).output();
        let said = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(said.trim(), format!("{here:016x}"), "seed {seed}");
    }
}

#[test]
fn a_clone_steps_like_its_original() {
    for seed in 0..60 {
        let mut original = world::<Blk>(&(), PLAN, seed);
        let mut actions: Vec<Action> = Vec::new();
        run_seed(&mut original, PLAN, seed, |action| actions.push(*action));
        let (shape, run) = (*original.shape(), run_number(seed));
        let half = actions.len() / 2;
        original.restart(shape, run);
        for action in &actions[..half] {
            original.step(action).unwrap();
        }
        let mut clone = original.clone();
        // The worlds run one after the other, so that shared state would change twice.
        for world in [&mut clone, &mut original] {
            for action in &actions[half..] {
                world.step(action).unwrap();
            }
        }
        assert_eq!(clone.event_hash(), original.event_hash(), "seed {seed}");
        assert_eq!(clone.disk().digest(), original.disk().digest(), "seed {seed}");
    }
}

#[test]
fn replaying_the_actions_of_a_run_gives_its_events() {
    let mut world = world::<Blk>(&(), PLAN, 0);
    for seed in 0..200 {
        let mut actions: Vec<Action> = Vec::new();
        let hash = run_seed(&mut world, PLAN, seed, |action| actions.push(*action)).hash;
        let shape = *world.shape();
        let again = replay(&mut world, shape, run_number(seed), &actions, |at| {
            panic!("action {at} of seed {seed} was not enabled in the replay");
        });
        assert_eq!(again.hash, hash, "seed {seed}");
    }
}

#[test]
fn any_bytes_are_a_run() {
    let mut world = world::<Blk>(&(), PLAN, 0);
    let mut prng = Prng::new(1);
    for round in 0..300 {
        let bytes: Vec<u8> = (0..prng.below(3000)).map(|_| prng.word() as u8).collect();
        let mut tape = Tape::new(&bytes);
        let options = Preset::Swarm.draw(Default::default(), &mut tape);
        let verdict = lead(&mut world, PLAN, options, 77, &mut tape, |_| {});
        assert!(verdict.failure.is_none(), "round {round}: {:?}", verdict.failure);
    }
}

#[test]
fn the_number_of_jobs_changes_nothing() {
    let report = |jobs| {
        let orders = Orders { from: 5, jobs, keep_going: true, ..Orders::new(PLAN, 3000) };
        campaign::<Blk>(&(), orders, &Progress::default(), |_| {})
    };
    let (one, three) = (report(1), report(3));
    assert_eq!((one.hash, one.stats), (three.hash, three.stats));
    assert_eq!(one.coverage, three.coverage);
}

#[test]
fn a_scheduler_always_ends() {
    // A tape of zeroes is the most monotonous source.
    let mut world = world::<Blk>(&(), PLAN, 0);
    for schedule in [Schedule::Uniform, Schedule::Pct, Schedule::Naive] {
        let mut tape = Tape::new(&[]);
        let options = Preset::Swarm.draw(Default::default(), &mut tape);
        world.restart(options.shape, 9);
        let mut scheduler = Scheduler::new(schedule, options, &mut tape);
        let mut actions = 0;
        while let Some(action) = scheduler.next(&world, &mut tape) {
            world.step(&action).unwrap();
            actions += 1;
            assert!(actions < 100_000, "{schedule} does not end");
        }
    }
}
