//! The shape of a world: its devices, its host, and the contract that the devices are judged by.
//!
//! A run in a world is determined by the shape, the number of the run and the list of actions, so
//! this is what a trace stores.
//!
//! Not here: what the actions are drawn from
//! ([`Options`](crate::schedule::options::Options)).

use crate::base::sectors::SectorSet;
use crate::dut::caught::of_device;
use crate::dut::{ALL_FEATURES, DeviceUnderTest, Profile, Spec, Waived};
use crate::guest::{Kind, MEMORY};
use crate::host::disk::DiskShape;

/// The serial number of every block device: the answer to GET_ID.
pub const SERIAL: &[u8; 20] = b"powerfail-simulated\0";

/// The shape of a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorldShape {
    /// The contract that every device is judged by.
    pub contract: Profile,
    /// The parameters of every device: all devices of a world are made alike.
    pub spec: Spec,
    /// The number of devices, one or two.
    pub devices: u8,
    /// The maximum length of a read or write, in sectors of 512 bytes.
    pub max_sectors: u32,
    /// Whether the host may fail an operation, so that a legal request may fail too.
    pub host_may_fail: bool,
    /// Whether all of guest memory is compared with its expected content after each step of a
    /// device and each effect of the host, and every register is read in every width.
    pub watch: bool,
    /// Bytes of guest memory.
    pub memory: u32,
    /// Bytes of each of its regions; 0 if it is one region. Memory of several regions moves to
    /// other addresses of this process at every kick.
    pub region: u32,
}

impl WorldShape {
    /// Whether a rule is not tested in this world.
    #[inline]
    #[must_use]
    pub(crate) fn waives(&self, rule: Waived) -> bool {
        self.spec.waive.contains(rule)
    }

    /// The same shape with devices of these kinds.
    #[must_use]
    pub(crate) fn of_kinds(mut self, kinds: [Kind; 2]) -> WorldShape {
        self.spec.disk.kinds = kinds;
        self
    }

    /// The same shape for devices of this type.
    ///
    /// # Panics
    /// If the device asks for more spare sectors than there are, as a mistake of the device.
    #[must_use]
    pub(crate) fn of_device<D: DeviceUnderTest>(self, setup: &D::Setup) -> WorldShape {
        let mut shape = self.of_kinds(D::KINDS);
        if !D::SPARSE {
            shape.spec.disk.first = 0;
        }
        of_device(|| D::fit(setup, &mut shape.spec));
        if !D::PLAIN_MEDIUM {
            shape = shape.with_reserve::<D>(setup);
            let (sectors, most) = (shape.spec.disk.sectors(), SectorSet::CAPACITY);
            of_device(|| {
                assert!(sectors <= most, "`spare` leads to {sectors} sectors; {most} fit")
            });
        }
        shape
    }

    /// The same shape as the device [wants](DeviceUnderTest::fit) it, with one device and a smaller
    /// disk if its medium would be too large.
    #[must_use]
    pub(crate) fn fitting<D: DeviceUnderTest>(mut self, setup: &D::Setup) -> WorldShape {
        of_device(|| D::fit(setup, &mut self.spec));
        if !D::PLAIN_MEDIUM
            && self.with_reserve::<D>(setup).spec.disk.sectors() > SectorSet::CAPACITY
        {
            (self.devices, self.spec.disk.devices) = (1, 1);
            // Large disks leave no room for metadata.
            self.spec.disk.capacity = self.spec.disk.capacity.min(64);
        }
        self
    }

    fn with_reserve<D: DeviceUnderTest>(mut self, setup: &D::Setup) -> WorldShape {
        let disk = &mut self.spec.disk;
        (disk.plain, disk.spare, disk.reserve) = (false, 0, 0);
        let granule = disk.granule / 512;
        let spare = of_device(|| D::spare(setup, &self.spec));
        self.spec.disk.reserve = spare.next_multiple_of(granule);
        self
    }

    /// The kind of a device.
    ///
    /// # Panics
    /// If `device` is above 1.
    #[inline]
    #[must_use]
    pub fn kind(&self, device: u8) -> Kind {
        self.spec.disk.kinds[usize::from(device)]
    }

    /// The number of queues of a device.
    ///
    /// # Panics
    /// If `device` is above 1.
    #[inline]
    #[must_use]
    pub(crate) fn queues_of(&self, device: u8) -> u16 {
        match self.kind(device) {
            Kind::Disk => self.spec.queues,
            Kind::Memory => 1,
        }
    }

    /// The share of guest memory of one queue, in bytes.
    #[must_use]
    pub fn share(&self) -> u32 {
        let shares = u32::from(self.devices) * u32::from(self.spec.queues);
        (self.memory / shares) & !0xff
    }

    /// The most descriptors of an indirect table: more in a large memory.
    #[must_use]
    pub(crate) fn table(&self) -> u16 {
        if self.memory > MEMORY as u32 { 64 } else { 16 }
    }
}

/// One block device of 64 sectors with one queue and every feature, on a host that does not fail.
impl Default for WorldShape {
    fn default() -> WorldShape {
        let spec = Spec {
            queues: 1,
            ring_size: 32,
            offer: ALL_FEATURES,
            writeback: true,
            serial: *SERIAL,
            max_segment_sectors: 64,
            max_segments: 3,
            record: false,
            waive: Waived::default(),
            disk: DiskShape::default(),
        };
        WorldShape {
            contract: Profile::Strict,
            spec,
            devices: 1,
            max_sectors: 8,
            host_may_fail: false,
            watch: false,
            memory: MEMORY as u32,
            region: 0,
        }
    }
}
