//! Carrying on for a backend that died: the heads it had taken and not used are taken again, before
//! any new one.
//!
//! Which heads those are says the [record](crate::InflightRecord). Their places in the available
//! ring may have been overwritten since, so their chains are walked from the descriptor table, as
//! the driver left them.

use super::BlockQueue;
use crate::inflight::{InflightError, InflightMemory, InflightRecord};
use crate::slots::Kind;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Queue, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory};

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
        ring: &mut Queue,
        memory: &M,
    ) -> Result<(), InflightError> {
        let fresh =
            self.slots.iter_live().all(|slot| self.slots.get(slot).kind == Kind::InternalFlush);
        assert!(fresh, "a record begins with nothing in flight");
        self.record = None;
        let used_idx = ring.used_idx(memory, Ordering::Acquire).map_err(|_| InflightError::Ring)?.0;
        let (record, heads) = InflightRecord::open(record, ring.size(), used_idx)?;
        self.record = Some(record);
        if let Some(heads) = heads {
            // All heads taken were used or are in flight, so these two say where the forerunner
            // was.
            ring.set_next_used(used_idx);
            ring.set_next_avail(used_idx.wrapping_add(heads.len() as u16));
            self.again = heads.into();
            self.kicked = true;
            self.signal = true;
        }
        Ok(())
    }

    /// Keeps its record in `record` from now on, which holds what the queue's record held: a copy
    /// of it, for a copy of the queue, or the same on another mapping.
    ///
    /// # Panics
    /// If that is no record of a queue of this size.
    pub fn move_record(&mut self, record: Arc<dyn InflightMemory>, ring: &Queue) {
        self.record = Some(InflightRecord::resumed(record, ring.size()));
    }

    /// Whether it keeps a record of what is in flight.
    pub fn keeps_record(&self) -> bool {
        self.record.is_some()
    }

    /// Keeps no record any more.
    pub fn keep_no_record(&mut self) {
        self.record = None;
    }

    /// Takes the oldest head that a dead backend had in flight; `false` if there is none left.
    #[cold]
    #[inline(never)]
    pub(super) fn take_again<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M) -> bool {
        let Some(head) = self.again.pop_front() else { return false };
        let table = GuestAddress(ring.desc_table());
        let chain = Chain {
            memory,
            table,
            len: ring.size(),
            next: head,
            left: ring.size(),
            bytes: 0,
            indirect: false,
        };
        self.take_in(ring, memory, head, chain);
        true
    }
}

/// The descriptors of a chain whose head did not come from the available ring; ends silently where
/// `virtio_queue`'s iterator does.
struct Chain<'a, M> {
    memory: &'a M,
    table: GuestAddress,
    /// Number of descriptors in the table, and how many may still come.
    len: u16,
    left: u16,
    next: u16,
    bytes: u32,
    indirect: bool,
}

impl<M: GuestMemory> Chain<'_, M> {
    fn enter(&mut self, table: Descriptor) -> Option<()> {
        if self.indirect || !table.len().is_multiple_of(16) {
            return None;
        }
        self.len = u16::try_from(table.len() / 16).ok()?;
        self.left = self.len;
        self.table = table.addr();
        self.next = 0;
        self.indirect = true;
        Some(())
    }
}

impl<M: GuestMemory> Iterator for Chain<'_, M> {
    type Item = Descriptor;

    fn next(&mut self) -> Option<Descriptor> {
        if self.left == 0 || self.next >= self.len {
            return None;
        }
        let address = self.table.checked_add(16 * u64::from(self.next))?;
        let descriptor: Descriptor = self.memory.read_obj(address).ok()?;
        if descriptor.refers_to_indirect_table() {
            self.enter(descriptor)?;
            return self.next();
        }
        self.bytes = self.bytes.checked_add(descriptor.len())?;
        self.left = if descriptor.has_next() { self.left - 1 } else { 0 };
        self.next = descriptor.next();
        Some(descriptor)
    }
}
