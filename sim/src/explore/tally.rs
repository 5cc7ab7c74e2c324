//! What a search has counted.

use serde::{Deserialize, Serialize};

/// Counts, all of them sums but the depth: the same for any number of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// States visited.
    pub states: u64,
    /// Schedules within one life that the states stand for: each a different order of steps that
    /// depend on each other.
    pub schedules: u64,
    /// The steps they would take, were each done by itself from the start of its life.
    pub schedule_steps: u64,
    /// Steps taken.
    pub steps: u64,
    /// Steps of device threads within them.
    pub device_steps: u64,
    /// The most steps to a state.
    pub deepest: u64,
    /// States that were come upon once more.
    pub again: u64,
    /// Steps that were not taken because another order of the same was.
    pub slept: u64,
    /// States in which the power was cut, and those of them behind which lay nothing new.
    pub cuts: u64,
    /// See above.
    pub cuts_alike: u64,
    /// The images that those power losses could leave, were each tried.
    pub images: u64,
    /// The contents of single sectors that were read back instead.
    pub recalls: u64,
    /// Lives that began with everything read back.
    pub lives: u64,
    /// States in which everything came to rest and was read.
    pub looks: u64,
    /// Broken promises.
    pub failures: u64,
    /// States that found no place in the table of those visited.
    pub turned_away: u64,
    /// Searches that were stopped.
    pub stopped: u64,
}

impl Tally {
    /// Adds another's.
    pub fn add(&mut self, other: &Tally) {
        self.deepest = self.deepest.max(other.deepest);
        for (mine, theirs) in self.sums().into_iter().zip(other.clone().sums()) {
            *mine = mine.saturating_add(*theirs);
        }
    }

    fn sums(&mut self) -> [&mut u64; 16] {
        [
            &mut self.states,
            &mut self.schedules,
            &mut self.schedule_steps,
            &mut self.steps,
            &mut self.device_steps,
            &mut self.again,
            &mut self.slept,
            &mut self.cuts,
            &mut self.cuts_alike,
            &mut self.images,
            &mut self.recalls,
            &mut self.lives,
            &mut self.looks,
            &mut self.failures,
            &mut self.turned_away,
            &mut self.stopped,
        ]
    }
}
