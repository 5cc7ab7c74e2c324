//! The mutants of a block device.

use powerfail_model::Rule;

use super::{AnswerFault, LifecycleFault};

/// The mistake of a mutant device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum DeviceFault {
    /// A reset completes while writes are in flight at the host; they land later.
    #[default]
    LateAfterReset,
    /// A reset completes while reads are in flight at the host; they write to guest memory later.
    DmaAfterReset,
    /// A reset loses the dirty sectors of the host cache.
    ResetDropsCache,
    /// A guest that refuses FLUSH gets a write-back cache nevertheless.
    FlushRefusalIgnored,
    /// `writeback` reads back as written, but the cache mode does not change.
    WritebackIgnored,
    /// After a reset `writeback` keeps its value 0, but the cache mode is write-back again.
    WritebackNotReset,
    /// Some kicks are lost.
    LostKick,
    /// Some signals are lost.
    LostSignal,
    /// A signal is sent after a reset has completed.
    SignalsAfterReset,
    /// A used element is written after a reset has completed.
    UsedAfterReset,
    /// Some heads are used twice.
    UsedTwice,
    /// Some used elements name a head that was never published.
    UsedUnpublished,
    /// Sometimes the used index moves by more than the ring size.
    UsedIndexJumps,
    /// A failed sync is forgotten at a reset.
    FailureForgottenAtReset,
    /// A failed sync fails only the flushes that waited for it, and is then forgotten.
    FailureForgotten,
    /// A failed write-through write makes every later flush fail.
    PoisonedByWrite,
    /// The used length is too large by one.
    LengthOneMore,
    /// The status is written as four bytes.
    StatusTooWide,
    /// The device writes to the request header.
    HeaderWritten,
    /// The status of a write is written again when the next request is used.
    StatusWrittenAgain,
    /// Writes to a read-only disk succeed.
    ReadOnlyServed,
    /// Features that were not offered are accepted.
    AcceptsAnything,
    /// A driver that does not accept every offered feature is refused.
    DemandsAll,
    /// `writeback` always reads 1.
    WritebackStuck,
    /// `writeback` starts at 1, even if FLUSH was refused.
    WritebackStartsOn,
    /// A reserved field of the configuration space is not zero.
    ReservedSet,
    /// CONFIG_WCE is offered without FLUSH.
    OfferUnclosed,
    /// A reset never completes.
    ResetNeverShows,
    /// After some steps the device asks for a reset without a reason.
    WantsReset,
    /// GET_ID returns another serial number.
    OtherIdentity,
    /// The device panics at GET_ID.
    Panics,
    /// A wrong answer to a request.
    Answer(AnswerFault),
    /// A mistake in the lifecycle.
    Lifecycle(LifecycleFault),
}

type Facts = (DeviceFault, &'static str, &'static str, &'static [Rule]);

/// Each mistake with its name, its summary and the rules that should catch it.
const FACTS: [Facts; 31] = [
    (
        DeviceFault::LateAfterReset,
        "late-after-reset",
        "a reset completes while writes are in flight; they land later",
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
        "a reset completes while reads are in flight; they write to guest memory later",
        &[Rule::WroteOutside, Rule::WroteReadable, Rule::WroteAfterEnd, Rule::TornAtom],
    ),
    (
        DeviceFault::ResetDropsCache,
        "reset-drops-cache",
        "a reset loses the dirty sectors of the host cache",
        &[Rule::StaleRead, Rule::StableWriteLost, Rule::NotZeroed],
    ),
    (
        DeviceFault::FlushRefusalIgnored,
        "flush-refusal-ignored",
        "a guest that refuses FLUSH gets a write-back cache nevertheless",
        &[Rule::FlushlessWriteLost],
    ),
    (
        DeviceFault::WritebackIgnored,
        "writeback-ignored",
        "writeback reads back as written, but the cache mode does not change",
        &[Rule::WriteThroughLost],
    ),
    (
        DeviceFault::WritebackNotReset,
        "writeback-not-reset",
        "after a reset writeback keeps its value 0, but the cache mode is write-back again",
        &[Rule::WriteThroughLost],
    ),
    (DeviceFault::LostKick, "lost-kick", "some kicks are lost", &[Rule::NeverUsed]),
    (DeviceFault::LostSignal, "lost-signal", "some signals are lost", &[Rule::SignalMissing]),
    (
        DeviceFault::SignalsAfterReset,
        "signals-after-reset",
        "a signal is sent after a reset has completed",
        &[Rule::SignalAfterReset],
    ),
    (
        DeviceFault::UsedAfterReset,
        "used-after-reset",
        "a used element is written after a reset has completed",
        &[Rule::UsedAfterEnd],
    ),
    (
        DeviceFault::UsedTwice,
        "used-twice",
        "some heads are used twice",
        &[Rule::UsedTwice, Rule::UsedRingBroken],
    ),
    (
        DeviceFault::UsedUnpublished,
        "used-unpublished",
        "some used elements name a head that was never published",
        &[Rule::UsedUnpublished, Rule::UsedRingBroken],
    ),
    (
        DeviceFault::UsedIndexJumps,
        "used-index-jumps",
        "sometimes the used index moves by more than the ring size",
        &[Rule::UsedRingBroken],
    ),
    (
        DeviceFault::FailureForgottenAtReset,
        "failure-forgotten-at-reset",
        "a failed sync is forgotten at a reset",
        &[Rule::StableWriteLost, Rule::StaleRead, Rule::NotZeroed],
    ),
    (
        DeviceFault::FailureForgotten,
        "failed-sync-forgotten",
        "a failed sync fails only the flushes that waited for it; the next flush succeeds",
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
        "a failed write-through write makes every later flush fail",
        &[Rule::LegalRequestFailed],
    ),
    (
        DeviceFault::LengthOneMore,
        "length-one-more",
        "the used length is too large by one",
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
        "the device writes to the request header",
        &[Rule::WroteReadable],
    ),
    (
        DeviceFault::StatusWrittenAgain,
        "status-written-again",
        "the status of a write is written again when the next request is used",
        &[Rule::WroteAfterEnd],
    ),
    (
        DeviceFault::ReadOnlyServed,
        "read-only-served",
        "writes to a read-only disk succeed",
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
        "a driver that does not accept every offered feature is refused",
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
        "writeback starts at 1, even if FLUSH was refused",
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
        "CONFIG_WCE is offered without FLUSH",
        &[Rule::OfferBroken],
    ),
    (
        DeviceFault::ResetNeverShows,
        "reset-never-shows",
        "a reset never completes",
        &[Rule::ResetNotShown],
    ),
    (
        DeviceFault::WantsReset,
        "wants-reset",
        "after some steps the device asks for a reset without a reason",
        &[Rule::NeedsResetUncalled],
    ),
    (
        DeviceFault::OtherIdentity,
        "other-identity",
        "GET_ID returns another serial number",
        &[Rule::WrongIdentity],
    ),
    (DeviceFault::Panics, "panics", "the device panics at GET_ID", &[Rule::DevicePanicked]),
];

impl DeviceFault {
    /// Every mistake.
    pub fn all() -> impl Iterator<Item = DeviceFault> {
        let answers = AnswerFault::all().map(DeviceFault::Answer);
        let lives = LifecycleFault::all().map(DeviceFault::Lifecycle);
        FACTS.into_iter().map(|facts| facts.0).chain(answers).chain(lives)
    }

    fn facts(self) -> (&'static str, &'static str, &'static [Rule]) {
        match self {
            DeviceFault::Answer(fault) => return fault.facts(),
            DeviceFault::Lifecycle(fault) => return fault.facts(),
            _ => {}
        }
        let facts = FACTS.iter().find(|facts| facts.0 == self).expect("every fault is listed");
        (facts.1, facts.2, facts.3)
    }

    /// The name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.facts().0
    }

    /// The mistake, in one line.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.facts().1
    }

    /// The rules that should catch it.
    #[must_use]
    pub fn caught_by(self) -> &'static [Rule] {
        self.facts().2
    }
}
