//! A block queue's part in the notification dance: when it takes a chain, and when it does not.

use super::BlockQueue;
use crate::notification::{Found, PollStep, RingPoll, has_more, next_chain};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemory;

/// Most pieces of guest memory that the requests in flight of one queue may hold together before no
/// more are taken: 4 MiB of descriptions. All slots of a ring of 1024 with the longest chains that
/// a driver builds stay below it.
const MOST_PIECES: usize = 1 << 18;

impl BlockQueue {
    /// Takes the next step; `false` iff there is none.
    pub(super) fn ring_poll<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M) -> bool {
        match self.ring_poll.step(&mut self.kicked, ring, memory) {
            PollStep::Nothing => return false,
            PollStep::Moved => {}
            PollStep::Broken => self.broken = true,
            PollStep::Take => {
                // A request in flight occupies a place in the ring, unless the driver published its
                // head twice.
                if self.slots.live() >= usize::from(ring.size()) {
                    return false;
                }
                // What is in flight is bounded in memory too; an answer makes room.
                if self.slots.live() > 0 && self.slots.pieces() >= MOST_PIECES {
                    return false;
                }
                if !self.again.is_empty() && self.take_again(ring, memory) {
                    return true;
                }
                match next_chain(ring, memory) {
                    Found::Chain(chain) => {
                        let head = chain.head_index();
                        self.take_in(ring, memory, head, chain);
                    }
                    Found::Nothing => self.ring_poll = RingPoll::Enable,
                    Found::Broken => self.broken = true,
                }
            }
        }
        true
    }

    /// Whether the next step on the ring asks for kicks: nothing was found, and the driver's next
    /// request will be one to be woken for.
    pub fn is_about_to_sleep(&self) -> bool {
        self.ring_poll == RingPoll::Enable && !self.stopped && !self.paused && !self.broken
    }

    /// Looks once more before it asks for kicks, for whoever expects the driver to be quick. `true`
    /// iff something was published; the next steps take it.
    pub fn look_before_sleep<M: GuestMemory>(&mut self, ring: &Queue, memory: &M) -> bool {
        assert!(self.is_about_to_sleep(), "only between finding nothing and asking for kicks");
        let found = has_more(ring, memory);
        if found {
            self.ring_poll = RingPoll::Take;
        }
        found
    }
}
