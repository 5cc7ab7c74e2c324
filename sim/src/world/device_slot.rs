//! One device of a world with its driver and its oracle, and the set-up at power-on.

use super::alteration::Alteration;
use super::readings::Readings;
use super::registers::Snapshot;
use super::{Contract, World};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::dut::caught::of_device;
use crate::dut::lifecycle::{Abilities, QueueState};
use crate::dut::{Link, MAX_QUEUES, Managed, Marked, Waived};
use crate::guest::payload::Author;
use crate::guest::{GuestRequest, Kind};
use crate::guest::{QueueDriver, Shape};
use crate::world::coverage::Situation;
use crate::world::shadow::Shadow;

/// The life of a driver: from the start of the device to the end of a reset, or to a crash.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// A reset was begun, and its completion has not been read.
    pub(crate) resetting: bool,
    /// The number of queues that this life uses.
    pub(crate) active: u16,
    pub(crate) negotiated: u64,
    /// The reset state of each queue.
    pub(crate) queue_states: [QueueState; MAX_QUEUES],
    /// The guest moved an available index out of range: the device may ask for a reset.
    pub(crate) avail_jumped: bool,
    /// The guest sent an invalid chain: the device may ask for a reset.
    pub(crate) malformed_sent: bool,
    /// The device asks for a reset after an invalid chain.
    pub(crate) wants_reset: bool,
    /// The guest has published a head twice.
    pub(crate) head_republished: bool,
    /// The newest request that was in flight when a backend died or was left under the live driver;
    /// 0 if none was.
    pub(crate) carried: u32,
    /// How many reconnections found requests of an earlier reconnection still unanswered.
    pub(crate) carried_again: u32,
    /// The device has announced that it needs a reset.
    pub(crate) reset_announced: bool,
    /// Outstanding requests with a failed operation of their own: they may fail.
    pub(crate) excused: Vec<u32>,
}

impl Life {
    const NEW: Life = Life {
        resetting: false,
        active: 0,
        negotiated: 0,
        queue_states: [QueueState::Live; MAX_QUEUES],
        avail_jumped: false,
        malformed_sent: false,
        wants_reset: false,
        head_republished: false,
        carried: 0,
        carried_again: 0,
        reset_announced: false,
        excused: Vec::new(),
    };

    /// The beginning of a life with these queues and features.
    pub(super) fn begin(active: u16, negotiated: u64) -> Life {
        Life { active, negotiated, ..Life::NEW }
    }
}

/// What the guest has negotiated, placed and done before a life: nothing.
static NO_LIFE: Life = Life::NEW;

/// A pause of the device by the virtual machine monitor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pause {
    /// A save has begun and not ended.
    pub(crate) saving: bool,
    /// The guest has kicked the device since.
    pub(crate) kicked: bool,
}

/// The failures of the host since the device's backend was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HostFailures {
    /// A sync of its part has failed: any flush may fail.
    pub(crate) sync_failed: bool,
    pub(crate) write_failed: bool,
}

/// One device, its driver and its oracle.
#[derive(Clone, Debug)]
pub(crate) struct DeviceSlot<D> {
    pub(crate) device: Marked<D>,
    /// The reports of the device, and the choices given to it.
    pub(crate) link: Link,
    /// The abilities of its lifecycle; none if it has no lifecycle.
    pub(crate) can: Abilities,
    pub(crate) kind: Kind,
    pub(crate) oracle: Readings,
    pub(crate) queues: Vec<QueueDriver>,
    pub(crate) life: Option<Life>,
    /// `runnable[q]` iff the thread of queue `q` may have something to do. Operations of an earlier
    /// life make it so, too.
    pub(crate) runnable: [bool; MAX_QUEUES],
    /// Whether the background work of the device may have something to do. Only meaningful for a
    /// device that has some.
    pub(crate) background: bool,
    /// A change of one of its requests by the guest.
    pub(super) alteration: Option<Box<Alteration>>,
    /// The pause, which outlives a reset.
    pub(crate) pause: Option<Pause>,
    pub(crate) host_failures: HostFailures,
    /// The capacity of its disk in sectors, as the driver last read it.
    pub(crate) capacity: u32,
    /// The same since the first start of the run, 0 before: it never falls.
    pub(crate) least_capacity: u32,
    /// The configuration space at the start of the life, in a watched world.
    pub(crate) registers: Option<Snapshot>,
    /// Sectors discarded and not written since, and those of them discarded before a power loss.
    pub(crate) discarded: SectorSet,
    pub(crate) discarded_before_loss: SectorSet,
    /// A reset has completed since power-on or the last power loss.
    pub(crate) was_reset: bool,
}

impl<D> DeviceSlot<D> {
    /// The driver's life, or one in which nothing has happened.
    #[inline]
    pub(crate) fn life(&self) -> &Life {
        self.life.as_ref().unwrap_or(&NO_LIFE)
    }

    /// The driver's life, of a device that was started.
    ///
    /// # Panics
    /// If it was not.
    #[inline]
    pub(crate) fn life_mut(&mut self) -> &mut Life {
        self.life.as_mut().expect("the device was started")
    }

    /// Whether DRIVER_OK is set and no reset was begun since.
    #[inline]
    pub(crate) fn is_live(&self) -> bool {
        self.life.as_ref().is_some_and(|life| !life.resetting)
    }

    /// Whether a reset was begun and its completion has not been read.
    #[inline]
    pub(crate) fn is_resetting(&self) -> bool {
        self.life.as_ref().is_some_and(|life| life.resetting)
    }

    /// Whether the virtual machine monitor has paused the device.
    #[inline]
    pub(crate) fn is_paused(&self) -> bool {
        self.pause.is_some()
    }

    /// Whether a save has begun and not ended.
    pub(crate) fn is_saving(&self) -> bool {
        self.pause.is_some_and(|pause| pause.saving)
    }

    /// A sync has failed: every write in flight may have asked for it, and may fail.
    pub(crate) fn excuse_writes(&mut self) {
        self.excuse(GuestRequest::mutates);
    }

    /// An operation of the device has failed, and which request it served is unknown: every
    /// outstanding one may fail.
    pub(crate) fn excuse_outstanding(&mut self) {
        self.excuse(|_| true);
    }

    fn excuse(&mut self, which: impl Fn(&GuestRequest) -> bool) {
        if let Some(life) = &mut self.life {
            let out = self.queues.iter().flat_map(QueueDriver::outstanding);
            life.excused.extend(out.filter(|(_, ask)| which(ask)).map(|(id, _)| id));
        }
    }

    /// Ends the driver's life. A pause goes on, but a save in progress is given up.
    pub(crate) fn end_life(&mut self) {
        self.life = None;
        self.runnable = [false; MAX_QUEUES];
        self.pause = self.pause.map(|_| Pause::default());
    }

    /// The backend is gone, and with it the driver's life, the pause and the failures of the host.
    pub(crate) fn backend_lost(&mut self) {
        self.end_life();
        self.pause = None;
        self.host_failures = HostFailures::default();
    }

    /// Marks the thread of every active queue as runnable.
    pub(crate) fn make_runnable(&mut self) {
        self.background = true;
        let active = usize::from(self.life().active);
        self.runnable.iter_mut().take(active).for_each(|runnable| *runnable = true);
    }
}

impl<D: DeviceUnderTest> World<D> {
    /// Replaces every device and driver, and reuses existing slots.
    pub(super) fn set_up(&mut self) {
        let listens = self.journal.is_some();
        let World { setup, shape, run, memory, disk, slots, stats, .. } = self;
        let spec = shape.spec;
        memory.divide(shape.region);
        // The oracles and drivers of the last run keep their allocations.
        slots.truncate(usize::from(shape.devices));
        let kept = slots.len();
        if !D::PLAIN_MEDIUM {
            for device in 0..shape.devices {
                let format = |image: &[u8], part: &mut [u8]| D::format(setup, &spec, image, part);
                disk.format(device, |image, part| of_device(|| format(image, part)));
            }
        }
        for device in 0..shape.devices {
            let mut fresh = Marked::<D>::open(setup, &spec, disk, device);
            let can = fresh.lifecycle().map_or(Abilities::NONE, |part| of_device(|| part.can()));
            stats.can = stats.can.or(can);
            let (kind, atoms) = (shape.kind(device), spec.disk.room());
            let old = (usize::from(device) < kept).then(|| slots.remove(0));
            let (oracle, queues) = match old {
                Some(DeviceSlot { mut oracle, queues, .. }) => {
                    oracle.restart(shape.contract, kind, atoms);
                    (oracle, queues)
                }
                None => {
                    let contract = Contract::new(shape.contract, kind, atoms);
                    (Readings::new(contract), Vec::new())
                }
            };
            slots.push(DeviceSlot {
                device: fresh,
                link: Link::new(D::CHOOSES, listens),
                can,
                kind,
                oracle,
                queues,
                life: None,
                runnable: [false; MAX_QUEUES],
                background: true,
                alteration: None,
                pause: None,
                host_failures: HostFailures::default(),
                capacity: spec.disk.capacity,
                least_capacity: 0,
                registers: None,
                discarded: SectorSet::EMPTY,
                discarded_before_loss: SectorSet::EMPTY,
                was_reset: false,
            });
            let slot = slots.last_mut().expect("just pushed");
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
                    table: shape.table(),
                    first: spec.disk.first,
                    to_the_end: shape.watch && (nth + 1) * share == shape.memory,
                    checks_length: !shape.waives(Waived::USED_LENGTH),
                };
                match slot.queues.get_mut(usize::from(queue)) {
                    Some(driver) => driver.reshape(shape, memory),
                    None => {
                        slot.queues.push(QueueDriver::new(shape, 0, false, author, memory));
                    }
                }
            }
        }
        self.guest_wrote = 0..self.memory.len();
        let old = self.shadow.take();
        if self.shape.watch {
            self.shadow = old.or_else(|| Some(Box::new(Shadow::new(&self.memory))));
        }
        self.stats.runs += 1;
        self.coverage.hit_if(self.shape.devices > 1, Situation::TwoDevices);
    }
}
