//! A queue's end of its ring: notification suppression, what is owed to the driver, and whether the
//! ring is invalid.
//!
//! While the queue takes chains it asks for no kicks. When it finds none it enables kicks and then
//! *rechecks*: the driver may have published between the last look and the enabling, and does not
//! kick then. Each move is a separate step, so that a simulator can let the driver act between
//! any two. The queue decides whether it takes a chain, and what becomes of it.

use super::ring::{Descriptor, Invalid, Ring};
use vm_memory::GuestMemory;

/// The next step on the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RingPoll {
    /// None, until a kick.
    Idle,
    /// Ask for no kicks.
    Disable,
    /// Take one chain.
    Take,
    /// Ask for the next kick.
    Enable,
    /// Look whether a chain was published before the driver saw that kicks are enabled.
    Recheck,
}

/// One queue's end of its ring. The ring itself is lent per call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RingFront {
    poll: RingPoll,
    /// A kick came since kicks were last disabled.
    kicked: bool,
    /// The driver is owed a used buffer notification.
    signal: bool,
    /// The ring is invalid and only a reset helps. Requests in flight still end properly.
    broken: bool,
}

/// The result of a step on the ring.
pub(crate) enum Taken<C> {
    /// There is nothing to do until a kick, or until the queue may take a chain.
    Nothing,
    /// A step was taken.
    Moved,
    /// The chain of this head was taken.
    Chain(u16, C),
}

impl RingFront {
    /// The end of a ring that was not polled yet. A driver may have published before the device was
    /// live, and does not kick again.
    pub(crate) fn new() -> RingFront {
        RingFront { poll: RingPoll::Idle, kicked: true, signal: false, broken: false }
    }

    /// The end of a ring that another device served, which may have owed the driver a signal.
    pub(crate) fn resumed(broken: bool, signal: bool) -> RingFront {
        RingFront { broken, signal, ..RingFront::new() }
    }

    /// The driver kicked.
    pub(crate) fn handle_kick(&mut self) {
        self.kicked = true;
    }

    /// Requests a poll of the ring and a signal to the driver, whether they are due or not.
    pub(crate) fn handle_resubmission(&mut self) {
        self.kicked = true;
        self.signal = true;
    }

    /// Takes one step on a ring that is not [broken](RingFront::is_broken). `may_take` is whether a
    /// chain may be taken.
    #[inline]
    pub(crate) fn step<'m, M: GuestMemory>(
        &mut self,
        ring: &mut Ring,
        memory: &'m M,
        may_take: bool,
    ) -> Taken<impl Iterator<Item = Descriptor> + use<'m, M>> {
        assert!(!self.broken, "an invalid ring is not polled");
        let valid = match self.poll {
            RingPoll::Idle if !self.kicked => return Taken::Nothing,
            RingPoll::Idle | RingPoll::Disable => {
                self.kicked = false;
                self.poll = RingPoll::Take;
                ring.disable_kicks(memory)
            }
            RingPoll::Take if !may_take => return Taken::Nothing,
            RingPoll::Take => match ring.take(memory) {
                Ok(Some((head, chain))) => return Taken::Chain(head, chain),
                Ok(None) => {
                    self.poll = RingPoll::Enable;
                    true
                }
                Err(Invalid) => false,
            },
            RingPoll::Enable => {
                self.poll = RingPoll::Recheck;
                ring.enable_kicks(memory)
            }
            RingPoll::Recheck => match ring.published(memory) {
                Some(0) => {
                    self.poll = RingPoll::Idle;
                    true
                }
                Some(ahead) if ahead <= ring.size() => {
                    self.poll = RingPoll::Disable;
                    true
                }
                // Decided here and not by the next look at the ring: a driver can place `avail.idx`
                // where kicks are enabled, so that it is valid again by then, and this state
                // machine would run without end (VS-10).
                Some(_) | None => false,
            },
        };
        self.broken |= !valid;
        Taken::Moved
    }

    /// Whether the next step takes a chain.
    #[inline]
    pub(crate) fn takes(&self) -> bool {
        self.poll == RingPoll::Take
    }

    /// Whether the next step enables kicks: no chain was found, and the driver's next request will
    /// have to wake the device.
    pub(crate) fn is_about_to_sleep(&self) -> bool {
        self.poll == RingPoll::Enable && !self.broken
    }

    /// Polls once more instead of enabling kicks; `true` iff a chain was published, which the next
    /// steps take. An index that cannot be read is left to the next step.
    pub(crate) fn look_before_sleep<M: GuestMemory>(&mut self, ring: &Ring, memory: &M) -> bool {
        assert!(self.is_about_to_sleep(), "only between finding nothing and enabling kicks");
        let found = ring.published(memory).is_some_and(|published| published != 0);
        if found {
            self.poll = RingPoll::Take;
        }
        found
    }

    /// Records whether the driver is owed a signal for a chain that was put on the used ring.
    /// Called in the same step, so that between steps the ring's whole state is in its indices.
    #[inline]
    pub(crate) fn after_put<M: GuestMemory>(
        &mut self,
        put: Result<(), Invalid>,
        ring: &mut Ring,
        memory: &M,
    ) {
        match put.and_then(|()| ring.wants_signal(memory)) {
            Ok(signal) => self.signal |= signal,
            Err(Invalid) => self.broken = true,
        }
    }

    /// Whether the driver is owed a signal; clears the flag.
    #[inline]
    pub(crate) fn poll_signal(&mut self) -> bool {
        std::mem::take(&mut self.signal)
    }

    /// Whether the ring is invalid and only a reset helps (NEEDS_RESET).
    #[inline]
    pub(crate) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Begins a reset: the driver is owed nothing.
    pub(crate) fn stop(&mut self) {
        self.signal = false;
    }

    /// Asserts that a stopped queue owes its driver no signal.
    pub(crate) fn check(&self, stopped: bool) {
        assert!(!stopped || !self.signal, "no signal is owed once a reset began (2.4)");
    }
}
