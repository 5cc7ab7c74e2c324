//! The mutants with a mistake in lifecycle or notifications.

use powerfail_model::Rule;

/// A mistake about pause, save, resize, reconnection or notification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleFault {
    /// A restored device waits for a kick, although one may have come before the save.
    WaitsAfterRestore,
    /// A device is saved with requests in flight, and forgets them.
    PauseWithoutDrain,
    /// A save does not make completed writes stable.
    SaveWithoutSync,
    /// The reset of a queue completes while its operations are in flight; they land later.
    LateAfterQueueReset,
    /// After a backend kill the next backend treats the requests in flight as completed.
    SkipsInFlight,
    /// After a backend kill the next backend resubmits the request used last.
    RepeatsUsed,
    /// A ring is stopped before all requests of a dead backend are resubmitted.
    StopsWhileTakingAgain,
    /// A backend whose front-end leaves forgets the requests in flight.
    ForgetsWhenLeft,
    /// After a resize all queues but the first use the old capacity.
    CapacityPerQueue,
    /// The capacity changes without a change of the configuration generation.
    GenerationKept,
    /// The capacity changes without a configuration change notification.
    GrowsSilently,
    /// After enabling kicks the device does not check the available ring again.
    NoSecondLook,
    /// A signal is sent before the used index is written.
    SignalsBeforeIndex,
    /// The comparison of the used index with the event ignores the wrap.
    EventNotWrapped,
}

type Facts = (LifecycleFault, &'static str, &'static str, &'static [Rule]);

/// Each mistake with its name, its summary and the rules that should catch it.
const FACTS: [Facts; 14] = [
    (
        LifecycleFault::WaitsAfterRestore,
        "waits-after-restore",
        "a restored device waits for a kick that came before the save",
        &[Rule::NeverUsed],
    ),
    (
        LifecycleFault::PauseWithoutDrain,
        "pause-without-drain",
        "a device is saved with requests in flight, and forgets them",
        &[Rule::NeverUsed, Rule::StableWriteLost, Rule::UntouchedChanged],
    ),
    (
        LifecycleFault::SaveWithoutSync,
        "save-without-sync",
        "a save does not make completed writes stable",
        &[Rule::StableWriteLost, Rule::NotZeroed],
    ),
    (
        LifecycleFault::LateAfterQueueReset,
        "late-after-queue-reset",
        "a queue's reset completes while its operations are in flight; they land later",
        &[
            Rule::LateEffect,
            Rule::WroteReadable,
            Rule::WroteOutside,
            Rule::WroteAfterEnd,
            Rule::TornAtom,
            Rule::StaleRead,
        ],
    ),
    (
        LifecycleFault::SkipsInFlight,
        "skips-in-flight",
        "after a backend kill the next backend treats the requests in flight as completed",
        &[Rule::NeverUsed],
    ),
    (
        LifecycleFault::RepeatsUsed,
        "repeats-used",
        "after a backend kill the next backend resubmits the request used last",
        &[
            Rule::UsedTwice,
            Rule::UsedRingBroken,
            Rule::UsedLength,
            Rule::UnknownStatus,
            Rule::WroteOutside,
            Rule::TornAtom,
            Rule::Misplaced,
            Rule::MediumMisplaced,
            Rule::NeverUsed,
        ],
    ),
    (
        LifecycleFault::StopsWhileTakingAgain,
        "stops-while-taking-again",
        "a ring is stopped before all requests of a dead backend are resubmitted",
        &[
            Rule::NeverUsed,
            Rule::UsedTwice,
            Rule::UsedRingBroken,
            Rule::UsedLength,
            Rule::UnknownStatus,
            Rule::WroteOutside,
            Rule::TornAtom,
            Rule::Misplaced,
            Rule::MediumMisplaced,
        ],
    ),
    (
        LifecycleFault::ForgetsWhenLeft,
        "forgets-when-left",
        "a backend whose front-end leaves forgets the requests in flight",
        &[
            Rule::NeverUsed,
            Rule::UsedTwice,
            Rule::UsedRingBroken,
            Rule::UsedLength,
            Rule::UnknownStatus,
            Rule::WroteOutside,
            Rule::TornAtom,
            Rule::Misplaced,
            Rule::MediumMisplaced,
        ],
    ),
    (
        LifecycleFault::CapacityPerQueue,
        "capacity-per-queue",
        "after a resize all queues but the first use the old capacity",
        &[Rule::LegalRequestFailed],
    ),
    (
        LifecycleFault::GenerationKept,
        "generation-kept",
        "the capacity changes without a change of the configuration generation",
        &[Rule::GenerationStale],
    ),
    (
        LifecycleFault::GrowsSilently,
        "grows-silently",
        "the capacity changes without a configuration change notification",
        &[Rule::SignalMissing],
    ),
    (
        LifecycleFault::NoSecondLook,
        "no-second-look",
        "after enabling kicks the device does not check the available ring again",
        &[Rule::NeverUsed],
    ),
    (
        LifecycleFault::SignalsBeforeIndex,
        "signals-before-index",
        "a signal is sent before the used index is written",
        &[Rule::SignalMissing],
    ),
    (
        LifecycleFault::EventNotWrapped,
        "event-not-wrapped",
        "the comparison of the used index with the event ignores the wrap",
        &[Rule::SignalMissing],
    ),
];

impl LifecycleFault {
    /// Every mistake.
    pub fn all() -> impl Iterator<Item = LifecycleFault> {
        FACTS.into_iter().map(|facts| facts.0)
    }

    pub(super) fn facts(self) -> (&'static str, &'static str, &'static [Rule]) {
        let facts = FACTS.iter().find(|facts| facts.0 == self).expect("every fault is listed");
        (facts.1, facts.2, facts.3)
    }
}
