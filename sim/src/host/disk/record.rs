//! The record of a disk's writes and syncs in an order that can be replayed, for export.
//!
//! The order is that of the device's view:
//!
//! * a write stands where its completion was taken, with the bytes of the cache at that time;
//! * a sync stands where it was submitted; if it succeeded, it covers the writes before it.
//!
//! [`Record::close`] appends writes that landed without a completion. Sectors that a failed sync
//! forgot are recorded only then or when they are evicted, because they are invisible until then.

use super::op_kind::OpKind;
use super::operation::Ready;
use crate::base::sectors::SectorSet;
use crate::guest::payload::SECTOR;

/// One entry of the record. Sectors count on the whole medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Adjacent sectors hold these bytes.
    Write {
        /// The first sector.
        sector: u32,
        /// Their content, a whole number of sectors.
        bytes: Vec<u8>,
    },
    /// Adjacent sectors were discarded, and are zero.
    Discard {
        /// The first sector.
        sector: u32,
        /// The number of sectors.
        sectors: u32,
    },
    /// A device submitted a sync.
    Sync {
        /// The device.
        device: u8,
        /// Whether it succeeded: then everything before it in the device's part is stable.
        done: bool,
    },
}

/// The entries, and the sectors that they do not cover yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    notes: Vec<Note>,
    /// The syncs in flight: submission number and index in `notes`.
    syncs: Vec<(u32, usize)>,
    /// A sector is unnoted iff the cache may differ from the result of the entries.
    unnoted: SectorSet,
}

impl Record {
    /// The entries so far.
    pub(super) fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// Notes a change of the cache that no completion covers yet.
    pub(super) fn changed(&mut self, set: SectorSet) {
        self.unnoted = self.unnoted.or(set);
    }

    /// Notes a submitted sync.
    pub(super) fn sync_submitted(&mut self, device: u8, nth: u32) {
        self.syncs.push((nth, self.notes.len()));
        self.notes.push(Note::Sync { device, done: false });
    }

    /// Notes a sync that succeeded.
    pub(super) fn sync_done(&mut self, nth: u32) {
        if let Some(at) = self.syncs.iter().position(|&(other, _)| other == nth)
            && let (_, place) = self.syncs.swap_remove(at)
            && let Note::Sync { done, .. } = &mut self.notes[place]
        {
            *done = true;
        }
    }

    /// Notes a completion that was taken, with the cache as it is now.
    pub(super) fn taken(&mut self, ready: &Ready, cache: &[u8]) {
        match ready.kind {
            OpKind::Read | OpKind::Sync => {}
            OpKind::Discard => self.discarded(ready.landed, cache),
            OpKind::Write | OpKind::WriteZeroes => self.written(ready.landed, cache),
        }
    }

    /// Notes the content of the cache for these sectors.
    pub(super) fn written(&mut self, set: SectorSet, cache: &[u8]) {
        for run in runs(set) {
            let Some(sector) = run.nth(0) else { continue };
            let bytes = &cache[sector as usize * SECTOR..][..run.len() as usize * SECTOR];
            self.notes.push(Note::Write { sector, bytes: bytes.to_vec() });
        }
        self.unnoted = self.unnoted.minus(set);
    }

    /// Notes a discard, except of sectors written since: the completion of that write notes them.
    fn discarded(&mut self, set: SectorSet, cache: &[u8]) {
        let mut zero = set;
        for sector in set.iter() {
            let bytes = &cache[sector as usize * SECTOR..][..SECTOR];
            if bytes.iter().any(|&byte| byte != 0) {
                zero.remove(sector);
            }
        }
        for run in runs(zero) {
            let Some(sector) = run.nth(0) else { continue };
            self.notes.push(Note::Discard { sector, sectors: run.len() });
        }
        self.unnoted = self.unnoted.minus(zero);
    }

    /// Ends the record with the sectors that landed without a completion and with the `forgotten`
    /// ones, each with the content that it has after a power loss that all dirty sectors survive.
    pub(super) fn close<'a>(
        &mut self,
        forgotten: SectorSet,
        survives: impl Fn(u32) -> &'a [u8] + Copy,
    ) {
        for run in runs(self.unnoted.or(forgotten)) {
            let bytes = run.iter().flat_map(|sector| survives(sector).iter().copied());
            let note = Note::Write { sector: run.nth(0).unwrap_or(0), bytes: bytes.collect() };
            self.notes.push(note);
        }
    }
}

/// The runs of adjacent sectors in a set, in rising order.
fn runs(mut left: SectorSet) -> impl Iterator<Item = SectorSet> {
    std::iter::from_fn(move || {
        let start = left.nth(0)?;
        let mut end = start + 1;
        while left.contains(end) {
            end += 1;
        }
        let run = SectorSet::range(start, end - start);
        left = left.minus(run);
        Some(run)
    })
}
