//! The seam for backends: what a device must offer to be put under test.
//!
//! It is the guest's view of a device plus one method that lets a queue's thread take a step. Guest
//! memory crosses as a plain region, so a backend built on any version of vm-memory fits, and so
//! does one built on none. A binary that implements [`DeviceUnderTest`] and calls
//! [`powerfail::main`](crate::main()) has the whole command line.

pub(crate) mod caught;
pub mod lifecycle;
mod spec;
pub mod toolkit;

pub use spec::{ALL_FEATURES, MAX_QUEUES, MEMORY_FEATURES, Spec};

use crate::base::sectors::SectorSet;
use crate::dut::lifecycle::{Abilities, Cut, Moved};
use crate::guest::Kind;
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::feature;
use crate::host::disk::SimDisk;

/// What the host lends a device for one step.
#[derive(Debug)]
pub struct Host<'a> {
    /// Guest memory.
    pub ram: Ram<'a>,
    /// The simulated disk, for devices that keep their data on it.
    pub disk: &'a mut SimDisk,
    /// Which device this is, counted from zero: its part of the disk.
    pub device: u8,
    /// Whether the host may fail in this run: a device with a host of its own may fail a legal
    /// request only then.
    pub may_fail: bool,
}

/// How a backend came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The process died; the host, and what it caches, lives on.
    BackendKill,
    /// The host lost its power.
    PowerLoss {
        /// Of what was [dirty](DeviceUnderTest::dirty) on a disk of the device's own, only this is
        /// left.
        survivors: SectorSet,
    },
}

/// What one step of a queue's thread did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is left to do until a kick, a completion, or a wake from another queue.
    Idle,
    /// Something was done; there may be more.
    Busy,
    /// The driver is signalled: a used-buffer notification of this queue.
    Signal,
    /// This other queue has something to do now.
    Woke(u16),
}

/// A device under test.
///
/// The world calls these in the order a driver and a transport would: `open`; then, per life,
/// `negotiate`, `config_read`, `start`, any number of `kick` and `step`, and `begin_reset` followed
/// by `step` until `reset_done`. A clone must share nothing with its original.
pub trait DeviceUnderTest: Clone + Send + Sized {
    /// What the device needs besides the [`Spec`]; `()` for most.
    type Setup: Clone + Default + Send + Sync + std::fmt::Debug;

    /// Whether the device keeps its data on the simulated disk. If not, no power is lost in its
    /// runs unless [`SURVIVES_POWER_LOSS`](Self::SURVIVES_POWER_LOSS), and no witness looks.
    const ON_SIM_DISK: bool;

    /// Whether a device that is not on the simulated disk keeps by itself, over
    /// [`restart`](Self::restart), what a disk would over a power loss.
    const SURVIVES_POWER_LOSS: bool = Self::ON_SIM_DISK;

    /// Whether the device's host fails where the options allow it. Where it does not, no legal
    /// request may fail.
    const HOST_FAILS: bool = true;

    /// Whether rings may start at an index other than zero.
    const RING_BASE: bool = false;

    /// What the two devices of a world are, where there are two; of one, the first.
    fn kinds(_setup: &Self::Setup) -> [Kind; 2] {
        [Kind::Disk; 2]
    }

    /// Starts the backend on a disk that holds the initial image of `disk`. A device that is not
    /// on the simulated disk copies that image from it.
    fn open(setup: &Self::Setup, spec: &Spec, disk: &SimDisk, device: u8) -> Self;

    /// Starts the backend again after its end.
    fn restart(&mut self, setup: &Self::Setup, spec: &Spec, disk: &SimDisk, device: u8, _end: End) {
        *self = Self::open(setup, spec, disk, device);
    }

    /// What a [`restart`](Self::restart) after a power loss now would carry over: devices with
    /// equal numbers do the same from there on, whatever they did until there. Nothing if nobody
    /// can tell; an exhaustive search is the larger for it.
    fn carries(&self) -> Option<u64> {
        None
    }

    /// The sectors that a power loss may take from a disk of the device's own, counted from its
    /// start: these are cut by the same choices as those of the simulated disk. Nothing if nobody
    /// can look into it, and the device chooses what is lost.
    fn dirty(&self) -> Option<SectorSet> {
        None
    }

    /// The host writes [dirty](Self::dirty) sectors back, unasked. False if none of them is dirty.
    fn write_back(&mut self, _set: SectorSet) -> bool {
        false
    }

    /// The offered features.
    fn offered(&self) -> u64;

    /// The driver accepts these features and sets FEATURES_OK. False if the device refuses. A
    /// device to which it makes no difference accepts whatever is legal.
    fn negotiate(&mut self, accept: u64) -> bool {
        accept & !self.offered() == 0 && accept & feature::VERSION_1 != 0
    }

    /// The driver reads the configuration space; what the device does not have reads zero.
    fn config_read(&mut self, offset: u64, out: &mut [u8]);

    /// The driver writes the configuration space.
    fn config_write(&mut self, _offset: u64, _bytes: &[u8]) {}

    /// The driver has placed the rings, one for each queue, and sets DRIVER_OK.
    fn start(&mut self, rings: &[RingPlan]);

    /// The driver kicks a queue. A device that looks at its rings in every step need not know.
    fn kick(&mut self, _queue: u16) {}

    /// The thread of a queue takes one step.
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress;

    /// The driver writes zero to the device status.
    fn begin_reset(&mut self, host: &mut Host<'_>);

    /// Whether the device status reads zero: at once, for a device with nothing to wait for.
    fn reset_done(&mut self) -> bool {
        true
    }

    /// Whether the device status says NEEDS_RESET.
    fn needs_reset(&mut self) -> bool {
        false
    }

    /// Of a persistent memory: the driver stores a word of 8 bytes through the mapping.
    fn store(&mut self, word: u32, value: u64, host: &mut Host<'_>) {
        host.disk.store(host.device, word, value);
    }

    /// Of a persistent memory: the driver loads a word of 8 bytes through the mapping.
    fn load(&mut self, word: u32, host: &mut Host<'_>) -> u64 {
        host.disk.load(host.device, word)
    }

    /// What else can happen to the device. Of the methods below only those are called that belong
    /// to what it can.
    fn can(&self) -> Abilities {
        Abilities::NONE
    }

    /// [`pause`](Abilities::pause): takes nothing more from the rings; what was taken goes on.
    fn pause(&mut self) {}

    /// [`pause`](Abilities::pause): goes on; every queue is stepped.
    fn resume(&mut self) {}

    /// [`pause`](Abilities::pause): whether everything that was taken has ended.
    fn is_drained(&mut self) -> bool {
        false
    }

    /// [`pause`](Abilities::pause): begins, paused and drained, to make stable what completed;
    /// every queue is stepped.
    fn begin_save(&mut self) {}

    /// [`pause`](Abilities::pause): once that is over, saves the device, becomes another process
    /// that goes on from there, and says whether what had completed is stable. Nothing happens
    /// while it is not over.
    fn move_on(&mut self, _spec: &Spec, _host: &mut Host<'_>) -> Option<Moved> {
        None
    }

    /// [`pause`](Abilities::pause): stops the rings of a paused device and starts them again where
    /// they are, once everything that was taken is answered; the device is not paused then. False
    /// if that is not so yet, or never done.
    fn restart_rings(&mut self) -> bool {
        false
    }

    /// [`reconnect`](Abilities::reconnect): the front-end leaves. Nothing more is answered, what is
    /// in flight stays on record, and what the host has in hand comes back in the steps that
    /// follow; then it comes back to the same process, and the world goes on with
    /// [`reconnect`](Self::reconnect).
    fn leave(&mut self) {}

    /// [`resize`](Abilities::resize): the disk has so many sectors now, more than before.
    fn resize(&mut self, _sectors: u32) {}

    /// [`resize`](Abilities::resize): the generation of the configuration space.
    fn config_generation(&mut self) -> u32 {
        0
    }

    /// [`resize`](Abilities::resize): whether the driver is signalled that the configuration has
    /// changed; asking takes it.
    fn take_config_signal(&mut self) -> bool {
        false
    }

    /// [`queue_reset`](Abilities::queue_reset): the driver resets one queue; every queue is
    /// stepped.
    fn reset_queue(&mut self, _queue: u16) {}

    /// [`queue_reset`](Abilities::queue_reset): whether that has not ended.
    fn is_queue_resetting(&mut self, _queue: u16) -> bool {
        false
    }

    /// [`queue_reset`](Abilities::queue_reset): the driver has placed a queue anew that was reset.
    fn place_queue(&mut self, _queue: u16, _ring: RingPlan) {}

    /// [`reconnect`](Abilities::reconnect): takes one step of a queue and dies in it, here; then
    /// the world goes on with [`reconnect`](Self::reconnect). Says whether the step was one in
    /// which that can be.
    fn die_inside(&mut self, queue: u16, _cut: Cut, host: &mut Host<'_>) -> bool {
        self.step(queue, host);
        false
    }

    /// [`reconnect`](Abilities::reconnect): the backend died, and becomes another one: the
    /// front-end hands it the features, the cache mode (as `config_read` says before), the rings
    /// with whatever is on them, and the record of what was in flight. What it had in the host's
    /// hands is gone.
    fn reconnect(
        &mut self,
        _setup: &Self::Setup,
        _spec: &Spec,
        _negotiated: u64,
        _rings: &[RingPlan],
        _host: &mut Host<'_>,
    ) {
    }
}
