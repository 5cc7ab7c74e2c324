//! The ways a device is wrong.

use powerfail_model::Rule;

use super::{AnswerFault, LifeFault};

/// A promise a device breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceFault {
    /// A reset shows as done while writes are in the host's hands, and they land later.
    #[default]
    LateAfterReset,
    /// The same with reads: they land in memory that is the guest's own again.
    DmaAfterReset,
    /// A reset loses what the cache holds.
    ResetDropsCache,
    /// A guest that refuses FLUSH gets a write-back cache all the same.
    FlushRefusalIgnored,
    /// `writeback` reads back what was written, and the cache mode does not follow.
    WritebackIgnored,
    /// `writeback` reads zero as before the reset, and the cache mode is write-back again.
    WritebackNotReset,
    /// Now and then a kick is lost.
    LostKick,
    /// Now and then a signal is lost.
    LostSignal,
    /// A signal comes after the reset has shown.
    SignalsAfterReset,
    /// Something is used after the reset has shown.
    UsedAfterReset,
    /// Now and then a head is returned twice.
    UsedTwice,
    /// Now and then a head is returned that was never published.
    UsedUnpublished,
    /// Now and then the used index moves by more than a ring.
    UsedIndexJumps,
    /// A reset forgets that a sync had failed.
    FailureForgottenAtReset,
    /// A failed sync fails those who waited for it, and is forgotten.
    FailureForgotten,
    /// A write-through write that the host failed counts as a failed sync.
    PoisonedByWrite,
    /// The used length is one too many.
    LengthOneMore,
    /// The status is written as four bytes.
    StatusTooWide,
    /// The header is written back.
    HeaderWritten,
    /// The status of a write is written once more when the next request is used.
    StatusWrittenAgain,
    /// Writes to a read-only disk are served.
    ReadOnlyServed,
    /// Features that were not offered are accepted.
    AcceptsAnything,
    /// Features that were offered must all be accepted.
    DemandsAll,
    /// `writeback` always reads 1.
    WritebackStuck,
    /// `writeback` starts as the cache is, whatever was negotiated.
    WritebackStartsOn,
    /// A reserved field of the configuration space is not zero.
    ReservedSet,
    /// CONFIG_WCE is offered where FLUSH is not.
    OfferUnclosed,
    /// A reset never shows.
    ResetNeverShows,
    /// After a while the device asks for a reset.
    WantsReset,
    /// The serial number is another's.
    OtherIdentity,
    /// GET_ID makes it panic.
    Panics,
    /// A request is answered as it must not be.
    Answer(AnswerFault),
    /// Something of its lives is not as it must be.
    Life(LifeFault),
}

type Facts = (DeviceFault, &'static str, &'static str, &'static [Rule]);

/// Each with its name, what is wrong in a line, and the rules that should notice.
const FACTS: [Facts; 31] = [
    (
        DeviceFault::LateAfterReset,
        "late-after-reset",
        "a reset shows as done while writes are in flight; they land later",
        &[
            Rule::LateEffect,
            Rule::StaleRead,
            Rule::StableWriteLost,
            Rule::WriteThroughLost,
            Rule::FlushlessWriteLost,
        ],
    ),
    (
        DeviceFault::DmaAfterReset,
        "dma-after-reset",
        "a reset shows as done while reads are in flight; they reach guest memory later",
        &[Rule::WroteOutside, Rule::WroteReadable, Rule::WroteAfterEnd, Rule::TornAtom],
    ),
    (
        DeviceFault::ResetDropsCache,
        "reset-drops-cache",
        "a reset loses what the cache holds",
        &[Rule::StaleRead, Rule::StableWriteLost, Rule::NotZeroed],
    ),
    (
        DeviceFault::FlushRefusalIgnored,
        "flush-refusal-ignored",
        "a guest that refuses FLUSH gets a write-back cache all the same",
        &[Rule::FlushlessWriteLost],
    ),
    (
        DeviceFault::WritebackIgnored,
        "writeback-ignored",
        "writeback reads back what was written, and the cache mode does not follow",
        &[Rule::WriteThroughLost],
    ),
    (
        DeviceFault::WritebackNotReset,
        "writeback-not-reset",
        "writeback reads zero as before the reset, and the cache mode is write-back again",
        &[Rule::WriteThroughLost],
    ),
    (DeviceFault::LostKick, "lost-kick", "now and then a kick is lost", &[Rule::NeverUsed]),
    (
        DeviceFault::LostSignal,
        "lost-signal",
        "now and then a signal is lost",
        &[Rule::SignalMissing],
    ),
    (
        DeviceFault::SignalsAfterReset,
        "signals-after-reset",
        "a signal comes after the reset has shown",
        &[Rule::SignalAfterReset],
    ),
    (
        DeviceFault::UsedAfterReset,
        "used-after-reset",
        "something is used after the reset has shown",
        &[Rule::UsedAfterEnd],
    ),
    (
        DeviceFault::UsedTwice,
        "used-twice",
        "now and then a head is returned twice",
        &[Rule::UsedTwice, Rule::UsedRingBroken],
    ),
    (
        DeviceFault::UsedUnpublished,
        "used-unpublished",
        "now and then a head is returned that was never published",
        &[Rule::UsedUnpublished, Rule::UsedRingBroken],
    ),
    (
        DeviceFault::UsedIndexJumps,
        "used-index-jumps",
        "now and then the used index moves by more than a ring",
        &[Rule::UsedRingBroken],
    ),
    (
        DeviceFault::FailureForgottenAtReset,
        "failure-forgotten-at-reset",
        "a reset forgets that a sync had failed",
        &[Rule::StableWriteLost, Rule::StaleRead, Rule::NotZeroed],
    ),
    (
        DeviceFault::FailureForgotten,
        "failed-sync-forgotten",
        "a failed sync fails the flush that asked for it, and the next one succeeds",
        &[
            Rule::StableWriteLost,
            Rule::WriteThroughLost,
            Rule::FlushlessWriteLost,
            Rule::StaleRead,
            Rule::NotZeroed,
        ],
    ),
    (
        DeviceFault::PoisonedByWrite,
        "poisoned-by-write",
        "after a write-through write that the host refused no flush succeeds any more",
        &[Rule::LegalRequestFailed],
    ),
    (
        DeviceFault::LengthOneMore,
        "length-one-more",
        "the used length is one too many",
        &[Rule::UsedLength],
    ),
    (
        DeviceFault::StatusTooWide,
        "status-too-wide",
        "the status is written as four bytes",
        &[Rule::WroteOutside],
    ),
    (
        DeviceFault::HeaderWritten,
        "header-written",
        "the header is written back",
        &[Rule::WroteReadable],
    ),
    (
        DeviceFault::StatusWrittenAgain,
        "status-written-again",
        "the status of a write is written once more when the next request is used",
        &[Rule::WroteAfterEnd],
    ),
    (
        DeviceFault::ReadOnlyServed,
        "read-only-served",
        "writes to a read-only disk are served",
        &[Rule::ReadOnlyServed],
    ),
    (
        DeviceFault::AcceptsAnything,
        "accepts-anything",
        "features that were not offered are accepted",
        &[Rule::UnofferedAccepted],
    ),
    (
        DeviceFault::DemandsAll,
        "demands-all",
        "features that were offered must all be accepted",
        &[Rule::FeaturesRefused],
    ),
    (
        DeviceFault::WritebackStuck,
        "writeback-stuck",
        "writeback always reads 1",
        &[Rule::WritebackUntrue, Rule::WritebackStart],
    ),
    (
        DeviceFault::WritebackStartsOn,
        "writeback-starts-on",
        "writeback starts at 1, even where FLUSH was refused",
        &[Rule::WritebackStart],
    ),
    (
        DeviceFault::ReservedSet,
        "reserved-set",
        "a reserved field of the configuration space is not zero",
        &[Rule::ReservedNotZero],
    ),
    (
        DeviceFault::OfferUnclosed,
        "offer-unclosed",
        "CONFIG_WCE is offered where FLUSH is not",
        &[Rule::OfferBroken],
    ),
    (
        DeviceFault::ResetNeverShows,
        "reset-never-shows",
        "a reset never shows as done",
        &[Rule::ResetNotShown],
    ),
    (
        DeviceFault::WantsReset,
        "wants-reset",
        "after a while the device asks for a reset",
        &[Rule::NeedsResetUncalled],
    ),
    (
        DeviceFault::OtherIdentity,
        "other-identity",
        "the serial number is another's",
        &[Rule::WrongIdentity],
    ),
    (DeviceFault::Panics, "panics", "a GET_ID makes it panic", &[Rule::DevicePanicked]),
];

impl DeviceFault {
    /// All of them.
    pub fn all() -> impl Iterator<Item = DeviceFault> {
        let answers = AnswerFault::all().map(DeviceFault::Answer);
        let lives = LifeFault::all().map(DeviceFault::Life);
        FACTS.into_iter().map(|facts| facts.0).chain(answers).chain(lives)
    }

    fn facts(self) -> (&'static str, &'static str, &'static [Rule]) {
        match self {
            DeviceFault::Answer(fault) => return fault.facts(),
            DeviceFault::Life(fault) => return fault.facts(),
            _ => {}
        }
        let facts = FACTS.iter().find(|facts| facts.0 == self).expect("every fault is listed");
        (facts.1, facts.2, facts.3)
    }

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// What is wrong, in a line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.facts().1
    }

    /// The rules that should notice.
    #[must_use]
    pub fn caught_by(self) -> &'static [Rule] {
        self.facts().2
    }
}
