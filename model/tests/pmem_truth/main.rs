//! The oracle of a persistent memory against the ground truth, over every history within bounds: no
//! false alarm and no miss.
//!
//! The ground truth ([`worlds`]) contains no graph. Atoms are independent, so one word is enough.

mod worlds;

use powerfail_model::{Atom, Content, Observed, PmemOracle, PmemRequest, Profile, RequestId};
use std::collections::BTreeSet;
use worlds::{Word, Worlds};

/// Maximum number of each kind of event in a history.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    stores: u8,
    loads: u8,
    flushes: u8,
    losses: u8,
    resets: u8,
    kills: u8,
    profile: Profile,
    may_fail: bool,
    lossy_reset: bool,
}

impl Bounds {
    const fn new(stores: u8, loads: u8, flushes: u8) -> Self {
        Self {
            stores,
            loads,
            flushes,
            losses: 0,
            resets: 0,
            kills: 0,
            profile: Profile::Strict,
            may_fail: false,
            lossy_reset: false,
        }
    }
}

/// The result of a walk.
#[derive(Debug, Default)]
struct Found {
    nodes: u64,
    right: u64,
    wrong: u64,
    false_alarms: u64,
    misses: u64,
    example: Option<String>,
}

/// A history so far, in the state of the oracle and of the ground truth.
#[derive(Clone)]
struct Walk {
    left: Bounds,
    oracle: PmemOracle,
    truth: Worlds,
    /// Whether the survivors of the oracle must equal those of the ground truth.
    exact: bool,
    /// Names used so far; a store's content is its name.
    names: u8,
    stores: Vec<u8>,
    flying: Vec<u8>,
    told: Vec<String>,
}

fn walk(bounds: Bounds) -> Found {
    let mut oracle = PmemOracle::new(bounds.profile, 1);
    oracle.begin_life(bounds.may_fail);
    let walk = Walk {
        left: bounds,
        oracle,
        truth: Worlds::new(bounds.may_fail, bounds.lossy_reset),
        exact: !bounds.may_fail && bounds.profile == Profile::Strict,
        names: 0,
        stores: Vec::new(),
        flying: Vec::new(),
        told: Vec::new(),
    };
    let mut found = Found::default();
    walk.on(&mut found);
    found
}

impl Walk {
    /// Continues in every possible way.
    fn on(&self, found: &mut Found) {
        found.nodes += 1;
        if self.exact {
            self.compare_survivors(found);
        }
        if self.left.stores > 0 {
            let mut next = self.named();
            next.left.stores -= 1;
            next.stores.push(next.names);
            next.told.push(format!("s{}", next.names));
            next.oracle.store(RequestId(next.names.into()), Atom(0), 1);
            next.truth = next.truth.store(next.names);
            next.on(found);
        }
        if self.left.flushes > 0 {
            let mut next = self.named();
            next.left.flushes -= 1;
            next.flying.push(next.names);
            next.told.push(format!("f{}", next.names));
            next.oracle.submit(RequestId(next.names.into()), PmemRequest::Flush);
            next.truth = next.truth.submit(next.names);
            next.on(found);
        }
        if self.left.loads > 0 {
            for seen in self.stores.iter().copied().chain([0]) {
                self.load(seen, found);
            }
        }
        for place in 0..self.flying.len() {
            self.complete(place, true, found);
            if self.left.may_fail {
                self.complete(place, false, found);
            }
        }
        self.end(found);
    }

    fn named(&self) -> Self {
        let mut next = self.clone();
        next.names += 1;
        next
    }

    fn load(&self, seen: Word, found: &mut Found) {
        let mut next = self.named();
        next.left.loads -= 1;
        next.told.push(format!("?={seen}"));
        let observed = Observed::Content(content(seen));
        let told = next.oracle.load(RequestId(next.names.into()), Atom(0), &[observed]);
        next.truth = next.truth.load(seen);
        next.judged(told.is_ok(), found);
    }

    fn complete(&self, place: usize, ok: bool, found: &mut Found) {
        let mut next = self.clone();
        let flush = next.flying.remove(place);
        next.told.push(format!("{flush}={}", if ok { 0 } else { -1 }));
        let ret = if ok { 0 } else { u32::MAX };
        let told = next.oracle.complete(RequestId(flush.into()), Some(ret));
        next.truth = next.truth.complete(flush, ok);
        next.judged(told.is_ok(), found);
    }

    /// Ends the life in each way that is left.
    fn end(&self, found: &mut Found) {
        if self.left.losses > 0 {
            let mut next = self.ended("POWER");
            next.left.losses -= 1;
            next.oracle.power_loss().expect("never wrong by itself");
            next.truth = next.truth.power_loss();
            next.begins(found);
        }
        if self.left.resets > 0 {
            let mut next = self.ended("RESET");
            next.left.resets -= 1;
            next.oracle.reset_shown();
            next.truth = next.truth.reset();
            next.begins(found);
        }
        if self.left.kills > 0 {
            let mut next = self.ended("KILL");
            next.left.kills -= 1;
            next.oracle.backend_kill();
            next.truth = next.truth.kill();
            next.begins(found);
        }
    }

    fn ended(&self, how: &str) -> Self {
        let mut next = self.clone();
        next.flying.clear();
        next.told.push(how.to_owned());
        next
    }

    fn begins(mut self, found: &mut Found) {
        self.oracle.begin_life(self.left.may_fail);
        self.on(found);
    }

    /// Compares the oracle's verdict with the ground truth.
    fn judged(&self, accepted: bool, found: &mut Found) {
        let possible = self.truth.is_possible();
        if possible {
            found.right += 1;
        } else {
            found.wrong += 1;
        }
        match (accepted, possible) {
            (true, true) => return self.on(found),
            (false, true) => found.false_alarms += 1,
            (true, false) => found.misses += 1,
            (false, false) => return,
        }
        found.example.get_or_insert_with(|| self.told.join("; "));
    }

    /// Compares the oracle's candidates with the possible survivors.
    fn compare_survivors(&self, found: &mut Found) {
        let mut candidates = Vec::new();
        self.oracle.candidates(Atom(0), &mut candidates);
        let said: BTreeSet<Content> = candidates.into_iter().collect();
        let truth: BTreeSet<Content> = self.truth.media().into_iter().map(content).collect();
        found.false_alarms += u64::from(!truth.is_subset(&said));
        found.misses += u64::from(!said.is_subset(&truth));
        if said != truth {
            found.example.get_or_insert_with(|| format!("{}: {said:?}", self.told.join("; ")));
        }
    }
}

fn content(word: Word) -> Content {
    if word == 0 { Content::INITIAL } else { Content::of(RequestId(word.into())) }
}

/// Walks and asserts agreement.
fn agree(bounds: Bounds) {
    let found = walk(bounds);
    println!("{bounds:?}: {found:?}");
    assert_eq!((found.false_alarms, found.misses), (0, 0), "{:?}", found.example);
    assert!(found.wrong > 0, "some loads are wrong");
}

/// Walks and asserts that there is no false alarm; misses are counted only.
fn believes(bounds: Bounds) {
    let found = walk(bounds);
    println!("{bounds:?}: {found:?}");
    assert_eq!(found.false_alarms, 0, "{:?}", found.example);
    assert!(found.wrong > found.misses, "not everything is let pass");
}

#[test]
fn flushes_and_a_power_loss() {
    agree(Bounds { losses: 1, ..Bounds::new(3, 2, 2) });
    agree(Bounds { losses: 2, ..Bounds::new(2, 2, 1) });
    agree(Bounds { losses: 1, ..Bounds::new(2, 1, 3) });
}

#[test]
fn resets_and_kills_change_nothing() {
    agree(Bounds { losses: 1, resets: 1, ..Bounds::new(2, 2, 2) });
    agree(Bounds { losses: 1, kills: 1, ..Bounds::new(2, 2, 2) });
    agree(Bounds { losses: 1, resets: 1, kills: 1, ..Bounds::new(2, 2, 1) });
}

#[test]
fn a_failing_host_raises_no_false_alarm() {
    let failing = |bounds| Bounds { may_fail: true, ..bounds };
    believes(failing(Bounds { losses: 1, ..Bounds::new(2, 2, 2) }));
    believes(failing(Bounds { losses: 1, kills: 1, ..Bounds::new(2, 2, 1) }));
    believes(failing(Bounds { losses: 1, resets: 1, ..Bounds::new(2, 1, 2) }));
    believes(failing(Bounds::new(2, 3, 2)));
}

#[test]
fn by_the_letter_neither_a_reset_that_loses_nor_a_failing_host_is_a_false_alarm() {
    let literal = |bounds| Bounds { profile: Profile::Literal, lossy_reset: true, ..bounds };
    believes(literal(Bounds { losses: 1, resets: 1, ..Bounds::new(2, 2, 2) }));
    believes(literal(Bounds { resets: 2, ..Bounds::new(2, 2, 1) }));
    let failing = Bounds { may_fail: true, losses: 1, resets: 1, ..Bounds::new(2, 1, 1) };
    believes(literal(failing));
}

/// Test of the tester: a reset that loses data is wrong in the Strict profile.
#[test]
fn a_reset_that_loses_is_found() {
    let lossy = Bounds { lossy_reset: true, resets: 1, ..Bounds::new(1, 1, 0) };
    assert!(walk(lossy).false_alarms > 0);
}
