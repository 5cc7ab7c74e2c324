//! The seam between a persistent memory and the storage it is mapped from: syncs down, results up.
//!
//! The promises of a backing:
//!
//! - Every accepted sync completes exactly once.
//! - A sync that completes without error has made stable every store that was visible, in any
//!   mapping of the memory, before it was submitted.
//! - A sync that fails with `EINTR` or `EAGAIN` did nothing. After any other failure the backing
//!   may have forgotten which stores are not stable.
//!
//! A backing does *not* retry or share syncs, or remember failures.

use crate::disk::Token;
use crate::errno::Errno;

/// The result of one sync.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Synced {
    /// The token it was submitted with.
    pub token: Token,
    /// Success, or the error of the host.
    pub result: Result<(), Errno>,
}

/// The storage that a persistent memory is mapped from.
pub trait Backing {
    /// Number of further syncs that may be submitted now.
    fn room(&self) -> u32;

    /// Accepts a sync; it may run at once or later, but must not block the caller for long.
    ///
    /// # Panics
    /// If there is no [`room`](Backing::room).
    fn submit(&mut self, token: Token);

    /// Takes one completion, in any order.
    fn complete(&mut self) -> Option<Synced>;
}

/// A borrowed backing.
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
