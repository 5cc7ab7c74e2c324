//! The conditions under which a block queue takes a chain from its ring.

use super::BlockQueue;
use crate::virtio::{Ring, Taken};
use vm_memory::GuestMemory;

/// Maximum number of guest memory ranges that the requests in flight of one queue may hold together
/// before no more are taken: 4 MiB of descriptions. All slots of a ring of 1024 with the longest
/// chains that a driver builds stay below it.
const MOST_PIECES: usize = 1 << 18;

impl BlockQueue {
    /// Takes the next step on the ring; `false` iff there is none.
    #[inline]
    pub(super) fn step_ring<M: GuestMemory>(&mut self, ring: &mut Ring, memory: &M) -> bool {
        assert!(!self.stopped && !self.paused, "a stopped or paused queue takes nothing");
        let may_take = self.front.takes() && self.may_take(ring);
        if may_take && !self.resubmit.is_empty() && self.resubmit_next(ring, memory) {
            return true;
        }
        match self.front.step(ring, memory, may_take) {
            Taken::Nothing => false,
            Taken::Moved => true,
            Taken::Chain(head, chain) => {
                self.take_in(ring, memory, head, chain);
                true
            }
        }
    }

    /// Whether another chain may be taken: a request in flight occupies an entry of the ring,
    /// unless the driver published its head twice, and the memory of the requests in flight is
    /// bounded too. An answer makes room for both.
    #[inline]
    fn may_take(&self, ring: &Ring) -> bool {
        let live = self.slots.live();
        live < usize::from(ring.size()) && (live == 0 || self.slots.pieces() < MOST_PIECES)
    }

    /// Whether the next step on the ring enables kicks: no chain was found, and the driver's next
    /// request will have to wake the device.
    pub fn is_about_to_sleep(&self) -> bool {
        self.front.is_about_to_sleep() && !self.stopped && !self.paused
    }

    /// Polls the ring once more before kicks are enabled, for a driver that is expected to publish
    /// soon. `true` iff a chain was published; the next steps take it.
    ///
    /// # Panics
    /// Unless the queue [is about to sleep](BlockQueue::is_about_to_sleep).
    pub fn look_before_sleep<M: GuestMemory>(&mut self, ring: &Ring, memory: &M) -> bool {
        assert!(self.is_about_to_sleep(), "only between finding nothing and enabling kicks");
        self.front.look_before_sleep(ring, memory)
    }
}
