//! Carrying on for a backend that died: the heads it had taken and not used are taken again, before
//! any new one.
//!
//! Which heads those are says the [record](crate::InflightRecord). Their places in the available
//! ring may have been overwritten since, so their chains are walked from the descriptor table, as
//! the driver left them.

use super::BlockQueue;
use crate::inflight::{InflightError, InflightMemory, InflightRecord};
use crate::slots::Kind;
use crate::virtio::Ring;
use std::sync::Arc;
use vm_memory::GuestMemory;

impl BlockQueue {
    /// Keeps a record of what is in flight in `record` from now on, and goes on where the record
    /// ends.
    ///
    /// Memory that was never used (all zero) becomes an empty record, and the ring stays as the
    /// transport set it. In any other the queue finds what its forerunner left: it sets the ring's
    /// indices from the used ring and the record, takes the heads in flight again in the order in
    /// which they were taken first, and signals the driver, which may be owed it. To be called on a
    /// queue that has taken nothing, with its ring in place, before it is stepped; and again after
    /// each [`restart`](BlockQueue::restart), for the driver may have placed it anew.
    ///
    /// # Errors
    /// The memory holds what no queue of this size can have written, or the used ring is not there.
    /// Nothing is changed, and no record is kept.
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
            // All heads taken were used or are in flight, so these two say where the forerunner
            // was.
            ring.set_position(used_idx.wrapping_add(heads.len() as u16), used_idx);
            self.resubmit = heads.into();
            self.front.handle_resubmission();
        }
        Ok(())
    }

    /// Keeps its record in `record` from now on, which holds what the queue's record held: a copy
    /// of it, for a copy of the queue, or the same on another mapping.
    ///
    /// # Panics
    /// If that is no record of a queue of this size.
    pub fn move_record(&mut self, record: Arc<dyn InflightMemory>, ring: &Ring) {
        *self.record = Some(InflightRecord::resumed(record, ring.size()));
    }

    /// Whether it keeps a record of what is in flight.
    pub fn keeps_record(&self) -> bool {
        self.record.is_some()
    }

    /// Keeps no record any more.
    pub fn keep_no_record(&mut self) {
        *self.record = None;
    }

    /// Takes the oldest head that a dead backend had in flight; `false` if there is none left.
    #[cold]
    #[inline(never)]
    pub(super) fn resubmit_next<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) -> bool {
        let Some(head) = self.resubmit.pop_front() else { return false };
        let chain = ring.chain_at(memory, head);
        self.take_in(ring, memory, head, chain);
        true
    }
}
