//! One device of a world with its driver and its oracle, and how the power comes on.

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
    /// DRIVER_OK is set, and no reset was asked for since.
    pub(crate) live: bool,
    /// A reset was asked for and has not shown.
    pub(crate) resetting: bool,
    /// How many queues this life uses.
    pub(crate) active: u16,
    pub(crate) negotiated: u64,
    /// A queue is stirred iff its thread may have something to do.
    pub(crate) runnable: [bool; MAX_QUEUES],
    /// The guest broke a queue: the device may ask for a reset.
    pub(crate) avail_jumped: bool,
    /// The guest sent a chain that makes no sense: the device may ask for a reset.
    pub(crate) malformed_sent: bool,
    /// It does.
    pub(crate) wants_reset: bool,
    /// Sectors discarded and not written since; and those of them that a power loss has passed.
    pub(crate) discarded: SectorSet,
    pub(crate) discarded_before_loss: SectorSet,
    pub(crate) was_reset: bool,
    /// Sectors of its disk, as the driver was told last.
    pub(crate) capacity: u32,
    /// The monitor has paused it, and what it is about.
    pub(crate) paused: bool,
    pub(crate) moving: Moving,
    /// The guest has kicked it since.
    pub(crate) kicked: bool,
    /// The newest request that was in flight when a backend died under its driver; zero if none
    /// was.
    pub(crate) carried: u32,
    /// How often another backend had to go on for one that had not answered all of that.
    pub(crate) carried_again: u32,
    /// The guest has published a head twice in this life.
    pub(crate) head_republished: bool,
    /// A sync of its part has failed since its backend was opened: no flush need succeed.
    pub(crate) sync_failed: bool,
    /// Requests out of which an operation of their own failed: they may fail.
    pub(crate) excused: Vec<u32>,
    /// A write failed while no sync had, since its backend was opened.
    pub(crate) write_failed: bool,
    /// The queues one by one.
    pub(crate) queue_states: [QueueState; MAX_QUEUES],
}

impl<D> DeviceSlot<D> {
    /// Nothing runs: after power-on, a reset or a crash.
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

    /// The disk was opened afresh: what failed before says nothing about it.
    pub(crate) fn reopened(&mut self) {
        self.sync_failed = false;
        self.write_failed = false;
    }

    /// Every thread of the device may have something to do.
    pub(crate) fn make_runnable(&mut self) {
        for runnable in self.runnable.iter_mut().take(usize::from(self.active)) {
            *runnable = true;
        }
    }
}

impl<D: DeviceUnderTest> World<D> {
    /// Makes every device and driver anew, in place where there were some.
    pub(super) fn set_up(&mut self) {
        let World { setup, options, run, memory, disk, slots, .. } = self;
        let spec = options.spec;
        slots.truncate(usize::from(options.devices));
        for device in 0..options.devices {
            let mut fresh = D::open(setup, &spec, disk, device);
            let can = fresh.lifecycle().map_or(Abilities::NONE, |lifecycle| lifecycle.can());
            let kind = options.kind(device);
            let slot = match slots.get_mut(usize::from(device)) {
                Some(slot) => {
                    slot.device = fresh;
                    slot.can = can;
                    slot.kind = kind;
                    slot.oracle.restart(options.contract, kind, spec.disk.room());
                    slot
                }
                None => {
                    slots.push(DeviceSlot {
                        device: fresh,
                        can,
                        kind,
                        oracle: Contract::new(options.contract, kind, spec.disk.room()),
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
            let share = options.share();
            let queues = options.queues_of(device);
            slot.queues.truncate(usize::from(queues));
            for queue in 0..queues {
                let nth = u32::from(device) * u32::from(spec.queues) + u32::from(queue);
                let shape = Shape {
                    kind,
                    at: nth * share,
                    len: share,
                    ring_size: spec.ring_size,
                    room: options.max_sectors * 512,
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
        self.coverage.hit_if(self.options.devices > 1, Situation::TwoDevices);
    }
}
