//! One step of a run, as data.
//!
//! An action says everything about what happens: [`World::step`](crate::world::World::step) draws
//! nothing. Actions name things by meaning (a request's number, a sector range), not by position,
//! so a list of them survives having lines taken out of it.

use crate::base::sectors::SectorSet;
use crate::dut::lifecycle::Life;
use crate::guest::{Ask, Layout, Mischief};
use crate::host::disk::{OpKey, Outcome};

/// A queue of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueueId {
    /// The device, counted from zero.
    pub device: u8,
    /// The queue of that device, counted from zero.
    pub queue: u8,
}

/// How long a queue's thread runs, at least one step. It always stops where it has nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// As long as it has something to do.
    Idle,
    /// So many steps: how the device is built decides what happens in them.
    Steps(u8),
    /// Until it has handed this operation to the host.
    Submitted(OpKey),
    /// Until this request has come back.
    Used(u32),
}

impl Until {
    /// No thread runs longer than this at a time.
    pub const MOST: u8 = 255;

    /// The most steps it takes.
    #[inline]
    #[must_use]
    pub fn most(self) -> u8 {
        match self {
            Until::Steps(steps) => steps,
            Until::Idle | Until::Submitted(_) | Until::Used(_) => Until::MOST,
        }
    }
}

/// How a world ends and begins again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrashKind {
    /// The backend process of one device dies; the host's page cache survives.
    Backend {
        /// The device.
        device: u8,
    },
    /// The host loses power: of what is dirty, only these sectors survive.
    Power {
        /// The survivors; sectors that are not dirty do not matter.
        survivors: SectorSet,
    },
}

/// Everything that can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The guest's driver initialises a device, up to DRIVER_OK, and begins a life.
    Start {
        /// The device.
        device: u8,
        /// The features it accepts. What is not offered makes the device refuse.
        accept: u64,
        /// Both ring indices at the start, if the device can do that.
        base: u16,
    },
    /// The guest publishes a request.
    Send {
        /// Where.
        to: QueueId,
        /// Its number, unique in the run and the version of what it writes.
        id: u32,
        /// What it asks.
        ask: Ask,
        /// How it is cut.
        layout: Layout,
        /// How it is spoiled.
        mischief: Mischief,
    },
    /// The guest publishes the head of an outstanding request once more.
    SendAgain {
        /// Where.
        to: QueueId,
        /// The request.
        id: u32,
    },
    /// The guest moves the available index out of range.
    Jump {
        /// Where.
        to: QueueId,
    },
    /// The guest considers a kick, and gives it if the device wants one.
    Kick {
        /// Where.
        to: QueueId,
    },
    /// The guest takes back what was used and asks for signals again, or for silence.
    Reap {
        /// Where.
        to: QueueId,
        /// Whether it wants to be signalled.
        arm: bool,
    },
    /// The guest writes `writeback` and reads it back.
    Writeback {
        /// The device.
        device: u8,
        /// The byte written; anything but zero means one.
        value: u8,
    },
    /// The guest writes zero to the device status.
    Reset {
        /// The device.
        device: u8,
    },
    /// The guest reads the device status: the reset may have finished.
    PollReset {
        /// The device.
        device: u8,
    },
    /// The thread of a queue runs.
    Crank {
        /// Where.
        to: QueueId,
        /// How long.
        until: Until,
    },
    /// The host does part of an operation.
    Effect {
        /// Which.
        op: OpKey,
        /// The sectors of the medium that move now.
        set: SectorSet,
    },
    /// The host completes an operation.
    Complete {
        /// Which.
        op: OpKey,
        /// How.
        outcome: Outcome,
    },
    /// The host writes dirty sectors back, unasked.
    WriteBack {
        /// Which.
        set: SectorSet,
    },
    /// The host evicts sectors that a failed sync forgot.
    Evict {
        /// Which.
        set: SectorSet,
    },
    /// Something else happens to a live device.
    Life {
        /// The device.
        device: u8,
        /// What.
        what: Life,
    },
    /// Something is lost.
    Crash(CrashKind),
    /// The guest waits for a request: with a kind host, everything that can move does until it has
    /// come back. Nothing happens if it is not out.
    Await {
        /// The device.
        device: u8,
        /// The request.
        id: u32,
    },
    /// The host is kind from here on, everything that can move does, and then everything that was
    /// asked for must have been answered.
    Rest,
}
