//! Range locks: a request that rewrites part of a granule excludes all others from that granule.
//!
//! A disk with granules above 512 bytes cannot write one sector; the device reads the granule,
//! changes the sector and writes the granule back. Between the read and the write no other request
//! may change the neighbours (AMB-26). So while a request changes `[start, end)` it holds an entry
//! that is *exclusive* in the granules it covers in part, which are its first and its last at most,
//! and *shared* in those it covers whole.
//!
//! Entries are granted in order of arrival: an entry is granted iff no earlier one conflicts with
//! it. A request holds one entry at a time and acquires the next only after it has released the
//! last, so neither deadlock nor starvation is possible. Disks with granules of 512 bytes never use
//! this.

use crate::queue_set::{QueueIndex, QueueSet};
use crate::slots::Slot;
use std::ops::Range;

/// The request that holds or awaits an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    pub(crate) queue: QueueIndex,
    pub(crate) slot: Slot,
}

#[derive(Clone, Debug)]
struct Entry {
    holder: Holder,
    /// The granules it touches, half-open.
    granules: Range<u64>,
    /// Whether the first and the last of them are covered only in part.
    partial: [bool; 2],
    /// True iff no earlier entry conflicts.
    granted: bool,
}

impl Entry {
    fn conflicts(&self, other: &Entry) -> bool {
        self.excludes(other) || other.excludes(self)
    }

    /// Whether `other` touches a granule this one covers in part.
    fn excludes(&self, other: &Entry) -> bool {
        let edges = [self.granules.start, self.granules.end - 1];
        edges
            .iter()
            .zip(self.partial)
            .any(|(granule, partial)| partial && other.granules.contains(granule))
    }
}

/// The entries of one device in order of arrival.
#[derive(Clone, Debug)]
pub(crate) struct RangeLocks {
    granule: u64,
    entries: Vec<Entry>,
}

impl RangeLocks {
    pub(crate) fn new(granule: u32) -> RangeLocks {
        RangeLocks { granule: u64::from(granule), entries: Vec::new() }
    }

    /// Queues an entry for the non-empty byte range `bytes`; returns whether it is granted at once.
    pub(crate) fn acquire(&mut self, holder: Holder, bytes: Range<u64>) -> bool {
        assert!(bytes.start < bytes.end, "an empty range needs no lock");
        assert!(
            self.entries.iter().all(|entry| entry.holder != holder),
            "a request holds one entry at a time"
        );
        let granules = bytes.start / self.granule..bytes.end.div_ceil(self.granule);
        let partial = [
            !bytes.start.is_multiple_of(self.granule)
                || bytes.end < (granules.start + 1) * self.granule,
            !bytes.end.is_multiple_of(self.granule),
        ];
        let mut entry = Entry { holder, granules, partial, granted: false };
        entry.granted = !self.entries.iter().any(|earlier| earlier.conflicts(&entry));
        let granted = entry.granted;
        self.entries.push(entry);
        granted
    }

    /// Whether `holder`'s entry has been granted.
    ///
    /// # Panics
    /// If it has none.
    pub(crate) fn is_granted(&self, holder: Holder) -> bool {
        self.entries[self.position(holder)].granted
    }

    /// Removes `holder`'s entry, granted or not; returns the queues with an entry that this grants.
    pub(crate) fn release(&mut self, holder: Holder) -> QueueSet {
        let at = self.position(holder);
        self.entries.remove(at);
        let mut woken = QueueSet::default();
        for later in at..self.entries.len() {
            let (earlier, rest) = self.entries.split_at_mut(later);
            let entry = &mut rest[0];
            if !entry.granted && !earlier.iter().any(|other| other.conflicts(entry)) {
                entry.granted = true;
                woken.insert(entry.holder.queue);
            }
        }
        woken
    }

    fn position(&self, holder: Holder) -> usize {
        self.entries
            .iter()
            .position(|entry| entry.holder == holder)
            .expect("the request has an entry")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(queue: u16) -> Holder {
        Holder { queue: QueueIndex(queue), slot: 0 }
    }

    fn woken(mut set: QueueSet) -> Vec<u16> {
        std::iter::from_fn(|| set.pop()).map(|q| q.0).collect()
    }

    #[test]
    fn whole_granules_are_shared_and_parts_are_not() {
        let mut locks = RangeLocks::new(4096);
        assert!(locks.acquire(holder(0), 0..8192));
        assert!(locks.acquire(holder(1), 4096..12288), "both cover it whole");
        assert!(!locks.acquire(holder(2), 4608..5120), "a part of it");
        assert!(locks.acquire(holder(3), 12288..12800), "another granule");
        assert!(woken(locks.release(holder(0))).is_empty());
        assert_eq!(woken(locks.release(holder(1))), [2]);
        assert!(locks.is_granted(holder(2)));
    }

    #[test]
    fn nobody_overtakes_an_earlier_conflict() {
        let mut locks = RangeLocks::new(1024);
        assert!(locks.acquire(holder(0), 0..512));
        assert!(!locks.acquire(holder(1), 512..2048));
        assert!(locks.acquire(holder(2), 1024..2048), "shares granule 1 with 1");
        assert!(!locks.acquire(holder(3), 0..1024), "waits for 0 and for 1");
        assert_eq!(woken(locks.release(holder(0))), [1]);
        assert_eq!(woken(locks.release(holder(1))), [3]);
    }

    #[test]
    fn an_entry_given_up_while_it_waits_lets_others_through() {
        let mut locks = RangeLocks::new(1024);
        assert!(locks.acquire(holder(0), 0..1024));
        assert!(!locks.acquire(holder(1), 512..1024));
        assert!(!locks.acquire(holder(2), 0..1024));
        assert_eq!(woken(locks.release(holder(1))), [2]);
    }
}
