//! The disk itself: medium, cache, and what is in flight.

use std::collections::VecDeque;

use powerfail_device::{Bounce, Buffer, Completion, Errno, Limits, Op, Submission};

use super::operation::{InFlight, OpKey, OpKind, Outcome, describe};
use crate::memory::Ram;
use crate::payload::{self, Author, SECTOR};
use crate::sectors::SectorSet;

/// The most lanes of all devices together.
const LANES: usize = 8;

/// The properties of the simulated disk. Sizes are in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskShape {
    /// Sectors of each device's part.
    pub capacity: u32,
    /// How many devices share the medium, each on a part of its own.
    pub devices: u8,
    /// The unit of offsets and lengths, in bytes.
    pub granule: u32,
    /// The unit that never tears, in sectors; divides the granule.
    pub tear: u32,
    /// The largest read or write, in bytes.
    pub max_transfer: u32,
    /// The unit of discards, in bytes.
    pub discard_granularity: u32,
    /// How many operations fit in flight, over all lanes.
    pub depth: u32,
    /// Whether the disk takes no writes.
    pub read_only: bool,
}

impl DiskShape {
    /// Sectors between two parts, and behind the last, that belong to nobody.
    pub const GUARD: u32 = 8;

    /// The first sector of a device's part.
    #[must_use]
    pub fn base(&self, device: u8) -> u32 {
        u32::from(device) * (self.capacity + Self::GUARD)
    }

    /// The sectors of a device's part.
    #[inline]
    #[must_use]
    pub fn part(&self, device: u8) -> SectorSet {
        SectorSet::range(self.base(device), self.capacity)
    }

    /// Sectors of the whole medium.
    #[must_use]
    pub fn sectors(&self) -> u32 {
        self.base(self.devices)
    }

    /// What a lane tells the device.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            capacity: u64::from(self.capacity) * SECTOR as u64,
            granule: self.granule,
            max_transfer: self.max_transfer,
            max_discard: 1 << 20,
            discard_granularity: self.discard_granularity,
            max_write_zeroes: u64::from(self.max_transfer),
            write_zeroes_granularity: self.granule,
            can_discard: true,
            read_only: self.read_only,
        }
    }
}

/// A completion that waits to be taken, and what taking it brings about.
#[derive(Clone, Debug)]
struct Ready {
    completion: Completion,
    /// What a sync submitted from now on must cover.
    landed: SectorSet,
    /// What a failed sync forgets. It does so only when its failure is known: a sync submitted
    /// before that still owes it.
    forgot: SectorSet,
}

/// The simulated disk. See the [module](super) for what it promises.
#[derive(Clone, Debug)]
pub struct SimDisk {
    pub(super) shape: DiskShape,
    pub(super) medium: Vec<u8>,
    pub(super) cache: Vec<u8>,
    /// A sector is dirty iff its cached content may be lost by a power loss and a sync knows it.
    dirty: SectorSet,
    /// A dirty sector is taken iff some effect on it had its completion taken since it got dirty.
    taken: SectorSet,
    /// A sector is forgotten iff a failed sync dropped its dirtiness and it was not written since.
    forgotten: SectorSet,
    in_flight: Vec<InFlight>,
    ready: [VecDeque<Ready>; LANES],
    /// What a wrong device left behind; it comes back after some more submissions.
    orphans: Vec<InFlight>,
    submitted: u32,
    syncs_failed: u32,
    /// Transfers that were cut short, with the sector at which each should go on.
    cut_short: Vec<(OpKey, u32)>,
    resumed: u32,
}

impl SimDisk {
    /// A disk whose every part holds its initial image, and whose guard sectors hold nobody's.
    #[must_use]
    pub fn new(shape: DiskShape, run: u32) -> SimDisk {
        let mut disk = SimDisk {
            shape,
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
            cut_short: Vec::new(),
            resumed: 0,
        };
        disk.restart(shape, run);
        disk
    }

    /// As [`new`](Self::new), keeping the allocations.
    pub fn restart(&mut self, shape: DiskShape, run: u32) {
        assert!(shape.sectors() <= SectorSet::CAPACITY, "a medium of {} sectors", shape.sectors());
        self.shape = shape;
        let bytes = shape.sectors() as usize * SECTOR;
        self.medium.resize(bytes, 0);
        for device in 0..shape.devices {
            let base = shape.base(device);
            let mine = Author { run, disk: device };
            let nobody = Author { run, disk: Author::NOBODY };
            for sector in 0..shape.capacity + DiskShape::GUARD {
                let author = if sector < shape.capacity { mine } else { nobody };
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
        self.cut_short.clear();
        self.resumed = 0;
    }

    /// The disk's properties.
    #[must_use]
    pub fn shape(&self) -> DiskShape {
        self.shape
    }

    /// What a device's part of the medium holds, to copy.
    #[must_use]
    pub fn image(&self, device: u8) -> &[u8] {
        let start = self.shape.base(device) as usize * SECTOR;
        &self.medium[start..start + self.shape.capacity as usize * SECTOR]
    }

    /// The sectors that a power loss may take back to what the medium holds.
    #[inline]
    #[must_use]
    pub fn dirty(&self) -> SectorSet {
        self.dirty
    }

    /// The sectors whose dirtiness a failed sync forgot.
    #[inline]
    #[must_use]
    pub fn forgotten(&self) -> SectorSet {
        self.forgotten
    }

    /// How many operations were ever submitted.
    #[must_use]
    pub fn submitted(&self) -> u32 {
        self.submitted
    }

    /// The operation in flight that was submitted last.
    #[must_use]
    pub fn newest(&self) -> Option<OpKey> {
        self.in_flight.iter().max_by_key(|op| op.nth).map(|op| op.key)
    }

    /// How many syncs have failed, and writes that had to be stable.
    #[must_use]
    pub fn syncs_failed(&self) -> u32 {
        self.syncs_failed
    }

    /// How many operations are in flight.
    #[inline]
    #[must_use]
    pub fn busy(&self) -> usize {
        self.in_flight.len()
    }

    /// The operations in flight, in no particular but a reproducible order: key, submission number
    /// and what has landed.
    pub fn in_flight(&self) -> impl ExactSizeIterator<Item = (OpKey, u32, SectorSet)> + '_ {
        self.in_flight.iter().map(|op| (op.key, op.nth, op.landed))
    }

    /// The `nth` of the operations in flight, as [`in_flight`](Self::in_flight) counts them.
    #[inline]
    #[must_use]
    pub fn nth(&self, nth: usize) -> (OpKey, SectorSet) {
        let op = &self.in_flight[nth];
        (op.key, op.landed)
    }

    /// Whether a completion waits to be taken by this lane.
    #[inline]
    #[must_use]
    pub fn has_completion(&self, device: u8, lane: u8) -> bool {
        !self.ready[lane_index(device, lane)].is_empty()
    }

    /// Room for this many more operations.
    #[inline]
    #[must_use]
    pub fn room(&self) -> u32 {
        self.shape.depth.saturating_sub(self.in_flight.len() as u32)
    }

    fn find(&self, key: OpKey) -> Option<usize> {
        let mut oldest: Option<usize> = None;
        for (index, op) in self.in_flight.iter().enumerate() {
            if op.key == key && oldest.is_none_or(|best| op.nth < self.in_flight[best].nth) {
                oldest = Some(index);
            }
        }
        oldest
    }

    /// Accepts an operation from a lane.
    pub(super) fn submit(&mut self, device: u8, lane: u8, base: u32, submission: Submission) {
        assert!(self.room() > 0, "an operation was submitted to a full disk");
        let (kind, offset, len) = describe(&submission.op);
        let granule = u64::from(self.shape.granule);
        let end = u64::from(self.shape.capacity) * SECTOR as u64;
        assert!(
            offset.is_multiple_of(granule) && len.is_multiple_of(granule) && offset + len <= end,
            "{kind:?} at {offset}+{len} does not fit granules of {granule} or a disk of {end}"
        );
        assert!(kind == OpKind::Sync || len > 0, "{kind:?} of nothing");
        let (sector, sectors) = match kind {
            OpKind::Sync => (0, 0),
            _ => (base + (offset / 512) as u32, (len / 512) as u32),
        };
        let key = OpKey { device, lane, kind, sector, sectors };
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
        self.in_flight.push(InFlight { key, nth, submission, landed, owed, orphaned: false });
        if !self.orphans.is_empty() {
            self.readmit();
        }
    }

    /// Hands a lane its oldest completion. From here on a sync must cover its effects.
    #[inline]
    pub(super) fn take(&mut self, device: u8, lane: u8) -> Option<Completion> {
        // Asked at every step of every thread, mostly in vain.
        if self.has_completion(device, lane) { self.take_oldest(device, lane) } else { None }
    }

    fn take_oldest(&mut self, device: u8, lane: u8) -> Option<Completion> {
        let ready = self.ready[lane_index(device, lane)].pop_front()?;
        self.taken = self.taken.or(ready.landed.and(self.dirty));
        if !ready.forgot.is_empty() {
            self.forget(ready.forgot);
        }
        Some(ready.completion)
    }

    /// Lands some sectors of an operation in flight: data moves now. False if there is no such
    /// operation or nothing of `set` is left to land.
    pub fn effect(&mut self, key: OpKey, set: SectorSet, memory: Ram<'_>) -> bool {
        let Some(index) = self.find(key) else { return false };
        let part = set.and(key.range()).minus(self.in_flight[index].landed);
        if part.is_empty() || key.kind == OpKind::Sync {
            return false;
        }
        self.land(index, part, memory)
    }

    /// Moves the data of `part` and marks it landed. False if guest memory was not there.
    fn land(&mut self, index: usize, part: SectorSet, memory: Ram<'_>) -> bool {
        let op = &mut self.in_flight[index];
        let first = op.key.sector;
        let mut left = part;
        let mut reached = true;
        // Neighbouring sectors move together.
        while let Some(start) = left.iter().next() {
            let mut end = start + 1;
            while left.contains(end) {
                end += 1;
            }
            left = left.minus(SectorSet::range(start, end - start));
            let bytes = start as usize * SECTOR..end as usize * SECTOR;
            let offset = (start - first) * SECTOR as u32;
            let cached = &mut self.cache[bytes];
            reached &= match &mut op.submission.op {
                Op::Read { into, .. } => into.write_at(&memory, offset, cached).is_ok(),
                Op::Write { from, .. } => from.read_at(&memory, offset, cached).is_ok(),
                Op::Discard { .. } | Op::WriteZeroes { .. } => {
                    cached.fill(0);
                    true
                }
                Op::Sync => unreachable!("a sync moves no data"),
            };
        }
        op.landed = op.landed.or(part);
        if op.key.kind != OpKind::Read {
            // New content: what was taken of the old one is in it only if it is persisted, so
            // `taken` stays; and what a failed sync forgot is overwritten.
            self.dirty = self.dirty.or(part);
            self.forgotten = self.forgotten.minus(part);
        }
        reached
    }

    /// Ends an operation. False if there is none, or the outcome does not fit it.
    pub fn complete(&mut self, key: OpKey, outcome: Outcome, memory: Ram<'_>) -> bool {
        let Some(index) = self.find(key) else { return false };
        let range = key.range();
        let left = range.minus(self.in_flight[index].landed);
        let transfers = matches!(key.kind, OpKind::Read | OpKind::Write | OpKind::StableWrite);
        let len = key.sectors * SECTOR as u32;
        let mut forgets = SectorSet::EMPTY;
        let result = match outcome {
            Outcome::Ok { landed } => {
                let part = if key.kind == OpKind::Discard { landed.and(left) } else { left };
                let reached = part.is_empty() || self.land(index, part, memory);
                match key.kind {
                    OpKind::StableWrite => self.persist(range),
                    OpKind::Sync => {
                        let owed = self.in_flight[index].owed;
                        self.persist(owed.or(landed).and(self.dirty));
                    }
                    _ => {}
                }
                match (reached, transfers) {
                    (false, _) => Err(Errno::EFAULT),
                    (true, true) => Ok(len),
                    (true, false) => Ok(0),
                }
            }
            Outcome::Short { bytes } => {
                let whole = bytes.is_multiple_of(self.shape.granule);
                if !transfers || bytes == 0 || bytes >= len || !whole {
                    return false;
                }
                let head = SectorSet::range(key.sector, bytes / 512);
                if !self.in_flight[index].landed.minus(head).is_empty() {
                    return false;
                }
                let part = head.and(left);
                let reached = part.is_empty() || self.land(index, part, memory);
                if key.kind == OpKind::StableWrite {
                    self.persist(head);
                }
                self.cut_short.push((key, key.sector + bytes / 512));
                if reached { Ok(bytes) } else { Err(Errno::EFAULT) }
            }
            Outcome::Failed { errno, landed, forgot } => {
                let errno = Errno(errno);
                let transient = errno.is_transient() || errno == Errno::EOPNOTSUPP;
                if transient && !self.in_flight[index].landed.is_empty() {
                    return false;
                }
                let part = landed.and(left);
                if !transient && !part.is_empty() && key.kind != OpKind::Read {
                    self.land(index, part, memory);
                }
                if !transient {
                    match key.kind {
                        OpKind::Sync => {
                            forgets = forgot.and(self.shape.part(key.device));
                            self.syncs_failed += 1;
                        }
                        OpKind::StableWrite => {
                            forgets = forgot.and(range);
                            self.syncs_failed += 1;
                        }
                        _ => {}
                    }
                }
                Err(errno)
            }
        };
        let op = self.in_flight.swap_remove(index);
        let buffer = match op.submission.op {
            Op::Read { into, .. } => Some(into),
            Op::Write { from, .. } => Some(from),
            _ => None,
        };
        let completion = Completion { token: op.submission.token, result, buffer };
        if op.orphaned {
            return true;
        }
        let landed = if key.kind == OpKind::Read { SectorSet::EMPTY } else { op.landed };
        let ready = Ready { completion, landed, forgot: forgets };
        self.ready[lane_index(key.device, key.lane)].push_back(ready);
        true
    }

    fn persist(&mut self, set: SectorSet) {
        let set = set.and(self.dirty);
        copy(&self.cache, &mut self.medium, set);
        self.clean(set);
        for op in &mut self.in_flight {
            if op.key.kind == OpKind::Sync {
                op.owed = op.owed.minus(set);
            }
        }
    }

    fn clean(&mut self, set: SectorSet) {
        self.dirty = self.dirty.minus(set);
        self.taken = self.taken.minus(set);
    }

    fn forget(&mut self, set: SectorSet) {
        let owed = self.in_flight.iter().fold(SectorSet::EMPTY, |owed, op| owed.or(op.owed));
        let set = set.and(self.dirty).minus(owed);
        self.clean(set);
        self.forgotten = self.forgotten.or(set);
    }

    /// Writes dirty sectors back to the medium, unasked. False if none of them is dirty.
    pub fn write_back(&mut self, set: SectorSet) -> bool {
        let set = set.and(self.dirty);
        self.persist(set);
        !set.is_empty()
    }

    /// Evicts forgotten sectors: reads see the medium again. False if none of them is forgotten.
    pub fn evict(&mut self, set: SectorSet) -> bool {
        let set = set.and(self.forgotten);
        copy(&self.medium, &mut self.cache, set);
        self.forgotten = self.forgotten.minus(set);
        !set.is_empty()
    }

    /// One device's backend dies. What it had in flight stays as far as it has landed; no DMA
    /// happens any more. If somebody `told` the guest of a failure, forgotten sectors are evicted;
    /// else they are dirty again.
    pub fn backend_kill(&mut self, device: u8, told: bool) {
        self.in_flight.retain(|op| op.key.device != device);
        self.orphans.retain(|op| op.key.device != device);
        for lane in 0..4 {
            self.ready[lane_index(device, lane)].clear();
        }
        let forgotten = self.forgotten.and(self.shape.part(device));
        if told {
            self.evict(forgotten);
        } else {
            self.forgotten = self.forgotten.minus(forgotten);
            self.dirty = self.dirty.or(forgotten);
            // Whoever comes next owes what was completed: nobody was told otherwise.
            self.taken = self.taken.or(forgotten);
        }
    }

    /// The power goes: dirty sectors in `survivors` reach the medium, the others are lost, and with
    /// them everything that was in flight.
    pub fn power_loss(&mut self, survivors: SectorSet) {
        self.persist(survivors.and(self.dirty));
        let lost = self.dirty.or(self.forgotten);
        copy(&self.medium, &mut self.cache, lost);
        (self.dirty, self.taken, self.forgotten) = Default::default();
        self.in_flight.clear();
        self.orphans.clear();
        self.ready.iter_mut().for_each(VecDeque::clear);
        debug_assert!(self.cache == self.medium, "a power loss leaves nothing but the medium");
    }

    /// Leaves some of what a device has in flight to itself, and forgets the rest: it moves later
    /// all the same, and nobody hears of it. Only a wrong device does this. Either `reads` go on,
    /// into whatever their memory has become; or the other operations do, with data of their own.
    pub fn orphan(&mut self, device: u8, reads: bool, memory: Ram<'_>) {
        let all = std::mem::take(&mut self.in_flight);
        let (mut orphans, others): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|op| op.key.device == device);
        self.in_flight = others;
        orphans.retain(|op| (op.key.kind == OpKind::Read) == reads);
        for op in &mut orphans {
            op.orphaned = true;
            if let Op::Write { from, .. } = &mut op.submission.op {
                let mut bytes = Bounce::zeroed(from.len() as usize);
                if from.read_at(&memory, 0, bytes.as_mut_slice()).is_ok() {
                    *from = Buffer::Bounce(bytes);
                }
            }
        }
        self.orphans.append(&mut orphans);
        for lane in 0..4 {
            self.ready[lane_index(device, lane)].clear();
        }
    }

    /// Lets the orphans move again, now and then.
    #[cold]
    fn readmit(&mut self) {
        if self.submitted.is_multiple_of(6) {
            self.in_flight.append(&mut self.orphans);
        }
    }

    /// Takes what is dirty in a device's part back to what the medium holds. Only a wrong device
    /// does this.
    pub(crate) fn drop_cache(&mut self, device: u8) {
        let lost = self.dirty.and(self.shape.part(device));
        copy(&self.medium, &mut self.cache, lost);
        self.clean(lost);
    }

    /// Moves a device's whole part up by one sector. Only a wrong disk does this.
    pub(crate) fn shift_part(&mut self, device: u8) {
        let start = self.shape.base(device) as usize * SECTOR;
        let end = start + self.shape.capacity as usize * SECTOR;
        self.medium.copy_within(start..end, start + SECTOR);
        self.cache.copy_within(start..end, start + SECTOR);
    }

    /// Makes the syncs in flight forget one of the sectors they owe. Only a wrong disk does this.
    pub(super) fn neglect_one(&mut self) {
        for op in &mut self.in_flight {
            if let Some(sector) = op.owed.iter().next() {
                op.owed.remove(sector);
            }
        }
    }

    /// Makes the syncs in flight forget what holds zeroes. Only a wrong disk does this.
    pub(super) fn neglect_zeroes(&mut self) {
        for op in &mut self.in_flight {
            for sector in op.owed.iter() {
                let at = sector as usize * SECTOR;
                if self.cache[at..at + SECTOR].iter().all(|&byte| byte == 0) {
                    op.owed.remove(sector);
                }
            }
        }
    }

    /// Changes the sector behind a device's part. Only a wrong disk does this.
    pub(super) fn spill(&mut self, device: u8) {
        let behind = (self.shape.base(device) + self.shape.capacity) as usize * SECTOR;
        self.cache[behind..behind + SECTOR].fill(0);
    }

    /// Puts a sector's content into the cache, or behind it. Only a wrong device does this.
    pub(crate) fn put(&mut self, device: u8, sector: u32, bytes: &[u8; SECTOR], behind: bool) {
        let sector = self.shape.base(device) + sector;
        let at = sector as usize * SECTOR;
        let image = if behind { &mut self.medium } else { &mut self.cache };
        image[at..at + SECTOR].copy_from_slice(bytes);
        if !behind {
            self.dirty.insert(sector);
        }
    }

    /// How many transfers were resumed where a short one had stopped.
    #[must_use]
    pub fn resumed(&self) -> u32 {
        self.resumed
    }

    /// A chain of all bytes of medium and cache, for comparing worlds.
    #[must_use]
    pub fn digest(&self) -> u64 {
        let words = self.medium.as_chunks::<8>().0.iter().chain(self.cache.as_chunks::<8>().0);
        words.fold(0, |hash, word| {
            crate::prng::mix(hash ^ u64::from_le_bytes(*word)).wrapping_add(1)
        })
    }
}

#[inline]
fn lane_index(device: u8, lane: u8) -> usize {
    usize::from(device) * 4 + usize::from(lane)
}

/// Copies whole sectors from one image to another.
fn copy(from: &[u8], to: &mut [u8], set: SectorSet) {
    for sector in set.iter() {
        let bytes = sector as usize * SECTOR..(sector as usize + 1) * SECTOR;
        to[bytes.clone()].copy_from_slice(&from[bytes]);
    }
}

