//! Our persistent memory on the simulated disk: the shipped code, joined to the world.

use powerfail_device::RegisterSurface;
use powerfail_device::pmem::{PmemConfig, PmemDevice, Region, step};
use powerfail_device::{QueueLayout, Step};

use crate::devices::blk::CHECKED;
use crate::devices::faulty::{FaultyMemory, MemoryFault};
use crate::dut::Spec;
use crate::dut::{DeviceUnderTest, End, Host, Mapping, Medium, Profile, Progress};
use crate::guest::RingPlan;
use crate::guest::{Kind, REGION};
use crate::host::disk::{MemoryLane, SimDisk};

// The status bits a driver writes: virtio 1.4, 2.1.
const ACKNOWLEDGE: u8 = 1;
const DRIVER: u8 = 2;
const DRIVER_OK: u8 = 4;
const FEATURES_OK: u8 = 8;
const NEEDS_RESET: u8 = 64;

/// Our persistent memory, or one that is wrong on purpose.
#[derive(Clone, Debug)]
pub struct Pmem {
    pub(crate) device: PmemDevice,
    faulty: Option<Box<FaultyMemory>>,
    /// Steps taken; the device checks its invariants after one in [`CHECKED`].
    steps: u32,
}

/// A device with these options.
pub(crate) fn device(spec: &Spec) -> PmemDevice {
    let (start, size) = REGION;
    let config = PmemConfig {
        region: Region { start, size },
        queue_size: spec.ring_size.max(2),
        features: spec.offer & crate::dut::MEMORY_FEATURES,
    };
    PmemDevice::new(config).expect("the options draw possible devices")
}

/// The driver accepts these features; false if the device refuses.
pub(crate) fn negotiate(device: &mut PmemDevice, accept: u64) -> bool {
    device.set_status(ACKNOWLEDGE);
    device.set_status(ACKNOWLEDGE | DRIVER);
    device.set_driver_features(accept);
    device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK);
    device.status() & FEATURES_OK != 0
}

/// The driver has placed the ring and sets DRIVER_OK.
pub(crate) fn start(device: &mut PmemDevice, ring: &RingPlan) {
    let layout = QueueLayout {
        size: ring.size,
        descriptors: u64::from(ring.descriptors),
        available: u64::from(ring.available),
        used: u64::from(ring.used),
    };
    device.set_queue(0, layout).expect("the driver places rings by the book");
    device.set_status(ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
    let (_, queue) = device.queue_mut().expect("the queue is live");
    queue.set_position(ring.base, ring.base);
}

/// A step of the device in the world's terms.
pub(crate) fn progress(step: Step) -> Progress {
    match step {
        Step::Completed | Step::Submitted | Step::Ring => Progress::Busy,
        Step::Signal => Progress::Signal,
        Step::Idle => Progress::Idle,
        Step::Wake(other) => unreachable!("there is no queue {other:?} to wake"),
    }
}

impl DeviceUnderTest for Pmem {
    /// The fault of the memory, if it has one.
    type Setup = Option<MemoryFault>;

    const MEDIUM: Medium = Medium::Simulated;
    const KINDS: [Kind; 2] = [Kind::Memory; 2];
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    fn open(setup: &Self::Setup, spec: &Spec, _disk: &SimDisk, _device: u8) -> Pmem {
        let faulty = setup.map(|fault| Box::new(FaultyMemory::new(fault)));
        Pmem { device: device(spec), faulty, steps: 0 }
    }

    fn restart(&mut self, _: &Self::Setup, spec: &Spec, _: &SimDisk, _device: u8, _end: End) {
        self.device = device(spec);
        if let Some(faulty) = &mut self.faulty {
            faulty.backend_lost();
        }
    }

    fn carries(&self) -> Option<u64> {
        Some(self.faulty.as_ref().map_or(0, |faulty| faulty.carries()))
    }

    fn offered(&self) -> u64 {
        self.device.offered()
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        negotiate(&mut self.device, accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.device.config_read(offset, out);
        if let Some(faulty) = &self.faulty {
            faulty.said(offset, out);
        }
    }

    fn start(&mut self, rings: &[RingPlan]) {
        start(&mut self.device, &rings[0]);
        if let Some(faulty) = &mut self.faulty {
            faulty.started(rings[0]);
        }
    }

    fn kick(&mut self, _queue: u16) {
        if let Some((queue, _)) = self.device.queue_mut() {
            queue.handle_kick();
        }
    }

    #[inline]
    fn step(&mut self, _queue: u16, host: &mut Host<'_>) -> Progress {
        if let Some(faulty) = &mut self.faulty {
            return faulty.step(&mut self.device, host);
        }
        let Some((queue, ring)) = self.device.queue_mut() else { return Progress::Idle };
        let mut lane = MemoryLane::new(host.disk, host.device);
        let stepped = step(queue, ring, &mut lane, &host.ram);
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(CHECKED) {
            self.device.check();
        }
        progress(stepped)
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        if let Some(faulty) = &mut self.faulty {
            faulty.reset_begun(host);
        }
        self.device.set_status(0);
    }

    fn reset_done(&mut self) -> bool {
        let done = self.device.status() == 0;
        if let Some(faulty) = &mut self.faulty
            && done
        {
            faulty.reset_shown(&mut self.device);
        }
        done
    }

    fn needs_reset(&mut self) -> bool {
        self.device.status() & NEEDS_RESET != 0
    }

    fn mapping(&mut self) -> Option<&mut impl Mapping> {
        self.faulty.as_deref_mut()
    }
}
