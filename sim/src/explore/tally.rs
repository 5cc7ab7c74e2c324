//! Counts of a search.

use serde::{Deserialize, Serialize};

/// Counts of a search; all are sums except the depth. They are the same for any number of threads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// States visited.
    pub states: u64,
    /// Schedules within one life that the states stand for: each a different order of dependent
    /// steps.
    pub schedules: u64,
    /// Steps of these schedules, if each were run separately from the start of its life.
    pub schedule_steps: u64,
    /// Steps taken.
    pub steps: u64,
    /// Steps of device threads within them.
    pub device_steps: u64,
    /// Steps of the longest path to a state.
    pub deepest: u64,
    /// Visits of states that were visited before.
    pub again: u64,
    /// Steps that were skipped because another order of the same steps was taken.
    pub slept: u64,
    /// States in which the power was cut.
    pub cuts: u64,
    /// Those of them after which an equal state had been searched before.
    pub cuts_alike: u64,
    /// Images that those power losses may leave.
    pub images: u64,
    /// Contents of single sectors that were read back instead of whole images.
    pub recalls: u64,
    /// Lives that began with everything read back.
    pub lives: u64,
    /// Idle states in which everything was read back.
    pub looks: u64,
    /// Broken promises.
    pub failures: u64,
    /// States that did not fit into the table of visited states.
    pub turned_away: u64,
    /// Searches that were stopped.
    pub stopped: u64,
}

impl Tally {
    /// Adds the counts of another search.
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
