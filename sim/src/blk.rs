//! Our block device on the simulated disk: the shipped code, joined to the world.

use powerfail_device::{Config, Device, Disk, Limits, QueueLayout, QueueT, Step, step};

use crate::disk::{Lane, SimDisk, Twist};
use crate::dut::{DeviceUnderTest, End, Host, Progress};
use crate::guest::RingPlan;
use crate::memory::Ram;
use crate::spec::Spec;
use crate::wrong::{DiskFault, FaultyLane, FaultyState};

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
}

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
            features: spec.offer,
            writeback: spec.writeback,
            max_discard_sectors: spec.max_segment_sectors,
            max_discard_seg: spec.max_segments,
            max_write_zeroes_sectors: spec.max_segment_sectors,
            max_write_zeroes_seg: spec.max_segments,
            ..Config::default()
        };
        let device = Device::new(config, limits);
        Registers { device: device.expect("the options draw possible devices") }
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
            let layout = QueueLayout {
                size: ring.size,
                descriptors: u64::from(ring.descriptors),
                available: u64::from(ring.available),
                used: u64::from(ring.used),
            };
            self.device
                .set_queue(index as u16, layout)
                .expect("the driver places rings by the book");
        }
        self.device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
        for (index, ring) in rings.iter().enumerate() {
            let (_, queue) = self.device.queue_mut(index as u16).expect("the queue is live");
            queue.set_next_avail(ring.base);
            queue.set_next_used(ring.base);
        }
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
        let Some((queue, ring)) = self.device.queue_mut(index) else { return Progress::Idle };
        match step(queue, ring, disk, &ram) {
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
#[derive(Clone, Debug)]
pub struct Blk {
    pub(crate) registers: Registers,
    faulty: Option<Box<FaultyState>>,
}

impl DeviceUnderTest for Blk {
    /// What is wrong with the disk, if anything.
    type Setup = Option<DiskFault>;

    const ON_SIM_DISK: bool = true;
    const RING_BASE: bool = true;

    fn open(setup: &Self::Setup, spec: &Spec, _disk: &SimDisk, _device: u8) -> Blk {
        let faulty = setup.map(|fault| Box::new(FaultyState::new(fault)));
        Blk { registers: Registers::open(spec), faulty }
    }

    fn restart(
        &mut self,
        _setup: &Self::Setup,
        spec: &Spec,
        _disk: &SimDisk,
        _device: u8,
        _end: End,
    ) {
        self.registers = Registers::open(spec);
        if let Some(state) = &mut self.faulty {
            state.backend_lost();
        }
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
    }

    fn kick(&mut self, queue: u16) {
        self.registers.kick(queue);
    }

    #[inline]
    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        if let Some(state) = &mut self.faulty {
            state.prepare(host.disk, host.device);
        }
        let mut lane = Lane::new(host.disk, host.device, queue as u8);
        match &mut self.faulty {
            None => self.registers.step(queue, &mut lane, host.ram),
            Some(state) => {
                let twist = match state.fault() {
                    DiskFault::Shifted => Twist::Shifted,
                    DiskFault::SyncMissesSector => Twist::MissesSector,
                    DiskFault::CrossedDevices => Twist::Crossed,
                    DiskFault::ZeroesNotSynced => Twist::LeavesZeroes,
                    DiskFault::SpillsOver => Twist::Spills,
                    _ => Twist::None,
                };
                let lane = lane.twisted(twist);
                let mut lane = FaultyLane::new(lane, state, queue as u8);
                self.registers.step(queue, &mut lane, host.ram)
            }
        }
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {
        if let Some(state) = &mut self.faulty {
            state.reset_begun();
        }
        self.registers.device.set_status(0);
    }

    fn reset_done(&mut self) -> bool {
        self.registers.device.status() == 0
    }

    fn needs_reset(&mut self) -> bool {
        self.registers.needs_reset()
    }
}
