//! What the disk was asked and did, in an order that can be replayed: kept only if somebody wants
//! to take it elsewhere.
//!
//! The order is the one in which things became true for whoever asked:
//!
//! * what was written stands where its completion was taken, with the bytes the cache held then;
//! * a sync stands where it was submitted, if it succeeded: what stands before it is what it owes.
//!
//! What has landed without being answered is not in the list until [`SimDisk::close_record`] puts
//! it at the end. Not here: what a failed sync forgot. Until it is evicted nobody can see it.

use super::operation::OpKind;
use super::sim::{Ready, SimDisk};
use crate::base::sectors::SectorSet;
use crate::guest::payload::SECTOR;

/// One thing the disk did. Sectors count on the whole medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// Neighbouring sectors hold these bytes.
    Write {
        /// The first sector.
        sector: u32,
        /// What they hold.
        bytes: Vec<u8>,
    },
    /// Neighbouring sectors were discarded, and are zero.
    Discard {
        /// The first sector.
        sector: u32,
        /// How many.
        sectors: u32,
    },
    /// A device asked for a sync.
    Sync {
        /// Which one.
        device: u8,
        /// Whether it came to be done: then all that stands before it, in the device's part, is
        /// stable.
        done: bool,
    },
}

/// The list, and what is missing in it.
#[derive(Clone, Debug, Default)]
pub(super) struct Record {
    notes: Vec<Note>,
    /// Where the syncs in flight stand: submission number and place.
    syncs: Vec<(u32, usize)>,
    /// A sector is unnoted iff the cache may hold something else than the list comes to.
    unnoted: SectorSet,
}

impl SimDisk {
    /// Keeps a record, from the next [`restart`](Self::restart) on or, before anything was asked,
    /// from now on.
    pub fn keep_record(&mut self) {
        self.record = Some(Box::default());
    }

    /// What was recorded so far.
    #[must_use]
    pub fn record(&self) -> &[Note] {
        self.record.as_ref().map_or(&[], |record| &record.notes)
    }

    /// Ends the record with what a power loss could leave and nobody was told of: what has landed
    /// without an answer, and what was forgotten. The record then comes to what the medium holds
    /// after a power loss that everything dirty survives.
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

    /// The cache has changed here, and nobody was told yet.
    #[inline]
    pub(super) fn record_change(&mut self, set: SectorSet) {
        if let Some(record) = &mut self.record {
            record.unnoted = record.unnoted.or(set);
        }
    }

    /// A sync was submitted.
    pub(super) fn record_sync(&mut self, device: u8, nth: u32) {
        if let Some(record) = &mut self.record {
            record.syncs.push((nth, record.notes.len()));
            record.notes.push(Note::Sync { device, done: false });
        }
    }

    /// A sync was done.
    pub(super) fn record_synced(&mut self, nth: u32) {
        let Some(record) = &mut self.record else { return };
        if let Some(at) = record.syncs.iter().position(|&(other, _)| other == nth)
            && let (_, place) = record.syncs.swap_remove(at)
            && let Note::Sync { done, .. } = &mut record.notes[place]
        {
            *done = true;
        }
    }

    /// A completion was taken.
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

    /// These sectors hold what the cache holds.
    pub(super) fn record_write(&mut self, set: SectorSet) {
        let Some(record) = &mut self.record else { return };
        for run in runs(set) {
            let Some(sector) = run.nth(0) else { continue };
            let bytes = &self.cache[sector as usize * SECTOR..][..run.len() as usize * SECTOR];
            record.notes.push(Note::Write { sector, bytes: bytes.to_vec() });
        }
        record.unnoted = record.unnoted.minus(set);
    }

    /// These sectors were discarded; where something was written over them since, that is noted in
    /// its own time.
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

/// A set as runs of neighbours, in rising order.
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
