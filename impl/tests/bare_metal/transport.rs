//! A transport without a bus: registers are calls, and a notification steps the queue until it rests.

use crate::memory::guest;
use powerfail_device::host::FileDisk;
use powerfail_device::wire::*;
use powerfail_device::{Config, Device, QueueLayout, crank};
use std::cell::RefCell;
use virtio_drivers::transport::{DeviceStatus, DeviceType, InterruptStatus, Transport};
use virtio_drivers::{Error, PhysAddr, Result};
use zerocopy::{FromBytes, Immutable, IntoBytes};

/// What the device offers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Offer {
    pub(crate) event_idx: bool,
    pub(crate) indirect: bool,
    pub(crate) flush: bool,
    pub(crate) read_only: bool,
}

/// See the [module](self).
#[derive(Debug)]
pub(crate) struct InProcess {
    device: RefCell<Device>,
    disk: FileDisk,
    /// A queue is used iff it was set up since the last reset.
    used: bool,
    signals: u64,
}

impl InProcess {
    pub(crate) fn new(disk: FileDisk, offer: Offer) -> InProcess {
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
        InProcess { device: RefCell::new(device), disk, used: false, signals: 0 }
    }
}

impl Transport for InProcess {
    fn device_type(&self) -> DeviceType {
        DeviceType::Block
    }

    fn read_device_features(&mut self) -> u64 {
        self.device.get_mut().offered()
    }

    fn write_driver_features(&mut self, features: u64) {
        self.device.get_mut().set_driver_features(features);
    }

    fn max_queue_size(&mut self, _: u16) -> u32 {
        16
    }

    fn notify(&mut self, queue: u16) {
        let device = self.device.get_mut();
        let Some((queue, ring)) = device.queue_mut(queue) else { return };
        queue.handle_kick();
        let signals = &mut self.signals;
        let wake = |_| unreachable!("there is only one queue");
        crank(queue, ring, &mut self.disk, guest(), || *signals += 1, wake);
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_truncate(self.device.borrow_mut().status().into())
    }

    fn set_status(&mut self, status: DeviceStatus) {
        self.device.get_mut().set_status(status.bits() as u8);
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
        self.device.get_mut().set_queue(queue, layout).expect("a queue where one may be");
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
        self.device.borrow().config_generation()
    }

    fn read_config_space<T: FromBytes + IntoBytes>(&self, offset: usize) -> Result<T> {
        let mut bytes = vec![0; size_of::<T>()];
        self.device.borrow().config_read(offset as u64, &mut bytes);
        T::read_from_bytes(&bytes).map_err(|_| Error::ConfigSpaceTooSmall)
    }

    fn write_config_space<T: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: T,
    ) -> Result<()> {
        self.device.get_mut().config_write(offset as u64, value.as_bytes());
        Ok(())
    }
}
