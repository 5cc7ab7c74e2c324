//! The notification dance: how a queue finds chains without being told of each, and without missing
//! the last one.
//!
//! While it takes chains it wants no kicks. When it finds none it asks for the next kick and then
//! *looks again*, for the driver may have published between the last look and the asking, and will
//! then not kick. Each move is a step of its own, so that a simulator can let the driver act
//! between any two. What is done with a chain is the queue's business, and so is when it takes
//! none.

use virtio_queue::{DescriptorChain, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory};

/// What the next step on the ring is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RingPoll {
    /// Nothing, until a kick.
    Idle,
    /// Ask for no kicks.
    Disable,
    /// Take one chain.
    Take,
    /// Ask for the next kick.
    Enable,
    /// Look whether something was published before the asking was seen.
    Recheck,
}

/// What came of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PollStep {
    /// There was none to take.
    Nothing,
    /// It was taken.
    Moved,
    /// The ring makes no sense.
    Broken,
    /// The queue has to look for a chain. If there is none, the next step is [`RingPoll::Enable`].
    Take,
}

/// What a look at the ring found.
pub(crate) enum Found<C> {
    /// A chain.
    Chain(C),
    /// Nothing.
    Nothing,
    /// The ring makes no sense.
    Broken,
}

impl RingPoll {
    /// Takes the next step. `kicked` is whether a kick came since notifications were last disabled.
    #[inline]
    pub(crate) fn step<M: GuestMemory>(
        &mut self,
        kicked: &mut bool,
        ring: &mut Queue,
        memory: &M,
    ) -> PollStep {
        let sound = match *self {
            RingPoll::Idle if !*kicked => return PollStep::Nothing,
            RingPoll::Take => return PollStep::Take,
            RingPoll::Idle | RingPoll::Disable => {
                *kicked = false;
                *self = RingPoll::Take;
                ring.disable_notification(memory).is_ok()
            }
            RingPoll::Enable => {
                *self = RingPoll::Recheck;
                // Its own second look is not used: ours comes after its fence too, in a step of its
                // own.
                ring.enable_notification(memory).is_ok()
            }
            RingPoll::Recheck => {
                let Ok(published) = ring.avail_idx(memory, std::sync::atomic::Ordering::Acquire)
                else {
                    return PollStep::Broken;
                };
                match published.0.wrapping_sub(ring.next_avail()) {
                    0 => *self = RingPoll::Idle,
                    ahead if ahead <= ring.size() => *self = RingPoll::Disable,
                    // Not left to the look at the ring that would follow: by then the index may be
                    // right again, for a driver can have laid it where we ask for kicks, and we
                    // would dance with ourselves for ever (VS-10).
                    _ => return PollStep::Broken,
                }
                true
            }
        };
        if sound { PollStep::Moved } else { PollStep::Broken }
    }
}

/// The next chain, if there is one. `iter` reports what `pop_descriptor_chain` would swallow: a
/// ring that is not there, or an `avail.idx` that is too far ahead (VS-10).
#[inline]
pub(crate) fn next_chain<'m, M: GuestMemory>(
    ring: &mut Queue,
    memory: &'m M,
) -> Found<DescriptorChain<&'m M>> {
    let chain = match ring.iter(memory) {
        Ok(mut chains) => chains.next(),
        Err(_) => return Found::Broken,
    };
    match chain {
        Some(chain) if chain.head_index() >= ring.size() => Found::Broken,
        Some(chain) => Found::Chain(chain),
        None if entry_is_readable(ring, memory) => Found::Nothing,
        None => Found::Broken,
    }
}

/// Whether something was published that was not taken. What cannot be read is for the next step to
/// report.
pub(crate) fn has_more<M: GuestMemory>(ring: &Queue, memory: &M) -> bool {
    let published = ring.avail_idx(memory, std::sync::atomic::Ordering::Acquire);
    published.is_ok_and(|published| published.0 != ring.next_avail())
}

/// Whether the ring's next entry can be read at all: the iterator ends alike when there is none and
/// when it cannot read it.
fn entry_is_readable<M: GuestMemory>(ring: &Queue, memory: &M) -> bool {
    let entry = 4 + 2 * u64::from(ring.next_avail() & (ring.size() - 1));
    GuestAddress(ring.avail_ring())
        .checked_add(entry)
        .is_some_and(|address| memory.read_obj::<u16>(address).is_ok())
}
