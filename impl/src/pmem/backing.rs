//! The seam: what the device asks of what the memory lies on, and what that answers.
//!
//! What a backing promises:
//!
//! - Every sync that was accepted completes exactly once.
//! - A sync that completes without error has made stable every store that was visible, to whoever
//!   maps the memory, before it was submitted.
//! - One that fails with `EINTR` or `EAGAIN` did nothing. After any other failure it may have
//!   forgotten which stores are not stable.
//!
//! Retrying, sharing and remembering failures are *not* a backing's business.

use crate::disk::Token;
use crate::errno::Errno;

/// What became of one sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// Which.
    pub token: Token,
    /// How it went.
    pub result: Result<(), Errno>,
}

/// What a persistent memory lies on.
pub trait Backing {
    /// How many more syncs may be submitted now.
    fn room(&self) -> u32;

    /// Accepts a sync; it may run at once or later, but not on the caller's time if that is long.
    ///
    /// # Panics
    /// If there is no [`room`](Backing::room).
    fn submit(&mut self, token: Token);

    /// Takes one completion, in any order.
    fn complete(&mut self) -> Option<Synced>;
}

/// A backing that is lent.
impl<B: Backing> Backing for &mut B {
    fn room(&self) -> u32 {
        (**self).room()
    }

    fn submit(&mut self, token: Token) {
        (**self).submit(token);
    }

    fn complete(&mut self) -> Option<Synced> {
        (**self).complete()
    }
}
