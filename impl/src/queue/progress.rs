//! The next step of a request: the operation it submits, and the consequences of the result.
//!
//! A request has one operation in the host's hands at a time. Short transfers continue where they
//! stopped, in whole granules, so that nothing takes effect twice; operations that end with `EINTR`
//! or `EAGAIN` are repeated a bounded number of times in a row; every other error ends that
//! request, and no other.

use super::BlockQueue;
use super::outcome::{Outcome, outcome};
use crate::buffer::{Buffer, cut};
use crate::disk::{Op, Submission};
use crate::errno::Errno;
use crate::plan::{self, Move};
use crate::slots::{Kind, Place, Slot};
use crate::virtio::Ring;
use crate::wire::S_OK;
use vm_memory::GuestMemory;

/// Maximum number of completions in a row without progress before a request fails.
pub(super) const MAX_RETRIES: u8 = 200;

impl BlockQueue {
    /// Plans the next operation of the request in `slot`, or ends it if there is none.
    pub(super) fn advance<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M, slot: Slot) {
        assert!(!self.stopped, "a reset ends every request");
        let request = self.slots.get(slot);
        assert!(
            request.done <= request.extents[request.at].len,
            "slot {slot} went past its extent"
        );
        if request.done == request.extents[request.at].len {
            self.unlock(slot);
            let request = self.slots.get_mut(slot);
            request.at += 1;
            request.done = 0;
            if request.at == request.extents.len() {
                return self.all_done(ring, memory, slot);
            }
        }
        if self.has_lock(slot) {
            self.plan(slot);
        }
    }

    /// Plans the next operation of a request that holds the locks it needs.
    pub(super) fn plan(&mut self, slot: Slot) {
        let limits = self.shared.limits();
        let request = self.slots.get_mut(slot);
        assert!(request.patch.is_none(), "slot {slot} has a granule to write back first");
        let (extent, done) = (&request.extents[request.at], request.done);
        request.doing = match request.kind {
            Kind::In => plan::read(limits, extent, done),
            Kind::Out => plan::write(limits, extent, done),
            Kind::Discard => plan::discard(limits, extent, done),
            Kind::WriteZeroes => plan::write_zeroes(limits, extent, done, request.zero_by_write),
            Kind::Flush | Kind::InternalFlush => unreachable!("a flush has no extents"),
        };
        self.make_ready(slot);
    }

    pub(super) fn make_ready(&mut self, slot: Slot) {
        assert!(!self.stopped, "a reset hands nothing over");
        self.slots.get_mut(slot).place = Place::Ready;
        self.host.push(slot);
    }

    /// Ends a request whose operations have all succeeded; a write-through write waits for a sync
    /// first.
    fn all_done<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M, slot: Slot) {
        let request = self.slots.get(slot);
        assert!(!request.locked, "a request that has ended holds no range");
        match request.kind {
            // Made stable by a sync that starts from now on, which writes of all queues share
            // (BLK-D-29, BLK-D-30, AMB-10).
            Kind::Out | Kind::WriteZeroes if request.write_through => {
                self.join_flush_group(ring, memory, slot);
            }
            _ => self.answer(ring, memory, slot, S_OK),
        }
    }

    /// Turns the planned operation of `slot` into a submission.
    pub(super) fn submission(&mut self, slot: Slot) -> Submission {
        if self.slots.get(slot).doing == Move::Sync {
            self.start_sync(slot);
        }
        let request = self.slots.get_mut(slot);
        assert_eq!(request.place, Place::Ready, "slot {slot} has an operation to hand over");
        request.place = Place::Host;
        let op = match request.doing {
            Move::Direct { offset, len } => {
                let mut ranges = self.pool.ranges(request.data.len());
                if request.done == 0 && u64::from(len) == request.extents[0].len {
                    ranges.extend_from_slice(&request.data);
                } else {
                    cut(&request.data, request.done as u32, len, &mut ranges);
                }
                let buffer = Buffer::Guest(ranges);
                match request.kind {
                    Kind::In => Op::Read { offset, into: buffer },
                    _ => Op::Write { offset, from: buffer },
                }
            }
            Move::Around { offset, len } => {
                let bounce = self.pool.bounce(len as usize);
                Op::Read { offset, into: Buffer::Bounce(bounce) }
            }
            Move::PatchRead { offset, .. } => {
                let bounce = self.pool.bounce(self.shared.limits().granule as usize);
                Op::Read { offset, into: Buffer::Bounce(bounce) }
            }
            Move::PatchWrite { offset, .. } => {
                let patch = request.patch.take().expect("the granule was read and patched");
                Op::Write { offset, from: Buffer::Bounce(patch) }
            }
            Move::ZeroWrite { offset, len } => {
                let mut bounce = self.pool.bounce(len as usize);
                bounce.as_mut_slice().fill(0);
                Op::Write { offset, from: Buffer::Bounce(bounce) }
            }
            Move::Zeroes { offset, len } => {
                let may_unmap = request.extents[request.at].may_unmap;
                Op::WriteZeroes { offset, len, may_unmap }
            }
            Move::Discard { offset, len } => Op::Discard { offset, len },
            Move::Sync => Op::Sync,
        };
        Submission { token: self.slots.token(slot), op }
    }

    /// Continues a request whose operation came back with `result`.
    pub(super) fn on_completion<M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &M,
        slot: Slot,
        result: Result<u32, Errno>,
        buffer: Option<Buffer>,
    ) {
        assert!(!self.stopped, "after a stop completions only end requests");
        let granule = self.shared.limits().granule;
        let request = self.slots.get_mut(slot);
        // Whatever the outcome, the operation is no longer in the host's hands.
        request.place = Place::Ready;
        if request.doing == Move::Sync {
            return self.sync_came_back(ring, memory, slot, result);
        }
        let (outcome, buffer) = outcome(request, memory, granule, result, buffer);
        self.keep_buffer(buffer);
        let request = self.slots.get_mut(slot);
        if !matches!(outcome, Outcome::Retry) {
            request.retries = 0;
        }
        match outcome {
            Outcome::Done(bytes) => {
                request.done += bytes;
                self.advance(ring, memory, slot);
            }
            Outcome::Retry if request.retries < MAX_RETRIES => {
                request.retries += 1;
                self.make_ready(slot);
            }
            Outcome::WriteBack => self.make_ready(slot),
            Outcome::Enough => {
                self.unlock(slot);
                self.answer(ring, memory, slot, S_OK);
            }
            Outcome::WriteZeroesOut => {
                request.zero_by_write = true;
                self.plan(slot);
            }
            Outcome::Retry | Outcome::Failed => {
                // Only this request fails, whatever the error was: no write has lost data that
                // completed before it (`Harm`).
                let patch = request.patch.take().map(Buffer::Bounce);
                self.keep_buffer(patch);
                self.unlock(slot);
                self.fail(ring, memory, slot);
            }
        }
    }

    pub(super) fn keep_buffer(&mut self, buffer: Option<Buffer>) {
        if let Some(buffer) = buffer {
            self.pool.keep(buffer);
        }
    }
}
