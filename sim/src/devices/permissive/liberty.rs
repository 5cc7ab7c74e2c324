//! Liberties: legal behaviour that a plain device does not show.
//!
//! Some have no entry here, because every permissive device takes them: it serves FLUSH and GET_ID
//! on a read-only disk, a write in flight during a change of the cache mode may be stable or not,
//! and a queue that the driver broke stops while the others continue. Unusual descriptor layouts
//! are the guest's choice.

/// One liberty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liberty {
    /// A flush completes before writes that were sent before it.
    FlushOvertakes,
    /// Requests complete in any order, and land sector by sector at any time before that.
    AnyOrder,
    /// A power loss leaves any mix of unstable versions.
    MixedLoss,
    /// A power loss loses nothing.
    NeverLoses,
    /// A discard does nothing.
    DiscardNothing,
    /// A discard zeroes some of its sectors.
    DiscardSome,
    /// Signals that the driver did not ask for.
    SpuriousSignals,
    /// Late signals, one for many completions.
    LateSignals,
    /// FLUSH is served although it was not negotiated.
    FlushUnnegotiated,
    /// The used length is less than the number of bytes written.
    ShortLength,
    /// A failed request has landed in part.
    FailsHalfway,
    /// A flush fails, and some unstable versions are forgotten. Flushes fail until those sectors
    /// are written again.
    FlushForgets,
    /// A flush fails without forgetting anything, and the next one succeeds.
    FlushFailsOnce,
    /// An invalid chain is returned with nothing written.
    MalformedIgnored,
    /// The device asks for a reset after an invalid chain.
    MalformedFatal,
    /// A request with several errors is refused for any of them.
    AnyReason,
    /// A reset drops the rest of the requests in flight.
    ResetDrops,
    /// A reset takes several polls.
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
    /// Every liberty.
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
