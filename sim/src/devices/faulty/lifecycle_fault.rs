//! The ways a device is wrong about its lives, and about who has to be told what when.

use powerfail_model::Rule;

/// A promise about pausing, moving, growing, dying, or notifying, that a device breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LifecycleFault {
    /// A restored device waits for a kick, though one may have come before it was saved.
    WaitsAfterRestore,
    /// A device that is saved forgets what is in flight.
    PauseWithoutDrain,
    /// A save does not make stable what completed.
    SaveWithoutSync,
    /// The reset of a queue shows as done while its operations are in the host's hands.
    LateAfterQueueReset,
    /// Who goes on after a death takes what was in flight for done.
    SkipsInFlight,
    /// Who goes on after a death takes what was used last for in flight.
    RepeatsUsed,
    /// A ring is stopped when nothing is in flight, though not everything was taken again that a
    /// dead backend had taken.
    StopsWhileTakingAgain,
    /// Who is left forgets what is in flight.
    ForgetsWhenLeft,
    /// All queues but the first keep to the size the disk had at first.
    CapacityPerQueue,
    /// The capacity changes and the generation does not.
    GenerationKept,
    /// The capacity changes and the driver is not told.
    GrowsSilently,
    /// After asking for the next kick nobody looks whether something has come meanwhile.
    NoSecondLook,
    /// The driver is signalled before the used index has moved.
    SignalsBeforeIndex,
    /// Whether the used index has passed the event is found out as if it never wrapped.
    EventNotWrapped,
}

type Facts = (LifecycleFault, &'static str, &'static str, &'static [Rule]);

/// Each with its name, what is wrong in a line, and the rules that should notice.
const FACTS: [Facts; 14] = [
    (
        LifecycleFault::WaitsAfterRestore,
        "waits-after-restore",
        "a restored device waits for a kick that came before it was saved",
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
        "a save does not make stable what completed",
        &[Rule::StableWriteLost, Rule::NotZeroed],
    ),
    (
        LifecycleFault::LateAfterQueueReset,
        "late-after-queue-reset",
        "a queue's reset shows as done while its operations are in flight; they land later",
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
        "who goes on after a death takes what was in flight for done",
        &[Rule::NeverUsed],
    ),
    (
        LifecycleFault::RepeatsUsed,
        "repeats-used",
        "who goes on after a death uses the head used last once more",
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
        "a ring is stopped before all that a dead backend had taken was taken again",
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
        "a backend whose front-end leaves forgets what is in flight",
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
        "all queues but the first keep to the size the disk had at first",
        &[Rule::LegalRequestFailed],
    ),
    (
        LifecycleFault::GenerationKept,
        "generation-kept",
        "the capacity changes and the generation does not",
        &[Rule::GenerationStale],
    ),
    (
        LifecycleFault::GrowsSilently,
        "grows-silently",
        "the capacity changes and the driver is not told",
        &[Rule::SignalMissing],
    ),
    (
        LifecycleFault::NoSecondLook,
        "no-second-look",
        "after asking for the next kick nobody looks whether something has come meanwhile",
        &[Rule::NeverUsed],
    ),
    (
        LifecycleFault::SignalsBeforeIndex,
        "signals-before-index",
        "the driver is signalled before the used index has moved",
        &[Rule::SignalMissing],
    ),
    (
        LifecycleFault::EventNotWrapped,
        "event-not-wrapped",
        "whether the used index has passed the event is found out as if it never wrapped",
        &[Rule::SignalMissing],
    ),
];

impl LifecycleFault {
    /// All of them.
    pub fn all() -> impl Iterator<Item = LifecycleFault> {
        FACTS.into_iter().map(|facts| facts.0)
    }

    pub(super) fn facts(self) -> (&'static str, &'static str, &'static [Rule]) {
        let facts = FACTS.iter().find(|facts| facts.0 == self).expect("every fault is listed");
        (facts.1, facts.2, facts.3)
    }
}
