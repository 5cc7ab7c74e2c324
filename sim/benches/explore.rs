//! Speed of an exhaustive search, compared with stateright's on its own example, two-phase commit.
//! `cargo bench -p powerfail --bench explore`.
//!
//! One item is one state that was not visited before; both use one thread. The states differ: there
//! a state is a few words of a model and a clone of them, here it is a world with the shipped
//! device, its rings, guest memory, a disk and an oracle. There a step is an assignment; here it is
//! about seven steps of the device's thread.

use divan::Bencher;
use divan::counter::ItemsCount;
use powerfail::devices::blk::Blk;
use powerfail::explore::{Effort, Progress, Row, Scope, Tally, explore};
use stateright::{Checker, Model, Property};

fn main() {
    divan::main();
}

fn scope() -> Scope {
    Scope { rows: vec![Row::G], ..Scope::default() }
}

/// Row G of the default scope.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn states(bencher: Bencher<'_, '_>) {
    search(bencher, |tally| tally.states);
}

/// The same search, counted in steps of the device's thread.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn device_steps(bencher: Bencher<'_, '_>) {
    search(bencher, |tally| tally.device_steps);
}

fn search(bencher: Bencher<'_, '_>, items: fn(&Tally) -> u64) {
    let once = || explore::<Blk>(&(), &scope(), Effort::on(1), &Progress::default());
    let items = ItemsCount::new(items(&once().tally));
    bencher.counter(items).bench_local(|| {
        let report = once();
        assert!(report.is_complete() && report.broken.is_empty());
    });
}

/// The number of participants of the two-phase commit.
const PARTICIPANTS: usize = 7;
const STATES: usize = 296_448;

/// All states of two-phase commit, breadth first.
#[divan::bench(sample_count = 5, sample_size = 1)]
fn stateright_two_phase_commit(bencher: Bencher<'_, '_>) {
    bencher.counter(ItemsCount::new(STATES)).bench_local(|| {
        let checker = TwoPhase.checker().threads(1).spawn_bfs().join();
        assert_eq!(checker.unique_state_count(), STATES);
    });
}

/// The protocol: participants prepare, the manager commits once all have, and any of them may abort
/// before.
struct TwoPhase;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Phase {
    Working,
    Prepared,
    Committed,
    Aborted,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct State {
    participants: [Phase; PARTICIPANTS],
    manager: Phase,
    /// Participants that the manager has recorded as prepared, as bits.
    known: u8,
    /// Participants that have reported being prepared, as bits; the next fields tell whether a
    /// commit or an abort was sent.
    told: u8,
    commit: bool,
    abort: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Commit,
    Abort,
    Learn(usize),
    Prepare(usize),
    GiveUp(usize),
    ObeyCommit(usize),
    ObeyAbort(usize),
}

impl Model for TwoPhase {
    type State = State;
    type Action = Step;

    fn init_states(&self) -> Vec<State> {
        let participants = [Phase::Working; PARTICIPANTS];
        let manager = Phase::Working;
        vec![State { participants, manager, known: 0, told: 0, commit: false, abort: false }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Step>) {
        let open = state.manager == Phase::Working;
        if open && state.known == (1 << PARTICIPANTS) - 1 {
            actions.push(Step::Commit);
        }
        if open {
            actions.push(Step::Abort);
        }
        for (nth, phase) in state.participants.iter().enumerate() {
            if open && state.told >> nth & 1 == 1 {
                actions.push(Step::Learn(nth));
            }
            if *phase == Phase::Working {
                actions.extend([Step::Prepare(nth), Step::GiveUp(nth)]);
            }
            if state.commit {
                actions.push(Step::ObeyCommit(nth));
            }
            if state.abort {
                actions.push(Step::ObeyAbort(nth));
            }
        }
    }

    fn next_state(&self, last: &State, step: Step) -> Option<State> {
        let mut state = last.clone();
        match step {
            Step::Commit => (state.manager, state.commit) = (Phase::Committed, true),
            Step::Abort => (state.manager, state.abort) = (Phase::Aborted, true),
            Step::Learn(nth) => state.known |= 1 << nth,
            Step::Prepare(nth) => {
                state.participants[nth] = Phase::Prepared;
                state.told |= 1 << nth;
            }
            Step::GiveUp(nth) | Step::ObeyAbort(nth) => state.participants[nth] = Phase::Aborted,
            Step::ObeyCommit(nth) => state.participants[nth] = Phase::Committed,
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![Property::always("they agree", |_, state: &State| {
            let some = |phase| state.participants.contains(&phase);
            !(some(Phase::Committed) && some(Phase::Aborted))
        })]
    }
}
