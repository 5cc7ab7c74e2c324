//! Resubmission after a crash: the heads that a dead backend had taken and not used are taken
//! again, before any new one.
//!
//! The [in-flight record](crate::InflightRecord) lists those heads. Their entries in the available
//! ring may have been overwritten since, so their chains are walked from the descriptor table, as
//! the driver left them.

use super::BlockQueue;
use crate::inflight::{InflightError, InflightMemory, InflightRecord};
use crate::slots::Kind;
use crate::virtio::Ring;
use std::sync::Arc;
use vm_memory::GuestMemory;

impl BlockQueue {
    /// Keeps an in-flight record in `record` from now on, and continues where that record ends.
    ///
    /// Memory that was never used (all zero) becomes an empty record, and the ring stays as the
    /// transport set it. Any other memory holds the record of a predecessor: the queue sets the
    /// ring's indices from the used ring and the record, resubmits the heads in flight in the order
    /// in which they were first taken, and signals the driver, which may be owed a signal. Call
    /// this on a queue that has taken nothing, with its ring in place, before it is stepped; and
    /// again after each [`restart`](BlockQueue::restart), because the driver may have placed the
    /// ring anew.
    ///
    /// # Errors
    /// The memory holds a record that no queue of this size can have written, or the used ring is
    /// not in guest memory. Nothing is changed, and no record is kept.
    ///
    /// # Panics
    /// If requests are in flight.
    pub fn keep_record<M: GuestMemory>(
        &mut self,
        record: Arc<dyn InflightMemory>,
        ring: &mut Ring,
        memory: &M,
    ) -> Result<(), InflightError> {
        let fresh =
            self.slots.iter_live().all(|slot| self.slots.get(slot).kind == Kind::InternalFlush);
        assert!(fresh, "a record begins with nothing in flight");
        *self.record = None;
        let used_idx = ring.used_idx(memory).ok_or(InflightError::Ring)?;
        let (record, heads) = InflightRecord::open(record, ring.size(), used_idx)?;
        *self.record = Some(record);
        if let Some(heads) = heads {
            assert!(heads.len() <= usize::from(ring.size()), "each head is in flight once");
            // Every head taken was used or is in flight, so these two numbers give the position of
            // the predecessor.
            ring.set_position(used_idx.wrapping_add(heads.len() as u16), used_idx);
            self.resubmit = heads.into();
            self.front.handle_resubmission();
        }
        Ok(())
    }

    /// Moves the record to `record`, which has the same content: a copy of it, for a copy of the
    /// queue, or another mapping of the same memory.
    ///
    /// # Panics
    /// If `record` does not hold a record of a queue of this size.
    pub fn move_record(&mut self, record: Arc<dyn InflightMemory>, ring: &Ring) {
        *self.record = Some(InflightRecord::resumed(record, ring.size()));
    }

    /// Whether the queue keeps an in-flight record.
    pub fn keeps_record(&self) -> bool {
        self.record.is_some()
    }

    /// Stops keeping a record.
    pub fn keep_no_record(&mut self) {
        *self.record = None;
    }

    /// Resubmits the oldest head that a dead backend had in flight; `false` if there is none left.
    #[cold]
    #[inline(never)]
    pub(super) fn resubmit_next<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) -> bool {
        let Some(head) = self.resubmit.pop_front() else { return false };
        let chain = ring.chain_at(memory, head);
        self.take_in(ring, memory, head, chain);
        true
    }
}
