//! The record of a disk's writes and syncs in an order that can be replayed, for export.
//!
//! The order is that of the device's view:
//!
//! * a write stands where its completion was taken, with the bytes of the cache at that time;
//! * a sync stands where it was submitted; if it succeeded, it covers the writes before it.
//!
//! [`SimDisk::close_record`] appends writes that landed without a completion. Not here: sectors
//! that a failed sync forgot, because they are invisible until they are evicted.

use super::operation::OpKind;
use super::sim::{Ready, SimDisk};
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

impl SimDisk {
    /// Keeps a record from the next [`restart`](Self::restart) on, or from now on if nothing was
    /// submitted yet.
    pub fn keep_record(&mut self) {
        self.record = Some(Box::default());
    }

    /// The entries so far; empty without a record.
    #[must_use]
    pub fn record(&self) -> &[Note] {
        self.record.as_ref().map_or(&[], |record| &record.notes)
    }

    /// Ends the record with the sectors that landed without a completion and the forgotten ones.
    /// The result of the entries is then the medium after a power loss that all dirty sectors
    /// survive.
    pub fn close_record(&mut self) {
        let Some(record) = &self.record else { return };
        let left = record.unnoted.or(self.forgotten);
        for run in runs(left) {
            let bytes = run.iter().flat_map(|sector| {
                let survives = self.dirty.contains(sector);
                let image = if survives { &self.cache } else { &self.medium };
                image[sector as usize * SECTOR..][..SECTOR].iter().copied()
            });
            let note = Note::Write { sector: run.nth(0).unwrap_or(0), bytes: bytes.collect() };
            if let Some(record) = &mut self.record {
                record.notes.push(note);
            }
        }
    }

    /// Notes a change of the cache that no completion covers yet.
    #[inline]
    pub(super) fn record_change(&mut self, set: SectorSet) {
        if let Some(record) = &mut self.record {
            record.unnoted = record.unnoted.or(set);
        }
    }

    /// Notes a submitted sync.
    pub(super) fn record_sync(&mut self, device: u8, nth: u32) {
        if let Some(record) = &mut self.record {
            record.syncs.push((nth, record.notes.len()));
            record.notes.push(Note::Sync { device, done: false });
        }
    }

    /// Notes a sync that succeeded.
    pub(super) fn record_synced(&mut self, nth: u32) {
        let Some(record) = &mut self.record else { return };
        if let Some(at) = record.syncs.iter().position(|&(other, _)| other == nth)
            && let (_, place) = record.syncs.swap_remove(at)
            && let Note::Sync { done, .. } = &mut record.notes[place]
        {
            *done = true;
        }
    }

    /// Notes a completion that was taken.
    #[inline]
    pub(super) fn record_taken(&mut self, ready: &Ready) {
        if self.record.is_some() {
            self.record_answer(ready);
        }
    }

    #[cold]
    fn record_answer(&mut self, ready: &Ready) {
        match ready.kind {
            OpKind::Read | OpKind::Sync => {}
            OpKind::Discard => self.record_discard(ready.landed),
            OpKind::Write | OpKind::WriteZeroes => self.record_write(ready.landed),
        }
    }

    /// Notes the content of the cache for these sectors.
    pub(super) fn record_write(&mut self, set: SectorSet) {
        let Some(record) = &mut self.record else { return };
        for run in runs(set) {
            let Some(sector) = run.nth(0) else { continue };
            let bytes = &self.cache[sector as usize * SECTOR..][..run.len() as usize * SECTOR];
            record.notes.push(Note::Write { sector, bytes: bytes.to_vec() });
        }
        record.unnoted = record.unnoted.minus(set);
    }

    /// Notes a discard, except of sectors written since: the completion of that write notes them.
    fn record_discard(&mut self, set: SectorSet) {
        let Some(record) = &mut self.record else { return };
        let mut zero = set;
        for sector in set.iter() {
            let bytes = &self.cache[sector as usize * SECTOR..][..SECTOR];
            if bytes.iter().any(|&byte| byte != 0) {
                zero.remove(sector);
            }
        }
        for run in runs(zero) {
            let Some(sector) = run.nth(0) else { continue };
            record.notes.push(Note::Discard { sector, sectors: run.len() });
        }
        record.unnoted = record.unnoted.minus(zero);
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
