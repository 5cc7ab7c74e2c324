//! A transport without a bus: registers are calls, and a notification steps the queue until it is
//! idle.

use crate::memory::guest;
use powerfail_device::RegisterSurface;
use powerfail_device::host::{FileDisk, MapLane, MappedFile};
use powerfail_device::pmem::{PmemConfig, PmemDevice, Region};
use powerfail_device::wire::*;
use powerfail_device::{Config, Device, QueueLayout, crank};
use std::cell::RefCell;
use std::sync::Arc;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// The features that the device offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) event_idx: bool,
    pub(crate) indirect: bool,
    pub(crate) flush: bool,
    pub(crate) read_only: bool,
}

/// The registers of a device with one queue, and its backing.
pub(crate) trait Served {
    const TYPE: DeviceType;

    fn offered(&self) -> u64;
    fn accept(&mut self, features: u64);
    fn status(&mut self) -> u8;
    fn set_status(&mut self, status: u8);
    fn place(&mut self, queue: u16, layout: QueueLayout);
    fn generation(&self) -> u32;
    fn read(&self, offset: u64, out: &mut [u8]);
    fn write(&mut self, offset: u64, bytes: &[u8]);
    /// Steps the queue until it is idle.
    fn serve(&mut self, queue: u16);
}

/// A disk on a file.
#[derive(Debug)]
pub(crate) struct Block {
    device: Device,
    disk: FileDisk,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct InProcess<S> {
    served: RefCell<S>,
    /// Whether the queue was set up since the last reset.
    used: bool,
}

impl<S> InProcess<S> {
    pub(crate) fn of(served: S) -> InProcess<S> {
        InProcess { served: RefCell::new(served), used: false }
    }
}

impl InProcess<Block> {
    pub(crate) fn new(disk: FileDisk, offer: Offer) -> InProcess<Block> {
        let mut features = F_VERSION_1;
        for (wanted, bit) in [
            (offer.event_idx, F_EVENT_IDX),
            (offer.indirect, F_INDIRECT_DESC),
            (offer.flush, F_FLUSH | F_CONFIG_WCE),
        ] {
            if wanted {
                features |= bit;
            }
        }
        let mut serial = [0; 20];
        serial[..10].copy_from_slice(b"bare-metal");
        let config = Config { queues: 1, queue_size: 16, serial, features, ..Config::default() };
        let limits = powerfail_device::Disk::<vm_memory::GuestMemoryMmap<()>>::limits(&disk);
        let device = Device::new(config, limits).expect("a possible device");
        InProcess::of(Block { device, disk })
    }
}

impl Served for Block {
    const TYPE: DeviceType = DeviceType::Block;

    fn offered(&self) -> u64 {
        self.device.offered()
    }

    fn accept(&mut self, features: u64) {
        self.device.set_driver_features(features);
    }

    fn status(&mut self) -> u8 {
        self.device.status()
    }

    fn set_status(&mut self, status: u8) {
        self.device.set_status(status);
    }

    fn place(&mut self, queue: u16, layout: QueueLayout) {
        self.device.set_queue(queue, layout).expect("a queue where one may be");
    }

    fn generation(&self) -> u32 {
        self.device.config_generation()
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        self.device.config_read(offset, out);
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.device.config_write(offset, bytes);
    }

    fn serve(&mut self, queue: u16) {
        let Some((queue, ring)) = self.device.queue_mut(queue) else { return };
        queue.handle_kick();
        let wake = |_| unreachable!("there is only one queue");
        crank(queue, ring, &mut self.disk, guest(), || {}, wake);
    }
}

/// A persistent memory on a mapped file.
#[derive(Debug)]
pub(crate) struct Memory {
    device: PmemDevice,
    lane: MapLane,
}

impl InProcess<Memory> {
    pub(crate) fn mapped(map: Arc<MappedFile>, features: u64) -> InProcess<Memory> {
        let region = Region { start: 1 << 32, size: map.size() };
        let config = PmemConfig { features, queue_size: 16, ..PmemConfig::at(region) };
        let device = PmemDevice::new(config).expect("a possible device");
        InProcess::of(Memory { device, lane: MapLane::of(map).expect("a thread") })
    }
}

impl Served for Memory {
    /// The driver has no name for this device type and does not check it.
    const TYPE: DeviceType = DeviceType::Memory;

    fn offered(&self) -> u64 {
        self.device.offered()
    }

    fn accept(&mut self, features: u64) {
        self.device.set_driver_features(features);
    }

    fn status(&mut self) -> u8 {
        self.device.status()
    }

    fn set_status(&mut self, status: u8) {
        self.device.set_status(status);
    }

    fn place(&mut self, queue: u16, layout: QueueLayout) {
        self.device.set_queue(queue, layout).expect("a queue where one may be");
    }

    fn generation(&self) -> u32 {
        self.device.config_generation()
    }

    fn read(&self, offset: u64, out: &mut [u8]) {
        self.device.config_read(offset, out);
    }

    fn write(&mut self, _: u64, _: &[u8]) {}

    fn serve(&mut self, _: u16) {
        loop {
            let Some((queue, ring)) = self.device.queue_mut() else { return };
            queue.handle_kick();
            powerfail_device::pmem::crank(queue, ring, &mut self.lane, guest(), || {});
            if queue.in_flight() == 0 {
                return;
            }
            self.lane.wait();
        }
    }
}

impl<S: Served> Transport for InProcess<S> {
    fn device_type(&self) -> DeviceType {
        S::TYPE
    }

    fn read_device_features(&mut self) -> u64 {
        self.served.get_mut().offered()
    }

    fn write_driver_features(&mut self, features: u64) {
        self.served.get_mut().accept(features);
    }

    fn max_queue_size(&mut self, _: u16) -> u32 {
        16
    }

    fn notify(&mut self, queue: u16) {
        self.served.get_mut().serve(queue);
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.served.borrow_mut().status().into())
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.served.get_mut().set_status(status.bits() as u8);
    }

    fn set_guest_page_size(&mut self, _: u32) {}

    fn requires_legacy_layout(&self) -> bool {
        false
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        available: PhysAddr,
        used: PhysAddr,
    ) {
        let size = u16::try_from(size).expect("no larger than was offered");
        let layout = QueueLayout { size, descriptors, available, used };
        self.served.get_mut().place(queue, layout);
        self.used = true;
    }

    fn queue_unset(&mut self, _: u16) {
        self.used = false;
    }

    fn queue_used(&mut self, _: u16) -> bool {
        self.used
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::empty()
    }

    fn read_config_generation(&self) -> u32 {
        self.served.borrow().generation()
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let mut bytes = vec![0; size_of::<T>()];
        self.served.borrow().read(offset as u64, &mut bytes);
        T::read_from_bytes(&bytes).map_err(|_| Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        self.served.get_mut().write(offset as u64, value.as_bytes());
        Ok(())
    }
}
