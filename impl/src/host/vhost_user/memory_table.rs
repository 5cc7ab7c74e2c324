//! The front-end's memory table: the addresses of each region in the guest and in the front-end.
//!
//! Ring addresses are the front-end's; all addresses on a ring are the guest's.

use super::Memory;
use super::descriptor::{check_memory, discard};
use super::message::Region;
use crate::host::Regions;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap, GuestRegionMmap, MmapRegion};

/// The regions that are shared at present.
#[derive(Debug, Default)]
pub(super) struct MemoryTable {
    memory: GuestMemoryMmap,
    places: Vec<Place>,
}

/// The addresses of one region.
#[derive(Clone, Copy, Debug)]
struct Place {
    guest: u64,
    front_end: u64,
    len: u64,
}

impl From<&Region> for Place {
    fn from(region: &Region) -> Place {
        Place { guest: region.guest, front_end: region.front_end, len: region.len }
    }
}

impl MemoryTable {
    /// A whole new table.
    ///
    /// # Errors
    /// A region cannot be mapped, or two overlap.
    pub(super) fn new(regions: Vec<(Region, OwnedFd)>) -> Result<MemoryTable, String> {
        let places = regions.iter().map(|(region, _)| Place::from(region)).collect();
        let mapped = regions.into_iter().map(|(region, file)| map(region, file));
        let mapped = mapped.collect::<Result<_, _>>()?;
        let memory = GuestMemoryMmap::from_regions(mapped).map_err(no_sense)?;
        Ok(MemoryTable { memory, places })
    }

    /// The table with one more region.
    ///
    /// # Errors
    /// It cannot be mapped, or overlaps another.
    pub(super) fn with(&self, region: Region, file: OwnedFd) -> Result<MemoryTable, String> {
        let mapped = Arc::new(map(region, file)?);
        let memory = self.memory.insert_region(mapped).map_err(no_sense)?;
        let mut places = self.places.clone();
        places.push(Place::from(&region));
        Ok(MemoryTable { memory, places })
    }

    /// The table without one region.
    ///
    /// # Errors
    /// There is no such region.
    pub(super) fn without(&self, region: Region) -> Result<MemoryTable, String> {
        let at = GuestAddress(region.guest);
        let (memory, _) = self.memory.remove_region(at, region.len).map_err(no_sense)?;
        let mut places = self.places.clone();
        places.retain(|place| place.guest != region.guest);
        Ok(MemoryTable { memory, places })
    }

    /// Number of regions.
    pub(super) fn regions_shared(&self) -> usize {
        self.places.len()
    }

    /// The guest address for the front-end's `address`.
    pub(super) fn guest_address(&self, address: u64) -> Option<u64> {
        self.places.iter().find_map(|place| {
            let offset = address.checked_sub(place.front_end)?;
            (offset < place.len).then(|| place.guest + offset)
        })
    }

    /// The regions as lanes use them.
    ///
    /// # Errors
    /// A region exceeds its file, or the host does not report the file's size.
    pub(super) fn regions(&self) -> io::Result<Regions> {
        Regions::try_from(&self.memory)
    }
}

/// A table for one lane, with its own cached last hit.
pub(super) fn lent(regions: &Regions) -> Memory {
    Memory::from(Arc::new(regions.clone()))
}

fn map(region: Region, file: OwnedFd) -> Result<GuestRegionMmap, String> {
    let Region { guest, len, front_end, offset } = region;
    if let Err(why) = check_memory(&file) {
        discard(file);
        return Err(why);
    }
    // The front-end's range must exist too, or addresses would be ambiguous.
    let bytes = usize::try_from(len).ok().filter(|_| front_end.checked_add(len).is_some());
    let outside = || format!("a region of {len} bytes at {guest:#x} does not fit an address space");
    let file = FileOffset::new(File::from(file), offset);
    let mapped = MmapRegion::from_file(file, bytes.ok_or_else(outside)?).map_err(no_sense)?;
    GuestRegionMmap::new(mapped, GuestAddress(guest)).ok_or_else(outside)
}

fn no_sense(error: impl std::error::Error) -> String {
    format!("guest memory: {error}")
}
