//! The front-end's setup of one ring: plain data, and the kick descriptor.
//!
//! A ring is served from the moment when its setup is complete and it is enabled, until it is
//! stopped; a front-end may have published requests before, so its first kick is not awaited. A
//! change to the setup of a served ring takes effect at the next start, except for the descriptors
//! and the enabled state.

use super::ring_error::RingError;
use crate::shared::Shared;
use crate::virtio::{QueueLayout, Ring};
use crate::wire::F_EVENT_IDX;
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, OwnedFd};
use vm_memory::GuestMemory;

/// The guest addresses of the parts of a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) descriptors: u64,
    pub(super) available: u64,
    pub(super) used: u64,
}

/// One ring as the front-end set it up.
#[derive(Debug, Default)]
pub(super) struct Setup {
    /// As requested; validated at the start.
    pub(super) size: u16,
    pub(super) parts: Option<Parts>,
    /// The available index to continue from.
    pub(super) base: u16,
    pub(super) enabled: bool,
    pub(super) kick: Option<OwnedFd>,
}

/// The result of reading a kick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kick {
    Came,
    /// Another reader has consumed it.
    Gone,
    /// It cannot be read as an eventfd.
    Dead,
}

impl Setup {
    /// The kick, if it should be listened to because the ring is to be served.
    pub(super) fn audible(&self) -> Option<&OwnedFd> {
        self.kick.as_ref().filter(|_| self.enabled && self.parts.is_some())
    }

    /// Clears the kick. Never blocks, for any descriptor.
    pub(super) fn read_kick(&self) -> Kick {
        let Some(kick) = &self.kick else { return Kick::Gone };
        let mut count = [0; 8];
        // An offset of -1 means the current position; an eventfd has none.
        let into = &mut [IoSliceMut::new(&mut count)];
        match preadv2(kick.as_fd(), into, u64::MAX, ReadWriteFlags::NOWAIT) {
            // A host without this call cannot read without blocking; the wakeup itself is the
            // evidence.
            Ok(8) | Err(Errno::NOSYS | Errno::OPNOTSUPP) => Kick::Came,
            Err(Errno::AGAIN | Errno::INTR) => Kick::Gone,
            Ok(_) | Err(_) => Kick::Dead,
        }
    }

    /// The ring, continuing at the last answer that the driver saw.
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
