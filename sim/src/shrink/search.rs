//! Tries changes of a run on all cores, with the same result for any number of threads.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::ThreadPool;
use rayon::prelude::*;

use super::case::{Case, Cost};
use super::passes::{ALL, Mode, Pass, Said, Try};
use super::timeline::Timeline;
use super::{Effort, Standing};
use crate::dut::DeviceUnderTest;
use crate::run::rebase::rebase;
use crate::run::{MOST_STEPS, guarded};
use crate::trace::{Signature, possible};
use crate::world::World;
use crate::world::action::Action;

/// The most changes that are tried at a time, per thread.
const BATCH: usize = 8;

/// The orders of passes: each strategy starts with the pass of its number.
pub(super) const STRATEGIES: usize = ALL.len();

/// The shared state of all tries.
pub(super) struct Search<'a, D: DeviceUnderTest> {
    signature: &'a Signature,
    effort: &'a Effort<'a>,
    /// `None` iff the calling thread does all the work.
    threads: Option<ThreadPool>,
    /// Idle worlds, to be reused.
    worlds: Mutex<Vec<World<D>>>,
    setup: &'a D::Setup,
    replays: AtomicU32,
}

/// How often a run is done before anything is said about all runs of it.
pub(super) const fn confidence<D: DeviceUnderTest>() -> u32 {
    if D::REPEATABLE { 1 } else { 5 }
}

impl<'a, D: DeviceUnderTest> Search<'a, D> {
    pub(super) fn new(
        setup: &'a D::Setup,
        signature: &'a Signature,
        effort: &'a Effort<'a>,
    ) -> Search<'a, D> {
        let threads = rayon::ThreadPoolBuilder::new().num_threads(effort.jobs.max(1));
        Search {
            signature,
            effort,
            threads: threads.build().ok(),
            worlds: Mutex::new(Vec::new()),
            setup,
            replays: AtomicU32::new(0),
        }
    }

    pub(super) fn replays(&self) -> u32 {
        self.replays.load(Ordering::Relaxed)
    }

    /// Whether the budget is used up or the caller stops the search.
    fn is_over(&self, best: &Case) -> bool {
        let standing = Standing { actions: best.actions.len(), replays: self.replays() };
        standing.replays >= self.effort.replays || (self.effort.stop)(standing)
    }

    /// Calls a closure with a world that has no journal.
    pub(super) fn with<T>(&self, case: &Case, job: impl FnOnce(&mut World<D>) -> T) -> T {
        let idle = self.worlds.lock().expect("no panic while the lock is held").pop();
        let fresh = || World::new(self.setup.clone(), case.shape, case.run);
        let mut world = idle.unwrap_or_else(fresh);
        let result = job(&mut world);
        self.worlds.lock().expect("no panic while the lock is held").push(world);
        result
    }

    /// Replays a run as it stands, and then by meaning, several times if the device need not do the
    /// same again. Returns the actions of the first replay that fails with the same signature.
    pub(super) fn first(&self, given: &Case) -> Option<Case> {
        (0..confidence::<D>()).find_map(|_| {
            self.attempt(&(given.clone(), Mode::Strict))
                .or_else(|| self.attempt(&(given.clone(), Mode::ByMeaning)))
        })
    }

    /// Replays a changed run. Returns the actions done, if it fails with the same signature.
    pub(super) fn attempt(&self, (case, mode): &Try) -> Option<Case> {
        possible(&case.shape).ok()?;
        self.replays.fetch_add(1, Ordering::Relaxed);
        self.with(case, |world| {
            let (verdict, actions) = match mode {
                Mode::Strict => {
                    let mut done = Vec::with_capacity(case.actions.len());
                    (perform(world, case, &mut done), done)
                }
                Mode::ByMeaning => {
                    let rebased = rebase(world, case.shape, case.run, &case.actions);
                    (rebased.verdict, rebased.actions)
                }
            };
            world.refresh(verdict.failure.as_deref());
            let failure = verdict.failure?;
            let same = Signature::of(&failure.violation) == *self.signature;
            same.then_some(Case { actions, ..*case })
        })
    }

    fn timeline(&self, case: &Case) -> Timeline {
        self.with(case, |world| Timeline::of(world, case))
    }

    /// Simplifies a run with every pass, the last successful ones first, until none succeeds or the
    /// budget is used up. Returns whether it finished within the budget.
    pub(super) fn simplify(&self, best: &mut Case, strategy: usize) -> bool {
        let mut passes: Vec<(u32, Pass)> = ALL.iter().map(|pass| (0, *pass)).collect();
        passes.rotate_left(strategy);
        let mut round = 0;
        loop {
            round += 1;
            let mut improved = false;
            for (helped, pass) in &mut passes {
                if self.go_through(*pass, best) {
                    *helped = round;
                    improved = true;
                }
                if self.is_over(best) {
                    return false;
                }
            }
            if !improved {
                return true;
            }
            passes.sort_by_key(|(helped, _)| std::cmp::Reverse(*helped));
        }
    }

    /// Tries every change of one pass. Returns whether one succeeded.
    fn go_through(&self, pass: Pass, best: &mut Case) -> bool {
        let mut cost = best.cost();
        let mut timeline = self.timeline(best);
        let (mut nth, mut batch, mut helped) = (0, 1, false);
        while !self.is_over(best) {
            let mut tries = Vec::new();
            let mut ended = false;
            while tries.len() < batch && !ended {
                match pass(best, &timeline, nth) {
                    Said::Try(case, mode) => tries.push((nth, (case, mode))),
                    Said::Nothing => {}
                    Said::End => ended = true,
                }
                nth += 1;
            }
            match self.first_better(&tries, cost) {
                Some((found, case)) => {
                    cost = case.cost();
                    *best = case;
                    timeline = self.timeline(best);
                    (nth, batch, helped) = (found, 1, true);
                }
                None if ended => break,
                None => batch = (batch * 2).min(BATCH * self.effort.jobs.max(1)),
            }
        }
        helped
    }

    /// The first of some changes that keeps the failure and is simpler.
    fn first_better(&self, tries: &[(usize, Try)], cost: Cost) -> Option<(usize, Case)> {
        let better = |(nth, change): &(usize, Try)| {
            let case = self.attempt(change)?;
            (case.cost() < cost).then_some((*nth, case))
        };
        match tries {
            [] => None,
            [only] => better(only),
            _ => match &self.threads {
                Some(threads) => threads.install(|| tries.par_iter().find_map_first(better)),
                None => tries.iter().find_map(better),
            },
        }
    }
}

/// Does the actions that are possible without changes.
fn perform<D: DeviceUnderTest>(
    world: &mut World<D>,
    case: &Case,
    done: &mut Vec<Action>,
) -> crate::run::Verdict {
    guarded(world, |world| {
        world.restart(case.shape, case.run);
        let begun = world.stats().steps;
        for action in &case.actions {
            done.push(*action);
            if !world.step(action)? {
                done.pop();
            }
            if world.stats().steps - begun > MOST_STEPS {
                return Ok(true);
            }
        }
        Ok(false)
    })
}
