//! Every state of a small scope, and the properties at each: an exhaustive version of the tests
//! that proptest runs at random.
//!
//! The scope is one atom, a number of events, a maximum number of requests in flight, and every
//! possible observation of a read. The independence of atoms is tested separately. A state here is
//! a history: no states are merged, so no argument about merging is needed.

#[allow(dead_code, reason = "what draws histories at random")]
#[path = "../laws/player.rs"]
mod player;

use player::{ATOMS, Event, tell, terms};
use powerfail_model::{Atom, Content, Kind, Observed, Oracle, Profile, RequestId, Terms};

/// The bounds of the search.
struct Scope {
    events: usize,
    in_flight: usize,
    kinds: &'static [Kind],
    terms: Terms,
}

/// One history, with the oracles of both profiles after it.
#[derive(Clone)]
struct State {
    strict: Oracle,
    literal: Oracle,
    flying: Vec<(u32, Kind)>,
    next: u32,
    events: usize,
}

/// The size of the search.
#[derive(Debug, Default)]
struct Counts {
    states: u64,
    reads: u64,
    refused: u64,
    losses: u64,
}

impl State {
    fn new(terms: Terms) -> State {
        let begun = |profile| {
            let mut oracle = Oracle::new(profile, ATOMS);
            oracle.begin_life(terms);
            oracle
        };
        let (strict, literal) = (begun(Profile::Strict), begun(Profile::Literal));
        State { strict, literal, flying: Vec::new(), next: 1, events: 0 }
    }

    /// Every possible content.
    fn contents(&self) -> Vec<Content> {
        let written = (1..self.next).map(|id| Content::of(RequestId(id)));
        written.chain([Content::INITIAL, Content::ZERO]).collect()
    }

    /// The state after an event; `None` if it breaks a rule in the Strict profile. The Literal
    /// profile may then accept it, but not vice versa.
    fn after(&self, event: &Event, terms: &Terms) -> Option<State> {
        let mut next = self.clone();
        next.events += 1;
        let strict = tell(&mut next.strict, event, terms).is_ok();
        let literal = tell(&mut next.literal, event, terms).is_ok();
        assert!(literal || !strict, "Strict accepts what Literal does not: {event:?}");
        match event {
            Event::Submit { id, kind, .. } => {
                next.flying.push((*id, *kind));
                next.next += 1;
            }
            Event::Complete { id, .. } => next.flying.retain(|flying| flying.0 != *id),
            Event::Writeback(_) => {}
            Event::PowerLoss | Event::Reset | Event::Kill => next.flying.clear(),
        }
        strict.then_some(next)
    }

    fn candidates(&self) -> Vec<Content> {
        let mut out = Vec::new();
        self.strict.candidates(Atom(0), &mut out);
        out
    }

    fn check(&self, terms: &Terms) {
        let survivors = self.candidates();
        assert!(!survivors.is_empty(), "something always survives");
        // A read after a power loss may return a survivor and nothing else.
        let mut lost = self.strict.clone();
        lost.power_loss().expect("something survives");
        lost.begin_life(*terms);
        let read = Event::Submit { id: self.next, kind: Kind::In, atom: 0, atoms: 1 };
        tell(&mut lost, &read, terms).expect("a read may be sent");
        for content in self.contents() {
            let seen = vec![Observed::Content(content)];
            let found = Event::Complete { id: self.next, status: 0, seen };
            let may = tell(&mut lost.clone(), &found, terms).is_ok();
            assert_eq!(may, survivors.contains(&content), "{content}");
        }
        // The completions owed are those of the requests sent and not answered.
        let mut owed: Vec<u32> = self.strict.outstanding().map(|id| id.0).collect();
        owed.sort_unstable();
        assert_eq!(owed, self.flying.iter().map(|flying| flying.0).collect::<Vec<_>>());
        assert_eq!(self.strict.quiesce().is_ok(), self.flying.is_empty());
    }
}

/// Visits every state that can follow.
fn explore(state: &State, scope: &Scope, counts: &mut Counts) {
    counts.states += 1;
    state.check(&scope.terms);
    if state.events == scope.events {
        return;
    }
    let go = |event: Event, counts: &mut Counts| -> bool {
        let next = state.after(&event, &scope.terms);
        if let Some(next) = &next {
            explore(next, scope, counts);
        }
        next.is_some()
    };
    if state.flying.len() < scope.in_flight {
        for kind in scope.kinds {
            let submit = Event::Submit { id: state.next, kind: *kind, atom: 0, atoms: 1 };
            assert!(go(submit, counts), "whatever is sent is no promise of the device's");
        }
    }
    for &(id, kind) in &state.flying {
        if kind != Kind::In {
            let done = Event::Complete { id, status: 0, seen: Vec::new() };
            assert!(go(done, counts), "what succeeds without data promises, and breaks nothing");
            if scope.terms.host_may_fail {
                go(Event::Complete { id, status: 1, seen: Vec::new() }, counts);
            }
            continue;
        }
        counts.reads += 1;
        let mut accepted = 0;
        for content in state.contents() {
            let seen = vec![Observed::Content(content)];
            let may = go(Event::Complete { id, status: 0, seen }, counts);
            accepted += u32::from(may);
            counts.refused += u64::from(!may);
        }
        assert!(accepted > 0, "a read can always be answered");
    }
    for crash in [Event::PowerLoss, Event::Reset, Event::Kill] {
        counts.losses += u64::from(crash == Event::PowerLoss);
        assert!(go(crash, counts), "a crash by itself breaks nothing");
    }
}

fn everything(scope: &Scope, states: u64) {
    let mut counts = Counts::default();
    explore(&State::new(scope.terms), scope, &mut counts);
    println!("{counts:?}");
    // The number of histories is a property of the oracle: it changes when the set of accepted
    // observations changes.
    assert_eq!(counts.states, states);
    assert!(counts.refused > counts.reads, "most of what a read could find is wrong");
}

#[test]
fn the_laws_hold_at_every_state_of_writes_reads_and_flushes() {
    let kinds = &[Kind::Out, Kind::In, Kind::Flush];
    everything(&Scope { events: 7, in_flight: 3, kinds, terms: terms(false) }, 635_225);
}

#[test]
fn the_laws_hold_at_every_state_with_zeroes_and_discards() {
    let kinds = &[Kind::Out, Kind::In, Kind::Flush, Kind::WriteZeroes, Kind::Discard];
    everything(&Scope { events: 6, in_flight: 2, kinds, terms: terms(false) }, 276_708);
}

#[test]
fn the_laws_hold_at_every_state_where_the_host_may_fail() {
    let kinds = &[Kind::Out, Kind::In, Kind::Flush];
    everything(&Scope { events: 7, in_flight: 2, kinds, terms: terms(true) }, 627_985);
}
