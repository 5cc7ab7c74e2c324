//! The notification dance: how the queue finds chains without being told of each, and without missing the last one.
//!
//! While it takes chains it wants no kicks. When it finds none it asks for the next kick and then *looks again*, for the driver may have
//! published between the last look and the asking, and will then not kick. Each move is a step of its own, so that a simulator can let the
//! driver act between any two.

use super::BlockQueue;
use virtio_queue::{Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory};

/// What the next step on the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dance {
    /// Nothing, until a kick.
    Asleep,
    /// Ask for no kicks.
    Disable,
    /// Take one chain.
    Take,
    /// Ask for the next kick.
    Arm,
    /// Look whether something was published before the asking was seen.
    LookAgain,
}

/// What a look at the ring found.
enum Found {
    /// A chain, which has been taken in.
    Chain,
    /// Nothing.
    Nothing,
    /// The ring makes no sense.
    Broken,
}

impl BlockQueue {
    /// Takes the next step; `false` iff there is none.
    pub(super) fn dance<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M) -> bool {
        match self.dance {
            Dance::Asleep if !self.kicked => return false,
            Dance::Asleep | Dance::Disable => {
                self.kicked = false;
                self.dance = Dance::Take;
                self.broken |= ring.disable_notification(memory).is_err();
            }
            Dance::Take => {
                // A request in flight occupies a place in the ring, unless the driver published its head twice.
                if self.slots.live() >= usize::from(ring.size()) {
                    return false;
                }
                if !self.again.is_empty() && self.take_again(ring, memory) {
                    return true;
                }
                match self.take_chain(ring, memory) {
                    Found::Chain => {}
                    Found::Nothing => self.dance = Dance::Arm,
                    Found::Broken => self.broken = true,
                }
            }
            Dance::Arm => {
                // Its own second look is not used: ours comes after its fence too, in a step of its own.
                self.broken |= ring.enable_notification(memory).is_err();
                self.dance = Dance::LookAgain;
            }
            Dance::LookAgain => {
                match ring.avail_idx(memory, std::sync::atomic::Ordering::Acquire) {
                    Ok(published) if published.0 == ring.next_avail() => self.dance = Dance::Asleep,
                    Ok(_) => self.dance = Dance::Disable,
                    Err(_) => self.broken = true,
                }
            }
        }
        true
    }

    /// Whether the next step on the ring asks for kicks: nothing was found, and the driver's next request will be one to be woken for.
    pub fn is_about_to_sleep(&self) -> bool {
        self.dance == Dance::Arm && !self.stopped && !self.paused && !self.broken
    }

    /// Looks once more before it asks for kicks, for whoever expects the driver to be quick. `true` iff something was published; the next
    /// steps take it.
    pub fn look_before_sleep<M: GuestMemory>(&mut self, ring: &Queue, memory: &M) -> bool {
        assert!(self.is_about_to_sleep(), "only between finding nothing and asking for kicks");
        // What cannot be read is for the next step to report.
        let published = ring.avail_idx(memory, std::sync::atomic::Ordering::Acquire);
        let found = published.is_ok_and(|published| published.0 != ring.next_avail());
        if found {
            self.dance = Dance::Take;
        }
        found
    }

    /// Takes one chain, if there is one. `iter` reports what `pop_descriptor_chain` would swallow: a ring that is not there, or an
    /// `avail.idx` that is too far ahead (VS-10).
    fn take_chain<M: GuestMemory>(&mut self, ring: &mut Queue, memory: &M) -> Found {
        let chain = match ring.iter(memory) {
            Ok(mut chains) => chains.next(),
            Err(_) => return Found::Broken,
        };
        match chain {
            Some(chain) if chain.head_index() >= ring.size() => Found::Broken,
            Some(chain) => {
                let head = chain.head_index();
                self.take_in(ring, memory, head, chain);
                Found::Chain
            }
            None if entry_is_readable(ring, memory) => Found::Nothing,
            None => Found::Broken,
        }
    }
}

/// Whether the ring's next entry can be read at all: the iterator ends alike when there is none and when it cannot read it.
fn entry_is_readable<M: GuestMemory>(ring: &Queue, memory: &M) -> bool {
    let entry = 4 + 2 * u64::from(ring.next_avail() & (ring.size() - 1));
    GuestAddress(ring.avail_ring())
        .checked_add(entry)
        .is_some_and(|address| memory.read_obj::<u16>(address).is_ok())
}
