//! The situations that a device cannot reach, because it lacks what they need.
//!
//! A situation that a device cannot reach is no gap of the runs, and a zero in its place would read
//! like one. A summary therefore names what the device lacks instead.

use super::coverage::Situation;
use super::facts::Stats;
use crate::dut::DeviceUnderTest;
use crate::dut::lifecycle::Abilities;
use crate::guest::Kind;
use crate::guest::wire::feature;

/// The properties of a device that situations depend on, as far as runs have shown them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    kinds: [Kind; 2],
    simulated: bool,
    loses_power: bool,
    ring_base: bool,
    can: Abilities,
    /// The features that some device offered.
    offered: u64,
    /// The features that some device did not offer.
    omitted: u64,
}

impl Reach {
    /// The properties of a device after runs with these counts.
    #[must_use]
    pub fn of<D: DeviceUnderTest>(stats: &Stats) -> Reach {
        Reach {
            kinds: D::KINDS,
            simulated: D::MEDIUM.is_simulated(),
            loses_power: D::MEDIUM.loses_power(),
            ring_base: D::RING_BASE,
            can: stats.can,
            offered: stats.offered,
            omitted: stats.omitted,
        }
    }

    /// The situations of [its kinds](Situation::of), each with what the device lacks for it, if it
    /// lacks something.
    pub fn situations(&self) -> impl Iterator<Item = (Situation, Option<&'static str>)> + '_ {
        Situation::of(self.kinds).map(|situation| (situation, self.lack(situation)))
    }

    /// Whether the device lacks something to reach a situation.
    #[must_use]
    pub fn lacks(&self, situation: Situation) -> bool {
        self.lack(situation).is_some()
    }

    /// What the device lacks to reach a situation.
    fn lack(&self, situation: Situation) -> Option<&'static str> {
        let Needs { simulated, power, base, ability, offered, omitted } = needs(situation);
        let has_ability = ability.is_none_or(|(_, has)| has(&self.can));
        match () {
            () if power && !self.loses_power => Some("a power loss"),
            () if simulated && !self.simulated => Some("the simulated disk"),
            () if base && !self.ring_base => Some("rings that start at another index (RING_BASE)"),
            () if !has_ability => ability.map(|(name, _)| name),
            () if offered & !self.offered != 0 => Some("a feature that it never offers"),
            () if omitted & !self.omitted != 0 => Some("the absence of a feature"),
            () => None,
        }
    }
}

/// A part of a device's [abilities](Abilities): its name, and whether they hold it.
type Ability = (&'static str, fn(&Abilities) -> bool);

/// What a device needs to reach a situation.
#[derive(Clone, Copy, Default)]
struct Needs {
    simulated: bool,
    power: bool,
    base: bool,
    ability: Option<Ability>,
    offered: u64,
    omitted: u64,
}

fn needs(situation: Situation) -> Needs {
    const NOTHING: Needs = Needs {
        simulated: false,
        power: false,
        base: false,
        ability: None,
        offered: 0,
        omitted: 0,
    };
    const PAUSE: Needs = Needs { ability: Some(("pause and save", |can| can.pause)), ..NOTHING };
    const RECONNECT: Needs =
        Needs { ability: Some(("reconnection", |can| can.reconnect)), ..NOTHING };
    const RESIZE: Needs = Needs { ability: Some(("resizing", |can| can.resize)), ..NOTHING };
    const QUEUE_RESET: Needs =
        Needs { ability: Some(("the reset of one queue", |can| can.queue_reset)), ..NOTHING };
    let offers = |offered: u64| Needs { offered, ..NOTHING };
    match situation {
        Situation::RowA => Needs { omitted: feature::FLUSH, ..NOTHING },
        Situation::RowB
        | Situation::RowC
        | Situation::FlushOvertakesWrite
        | Situation::FailedWriteThenFlush => offers(feature::FLUSH),
        Situation::RowD
        | Situation::RowE
        | Situation::RowF
        | Situation::RowG
        | Situation::RowH
        | Situation::WritebackInFlight => offers(feature::CONFIG_WCE),
        Situation::OverlapOnTwoQueues => offers(feature::MQ),
        Situation::ZeroesOverDiscard => offers(feature::DISCARD | feature::WRITE_ZEROES),
        Situation::ZeroesOverDiscardAfterLoss => {
            Needs { power: true, ..offers(feature::DISCARD | feature::WRITE_ZEROES) }
        }
        Situation::Indirect => offers(feature::INDIRECT_DESC),
        Situation::AvailWrapped | Situation::UsedWrapped => Needs { base: true, ..NOTHING },
        Situation::CrashInsideRequest => Needs { simulated: true, power: true, ..NOTHING },
        Situation::CrashWithThreeLoose | Situation::PowerLostFlushing => {
            Needs { power: true, ..NOTHING }
        }
        Situation::SyncForgot
        | Situation::ResetInFlight
        | Situation::KillInFlight
        | Situation::ShortResumed
        | Situation::DiskFull
        | Situation::Evicted
        | Situation::FlushesShared => Needs { simulated: true, ..NOTHING },
        Situation::PausedInFlight => Needs { simulated: true, ..PAUSE },
        Situation::PowerLostPaused => Needs { power: true, ..PAUSE },
        Situation::RestoredKickPending
        | Situation::RestoredSignalPending
        | Situation::SaveFailed => PAUSE,
        Situation::QueueResetInFlight => Needs { simulated: true, ..QUEUE_RESET },
        Situation::QueuePlacedSmaller => QUEUE_RESET,
        Situation::ResizedUnderWrite | Situation::GrownSectorWritten => RESIZE,
        Situation::ReconnectedInFlight | Situation::ReconnectedInsideWrite => {
            Needs { simulated: true, ..RECONNECT }
        }
        Situation::PowerLostAfterReconnect => Needs { power: true, ..RECONNECT },
        Situation::CarriedTwice
        | Situation::LeftInFlight
        | Situation::StoppedCarried
        | Situation::KilledBeforeRecord
        | Situation::KilledAtElement
        | Situation::KilledAtIndex => RECONNECT,
        // A memory flushes without a feature for it.
        Situation::FailedSyncThenFlush
        | Situation::CrashInRecovery
        // A device may refuse writes without the feature that announces it.
        | Situation::ReadOnlyRefused
        // The guest also sends discards that were not negotiated.
        | Situation::DiscardUnderWrite
        | Situation::GranuleShared
        | Situation::DuplicateHead
        | Situation::KickSuppressed
        | Situation::SignalSuppressed
        | Situation::Refused
        | Situation::MalformedAnswered
        | Situation::QueueBroken
        | Situation::FeaturesRefused
        | Situation::TwoDevices
        | Situation::ReadAfterReset
        | Situation::StoreDuringFlush => NOTHING,
    }
}
