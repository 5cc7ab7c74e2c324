//! Everything legal that a demon may do and a plain device would not: the legal oddities.
//!
//! Some need no whim, for every demon has them: FLUSH and GET_ID are served on a read-only disk, a
//! write in flight while the mode changes may be stable or not, and a queue that the driver broke
//! stops while the others go on. Descriptors cut in odd ways are the guest's doing.

/// One oddity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whim {
    /// A flush is answered before the writes that were sent before it.
    FlushOvertakes,
    /// Requests complete in any order, and move sector by sector at any time in between.
    AnyOrder,
    /// A power loss leaves any mix of what is not stable.
    MixedLoss,
    /// Nothing is ever lost.
    NeverLoses,
    /// A discard does nothing.
    DiscardNothing,
    /// A discard zeroes some of its sectors.
    DiscardSome,
    /// Signals nobody asked for.
    SpuriousSignals,
    /// Signals that come late, one for many completions.
    LateSignals,
    /// FLUSH is served though it was not negotiated.
    FlushUnnegotiated,
    /// The used length is less than what was written.
    ShortLength,
    /// A request that fails has done some of what was asked.
    FailsHalfway,
    /// A flush fails, and some of what it should have kept is forgotten; flushes fail until it was
    /// written again.
    FlushForgets,
    /// A flush fails, and the next succeeds: nothing was forgotten.
    FlushFailsOnce,
    /// A chain that makes no sense is returned with nothing written.
    MalformedIgnored,
    /// A chain that makes no sense makes the device ask for a reset.
    MalformedFatal,
    /// A request wrong in two ways is refused for any of them.
    AnyReason,
    /// A reset is over before what was in flight has done anything.
    ResetDrops,
    /// A reset waits a while.
    ResetLingers,
}

impl Whim {
    /// All of them.
    pub const ALL: [Whim; 18] = [
        Whim::FlushOvertakes,
        Whim::AnyOrder,
        Whim::MixedLoss,
        Whim::NeverLoses,
        Whim::DiscardNothing,
        Whim::DiscardSome,
        Whim::SpuriousSignals,
        Whim::LateSignals,
        Whim::FlushUnnegotiated,
        Whim::ShortLength,
        Whim::FailsHalfway,
        Whim::FlushForgets,
        Whim::FlushFailsOnce,
        Whim::MalformedIgnored,
        Whim::MalformedFatal,
        Whim::AnyReason,
        Whim::ResetDrops,
        Whim::ResetLingers,
    ];
}
