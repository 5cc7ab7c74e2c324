//! What a front-end has said about one ring: plain data, and the descriptor of its kick.
//!
//! A ring is served from when everything is said about it and it is enabled until it is stopped; a
//! front-end may have published before, so its first kick is not waited for. What is said about a
//! ring that is served counts from its next start on, but for the descriptors and whether it is
//! enabled.

use super::lane::RingError;
use crate::shared::Shared;
use crate::virtio::{QueueLayout, Ring};
use crate::wire::F_EVENT_IDX;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};
use vm_memory::GuestMemory;

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
    ) -> Result<Ring, RingError> {
        let features = shared.negotiated();
        let most = shared.config().queue_size;
        if !self.size.is_power_of_two() || self.size > most {
            return Err(RingError::Size { size: self.size, most });
        }
        if features == 0 {
            return Err(RingError::Features);
        }
        let parts = self.parts.ok_or(RingError::Memory)?;
        let Parts { descriptors, available, used } = parts;
        let mut ring = Ring::new(most);
        ring.place(QueueLayout { size: self.size, descriptors, available, used })
            .map_err(|_| RingError::Memory)?;
        if !ring.is_in(memory) {
            return Err(RingError::Memory);
        }
        let used_idx = ring.used_idx(memory).ok_or(RingError::Memory)?;
        ring.set_position(self.base, used_idx);
        ring.set_event_idx(features & F_EVENT_IDX != 0);
        Ok(ring)
    }
}
