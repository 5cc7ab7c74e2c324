//! Depth-first search of everything that may follow from one state.
//!
//! A visited state is not visited again, except for those of its steps that slept then and do not
//! sleep now. A sleep set is sound only together with the states it was used in, so it is kept with
//! them.
//!
//! A life that begins with everything read back ends the search. Such a state is the root of a
//! separate search (see [`tasks`](super::tasks)), because the way to it does not matter.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::enabled::enabled;
use super::node::{Done, Node, Phase};
use super::path::{LOOK, Path};
use super::plan::Plan;
use super::state_key::{StateKey, add_images};
use super::step::{Step, independent};
use super::tally::Tally;
use super::visited::{Visited, Ways};
use crate::dut::DeviceUnderTest;
use crate::dut::caught::caught;
use crate::run::panicked;
use crate::trace::Signature;
use crate::world::Failure;

/// The longest path, in steps.
const DEEPEST: usize = 1 << 10;

/// A broken promise and the path to it.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) path: Path,
    pub(super) failure: Box<Failure>,
}

impl Found {
    /// The key by which shorter paths come first.
    pub(super) fn order(&self) -> (usize, &Path) {
        (self.path.len(), &self.path)
    }
}

/// Progress counters and the stop flag.
#[derive(Debug, Default)]
pub struct Progress {
    /// States visited.
    pub states: AtomicU64,
    /// Parts that are done.
    pub done: AtomicU64,
    /// All parts that are known so far.
    pub known: AtomicU64,
    /// Stops the search soon after it is set.
    pub stop: std::sync::Arc<AtomicBool>,
}

/// The extent of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// All paths, up to the next life that begins with everything read back.
    Whole,
    /// Paths of at most this many steps, through all lives.
    Hunt(usize),
}

/// A search from one state.
pub(super) struct Search<'a, D: DeviceUnderTest> {
    plan: &'a Plan,
    mode: Mode,
    visited: Visited,
    pub(super) tally: Tally,
    /// The shortest path found to each kind of failure.
    pub(super) found: BTreeMap<Signature, Found>,
    /// The states of lives that begin with everything read back and have requests left, with the
    /// first path to each; keyed by the power losses left and the state.
    pub(super) fresh: BTreeMap<(u8, u128), Path>,
    /// The images that power losses may leave; `Some` iff they are kept.
    pub(super) images: Option<BTreeSet<u128>>,
    path: Path,
    progress: &'a Progress,
    counted: u64,
    stopped: bool,
    /// Spare lists of steps.
    lists: Vec<Vec<Step>>,
    device: std::marker::PhantomData<D>,
}

impl<'a, D: DeviceUnderTest> Search<'a, D> {
    /// A search that remembers `most` states.
    pub(super) fn new(
        plan: &'a Plan,
        mode: Mode,
        most: usize,
        progress: &'a Progress,
    ) -> Search<'a, D> {
        Search {
            plan,
            mode,
            visited: Visited::new(most),
            tally: Tally::default(),
            found: BTreeMap::new(),
            fresh: BTreeMap::new(),
            images: None,
            path: Vec::new(),
            progress,
            counted: 0,
            stopped: false,
            lists: Vec::new(),
            device: std::marker::PhantomData,
        }
    }

    /// Searches everything that follows from one step of a state, to which `path` leads.
    pub(super) fn from(&mut self, node: &Node<D>, path: &Path, first: u16) {
        self.path.clone_from(path);
        let mut steps = Vec::new();
        enabled(node, self.plan, &mut steps);
        let mut ways = Ways::default();
        ways.add(self.follow(node.clone(), &steps, usize::from(first), &[]));
        (self.tally.schedules, self.tally.schedule_steps) = (ways.count, ways.steps);
        self.finish();
    }

    /// Searches everything that follows from a state, to which `path` leads.
    pub(super) fn through(&mut self, node: Node<D>, path: &Path) {
        self.path.clone_from(path);
        self.visit(node, &[]);
        self.finish();
    }

    fn finish(&mut self) {
        self.tally.states += self.visited.len() as u64 + self.visited.turned_away;
        self.tally.turned_away += self.visited.turned_away;
        self.tally.stopped |= u64::from(self.stopped);
        self.count();
    }

    fn count(&mut self) {
        let now = self.visited.len() as u64;
        self.progress.states.fetch_add(now - self.counted, Ordering::Relaxed);
        self.counted = now;
        self.stopped |= self.progress.stop.load(Ordering::Relaxed);
    }

    fn visit(&mut self, node: Node<D>, sleep: &[Step]) -> Ways {
        if self.stopped {
            return Ways::default();
        }
        let depth = self.path.len();
        assert!(depth < DEEPEST, "a path without an end");
        self.tally.deepest = self.tally.deepest.max(depth as u64);
        let hunting = self.mode != Mode::Whole;
        let mut key = StateKey::of(&node);
        if node.history.is_fresh() && depth > 0 {
            if !hunting {
                self.begin_anew(&node, key.value());
                return Ways::END;
            }
            key = key.with(node.left.crashes);
        }
        let mut steps = self.lists.pop().unwrap_or_default();
        enabled(&node, self.plan, &mut steps);
        let all = if steps.len() < 64 { (1 << steps.len()) - 1 } else { u64::MAX };
        let asleep = mask(&steps, sleep);
        let mut is_new = true;
        let todo = match self.mode {
            Mode::Whole => match self.visited.enter(key.value(), asleep) {
                None => {
                    self.look(&node);
                    all & !asleep
                }
                Some(slept) => {
                    is_new = false;
                    let woken = *slept & !asleep;
                    *slept &= asleep;
                    self.tally.again += 1;
                    woken
                }
            },
            Mode::Hunt(bound) => {
                let left = bound.saturating_sub(depth) as u64;
                match self.visited.enter(key.value(), left) {
                    Some(known) if *known >= left => 0,
                    known => {
                        if let Some(known) = known {
                            *known = left;
                        }
                        if left == 0 {
                            0
                        } else {
                            self.look(&node);
                            all
                        }
                    }
                }
            }
        };
        if self.visited.len() as u64 >= self.counted + (1 << 12) {
            self.count();
        }
        self.tally.slept += u64::from(asleep.count_ones());
        // A step without a bit in the mask never sleeps.
        let unseen = is_new && !hunting;
        let many = steps.len() > 64 && (todo != 0 || unseen);
        let last = match (many, todo) {
            (true, _) => steps.len() - 1,
            (false, 0) => 0,
            (false, todo) => 63 - todo.leading_zeros() as usize,
        };
        let mut awake: Vec<Step> = sleep.to_vec();
        let mut ways = if steps.is_empty() && is_new { Ways::END } else { Ways::default() };
        for nth in 0..steps.len() {
            let chosen = if nth < 64 { todo >> nth & 1 == 1 } else { many };
            if !chosen {
                continue;
            }
            if let Some(known) = self.was_cut_alike(&node, &steps[nth]) {
                ways.add(known);
                continue;
            }
            let step = steps[nth];
            if nth == last {
                let sleep = self.asleep_after(&node, &step, &awake);
                ways.add(self.follow(node, &steps, nth, &sleep));
                break;
            }
            let sleep = self.asleep_after(&node, &step, &awake);
            ways.add(self.follow(node.clone(), &steps, nth, &sleep));
            if self.plan.scope.reduction.sleep && !hunting {
                awake.push(step);
            }
        }
        self.lists.push(steps);
        self.visited.found_ways(key.value(), ways)
    }

    /// The steps that need not be tried after `step`: those tried before it, or asleep, that are
    /// independent of it.
    fn asleep_after(&self, node: &Node<D>, step: &Step, before: &[Step]) -> Vec<Step> {
        let disk = node.world.disk();
        before.iter().filter(|other| independent(disk, other, step)).copied().collect()
    }

    /// The continuations after a power loss now, if an equal state after a power loss was searched
    /// before.
    fn was_cut_alike(&mut self, node: &Node<D>, step: &Step) -> Option<Ways> {
        let Step::Cut { survivors } = step else { return None };
        if let Some(images) = &mut self.images
            && !matches!(node.phase, Phase::Recalling { .. })
        {
            let decided = (!self.plan.scope.reduction.lazy).then_some(*survivors);
            add_images(node, decided, images);
        }
        if !self.plan.scope.reduction.lazy {
            self.tally.images += 1;
            return None;
        }
        let (key, images) = StateKey::after_loss(node);
        self.tally.cuts += 1;
        self.tally.images += images;
        if self.mode != Mode::Whole {
            return None;
        }
        let known = self.visited.ways(key.value());
        self.tally.cuts_alike += u64::from(known.is_some());
        known
    }

    /// Takes a step and searches from there.
    fn follow(&mut self, mut node: Node<D>, steps: &[Step], nth: usize, sleep: &[Step]) -> Ways {
        let step = steps[nth];
        self.path.push(u16::try_from(nth).expect("a state has not so many steps"));
        let before = node.world.stats().steps;
        self.tally.steps += 1;
        self.tally.recalls += u64::from(matches!(step, Step::Recall { .. }));
        let done = guarded(|| node.take(self.plan, &step));
        self.tally.device_steps += node.world.stats().steps - before;
        let ways = match done {
            Ok(()) => self.visit(node, sleep),
            Err(failure) => {
                self.find(failure);
                Ways::END
            }
        };
        self.path.pop();
        ways
    }

    /// Reads everything back if the guest has no more requests to send, or if the world is at rest
    /// though a request or a reset is pending.
    fn look(&mut self, node: &Node<D>) {
        if matches!(node.phase, Phase::Recalling { .. }) || !node.is_idle() {
            return;
        }
        let stuck = node.out() > 0 || node.phase == Phase::Resetting;
        let at_the_end = node.out() == 0 && (node.left.requests == 0 || self.plan.look_often);
        if !stuck && !at_the_end {
            return;
        }
        let mut copy = node.clone();
        self.tally.looks += 1;
        let before = copy.world.stats().steps;
        let done = guarded(|| copy.look(self.plan));
        self.tally.device_steps += copy.world.stats().steps - before;
        if let Err(failure) = done {
            self.path.push(LOOK);
            self.find(failure);
            self.path.pop();
        }
    }

    fn find(&mut self, failure: Box<Failure>) {
        self.tally.failures += 1;
        let signature = Signature::of(&failure.violation);
        let shorter = match self.found.get(&signature) {
            None => true,
            Some(known) => (self.path.len(), &self.path) < known.order(),
        };
        if shorter {
            self.found.insert(signature, Found { path: self.path.clone(), failure });
        }
    }

    /// Records the beginning of another life with everything read back.
    fn begin_anew(&mut self, node: &Node<D>, key: u128) {
        self.tally.lives += 1;
        if node.left.requests == 0 {
            if self.visited.enter(key, 0).is_none() {
                self.look(node);
            }
            return;
        }
        let way = self.fresh.entry((node.left.crashes, key));
        way.and_modify(|known| {
            if (self.path.len(), &self.path) < (known.len(), known) {
                known.clone_from(&self.path);
            }
        })
        .or_insert_with(|| self.path.clone());
    }
}

/// The positions of these steps among others, as bits.
fn mask(steps: &[Step], among: &[Step]) -> u64 {
    let places = steps.iter().take(64).enumerate();
    places.filter(|(_, step)| among.contains(step)).fold(0, |mask, (nth, _)| mask | 1 << nth)
}

/// Calls a closure in which the device may panic.
fn guarded(step: impl FnOnce() -> Done) -> Done {
    caught(step).unwrap_or_else(|panic| Err(panicked(&*panic)))
}
