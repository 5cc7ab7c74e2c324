//! The disk itself: medium, cache, and operations in flight.

use std::collections::VecDeque;

use powerfail_device::{Completion, Limits, Submission};

use super::op_kind::OpKind;
use super::operation::{BACKGROUND_LANE, InFlight, OpKey, Ready, describe};
use super::record::{Note, Record};
use super::shape::DiskShape;
use crate::base::sectors::SectorSet;
use crate::guest::Kind;
use crate::guest::payload::{self, Author, SECTOR};

/// The most lanes of one device.
pub(super) const LANES_EACH: u8 = BACKGROUND_LANE + 1;

/// The most lanes of all devices together.
const LANES: usize = 2 * LANES_EACH as usize;

/// The simulated disk. The [module](super) states its promises.
#[derive(Clone, Debug)]
pub struct SimDisk {
    pub(super) shape: DiskShape,
    /// The current sectors of each part, those for metadata included.
    pub(super) capacity: [u32; 2],
    pub(super) medium: Vec<u8>,
    pub(super) cache: Vec<u8>,
    /// A sector is dirty iff a power loss may lose its cached content and a sync can persist it.
    pub(super) dirty: SectorSet,
    /// A dirty sector is taken iff the completion of some effect on it was taken since it became
    /// dirty.
    pub(super) taken: SectorSet,
    /// A sector is forgotten iff a failed sync marked it clean and it was not written since.
    pub(super) forgotten: SectorSet,
    pub(super) in_flight: Vec<InFlight>,
    pub(super) ready: [VecDeque<Ready>; LANES],
    /// Operations that a mutant abandoned. They return once another operation overlaps them.
    pub(super) orphans: Vec<InFlight>,
    pub(super) submitted: u32,
    pub(super) syncs_failed: u32,
    /// A device has taken the failure of a sync since this was asked last.
    failure_taken: bool,
    /// Transfers that were cut short, with the sector at which each should resume.
    pub(super) cut_short: Vec<(OpKey, u32)>,
    pub(super) resumed: u32,
    /// The first operation beyond the end of the disk, which is not carried out.
    stray: Option<Stray>,
    /// The record is `Some` iff [`keep_record`](Self::keep_record) was called: exports need it.
    pub(super) record: Option<Box<Record>>,
}

/// An operation beyond the end of a device's disk.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stray {
    pub(crate) device: u8,
    pub(crate) kind: OpKind,
    /// The first sector of it that does not exist, as the device counts.
    pub(crate) sector: u64,
}

impl SimDisk {
    /// Whether a device has submitted an operation beyond the end of its disk.
    #[inline]
    pub(crate) fn stray(&self) -> Option<Stray> {
        self.stray
    }

    /// A disk whose parts hold their initial images.
    #[must_use]
    pub fn new(shape: DiskShape, run: u32) -> SimDisk {
        let mut disk = SimDisk {
            shape,
            capacity: [shape.capacity + shape.reserve; 2],
            medium: Vec::new(),
            cache: Vec::new(),
            dirty: SectorSet::EMPTY,
            taken: SectorSet::EMPTY,
            forgotten: SectorSet::EMPTY,
            in_flight: Vec::new(),
            ready: Default::default(),
            orphans: Vec::new(),
            submitted: 0,
            syncs_failed: 0,
            failure_taken: false,
            cut_short: Vec::new(),
            resumed: 0,
            stray: None,
            record: None,
        };
        disk.restart(shape, run);
        disk
    }

    /// Replaces the initial content of a part: `format` gets the sectors of the guest, and fills
    /// the whole part.
    pub(crate) fn format(&mut self, device: u8, format: impl FnOnce(&[u8], &mut [u8])) {
        let start = self.shape.base(device) as usize * SECTOR;
        let image = self.medium[start..start + self.shape.capacity as usize * SECTOR].to_vec();
        let part = start..start + self.shape.extent() as usize * SECTOR;
        format(&image, &mut self.medium[part.clone()]);
        self.cache[part.clone()].copy_from_slice(&self.medium[part]);
    }

    /// Resets the disk to [`new`](Self::new), but keeps the allocations.
    ///
    /// # Panics
    /// If the shape has more sectors than a [`SectorSet`] can hold.
    pub fn restart(&mut self, shape: DiskShape, run: u32) {
        assert!(shape.sectors() <= SectorSet::CAPACITY, "a medium of {} sectors", shape.sectors());
        self.shape = shape;
        self.capacity = [shape.capacity + shape.reserve; 2];
        let bytes = shape.sectors() as usize * SECTOR;
        self.medium.resize(bytes, 0);
        for device in 0..shape.devices {
            let base = shape.base(device);
            let mine = Author { run, disk: device };
            let no_disk = Author { run, disk: Author::NO_DISK };
            if shape.kinds[usize::from(device)] == Kind::Memory {
                let end = base + shape.room();
                self.medium[base as usize * SECTOR..end as usize * SECTOR].fill(0);
                for number in 0..shape.capacity {
                    let at = (base + number) as usize * SECTOR;
                    let word = payload::word(mine, number, 0);
                    self.medium[at..at + 8].copy_from_slice(&word.to_le_bytes());
                }
            }
            for sector in 0..shape.extent() + DiskShape::GUARD {
                if sector < shape.room() && shape.kinds[usize::from(device)] == Kind::Memory {
                    continue;
                }
                let author = if sector < shape.capacity { mine } else { no_disk };
                let at = (base + sector) as usize * SECTOR;
                payload::fill(&mut self.medium[at..at + SECTOR], author, sector, 0);
            }
        }
        self.cache.clear();
        self.cache.extend_from_slice(&self.medium);
        (self.dirty, self.taken, self.forgotten) = Default::default();
        self.in_flight.clear();
        self.orphans.clear();
        self.ready.iter_mut().for_each(VecDeque::clear);
        self.submitted = 0;
        self.syncs_failed = 0;
        self.failure_taken = false;
        self.cut_short.clear();
        (self.resumed, self.stray) = (0, None);
        if let Some(record) = &mut self.record {
            **record = Record::default();
        }
    }

    /// The disk's properties.
    #[must_use]
    pub fn shape(&self) -> DiskShape {
        self.shape
    }

    /// The current number of sectors of a device's part.
    #[inline]
    #[must_use]
    pub fn capacity(&self, device: u8) -> u32 {
        self.capacity[usize::from(device)]
    }

    /// Grows a device's part to `sectors`; new sectors hold their initial content.
    ///
    /// # Panics
    /// If `sectors` is less than the current size or more than `shape().room()`.
    pub fn grow(&mut self, device: u8, sectors: u32, run: u32) {
        let old = self.capacity(device);
        assert!(old <= sectors && sectors <= self.shape.room(), "from {old} to {sectors} sectors");
        assert!(self.shape.reserve == 0, "metadata lies behind the sectors of the guest");
        let mine = Author { run, disk: device };
        for sector in old..sectors {
            let at = (self.shape.base(device) + sector) as usize * SECTOR;
            payload::fill(&mut self.medium[at..at + SECTOR], mine, sector, 0);
            payload::fill(&mut self.cache[at..at + SECTOR], mine, sector, 0);
        }
        self.capacity[usize::from(device)] = sectors;
        let gained = SectorSet::range(self.shape.base(device) + old, sectors - old);
        self.note(|record| record.changed(gained));
    }

    /// Stores to a word of a memory. Loads see it at once, and a sync submitted from here on must
    /// cover it.
    ///
    /// # Panics
    /// If the device is not a memory or has no such word.
    #[inline]
    pub fn store(&mut self, device: u8, word: u32, value: u64) {
        let at = self.word(device, word);
        let bytes = at as usize * SECTOR;
        self.cache[bytes..bytes + 8].copy_from_slice(&value.to_le_bytes());
        self.dirty.insert(at);
        self.taken.insert(at);
        self.forgotten = self.forgotten.minus(SectorSet::range(at, 1));
        self.note(|record| record.changed(SectorSet::range(at, 1)));
    }

    /// Loads a word of a memory.
    ///
    /// # Panics
    /// As [`store`](Self::store).
    #[inline]
    #[must_use]
    pub fn load(&self, device: u8, word: u32) -> u64 {
        word_of(&self.cache[self.word(device, word) as usize * SECTOR..])
    }

    /// The sector of the medium that holds a word.
    #[inline]
    fn word(&self, device: u8, word: u32) -> u32 {
        let is_memory = self.shape.kinds[usize::from(device)] == Kind::Memory;
        assert!(is_memory && word < self.capacity(device), "there is no word {word}");
        self.shape.base(device) + word
    }

    /// The current limits of a device's lanes.
    #[must_use]
    pub fn limits(&self, device: u8) -> Limits {
        let sectors = self.shape.first + u64::from(self.capacity(device));
        let capacity = sectors * SECTOR as u64;
        Limits { capacity, ..self.shape.limits() }
    }

    /// The bytes of a device's part of the medium, at its initial size.
    #[must_use]
    pub fn image(&self, device: u8) -> &[u8] {
        let start = self.shape.base(device) as usize * SECTOR;
        let sectors = self.shape.capacity + self.shape.reserve;
        &self.medium[start..start + sectors as usize * SECTOR]
    }

    /// The sectors that a power loss may revert to the medium.
    #[inline]
    #[must_use]
    pub fn dirty(&self) -> SectorSet {
        self.dirty
    }

    /// The dirty sectors that a sync submitted now must cover.
    #[must_use]
    pub fn taken(&self) -> SectorSet {
        self.taken
    }

    /// The content of a sector in cache and medium.
    #[must_use]
    pub fn sector(&self, sector: u32) -> (&[u8], &[u8]) {
        let at = sector as usize * SECTOR;
        (&self.cache[at..at + SECTOR], &self.medium[at..at + SECTOR])
    }

    /// The sectors that a failed sync marked clean.
    #[inline]
    #[must_use]
    pub fn forgotten(&self) -> SectorSet {
        self.forgotten
    }

    /// The number of operations submitted so far.
    #[must_use]
    pub fn submitted(&self) -> u32 {
        self.submitted
    }

    /// The operation in flight that was submitted last.
    #[must_use]
    pub(crate) fn newest(&self) -> Option<OpKey> {
        self.in_flight.iter().max_by_key(|op| op.nth).map(|op| op.key)
    }

    /// The number of failed syncs.
    #[must_use]
    pub(crate) fn syncs_failed(&self) -> u32 {
        self.syncs_failed
    }

    /// The number of operations in flight.
    #[inline]
    #[must_use]
    pub fn busy(&self) -> usize {
        self.in_flight.len()
    }

    /// The operations in flight, in an unspecified but reproducible order: key, submission number
    /// and landed sectors.
    pub fn in_flight(&self) -> impl ExactSizeIterator<Item = (OpKey, u32, SectorSet)> + '_ {
        self.in_flight.iter().map(|op| (op.key, op.nth, op.landed))
    }

    /// The `nth` operation in flight, in the order of [`in_flight`](Self::in_flight): key and
    /// landed sectors.
    #[inline]
    #[must_use]
    pub fn nth(&self, nth: usize) -> (OpKey, SectorSet) {
        let op = &self.in_flight[nth];
        (op.key, op.landed)
    }

    /// Whether a completion waits for this lane.
    #[inline]
    #[must_use]
    pub(crate) fn has_completion(&self, device: u8, lane: u8) -> bool {
        !self.ready[lane_index(device, lane)].is_empty()
    }

    /// The number of further operations that the disk accepts now.
    #[inline]
    #[must_use]
    pub fn room(&self) -> u32 {
        self.shape.depth.saturating_sub(self.in_flight.len() as u32)
    }

    pub(super) fn find(&self, key: OpKey) -> Option<usize> {
        let mut oldest: Option<usize> = None;
        for (index, op) in self.in_flight.iter().enumerate() {
            if !op.key.is_like(&key) {
                continue;
            }
            if op.key.twin == key.twin {
                return Some(index);
            }
            if oldest.is_none_or(|best| op.nth < self.in_flight[best].nth) {
                oldest = Some(index);
            }
        }
        oldest
    }

    /// The place in a device's part of a sector of the device. What lies before the part of a
    /// sparse disk is placed behind it, where nothing belongs to the device.
    #[inline]
    fn place(&self, sector: u64) -> u32 {
        match sector.checked_sub(self.shape.first) {
            Some(sector) => sector as u32,
            None => self.shape.room(),
        }
    }

    /// Accepts an operation from a lane. One beyond the end of the disk is only
    /// [noted](Self::stray).
    pub(super) fn submit(&mut self, device: u8, lane: u8, base: u32, submission: Submission) {
        assert!(self.room() > 0, "an operation was submitted to a full disk");
        let (kind, offset, len) = describe(&submission.op);
        let granule = u64::from(self.shape.granule);
        let end = self.limits(device).capacity;
        assert!(
            offset.is_multiple_of(granule) && len.is_multiple_of(granule),
            "{kind:?} at {offset}+{len} does not fit granules of {granule}"
        );
        assert!(kind == OpKind::Sync || len > 0, "{kind:?} of nothing");
        if offset.checked_add(len).is_none_or(|reached| reached > end) {
            let sector = offset.max(end) / 512;
            self.stray.get_or_insert(Stray { device, kind, sector });
            return;
        }
        let (sector, sectors) = match kind {
            OpKind::Sync => (0, 0),
            _ => (base + self.place(offset / 512), (len / 512) as u32),
        };
        let mut key = OpKey { device, lane, kind, sector, sectors, twin: 0 };
        for op in &self.in_flight {
            if op.key.is_like(&key) {
                key.twin = key.twin.max(op.key.twin.saturating_add(1));
            }
        }
        if key.twin == u8::MAX {
            // Equal operations were in flight without a pause: a number is free again.
            let used =
                |twin: &u8| self.in_flight.iter().any(|op| op.key == OpKey { twin: *twin, ..key });
            key.twin = (0..u8::MAX).find(|twin| !used(twin)).expect("the disk is not that deep");
        }
        let owed = match kind {
            OpKind::Sync => self.taken.and(self.shape.part(device)),
            _ => SectorSet::EMPTY,
        };
        let (nth, landed) = (self.submitted, SectorSet::EMPTY);
        self.submitted += 1;
        let resumes = |&(short, at): &(OpKey, u32)| {
            short.device == device && short.lane == lane && short.kind == kind && at == sector
        };
        if let Some(at) = self.cut_short.iter().position(resumes) {
            self.cut_short.swap_remove(at);
            self.resumed += 1;
        }
        if kind == OpKind::Sync {
            self.note(|record| record.sync_submitted(device, nth));
        }
        self.in_flight.push(InFlight { key, nth, submission, landed, owed, orphaned: false });
    }

    /// Keeps a record from the next [`restart`](Self::restart) on, or from now on if nothing was
    /// submitted yet.
    pub fn keep_record(&mut self) {
        self.record = Some(Box::default());
    }

    /// The entries so far; empty without a record.
    #[must_use]
    pub fn record(&self) -> &[Note] {
        self.record.as_ref().map_or(&[], |record| record.notes())
    }

    /// Ends the record: the result of its entries is then the medium after a power loss that all
    /// dirty sectors survive.
    pub(crate) fn close_record(&mut self) {
        let Some(record) = &mut self.record else { return };
        let (dirty, cache, medium) = (self.dirty, &self.cache, &self.medium);
        record.close(self.forgotten, |sector| {
            let image = if dirty.contains(sector) { cache } else { medium };
            &image[sector as usize * SECTOR..][..SECTOR]
        });
    }

    /// Adds to the record, if one is kept.
    #[inline]
    pub(super) fn note(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(record) = &mut self.record {
            note(record);
        }
    }

    /// Takes a lane's oldest completion. A sync submitted from here on must cover its effects.
    #[inline]
    pub(super) fn take(&mut self, device: u8, lane: u8) -> Option<Completion> {
        // This runs at every step of every thread, and mostly finds nothing.
        if self.has_completion(device, lane) { self.take_oldest(device, lane) } else { None }
    }

    fn take_oldest(&mut self, device: u8, lane: u8) -> Option<Completion> {
        let ready = self.ready[lane_index(device, lane)].pop_front()?;
        self.taken = self.taken.or(ready.landed.and(self.dirty));
        self.failure_taken |= ready.kind == OpKind::Sync && ready.completion.result.is_err();
        if let Some(record) = &mut self.record {
            record.taken(&ready, &self.cache);
        }
        if !ready.forgot.is_empty() {
            self.forget(ready.forgot);
        }
        Some(ready.completion)
    }

    /// Whether a device has taken the failure of a sync since the last call.
    #[inline]
    pub(crate) fn take_failure(&mut self) -> bool {
        std::mem::take(&mut self.failure_taken)
    }

    /// The number of transfers that resumed where a short one had stopped.
    #[must_use]
    pub fn resumed(&self) -> u32 {
        self.resumed
    }

    /// A hash over all bytes of medium and cache, for comparing worlds.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let words = self.medium.as_chunks::<8>().0.iter().chain(self.cache.as_chunks::<8>().0);
        words.fold(0, |hash, word| {
            crate::base::prng::mix(hash ^ u64::from_le_bytes(*word)).wrapping_add(1)
        })
    }
}

/// The word in the first 8 bytes of a sector.
#[inline]
pub(crate) fn word_of(sector: &[u8]) -> u64 {
    u64::from_le_bytes(*sector.first_chunk().expect("a sector has eight bytes"))
}

#[inline]
pub(super) fn lane_index(device: u8, lane: u8) -> usize {
    usize::from(device * LANES_EACH) + usize::from(lane)
}
