//! Counts over runs. All of them are sums or unions, so they do not depend on the number of jobs.

use crate::dut::lifecycle::Abilities;

/// Counts over one or more runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Worlds that were set up.
    pub runs: u64,
    /// Requests published, recovery reads included.
    pub requests: u64,
    /// Requests that completed.
    pub completions: u64,
    /// Reads, writes, flushes, discards, write-zeroes and others published, in this order.
    pub by_kind: [u64; 6],
    /// Requests completed with a status other than OK.
    pub failures: u64,
    /// Steps of device threads.
    pub steps: u64,
    /// Signals sent.
    pub signals: u64,
    /// Resets begun.
    pub resets: u64,
    /// Single queues reset.
    pub queue_resets: u64,
    /// Devices saved and restored in another process.
    pub moves: u64,
    /// Backends that died under a live driver.
    pub reconnects: u64,
    /// Backends killed.
    pub kills: u64,
    /// Power losses.
    pub power_losses: u64,
    /// Power losses that could lose volatile data.
    pub volatile_losses: u64,
    /// Dirty sectors lost in a power loss.
    pub sectors_lost: u64,
    /// Dirty sectors that survived a power loss.
    pub sectors_kept: u64,
    /// Operations that the host failed, cut short or refused for now.
    pub faults: u64,
    /// Requests that the guest changed after their publication.
    pub altered: u64,
    /// The features that some device offered.
    pub offered: u64,
    /// The features that some device did not offer.
    pub omitted: u64,
    /// The abilities that some device had.
    pub can: Abilities,
}

impl Stats {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Stats) {
        self.runs += other.runs;
        self.requests += other.requests;
        self.completions += other.completions;
        for (mine, theirs) in self.by_kind.iter_mut().zip(other.by_kind) {
            *mine += theirs;
        }
        self.failures += other.failures;
        self.steps += other.steps;
        self.signals += other.signals;
        self.resets += other.resets;
        self.queue_resets += other.queue_resets;
        self.moves += other.moves;
        self.reconnects += other.reconnects;
        self.kills += other.kills;
        self.power_losses += other.power_losses;
        self.volatile_losses += other.volatile_losses;
        self.sectors_lost += other.sectors_lost;
        self.sectors_kept += other.sectors_kept;
        self.faults += other.faults;
        self.altered += other.altered;
        self.offered |= other.offered;
        self.omitted |= other.omitted;
        self.can = self.can.or(other.can);
    }
}
