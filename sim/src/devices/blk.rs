//! Our block device on the simulated disk: the shipped code, joined to the world.

use powerfail_device::RegisterSurface;
use std::sync::Arc;

use powerfail_device::{
    BlockQueue, Config, Device, DeviceState, Disk, Limits, QueueLayout, Ring, SaveError, Step,
    settle, step,
};

use crate::devices::faulty::{DiskFault, FaultyLane, FaultyState};
use crate::devices::in_flight::SimRecord;
use crate::dut::Spec;
use crate::dut::lifecycle::{Abilities, Cut, Moved};
use crate::dut::{DeviceUnderTest, End, Host, Managed, Medium, Profile, Progress};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::{config, feature, memory};
use crate::host::disk::{BelowSeam, Lane, SimDisk};

// The status bits a driver writes: virtio 1.4, 2.1.
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;

/// The register half of a driver's dealings with our device, shared by every way to back it.
#[derive(Clone, Debug)]
pub(crate) struct Registers {
    pub(crate) device: Device,
    /// Steps taken; the device checks its invariants after one in [`CHECKED`].
    steps: u32,
}

/// One step in so many ends in a check of all the device's invariants: over a campaign every kind
/// of step does, and a run costs a hundredth more.
pub(crate) const CHECKED: u32 = 64;

impl Registers {
    pub(crate) fn open(spec: &Spec) -> Registers {
        Registers::on(spec, spec.disk.limits())
    }

    /// A device on a disk with limits of its own.
    pub(crate) fn on(spec: &Spec, limits: Limits) -> Registers {
        let config = Config {
            queues: spec.queues,
            queue_size: spec.ring_size.max(2),
            serial: spec.serial,
            // A trace of a persistent memory may offer what no disk has.
            features: spec.offer & !memory::SHMEM_REGION,
            writeback: spec.writeback,
            max_discard_sectors: spec.max_segment_sectors,
            max_discard_seg: spec.max_segments,
            max_write_zeroes_sectors: spec.max_segment_sectors,
            max_write_zeroes_seg: spec.max_segments,
            ..Config::default()
        };
        let device = Device::new(config, limits);
        Registers { device: device.expect("the options draw possible devices"), steps: 0 }
    }

    pub(crate) fn negotiate(&mut self, accept: u64) -> bool {
        self.device.set_status(ACKNOWLEDGE);
        self.device.set_status(ACKNOWLEDGE | DRIVER);
        self.device.set_driver_features(accept);
        self.device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
        self.device.status() & FEATURES_OK != 0
    }

    pub(crate) fn start(&mut self, rings: &[RingPlan]) {
        for (index, ring) in rings.iter().enumerate() {
            self.place(index as u16, ring);
        }
        self.device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        for (index, ring) in rings.iter().enumerate() {
            let (_, queue) = self.device.queue_mut(index as u16).expect("the queue is live");
            queue.set_position(ring.base, ring.base);
        }
    }

    fn place(&mut self, queue: u16, ring: &RingPlan) {
        let layout = QueueLayout {
            size: ring.size,
            descriptors: u64::from(ring.descriptors),
            available: u64::from(ring.available),
            used: u64::from(ring.used),
        };
        self.device.set_queue(queue, layout).expect("the driver places rings by the book");
    }

    pub(crate) fn kick(&mut self, queue: u16) {
        if let Some((queue, _)) = self.device.queue_mut(queue) {
            queue.handle_kick();
        }
    }

    #[inline]
    pub(crate) fn step<'m, D: Disk<Ram<'m>>>(
        &mut self,
        index: u16,
        disk: &mut D,
        ram: Ram<'m>,
    ) -> Progress {
        self.step_as(index, disk, ram, step)
    }

    #[inline]
    fn step_as<'m, D: Disk<Ram<'m>>>(
        &mut self,
        index: u16,
        disk: &mut D,
        ram: Ram<'m>,
        step: impl Fn(&mut BlockQueue, &mut Ring, &mut D, &Ram<'m>) -> Step,
    ) -> Progress {
        let Some((queue, ring)) = self.device.queue_mut(index) else { return Progress::Idle };
        let stepped = step(queue, ring, disk, &ram);
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(CHECKED) {
            self.device.check();
        }
        match stepped {
            Step::Completed | Step::Submitted | Step::Ring => Progress::Busy,
            Step::Signal => Progress::Signal,
            Step::Idle => Progress::Idle,
            Step::Wake(other) => {
                if let Some((queue, ring)) = self.device.queue_mut(other.0) {
                    queue.handle_wake(ring, &ram);
                }
                Progress::Woke(other.0)
            }
        }
    }

    pub(crate) fn needs_reset(&mut self) -> bool {
        self.device.status() & NEEDS_RESET != 0
    }
}

/// Our block device on the simulated disk, or on one that is wrong on purpose.
#[derive(Debug)]
pub struct Blk {
    pub(crate) registers: Registers,
    faulty: Option<Box<FaultyState>>,
    keeps_records: bool,
    /// What outlives the process, a queue each; none if it keeps no records.
    pub(crate) records: Vec<Arc<SimRecord>>,
    /// The queues, as bits, that do not know their record yet.
    unrecorded: u8,
    /// The front-end has left with this cache mode, and comes back to this process.
    left: Option<u8>,
}

impl Clone for Blk {
    fn clone(&self) -> Blk {
        let copy = |record: &Arc<SimRecord>| Arc::new(record.copy());
        let mut clone = Blk {
            registers: self.registers.clone(),
            faulty: self.faulty.clone(),
            keeps_records: self.keeps_records,
            records: self.records.iter().map(copy).collect(),
            unrecorded: self.unrecorded,
            left: self.left,
        };
        for (index, record) in clone.records.iter().enumerate() {
            let known = clone.unrecorded & 1 << index == 0;
            if let Some((queue, ring)) = clone.registers.device.queue_mut(index as u16)
                && known
            {
                queue.move_record(Arc::clone(record) as _, ring);
            }
        }
        clone
    }
}

impl Blk {
    /// The queues find their records: as they were left, or fresh.
    #[cold]
    fn find_records(&mut self, ram: Ram<'_>) {
        for (index, record) in self.records.iter().enumerate() {
            if self.unrecorded & 1 << index != 0
                && let Some((queue, ring)) = self.registers.device.queue_mut(index as u16)
                && ring.is_ready()
            {
                let kept = queue.keep_record(Arc::clone(record) as _, ring, &ram);
                kept.expect("the record is our own");
            }
        }
        self.unrecorded = 0;
    }

    /// One step towards the end of what is in flight. Only a wrong device asks for it.
    pub(crate) fn settle(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let mut lane = Lane::new(host.disk, host.device, queue as u8);
        self.registers.step_as(queue, &mut lane, host.ram, settle)
    }

    /// Another process goes on behind all that was taken. Only a wrong device does that.
    pub(crate) fn go_on_behind(
        &mut self,
        spec: &Spec,
        negotiated: u64,
        rings: &[RingPlan],
        host: &mut Host<'_>,
    ) {
        if self.unrecorded != 0 {
            self.find_records(host.ram);
        }
        let device = &mut self.registers.device;
        let mut places = Vec::new();
        for (index, plan) in rings.iter().enumerate() {
            let over = device.is_queue_resetting(index as u16);
            let ring = device
                .queue_mut(index as u16)
                .map(|(_, ring)| (ring.is_ready(), ring.position().0));
            let (ready, avail) = ring.unwrap_or((false, 0));
            let used = u16::from_le_bytes(host.ram.read::<2>(plan.used + 2));
            places.push((ready && !over, avail, used));
        }
        self.reconnect(spec, negotiated, rings, host);
        // A record would set right what is to be wrong.
        self.records.clear();
        self.unrecorded = 0;
        for (index, (ready, avail, used)) in places.into_iter().enumerate() {
            if let Some((_, ring)) = self.registers.device.queue_mut(index as u16) {
                if ready {
                    ring.set_position(avail, used);
                } else {
                    ring.reset();
                }
            }
        }
    }

    fn forget_records(&mut self) {
        self.unrecorded = (1 << self.records.len()) - 1;
    }
}

impl DeviceUnderTest for Blk {
    /// The fault of the disk, if it has one.
    type Setup = Option<DiskFault>;

    const MEDIUM: Medium = Medium::Simulated;
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    fn open(setup: &Self::Setup, spec: &Spec, _disk: &SimDisk, _device: u8) -> Blk {
        let faulty = setup.map(|fault| Box::new(FaultyState::new(fault)));
        Blk {
            registers: Registers::open(spec),
            faulty,
            keeps_records: spec.record,
            records: Vec::new(),
            unrecorded: 0,
            left: None,
        }
    }

    fn restart(
        &mut self,
        _setup: &Self::Setup,
        spec: &Spec,
        disk: &SimDisk,
        device: u8,
        _end: End,
    ) {
        self.registers = Registers::on(spec, disk.limits(device));
        self.records.clear();
        self.unrecorded = 0;
        if let Some(state) = &mut self.faulty {
            state.backend_lost();
        }
    }

    fn carries(&self) -> Option<u64> {
        self.faulty.as_ref().map_or(Some(0), |faulty| faulty.carries())
    }

    fn offered(&self) -> u64 {
        self.registers.device.offered()
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        self.registers.negotiate(accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.registers.device.config_read(offset, out);
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.registers.device.config_write(offset, bytes);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.registers.start(rings);
        if self.keeps_records {
            self.records = rings.iter().map(|ring| Arc::new(SimRecord::new(ring.size))).collect();
            self.forget_records();
        }
    }

    fn kick(&mut self, queue: u16) {
        self.registers.kick(queue);
    }

    #[inline]
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        if self.unrecorded != 0 {
            self.find_records(host.ram);
        }
        if let Some(state) = &mut self.faulty {
            state.prepare(host.disk, host.device);
        }
        let mut lane = Lane::new(host.disk, host.device, queue as u8);
        match &mut self.faulty {
            None => self.registers.step(queue, &mut lane, host.ram),
            Some(state) => {
                let fault = match state.fault() {
                    DiskFault::Shifted => BelowSeam::Shifted,
                    DiskFault::SyncMissesSector => BelowSeam::MissesSector,
                    DiskFault::CrossedDevices => BelowSeam::Crossed,
                    DiskFault::ZeroesNotSynced => BelowSeam::LeavesZeroes,
                    DiskFault::SpillsOver => BelowSeam::Spills,
                    _ => BelowSeam::None,
                };
                let lane = lane.with_fault(fault);
                let mut lane = FaultyLane::new(lane, state, queue as u8);
                self.registers.step(queue, &mut lane, host.ram)
            }
        }
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {
        if let Some(state) = &mut self.faulty {
            state.reset_begun();
        }
        // What ends here need not be found any more.
        self.unrecorded = 0;
        self.registers.device.set_status(0);
    }

    fn reset_done(&mut self) -> bool {
        self.registers.device.status() == 0
    }

    fn needs_reset(&mut self) -> bool {
        self.registers.needs_reset()
    }

    fn lifecycle(&mut self) -> Option<&mut impl Managed> {
        self.faulty.is_none().then_some(self)
    }
}

impl Managed for Blk {
    fn can(&self) -> Abilities {
        Abilities::ALL
    }

    fn pause(&mut self) {
        self.registers.device.pause();
    }

    fn resume(&mut self) {
        self.registers.device.resume();
    }

    fn is_drained(&mut self) -> bool {
        self.registers.device.is_drained()
    }

    fn begin_save(&mut self) {
        self.registers.device.begin_save().expect("the world saves what is paused and drained");
    }

    fn move_on(&mut self, _spec: &Spec, host: &mut Host<'_>) -> Option<Moved> {
        let (state, moved) = match self.registers.device.save() {
            Ok(state) => (state, Moved::Stable),
            Err(SaveError::NotStable(state)) => (*state, Moved::NotStable),
            Err(SaveError::NotPaused | SaveError::Busy | SaveError::NotSynced) => return None,
        };
        // What goes to another process goes as bytes.
        let state = DeviceState::from_bytes(&state.to_bytes()).expect("what was just written");
        let config = self.registers.device.shared().config().clone();
        let device = Device::restore(config, host.disk.limits(host.device), &state);
        self.registers.device = device.expect("the same device can be in that state");
        self.forget_records();
        Some(moved)
    }

    fn restart_rings(&mut self) -> bool {
        let drained = self.registers.device.is_drained();
        if drained {
            self.registers.device.restart_rings();
            self.forget_records();
        }
        drained
    }

    fn leave(&mut self) {
        let mut mode = [0];
        self.config_read(config::WRITEBACK, &mut mode);
        self.left = Some(mode[0]);
        self.registers.device.leave();
        // It looks at no record any more.
        self.unrecorded = 0;
    }

    fn resize(&mut self, sectors: u32) {
        let grown = self.registers.device.resize(u64::from(sectors) * 512);
        grown.expect("the world lets disks grow by whole granules");
    }

    fn config_generation(&mut self) -> u32 {
        self.registers.device.config_generation()
    }

    fn take_config_signal(&mut self) -> bool {
        self.registers.device.take_config_signal()
    }

    fn reset_queue(&mut self, queue: u16) {
        self.unrecorded &= !(1 << queue);
        self.registers.device.reset_queue(queue).expect("the driver resets what is live");
    }

    fn is_queue_resetting(&mut self, queue: u16) -> bool {
        self.registers.device.is_queue_resetting(queue)
    }

    fn place_queue(&mut self, queue: u16, ring: RingPlan) {
        self.registers.place(queue, &ring);
        if let Some(record) = self.records.get_mut(usize::from(queue)) {
            *record = Arc::new(SimRecord::new(ring.size));
            self.unrecorded |= 1 << queue;
        }
    }

    fn die_inside(&mut self, queue: u16, cut: Cut, host: &mut Host<'_>) -> bool {
        if self.unrecorded != 0 {
            self.find_records(host.ram);
        }
        let Some(record) = self.records.get(usize::from(queue)).map(Arc::clone) else {
            return false;
        };
        record.watch();
        self.step(queue, host);
        let there = record.cut(cut);
        if there
            && cut == Cut::Element
            && let Some((_, ring)) = self.registers.device.queue_mut(queue)
        {
            let index = ring.position().1.wrapping_sub(1);
            host.ram.write(ring.layout().used as u32 + 2, &index.to_le_bytes());
        }
        there
    }

    fn reconnect(&mut self, spec: &Spec, negotiated: u64, rings: &[RingPlan], host: &mut Host<'_>) {
        let mut mode = [0];
        if let Some(left) = self.left.take() {
            mode = [left];
            assert!(self.registers.device.is_left(), "the host has nothing of it in its hands");
        } else {
            self.config_read(config::WRITEBACK, &mut mode);
            self.registers = Registers::on(spec, host.disk.limits(host.device));
        }
        assert!(self.registers.negotiate(negotiated), "it did so before");
        if negotiated & feature::CONFIG_WCE != 0 {
            self.config_write(config::WRITEBACK, &mode);
        }
        self.registers.start(rings);
        self.forget_records();
    }
}
