//! Group commit: flushes that arrive while a sync runs wait for one that starts after them, and
//! share it.
//!
//! Syncs are numbered in the order they start, and at most one runs at a time. A request that must
//! be covered by a sync *needs* the number of the next one to start. It may not use a running one,
//! whose set of covered writes was fixed before the request came, and may not start a second one
//! beside it. One waiting queue *leads*: it submits the next sync to its lane of the disk. The lead
//! is not assigned: whenever no sync runs and no queue leads, the first waiting queue that looks
//! takes the lead. A queue that gives up the lead or ends a sync therefore wakes all waiting
//! queues.
//!
//! Failure is sticky while the disk is open. The host may have forgotten which data was dirty, so
//! no later sync proves anything about the writes before it (AMB-02). The failure survives device
//! reset, because the disk stays open.

mod shared;

pub(crate) use shared::SharedFlushGroup;

use crate::queue_set::{QueueIndex, QueueSet};

/// The number of a sync: the `n`th to start since the disk was opened, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SyncNumber(u64);

/// The state of a waiting request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A sync that started after the request was admitted has ended, and none ever failed.
    Stable,
    /// Some sync has failed: no promise holds any more.
    Failed,
    /// Its sync has not ended.
    Wait,
}

/// The result of a queue's look at the flush group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Number of waiting requests, oldest first, that have their verdict.
    pub(crate) settled: usize,
    /// Whether that verdict is [`Verdict::Failed`] rather than [`Verdict::Stable`].
    pub(crate) failed: bool,
    /// Whether the oldest of the others must [`start`](FlushGroup::start) a sync.
    pub(crate) leads: bool,
}

/// The group-commit state that all queues of a device share behind one lock.
#[derive(Clone, Debug, Default)]
pub(crate) struct FlushGroup {
    /// Number of the sync started last.
    started: u64,
    /// Greatest number such that this sync or a later one ended without error.
    finished: u64,
    /// The queue in whose lane a sync runs; its number is `started`.
    running: Option<QueueIndex>,
    /// The queue that must start the next sync; `None` while one runs.
    leader: Option<QueueIndex>,
    /// A queue is a member iff it has waiting requests that need a wakeup from another queue.
    waiting: QueueSet,
    failed: bool,
}

impl FlushGroup {
    /// Admits a request of `queue`: the sync it needs is the next to start.
    pub(crate) fn admit(&mut self, queue: QueueIndex) -> SyncNumber {
        self.waiting.insert(queue);
        SyncNumber(self.started + 1)
    }

    /// The verdict on a request that needs `number`.
    pub(crate) fn verdict(&self, number: SyncNumber) -> Verdict {
        if self.failed {
            Verdict::Failed
        } else if number.0 <= self.finished {
            Verdict::Stable
        } else {
            Verdict::Wait
        }
    }

    /// Judges the waiting requests of `queue` by the numbers they need, ascending. Takes the lead
    /// for the first that remains, if no queue has it. Removes the queue if no request is left that
    /// needs a wakeup.
    pub(crate) fn look(
        &mut self,
        queue: QueueIndex,
        numbers: impl ExactSizeIterator<Item = SyncNumber>,
    ) -> Look {
        let waiting = numbers.len();
        // The numbers ascend, so the settled requests are in front.
        let settled = numbers.take_while(|number| self.verdict(*number) != Verdict::Wait).count();
        let leads = settled < waiting && self.lead(queue);
        if waiting == settled + usize::from(leads) {
            self.leave(queue);
        }
        Look { settled, failed: self.failed, leads }
    }

    /// Takes the lead if no queue has it and no sync runs. On `true` the caller must
    /// [`start`](FlushGroup::start) a sync or [`give_up`](FlushGroup::give_up).
    pub(crate) fn lead(&mut self, queue: QueueIndex) -> bool {
        assert!(self.waiting.contains(queue), "only who waits may lead");
        if self.leader.is_some() || self.running.is_some() {
            return false;
        }
        self.leader = Some(queue);
        true
    }

    /// The leader submits its sync to the disk; from here on new requests need the next one.
    pub(crate) fn start(&mut self, queue: QueueIndex) -> SyncNumber {
        assert_eq!(self.leader.take(), Some(queue), "only the leader starts");
        self.running = Some(queue);
        self.started += 1;
        SyncNumber(self.started)
    }

    /// The leader, or the queue whose sync was not executed, gives up. Returns the queues that must
    /// look again.
    pub(crate) fn give_up(&mut self, queue: QueueIndex) -> QueueSet {
        if self.running == Some(queue) {
            self.running = None;
        } else {
            assert_eq!(self.leader.take(), Some(queue), "only the leader gives up");
        }
        self.waiting
    }

    /// The running sync has ended. Returns the queues that must look again.
    pub(crate) fn finish(&mut self, queue: QueueIndex, made_stable: bool) -> QueueSet {
        assert_eq!(self.running.take(), Some(queue), "a sync ends where it ran");
        if made_stable {
            self.finished = self.started;
        } else {
            self.failed = true;
        }
        self.waiting
    }

    /// Records that a sync failed before this group was created.
    pub(crate) fn adopt_failure(&mut self) {
        self.failed = true;
    }

    /// Records that `queue` has no waiting requests.
    pub(crate) fn leave(&mut self, queue: QueueIndex) {
        self.waiting.remove(queue);
    }

    /// Clears the failure, for a new disk or for one reopened after its dirty data was dealt with.
    ///
    /// # Panics
    /// If a sync runs or a request waits.
    pub(crate) fn reopen(&mut self) {
        let deserted = self.running.is_none() && self.leader.is_none() && self.waiting.is_empty();
        assert!(deserted, "a disk is reopened when it is not in use");
        self.failed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: QueueIndex = QueueIndex(0);
    const B: QueueIndex = QueueIndex(1);

    fn woken(mut set: QueueSet) -> Vec<QueueIndex> {
        std::iter::from_fn(|| set.pop()).collect()
    }

    #[test]
    fn a_sync_that_runs_covers_nobody_who_comes_later() {
        let mut group = FlushGroup::default();
        let early = group.admit(A);
        assert!(group.lead(A));
        let shared = group.admit(B);
        assert!(!group.lead(B), "one leader at a time");
        group.start(A);
        let late = group.admit(B);
        assert!(!group.lead(B), "one sync at a time");
        assert_eq!(woken(group.finish(A, true)), [A, B]);
        assert_eq!(group.verdict(early), Verdict::Stable);
        assert_eq!(group.verdict(shared), Verdict::Stable);
        assert_eq!(group.verdict(late), Verdict::Wait);
        assert!(group.lead(B));
    }

    #[test]
    fn a_sync_given_up_stands_for_nobody() {
        let mut group = FlushGroup::default();
        let first = group.admit(A);
        assert!(group.lead(A));
        group.start(A);
        let second = group.admit(B);
        group.leave(A);
        assert_eq!(woken(group.give_up(A)), [B]);
        assert_eq!(group.verdict(first), Verdict::Wait);
        assert!(group.lead(B));
        group.start(B);
        group.finish(B, true);
        assert_eq!(group.verdict(first), Verdict::Stable);
        assert_eq!(group.verdict(second), Verdict::Stable);
    }

    #[test]
    fn failure_is_sticky_until_the_disk_is_opened_again() {
        let mut group = FlushGroup::default();
        let before = group.admit(A);
        assert!(group.lead(A));
        group.start(A);
        group.finish(A, false);
        assert_eq!(group.verdict(before), Verdict::Failed);
        let after = group.admit(A);
        assert!(group.lead(A));
        group.start(A);
        group.finish(A, true);
        assert_eq!(group.verdict(after), Verdict::Failed);
        group.leave(A);
        group.reopen();
        assert_eq!(group.verdict(after), Verdict::Stable);
    }
}
