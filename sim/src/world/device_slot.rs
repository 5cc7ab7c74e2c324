//! One device of a world with its driver and its oracle, and the set-up at power-on.

use super::{Contract, World};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::dut::lifecycle::{Abilities, Moving, QueueState};
use crate::dut::{MAX_QUEUES, Managed};
use crate::guest::Kind;
use crate::guest::payload::Author;
use crate::guest::{QueueDriver, Shape};
use crate::world::coverage::Situation;

/// One device, its driver and its oracle.
#[derive(Clone, Debug)]
pub(crate) struct DeviceSlot<D> {
    pub(crate) device: D,
    /// The abilities of its lifecycle; none if it has no lifecycle.
    pub(crate) can: Abilities,
    pub(crate) kind: Kind,
    pub(crate) oracle: Contract,
    pub(crate) queues: Vec<QueueDriver>,
    /// True iff DRIVER_OK is set and no reset was begun since.
    pub(crate) live: bool,
    /// True iff a reset was begun and its completion has not been read.
    pub(crate) resetting: bool,
    /// The number of queues that this life uses.
    pub(crate) active: u16,
    pub(crate) negotiated: u64,
    /// `runnable[q]` iff the thread of queue `q` may have something to do.
    pub(crate) runnable: [bool; MAX_QUEUES],
    /// The guest moved an available index out of range: the device may ask for a reset.
    pub(crate) avail_jumped: bool,
    /// The guest sent an invalid chain: the device may ask for a reset.
    pub(crate) malformed_sent: bool,
    /// The device asks for a reset after an invalid chain.
    pub(crate) wants_reset: bool,
    /// Sectors discarded and not written since, and those of them discarded before a power loss.
    pub(crate) discarded: SectorSet,
    pub(crate) discarded_before_loss: SectorSet,
    pub(crate) was_reset: bool,
    /// The capacity of its disk in sectors, as the driver last read it.
    pub(crate) capacity: u32,
    /// The VMM has paused the device, and the stage of a save.
    pub(crate) paused: bool,
    pub(crate) moving: Moving,
    /// The guest has kicked the device since the pause.
    pub(crate) kicked: bool,
    /// The newest request that was in flight when a backend died or was left under a live driver; 0
    /// if none was.
    pub(crate) carried: u32,
    /// How many reconnections found requests of an earlier reconnection still unanswered.
    pub(crate) carried_again: u32,
    /// The guest has published a head twice in this life.
    pub(crate) head_republished: bool,
    /// A sync of its part has failed since its backend was opened: any flush may fail.
    pub(crate) sync_failed: bool,
    /// Outstanding requests with a failed operation of their own: they may fail.
    pub(crate) excused: Vec<u32>,
    /// A write has failed since its backend was opened.
    pub(crate) write_failed: bool,
    /// The reset state of each queue.
    pub(crate) queue_states: [QueueState; MAX_QUEUES],
}

impl<D> DeviceSlot<D> {
    /// Clears the state of a life: after power-on, a reset or a crash.
    pub(crate) fn still(&mut self) {
        self.live = false;
        self.resetting = false;
        self.active = 0;
        self.negotiated = 0;
        self.runnable = [false; MAX_QUEUES];
        self.avail_jumped = false;
        self.malformed_sent = false;
        self.wants_reset = false;
        self.paused = false;
        self.moving = Moving::No;
        self.kicked = false;
        self.carried = 0;
        self.carried_again = 0;
        self.head_republished = false;
        self.excused.clear();
        self.queue_states = [QueueState::Live; MAX_QUEUES];
    }

    /// The disk was opened again: earlier failures excuse nothing any more.
    pub(crate) fn reopened(&mut self) {
        self.sync_failed = false;
        self.write_failed = false;
    }

    /// Marks the thread of every active queue as runnable.
    pub(crate) fn make_runnable(&mut self) {
        for runnable in self.runnable.iter_mut().take(usize::from(self.active)) {
            *runnable = true;
        }
    }
}

impl<D: DeviceUnderTest> World<D> {
    /// Replaces every device and driver, and reuses existing slots.
    pub(super) fn set_up(&mut self) {
        let World { setup, shape, run, memory, disk, slots, .. } = self;
        let spec = shape.spec;
        slots.truncate(usize::from(shape.devices));
        for device in 0..shape.devices {
            let mut fresh = D::open(setup, &spec, disk, device);
            let can = fresh.lifecycle().map_or(Abilities::NONE, |lifecycle| lifecycle.can());
            let kind = shape.kind(device);
            let slot = match slots.get_mut(usize::from(device)) {
                Some(slot) => {
                    slot.device = fresh;
                    slot.can = can;
                    slot.kind = kind;
                    slot.oracle.restart(shape.contract, kind, spec.disk.room());
                    slot
                }
                None => {
                    slots.push(DeviceSlot {
                        device: fresh,
                        can,
                        kind,
                        oracle: Contract::new(shape.contract, kind, spec.disk.room()),
                        queues: Vec::new(),
                        live: false,
                        resetting: false,
                        active: 0,
                        negotiated: 0,
                        runnable: [false; MAX_QUEUES],
                        avail_jumped: false,
                        malformed_sent: false,
                        wants_reset: false,
                        discarded: SectorSet::EMPTY,
                        discarded_before_loss: SectorSet::EMPTY,
                        was_reset: false,
                        capacity: 0,
                        paused: false,
                        moving: Moving::No,
                        kicked: false,
                        carried: 0,
                        carried_again: 0,
                        head_republished: false,
                        sync_failed: false,
                        excused: Vec::new(),
                        write_failed: false,
                        queue_states: [QueueState::Live; MAX_QUEUES],
                    });
                    slots.last_mut().expect("just pushed")
                }
            };
            slot.still();
            slot.reopened();
            slot.capacity = spec.disk.capacity;
            slot.discarded = SectorSet::EMPTY;
            slot.discarded_before_loss = SectorSet::EMPTY;
            slot.was_reset = false;
            let author = Author { run: *run, disk: device };
            let share = shape.share();
            let queues = shape.queues_of(device);
            slot.queues.truncate(usize::from(queues));
            for queue in 0..queues {
                let nth = u32::from(device) * u32::from(spec.queues) + u32::from(queue);
                let shape = Shape {
                    kind,
                    at: nth * share,
                    len: share,
                    ring_size: spec.ring_size,
                    room: shape.max_sectors * 512,
                };
                match slot.queues.get_mut(usize::from(queue)) {
                    Some(driver) => driver.reshape(shape, memory),
                    None => {
                        slot.queues.push(QueueDriver::new(shape, 0, false, author, memory));
                    }
                }
            }
        }
        self.stats.runs += 1;
        self.coverage.hit_if(self.shape.devices > 1, Situation::TwoDevices);
    }
}
