//! What a front-end has said about one ring: plain data, and the descriptor of its kick.
//!
//! A ring is served from when everything is said about it and it is enabled until it is stopped; a
//! front-end may have published before, so its first kick is not waited for. What is said about a
//! ring that is served counts from its next start on, but for the descriptors and whether it is
//! enabled.

use super::lane::RingError;
use crate::shared::Shared;
use crate::wire::F_EVENT_IDX;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::Ordering;
use virtio_queue::{Queue, QueueT};
use vm_memory::{GuestAddress, GuestMemory};

/// Where the parts of a ring are in guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// One ring as the front-end set it up.
#[derive(Debug, Default)]
pub(super) struct Setup {
    /// As it was asked for; whether there is such a size is judged at the start.
    pub(super) size: u16,
    pub(super) parts: Option<Parts>,
    /// The available index to go on from.
    pub(super) base: u16,
    pub(super) enabled: bool,
    pub(super) kick: Option<OwnedFd>,
}

/// What reading a kick came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kick {
    Came,
    /// Somebody else has read it.
    Gone,
    /// It cannot be read like an eventfd.
    Dead,
}

impl Setup {
    /// The kick, if the ring is to be served: then it is listened to.
    pub(super) fn audible(&self) -> Option<&OwnedFd> {
        self.kick.as_ref().filter(|_| self.enabled && self.parts.is_some())
    }

    /// Empties the kick. Never waits, whatever it is.
    pub(super) fn read_kick(&self) -> Kick {
        let Some(kick) = &self.kick else { return Kick::Gone };
        let mut count = [0; 8];
        // An offset of -1 is none: an eventfd has no position.
        let into = &mut [IoSliceMut::new(&mut count)];
        match preadv2(kick.as_fd(), into, u64::MAX, ReadWriteFlags::NOWAIT) {
            // A host without this call cannot be asked without waiting; that it was woken is known
            // all the same.
            Ok(8) | Err(Errno::NOSYS | Errno::OPNOTSUPP) => Kick::Came,
            Err(Errno::AGAIN | Errno::INTR) => Kick::Gone,
            Ok(_) | Err(_) => Kick::Dead,
        }
    }

    /// The ring, going on where the driver last saw an answer.
    pub(super) fn judge<M: GuestMemory>(
        &self,
        memory: &M,
        shared: &Shared,
    ) -> Result<Queue, RingError> {
        let features = shared.negotiated();
        let most = shared.config().queue_size;
        if !self.size.is_power_of_two() || self.size > most {
            return Err(RingError::Size { size: self.size, most });
        }
        if features == 0 {
            return Err(RingError::Features);
        }
        // `virtio-queue` takes an available ring at 0 for a missing one.
        let parts = self.parts.filter(|parts| parts.available != 0).ok_or(RingError::Memory)?;
        let mut queue = Queue::new(most).map_err(|_| RingError::Size { size: self.size, most })?;
        queue.set_size(self.size);
        let placed = queue
            .try_set_desc_table_address(GuestAddress(parts.descriptors))
            .and_then(|()| queue.try_set_avail_ring_address(GuestAddress(parts.available)))
            .and_then(|()| queue.try_set_used_ring_address(GuestAddress(parts.used)));
        placed.map_err(|_| RingError::Memory)?;
        queue.set_ready(true);
        if !queue.is_valid(memory) {
            return Err(RingError::Memory);
        }
        queue.set_next_avail(self.base);
        let used = queue.used_idx(memory, Ordering::Acquire);
        queue.set_next_used(used.map_err(|_| RingError::Memory)?.0);
        queue.set_event_idx(features & F_EVENT_IDX != 0);
        Ok(queue)
    }
}
