//! The driver's dealings with our devices through their registers, common to every way to back one.

use powerfail_device::{
    BlockQueue, Completion, Config, Device, Disk, Limits, QueueLayout, RegisterSurface, Ring, Step,
    Submission, step,
};
use vm_memory::GuestMemory;

use crate::dut::{Progress, Spec};
use crate::guest::RingPlan;
use crate::guest::memory::{Divided, Ram};
use crate::guest::wire::{device_status, memory};

/// The driver accepts these features; false if the device refuses.
pub(super) fn negotiate(device: &mut impl RegisterSurface, accept: u64) -> bool {
    device.set_status(device_status::ACKNOWLEDGE);
    device.set_status(device_status::ACKNOWLEDGE | device_status::DRIVER);
    device.set_driver_features(accept);
    device.set_status(device_status::NEGOTIATED);
    device.status() & device_status::FEATURES_OK != 0
}

/// A disk whose own accesses to memory do not respect its regions.
#[derive(Debug)]
struct Flat<'d, D>(&'d mut D);

impl<'m, D: Disk<Ram<'m>>> Disk<Divided<'m>> for Flat<'_, D> {
    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn room(&self) -> u32 {
        self.0.room()
    }

    fn submit(&mut self, memory: &Divided<'m>, submission: Submission) {
        self.0.submit(&memory.0, submission);
    }

    fn doorbell(&mut self) {
        self.0.doorbell();
    }

    fn complete(&mut self, memory: &Divided<'m>) -> Option<Completion> {
        self.0.complete(&memory.0)
    }
}

/// Whether the device asks for a reset.
pub(super) fn needs_reset(device: &mut impl RegisterSurface) -> bool {
    device.status() & device_status::NEEDS_RESET != 0
}

/// A ring in the device's terms.
pub(super) fn layout(ring: &RingPlan) -> QueueLayout {
    QueueLayout {
        size: ring.size,
        descriptors: u64::from(ring.descriptors),
        available: u64::from(ring.available),
        used: u64::from(ring.used),
    }
}

/// A step of a device in the world's terms.
pub(super) fn progress(step: Step) -> Progress {
    match step {
        Step::Completed | Step::Submitted | Step::Ring => Progress::Busy,
        Step::Signal => Progress::Signal,
        Step::Idle => Progress::Idle,
        Step::Wake(other) => Progress::Woke(other.0),
    }
}

/// The register half of a driver's dealings with our device, shared by every way to back it.
#[derive(Clone, Debug)]
pub struct Registers {
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

    pub(crate) fn offered(&self) -> u64 {
        self.device.offered()
    }

    pub(crate) fn negotiate(&mut self, accept: u64) -> bool {
        negotiate(&mut self.device, accept)
    }

    pub(crate) fn config_read(&self, offset: u64, out: &mut [u8]) {
        self.device.config_read(offset, out);
    }

    pub(crate) fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.device.config_write(offset, bytes);
    }

    pub(crate) fn start(&mut self, rings: &[RingPlan]) {
        for (index, ring) in rings.iter().enumerate() {
            self.place(index as u16, ring);
        }
        self.device.set_status(device_status::LIVE);
        for (index, ring) in rings.iter().enumerate() {
            let (_, queue) = self.device.queue_mut(index as u16).expect("the queue is live");
            queue.set_position(ring.base, ring.base);
        }
    }

    pub(crate) fn place(&mut self, queue: u16, ring: &RingPlan) {
        self.device.set_queue(queue, layout(ring)).expect("the driver places rings by the book");
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
        if ram.is_divided() {
            return self.step_divided(index, disk, ram);
        }
        self.step_as(index, disk, ram, step)
    }

    /// [`step`](Self::step) in memory of several regions.
    #[cold]
    fn step_divided<'m, D: Disk<Ram<'m>>>(
        &mut self,
        index: u16,
        disk: &mut D,
        ram: Ram<'m>,
    ) -> Progress {
        self.step_as(index, &mut Flat(disk), Divided(ram), step)
    }

    #[inline]
    pub(crate) fn step_as<M: GuestMemory, D: Disk<M>>(
        &mut self,
        index: u16,
        disk: &mut D,
        ram: M,
        step: impl Fn(&mut BlockQueue, &mut Ring, &mut D, &M) -> Step,
    ) -> Progress {
        let Some((queue, ring)) = self.device.queue_mut(index) else { return Progress::Idle };
        let stepped = step(queue, ring, disk, &ram);
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(CHECKED) {
            self.device.check();
        }
        if let Step::Wake(other) = stepped
            && let Some((queue, ring)) = self.device.queue_mut(other.0)
        {
            queue.handle_wake(ring, &ram);
        }
        progress(stepped)
    }

    pub(crate) fn begin_reset(&mut self) {
        self.device.set_status(0);
    }

    pub(crate) fn reset_done(&mut self) -> bool {
        self.device.status() == 0
    }

    pub(crate) fn needs_reset(&mut self) -> bool {
        needs_reset(&mut self.device)
    }

    pub(crate) fn take_config_signal(&mut self) -> bool {
        self.device.take_config_signal()
    }
}
