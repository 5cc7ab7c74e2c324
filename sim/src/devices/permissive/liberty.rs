//! The liberties of a permissive device: legal behaviour that a plain device does not show.
//!
//! Some are not listed, because every permissive device takes them: FLUSH and GET_ID are served on a read-only disk, a
//! write in flight while the mode changes may be stable or not, and a queue that the driver broke
//! stops while the others go on. Descriptors cut in odd ways are the guest's doing.

/// One liberty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liberty {
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

    /// Literal only: a power loss leaves arbitrary bytes in a sector under a write that is not
    /// stable.
    LossAnything,
    /// Literal only: a power loss leaves a mixture of two stable writes that ran concurrently.
    LossMixes,
    /// Literal only: a flush does not make a WRITE_ZEROES stable.
    ZeroesUnprotect,
    /// Literal only: a discarded sector reads as arbitrary bytes.
    DiscardAnything,
    /// Literal only: of two reads under a write in flight, the later returns the older content.
    ReadsDisagree,
    /// Literal only: a read returns a mixture of a write in flight and the content before it.
    ReadsMix,
    /// Literal only: a request that the driver must not send, and the device need not refuse, is
    /// served.
    DriverErrorServed,
    /// Literal only: a write is done in part and answered with UNSUPP.
    UnsuppHalfway,
    /// Literal only: a FLUSH that was not negotiated returns OK and does nothing.
    FlushHollow,
    /// Literal only: a backend kill reverts writes that are not stable.
    KillReverts,
}

impl Liberty {
    /// All that the Strict profile allows, and so the Literal profile too.
    pub const ALL: [Liberty; 18] = [
        Liberty::FlushOvertakes,
        Liberty::AnyOrder,
        Liberty::MixedLoss,
        Liberty::NeverLoses,
        Liberty::DiscardNothing,
        Liberty::DiscardSome,
        Liberty::SpuriousSignals,
        Liberty::LateSignals,
        Liberty::FlushUnnegotiated,
        Liberty::ShortLength,
        Liberty::FailsHalfway,
        Liberty::FlushForgets,
        Liberty::FlushFailsOnce,
        Liberty::MalformedIgnored,
        Liberty::MalformedFatal,
        Liberty::AnyReason,
        Liberty::ResetDrops,
        Liberty::ResetLingers,
    ];

    /// All that only the Literal profile allows.
    pub const LITERAL: [Liberty; 10] = [
        Liberty::LossAnything,
        Liberty::LossMixes,
        Liberty::ZeroesUnprotect,
        Liberty::DiscardAnything,
        Liberty::ReadsDisagree,
        Liberty::ReadsMix,
        Liberty::DriverErrorServed,
        Liberty::UnsuppHalfway,
        Liberty::FlushHollow,
        Liberty::KillReverts,
    ];
}
