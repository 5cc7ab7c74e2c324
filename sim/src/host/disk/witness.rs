//! The medium witness: a check of the medium itself, which the guest cannot see.
//!
//! An address bug that is symmetric in reads and writes is invisible to the guest. The witness
//! therefore checks below the device that guest sector `s` lies at byte `512 s` of the device's
//! part, that nothing outside the parts changes, and that a read-only medium never changes. It is
//! separate from the oracle, which takes only the guest's observations, and does not judge
//! durability. The guest sees every word of a persistent memory, so those are not checked. Of a
//! medium that is not plain, only the sectors outside the parts are.

use super::shape::DiskShape;
use super::sim::SimDisk;
use crate::base::sectors::SectorSet;
use crate::guest::Kind;
use crate::guest::payload::{Author, SECTOR, is_at_home, place_of};

/// A finding of the witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Witness {
    /// A sector lies in the place of another.
    Misplaced {
        /// The device whose part it lies in.
        device: u8,
        /// Its place, in sectors from the start of the part.
        sector: u32,
        /// The home of its payload, in sectors from the start of the part.
        home: u32,
    },
    /// A sector that belongs to no device changed.
    Outside {
        /// The sector, counted from the start of the part before it on the medium.
        sector: u32,
    },
    /// A sector of a read-only medium changed.
    ReadOnly {
        /// The sector.
        sector: u32,
    },
}

impl SimDisk {
    /// Checks the whole cache and medium.
    ///
    /// # Errors
    /// The first misplaced or changed sector.
    pub fn witness(&self, run: u32) -> Result<(), Witness> {
        // Cache and medium differ only in dirty and forgotten sectors.
        self.witness_image(&self.medium, run, self.everything())?;
        self.witness_image(&self.cache, run, self.dirty().or(self.forgotten()))
    }

    fn everything(&self) -> SectorSet {
        SectorSet::range(0, self.shape.sectors())
    }

    fn witness_image(&self, image: &[u8], run: u32, set: SectorSet) -> Result<(), Witness> {
        for device in 0..self.shape.devices {
            let (base, capacity) = (self.shape.base(device), self.capacity(device));
            let is_memory = self.shape.kinds[usize::from(device)] == Kind::Memory;
            // On a medium that is not plain, only the device can tell what belongs where.
            let opaque = is_memory || !self.shape.plain;
            for sector in 0..self.shape.extent() + DiskShape::GUARD {
                if !set.contains(base + sector) || (opaque && sector < capacity) {
                    continue;
                }
                let at = (base + sector) as usize * SECTOR;
                let bytes = &image[at..at + SECTOR];
                if sector < capacity && !self.shape.read_only && is_at_home(bytes, device, sector) {
                    continue;
                }
                let (author, home, version) = place_of(bytes);
                if sector >= capacity {
                    let untouched = Author { run, disk: Author::NO_DISK };
                    if author != untouched || home != sector || version != 0 {
                        return Err(Witness::Outside { sector });
                    }
                    continue;
                }
                if author == Author::ZERO {
                    if self.shape.read_only {
                        return Err(Witness::ReadOnly { sector });
                    }
                    continue;
                }
                if home != sector || author.disk != device {
                    return Err(Witness::Misplaced { device, sector, home });
                }
                if self.shape.read_only && version != 0 {
                    return Err(Witness::ReadOnly { sector });
                }
            }
        }
        Ok(())
    }
}
