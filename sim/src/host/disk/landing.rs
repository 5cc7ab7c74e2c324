//! Effects and completion of an operation: it lands sector by sector, at chosen times, and then
//! ends with one of its outcomes.

use powerfail_device::{Completion, Errno, Op};

use super::errno::Damage;
use super::op_kind::OpKind;
use super::operation::{OpKey, Outcome, Ready};
use super::sim::{SimDisk, lane_index};
use crate::base::sectors::SectorSet;
use crate::guest::memory::Ram;
use crate::guest::payload::SECTOR;

impl SimDisk {
    /// Lands sectors of an operation in flight: their data is copied now. Returns `false` if the
    /// operation does not exist, is a sync, or has nothing of `set` left to land.
    pub fn effect(&mut self, key: OpKey, set: SectorSet, memory: Ram<'_>) -> bool {
        let Some(index) = self.find(key) else { return false };
        let part = set.and(key.range()).minus(self.in_flight[index].landed);
        if part.is_empty() || key.kind == OpKind::Sync {
            return false;
        }
        self.land(index, part, memory)
    }

    /// Copies the data of `part` and marks it landed. Returns `false` if guest memory was not
    /// accessible.
    pub(super) fn land(&mut self, index: usize, part: SectorSet, memory: Ram<'_>) -> bool {
        let op = &mut self.in_flight[index];
        let first = op.key.sector;
        let mut left = part;
        let mut reached = true;
        // Adjacent sectors are copied together.
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
            // A sync must still cover the older content that was taken, and only persisting the new
            // content does so; therefore `taken` stays. A forgotten sector is overwritten.
            self.dirty = self.dirty.or(part);
            self.forgotten = self.forgotten.minus(part);
            self.note(|record| record.changed(part));
        }
        reached
    }

    /// Completes an operation. Returns `false`, and changes nothing, if it does not exist or cannot
    /// have this outcome.
    pub fn complete(&mut self, key: OpKey, outcome: Outcome, memory: Ram<'_>) -> bool {
        let Some(index) = self.find(key) else { return false };
        let range = key.range();
        let left = range.minus(self.in_flight[index].landed);
        let transfers = matches!(key.kind, OpKind::Read | OpKind::Write);
        let len = key.sectors * SECTOR as u32;
        let mut forgets = SectorSet::EMPTY;
        let result = match outcome {
            Outcome::Ok { landed } => {
                let part = if key.kind == OpKind::Discard { landed.and(left) } else { left };
                let reached = part.is_empty() || self.land(index, part, memory);
                if key.kind == OpKind::Sync {
                    let owed = self.in_flight[index].owed;
                    self.persist(owed.or(landed).and(self.dirty));
                    let nth = self.in_flight[index].nth;
                    self.note(|record| record.sync_done(nth));
                }
                match (reached, transfers) {
                    (false, _) => Err(Errno::EFAULT),
                    (true, true) => Ok(len),
                    (true, false) => Ok(0),
                }
            }
            Outcome::Short { bytes } => {
                // Of the sector that it ends in, nothing has landed for certain, and nothing does.
                if !transfers || bytes >= len {
                    return false;
                }
                let head = SectorSet::range(key.sector, bytes / 512);
                if !self.in_flight[index].landed.minus(head).is_empty() {
                    return false;
                }
                let part = head.and(left);
                let reached = part.is_empty() || self.land(index, part, memory);
                self.cut_short.push((key, key.sector + bytes / 512));
                if reached { Ok(bytes) } else { Err(Errno::EFAULT) }
            }
            Outcome::Failed { errno, landed, forgot } => {
                match errno.damage(key.kind) {
                    // A failed read may have filled memory, which the guest must not use.
                    Damage::None if key.kind == OpKind::Read && !errno.is_put_off() => {}
                    Damage::None if !self.in_flight[index].landed.is_empty() => return false,
                    Damage::None => {}
                    Damage::Landed => {
                        let part = landed.and(left);
                        if !part.is_empty() {
                            self.land(index, part, memory);
                        }
                    }
                    Damage::Forgot => {
                        if self.shape.forgets {
                            forgets = forgot.and(self.shape.part(key.device));
                        }
                        self.syncs_failed += 1;
                    }
                }
                Err(Errno(errno.0))
            }
        };
        let op = self.in_flight.swap_remove(index);
        let buffer = match op.submission.op {
            Op::Read { into, .. } => Some(into),
            Op::Write { from, .. } => Some(from),
            _ => None,
        };
        let completion = Completion { token: op.submission.token, result, buffer };
        if !self.orphans.is_empty() {
            self.readmit(range);
        }
        if op.orphaned {
            return true;
        }
        let landed = if key.kind == OpKind::Read { SectorSet::EMPTY } else { op.landed };
        let ready = Ready { completion, kind: key.kind, landed, forgot: forgets };
        self.ready[lane_index(key.device, key.lane)].push_back(ready);
        true
    }

    /// Puts orphans back in flight: reads, and those that overlap the range of an operation that
    /// has just completed.
    #[cold]
    fn readmit(&mut self, passed: SectorSet) {
        for orphan in std::mem::take(&mut self.orphans) {
            let again =
                orphan.key.kind == OpKind::Read || !orphan.key.range().and(passed).is_empty();
            if again {
                self.in_flight.push(orphan);
            } else {
                self.orphans.push(orphan);
            }
        }
    }
}
