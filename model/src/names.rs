//! The names of things: places, requests, contents and moments.
//!
//! The oracle never sees a byte. The content of an atom is named by the request that wrote it; the
//! caller decodes what a guest read from a self-describing payload before it reports it.

use std::fmt;

/// The index of an atom: a unit that never tears.
///
/// For a block device an atom is one 512-byte sector; sector `s` is atom `s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Atom(pub u32);

/// The name of one request, unique in a run.
///
/// Greater than zero. A table is indexed by it, so it is best counted up from one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u32);

/// The number of an event in the order of the calls to the oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(pub u32);

impl Instant {
    /// Later than every event: the end of a request that has not ended.
    pub const NEVER: Self = Self(u32::MAX);
}

/// The content of an atom: zeroes, the initial image, or the data of one request.
///
/// This is the *version* of the contract as far as the guest can tell versions apart: two requests
/// that wrote zeroes left the same content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Content(u32);

impl Content {
    /// All bytes zero, as `WRITE_ZEROES` and `DISCARD` leave it.
    pub const ZERO: Self = Self(0);
    /// The content of the disk before the run; self-describing, so never equal to [`Self::ZERO`].
    pub const INITIAL: Self = Self(1);
    /// One of the candidates of its atom, not yet determined.
    pub(crate) const UNKNOWN: Self = Self(u32::MAX);
    /// Any bytes; only the Literal profile has such a content.
    pub(crate) const ANYTHING: Self = Self(u32::MAX - 1);
    /// A mixture of the other candidates; only the Literal profile has such a content.
    pub(crate) const MIXTURE: Self = Self(u32::MAX - 2);

    /// Marks a busy atom; never the content of a version.
    pub(crate) const BUSY: Self = Self(u32::MAX - 3);

    /// The content that the `OUT` request `w` wrote.
    #[inline]
    #[must_use]
    pub fn of(w: RequestId) -> Self {
        debug_assert!(w.0 > 0 && w.0 < u32::MAX - 4);
        Self(w.0 + 1)
    }

    /// The request that wrote it; `None` for zeroes and the initial image.
    #[inline]
    #[must_use]
    pub fn writer(self) -> Option<RequestId> {
        (self.0 > 1 && self.is_named()).then(|| RequestId(self.0 - 1))
    }

    /// Whether a guest can see and name this content.
    #[inline]
    pub(crate) fn is_named(self) -> bool {
        self.0 < u32::MAX - 3
    }
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ZERO => f.write_str("0"),
            Self::INITIAL => f.write_str("initial"),
            Self::UNKNOWN => f.write_str("what survived"),
            Self::ANYTHING => f.write_str("anything"),
            Self::MIXTURE => f.write_str("a mixture"),
            Self::BUSY => f.write_str("one of several"),
            Self(slot) => write!(f, "w{}", slot - 1),
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The content that a guest found in one atom of a read, decoded from the self-describing payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Observed {
    /// One whole content, in the place it was written for.
    Content(Content),
    /// A content of this run that was written for another atom.
    Misdirected {
        /// The content.
        content: Content,
        /// The atom it was written for.
        home: u64,
    },
    /// More than one content within the atom.
    Torn,
    /// The content of another run or another device.
    Foreign,
    /// Bytes that decode to nothing.
    Garbage,
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content(content) => write!(f, "{content}"),
            Self::Misdirected { content, home } => write!(f, "{content}, which belongs at {home}"),
            Self::Torn => f.write_str("a mixture of versions"),
            Self::Foreign => f.write_str("another run's or another device's content"),
            Self::Garbage => f.write_str("bytes that no request wrote"),
        }
    }
}
