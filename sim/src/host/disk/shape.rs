//! The properties of the simulated disk, part of the shape of a world.

use powerfail_device::Limits;

use crate::base::sectors::SectorSet;
use crate::guest::Kind;
use crate::guest::payload::SECTOR;

/// The properties of the simulated disk. Sizes are in sectors of 512 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiskShape {
    /// The sector of the device that is the first of its part. The disk is sparse: nothing lies
    /// before it. 0 unless the device [says so](crate::dut::DeviceUnderTest::SPARSE).
    pub first: u64,
    /// Sectors of each device's part at the start.
    pub capacity: u32,
    /// Sectors by which each part may grow during a run.
    pub spare: u32,
    /// The number of devices that share the medium, each with its own part.
    pub devices: u8,
    /// The type of each device. Each word of a memory occupies the first 8 bytes of a sector of the
    /// medium.
    pub kinds: [Kind; 2],
    /// The unit of offsets and lengths, in bytes.
    pub granule: u32,
    /// The unit that never tears, in sectors; divides the granule.
    pub tear: u32,
    /// The largest read or write, in bytes.
    pub max_transfer: u32,
    /// The unit of discards, in bytes.
    pub discard_granularity: u32,
    /// The unit of zeroing, in bytes: a multiple of the granule.
    pub zero_granularity: u32,
    /// Whether the disk says that it can discard.
    pub can_discard: bool,
    /// Whether a failed sync may forget dirty sectors, as a kernel does with pages of its cache. On
    /// a disk behind a network protocol, a later sync that succeeds covers them.
    pub forgets: bool,
    /// The most operations in flight, over all lanes.
    pub depth: u32,
    /// Whether the disk is read-only.
    pub read_only: bool,
    /// Sectors of each part, after those of the guest, for metadata of the device: a whole number
    /// of granules.
    pub reserve: u32,
    /// Whether the guest's sector `s` lies at sector `s` of the part.
    pub plain: bool,
}

/// A disk of one device, with 64 sectors, granules of one sector and no limits.
impl Default for DiskShape {
    fn default() -> DiskShape {
        DiskShape {
            first: 0,
            capacity: 64,
            spare: 0,
            devices: 1,
            kinds: [Kind::Disk; 2],
            granule: 512,
            tear: 1,
            max_transfer: 1 << 20,
            discard_granularity: 512,
            zero_granularity: 512,
            can_discard: true,
            forgets: true,
            depth: 32,
            read_only: false,
            reserve: 0,
            plain: true,
        }
    }
}

impl DiskShape {
    /// Guard sectors after each part, which belong to no device.
    pub const GUARD: u32 = 8;

    /// The first sector of a device's part.
    #[must_use]
    pub fn base(&self, device: u8) -> u32 {
        u32::from(device) * (self.extent() + Self::GUARD)
    }

    /// The sectors of a part, those for metadata included.
    #[inline]
    #[must_use]
    pub fn extent(&self) -> u32 {
        self.room() + self.reserve
    }

    /// The most sectors of the guest, after all growth.
    #[inline]
    #[must_use]
    pub fn room(&self) -> u32 {
        self.capacity + self.spare
    }

    /// The sectors of a device's part at its largest, on the whole medium.
    #[inline]
    #[must_use]
    pub fn part(&self, device: u8) -> SectorSet {
        SectorSet::range(self.base(device), self.extent())
    }

    /// Sectors of the whole medium.
    #[must_use]
    pub fn sectors(&self) -> u32 {
        self.base(self.devices)
    }

    /// The limits of a lane at the start.
    #[must_use]
    pub fn limits(&self) -> Limits {
        Limits {
            capacity: (self.first + u64::from(self.capacity + self.reserve)) * SECTOR as u64,
            granule: self.granule,
            max_transfer: self.max_transfer,
            max_discard: 1 << 20,
            discard_granularity: self.discard_granularity,
            max_write_zeroes: u64::from(self.max_transfer.max(self.zero_granularity)),
            write_zeroes_granularity: self.zero_granularity,
            can_discard: self.can_discard,
            read_only: self.read_only,
        }
    }
}
