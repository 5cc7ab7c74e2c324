//! The optional parts of a device under test: a lifecycle beyond requests, resets and crashes; a
//! medium of its own; a mapping of persistent memory.
//!
//! A device returns its parts from `lifecycle`, `own_medium` and `mapping` of
//! [`DeviceUnderTest`](crate::dut::DeviceUnderTest). The calls are dispatched statically: a part
//! that a device does not have is [`Absent`], which has no value, so the compiler removes the call.

use crate::base::sectors::SectorSet;
use crate::dut::lifecycle::{Abilities, Cut, Moved};
use crate::dut::{Host, Spec};
use crate::guest::RingPlan;

/// The operations of a virtual machine monitor on a live device, and the reset of one queue.
///
/// The world calls only the methods that belong to an ability in [`can`](Self::can); the others
/// keep their default, which does nothing.
pub trait Managed {
    /// The abilities of this device; constant from its `open` on.
    fn can(&self) -> Abilities;

    /// [`pause`](Abilities::pause): takes nothing more from the rings. Requests that were taken
    /// continue.
    fn pause(&mut self) {}

    /// [`pause`](Abilities::pause): ends the pause. The world then steps every queue.
    fn resume(&mut self) {}

    /// [`pause`](Abilities::pause): true iff every request that was taken has ended.
    fn is_drained(&mut self) -> bool {
        false
    }

    /// [`pause`](Abilities::pause): begins to make completed writes stable. The device is paused
    /// and drained; the world then steps every queue.
    fn begin_save(&mut self) {}

    /// [`pause`](Abilities::pause): once the save has ended, replaces the device by one restored
    /// from its saved state, as in another process, and returns whether completed writes are
    /// stable. `None`, with no effect, before that.
    fn move_on(&mut self, _spec: &Spec, _host: &mut Host<'_>) -> Option<Moved> {
        None
    }

    /// [`pause`](Abilities::pause): stops the rings of a paused device and starts them again at the
    /// same indices, once every request that was taken is answered. This ends the pause. False,
    /// with no effect, before that, or if the device never does it.
    fn restart_rings(&mut self) -> bool {
        false
    }

    /// [`reconnect`](Abilities::reconnect): the front-end disconnects. The device answers nothing
    /// more and keeps its record of requests in flight; operations in the host return in the steps
    /// that follow. The front-end then reconnects to the same process:
    /// [`reconnect`](Self::reconnect).
    fn leave(&mut self) {}

    /// [`reconnect`](Abilities::reconnect): takes one step of a queue and dies in it at `cut`;
    /// [`reconnect`](Self::reconnect) follows. False iff the step does not pass `cut`; the device
    /// then dies before or after the step.
    fn die_inside(&mut self, _queue: u16, _cut: Cut, _host: &mut Host<'_>) -> bool {
        false
    }

    /// [`reconnect`](Abilities::reconnect): the backend died, or was left, and a backend takes over
    /// the rings as they are. It gets the negotiated features, the cache mode (as `config_read`
    /// returned it before), the rings, and the record of requests in flight. Operations that were
    /// in the host are lost.
    fn reconnect(
        &mut self,
        _spec: &Spec,
        _negotiated: u64,
        _rings: &[RingPlan],
        _host: &mut Host<'_>,
    ) {
    }

    /// [`resize`](Abilities::resize): the disk now has this many sectors, more than before.
    fn resize(&mut self, _sectors: u32) {}

    /// [`resize`](Abilities::resize): the generation of the configuration space.
    fn config_generation(&mut self) -> u32 {
        0
    }

    /// The default of
    /// [`DeviceUnderTest::take_config_signal`](super::DeviceUnderTest::take_config_signal).
    fn take_config_signal(&mut self) -> bool {
        false
    }

    /// [`queue_reset`](Abilities::queue_reset): the driver resets one queue. The world then steps
    /// every queue.
    fn reset_queue(&mut self, _queue: u16) {}

    /// [`queue_reset`](Abilities::queue_reset): true iff that reset has not ended.
    fn is_queue_resetting(&mut self, _queue: u16) -> bool {
        false
    }

    /// [`queue_reset`](Abilities::queue_reset): the driver re-enables a queue that was reset, with
    /// this ring.
    fn place_queue(&mut self, _queue: u16, _ring: RingPlan) {}
}

/// A medium of the device's own whose volatile sectors are visible.
///
/// The scheduler then chooses which of them survive a power loss, as it does on the simulated disk.
/// Sectors count from the start of the device. The methods take `&self` because such a medium lies
/// outside the device's process: a file, and the switch of its power.
pub trait OwnMedium {
    /// The sectors that a power loss may take.
    fn dirty(&self) -> SectorSet;

    /// Makes those of these sectors that are [dirty](Self::dirty) stable, as write-back does.
    /// False iff none is.
    fn write_back(&self, _set: SectorSet) -> bool {
        false
    }
}

/// The mapping of a persistent memory, in words of 8 bytes.
pub trait Mapping {
    /// The driver stores a word.
    fn store(&mut self, word: u32, value: u64, host: &mut Host<'_>);

    /// The driver loads a word.
    fn load(&mut self, word: u32, host: &mut Host<'_>) -> u64;
}

/// The part that a device does not have.
#[derive(Clone, Copy, Debug)]
pub enum Absent {}

impl Managed for Absent {
    fn can(&self) -> Abilities {
        match *self {}
    }
}

impl OwnMedium for Absent {
    fn dirty(&self) -> SectorSet {
        match *self {}
    }
}

impl Mapping for Absent {
    fn store(&mut self, _word: u32, _value: u64, _host: &mut Host<'_>) {
        match *self {}
    }

    fn load(&mut self, _word: u32, _host: &mut Host<'_>) -> u64 {
        match *self {}
    }
}
