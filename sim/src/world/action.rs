//! One step of a run, as data.
//!
//! An action determines its step completely, because [`World::step`](crate::world::World::step)
//! draws nothing. Actions name things by meaning (a request's number, a sector range), not by
//! position, so a list of them stays valid when lines are removed from it.

use crate::base::sectors::SectorSet;
use crate::dut::Choices;
use crate::dut::lifecycle::Lifecycle;
use crate::guest::{Change, GuestRequest, Layout, Malformation, Moment};
use crate::host::disk::{OpKey, Outcome};

/// A queue of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueId {
    /// The device, counted from zero.
    pub device: u8,
    /// The queue of that device, counted from zero.
    pub queue: u8,
}

/// How long a queue's thread runs: at least one step, and never beyond the step that finds it idle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Until it is idle.
    Idle,
    /// This many steps. The work done in one step depends on the device.
    Steps(u8),
    /// Until it has submitted this operation to the host.
    Submitted(OpKey),
    /// Until this request has completed.
    Used(u32),
}

impl Until {
    /// The most steps of one run of a thread.
    pub const MOST: u8 = 255;

    /// The most steps of this run of the thread.
    #[inline]
    #[must_use]
    pub fn most(self) -> u8 {
        match self {
            Until::Steps(steps) => steps,
            Until::Idle | Until::Submitted(_) | Until::Used(_) => Until::MOST,
        }
    }
}

/// A crash, and its effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// The backend process of one device dies; the host's page cache survives.
    Backend {
        /// The device.
        device: u8,
    },
    /// The host loses power: of the dirty sectors, only these survive.
    Power {
        /// The survivors; sectors that are not dirty do not matter.
        survivors: SectorSet,
    },
}

/// One step of a guest, a device, the disk or the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The guest's driver initialises a device, up to DRIVER_OK. A life begins.
    Start {
        /// The device.
        device: u8,
        /// The features that the driver accepts. The device must refuse any that it did not offer.
        accept: u64,
        /// The start value of both ring indices; 0 is used unless the device supports others.
        base: u16,
    },
    /// The guest publishes a request.
    Send {
        /// The queue.
        to: QueueId,
        /// The request's number: unique in the run, and the version of the content that it writes.
        id: u32,
        /// The request itself.
        ask: GuestRequest,
        /// How the chain is cut into descriptors.
        layout: Layout,
        /// How the chain is made invalid, if at all.
        malformation: Malformation,
    },
    /// The guest publishes the head of an outstanding request again.
    SendAgain {
        /// The queue.
        to: QueueId,
        /// The request.
        id: u32,
    },
    /// The guest will change the next request on a queue after its publication, which it must not
    /// do. Nothing happens if the change does not apply to that request.
    Alter {
        /// The queue.
        to: QueueId,
        /// The change.
        change: Change,
        /// When it happens.
        moment: Moment,
    },
    /// The guest moves the available index out of range, which breaks the queue.
    Jump {
        /// The queue.
        to: QueueId,
    },
    /// The guest kicks the device, unless the device suppresses the kick.
    Kick {
        /// The queue.
        to: QueueId,
    },
    /// The guest takes the used elements and enables or suppresses signals.
    Reap {
        /// The queue.
        to: QueueId,
        /// Whether signals are enabled from now on.
        arm: bool,
    },
    /// The guest writes `writeback` and reads it back.
    Writeback {
        /// The device.
        device: u8,
        /// The byte written; every value but zero means one.
        value: u8,
    },
    /// The guest writes zero to the device status.
    Reset {
        /// The device.
        device: u8,
    },
    /// The guest reads the device status to see whether the reset is complete.
    PollReset {
        /// The device.
        device: u8,
    },
    /// The thread of a queue runs.
    Crank {
        /// The queue.
        to: QueueId,
        /// When it stops.
        until: Until,
    },
    /// The background work of a device runs.
    Background {
        /// The device.
        device: u8,
        /// The most steps; it stops at a step that finds nothing to do.
        steps: u8,
    },
    /// The next [choices](crate::dut::Host::choose) of a device are these, in place of those that
    /// are left. Its choices after them are zero.
    Choose {
        /// The device.
        device: u8,
        /// The numbers.
        choices: Choices,
    },
    /// The host carries out part of an operation.
    Effect {
        /// The operation.
        op: OpKey,
        /// The sectors of the medium that are transferred now.
        set: SectorSet,
    },
    /// The host completes an operation.
    Complete {
        /// The operation.
        op: OpKey,
        /// The outcome.
        outcome: Outcome,
    },
    /// The host writes dirty sectors back without a sync.
    WriteBack {
        /// The sectors.
        set: SectorSet,
    },
    /// The host evicts sectors that a failed sync marked clean.
    Evict {
        /// The sectors.
        set: SectorSet,
    },
    /// A lifecycle event of a live device.
    Lifecycle {
        /// The device.
        device: u8,
        /// The event.
        what: Lifecycle,
    },
    /// A crash: a backend kill or a power loss.
    Crash(CrashKind),
    /// The guest waits for a request: without further host faults, every enabled step is done until
    /// the request has completed. Nothing happens if it is not outstanding.
    Await {
        /// The device.
        device: u8,
        /// The request.
        id: u32,
    },
    /// The guest keeps a queue busy, while host and threads are fair, until everything that is
    /// outstanding was used. One of these must be used before it has sent so many requests more.
    Stream {
        /// The queue.
        to: QueueId,
        /// The number of the first request; the others follow it.
        id: u32,
        /// Each of the requests.
        ask: GuestRequest,
        /// How many there are.
        count: u32,
    },
    /// The world comes to rest: without further host faults, every enabled step is done. Then every
    /// request must have been answered.
    Rest,
}
