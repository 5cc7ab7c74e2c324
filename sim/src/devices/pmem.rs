//! Our persistent memory on the simulated disk: the shipped code, joined to the world.

use powerfail_device::RegisterSurface;
use powerfail_device::pmem::{PmemConfig, PmemDevice, Region, step};

use super::registers::{CHECKED, layout, needs_reset, negotiate, progress};
use crate::dut::{DeviceUnderTest, End, Host, Medium, Profile, Progress, Spec};
use crate::guest::RingPlan;
use crate::guest::wire::device_status;
use crate::guest::{Kind, REGION};
use crate::host::disk::{MemoryLane, SimDisk};

/// Our persistent memory.
#[derive(Clone, Debug)]
pub struct Pmem {
    pub(super) device: PmemDevice,
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

/// The driver has placed the ring and sets DRIVER_OK.
pub(super) fn start(device: &mut PmemDevice, ring: &RingPlan) {
    device.set_queue(0, layout(ring)).expect("the driver places rings by the book");
    device.set_status(device_status::LIVE);
    let (_, queue) = device.queue_mut().expect("the queue is live");
    queue.set_position(ring.base, ring.base);
}

impl DeviceUnderTest for Pmem {
    type Setup = ();

    const MEDIUM: Medium = Medium::Simulated;
    const KINDS: [Kind; 2] = [Kind::Memory; 2];
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    fn open((): &(), spec: &Spec, _disk: &SimDisk, _device: u8) -> Pmem {
        Pmem { device: device(spec), steps: 0 }
    }

    fn restart(&mut self, (): &(), spec: &Spec, _: &mut Host<'_>, _end: End) {
        self.device = device(spec);
    }

    fn carries(&self) -> Option<u64> {
        Some(0)
    }

    fn offered(&self) -> u64 {
        self.device.offered()
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        negotiate(&mut self.device, accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.device.config_read(offset, out);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        start(&mut self.device, &rings[0]);
    }

    fn kick(&mut self, _queue: u16) {
        if let Some((queue, _)) = self.device.queue_mut() {
            queue.handle_kick();
        }
    }

    #[inline]
    fn step(&mut self, _queue: u16, host: &mut Host<'_>) -> Progress {
        let Some((queue, ring)) = self.device.queue_mut() else { return Progress::Idle };
        let mut lane = MemoryLane::new(host.disk, host.device);
        let stepped = step(queue, ring, &mut lane, &host.ram);
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(CHECKED) {
            self.device.check();
        }
        progress(stepped)
    }

    fn begin_reset(&mut self, _host: &mut Host<'_>) {
        self.device.set_status(0);
    }

    fn reset_done(&mut self) -> bool {
        self.device.status() == 0
    }

    fn needs_reset(&mut self) -> bool {
        needs_reset(&mut self.device)
    }

    fn take_config_signal(&mut self) -> bool {
        self.device.take_config_signal()
    }
}
