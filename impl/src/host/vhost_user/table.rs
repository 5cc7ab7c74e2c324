//! The front-end's memory, as it names it: where it is for the guest, and where it is for the front-end itself.
//!
//! Rings are placed by the front-end's own addresses, everything on them by the guest's.

use super::Memory;
use crate::host::Regions;
use std::fs::File;
use std::io;
use std::sync::Arc;
use vhost::vhost_user::message::{VhostUserMemoryRegion, VhostUserSingleMemoryRegion};
use vhost::vhost_user::{Error, Result};
use vm_memory::{GuestAddress, GuestMemoryMmap, GuestRegionMmap};

/// The regions that are shared now.
#[derive(Debug, Default)]
pub(super) struct Table {
    memory: GuestMemoryMmap,
    places: Vec<Place>,
}

/// Where one region is.
#[derive(Clone, Copy, Debug)]
struct Place {
    guest: u64,
    front_end: u64,
    len: u64,
}

impl From<&VhostUserMemoryRegion> for Place {
    fn from(region: &VhostUserMemoryRegion) -> Place {
        let VhostUserMemoryRegion { guest_phys_addr, memory_size, user_addr, .. } = *region;
        Place { guest: guest_phys_addr, front_end: user_addr, len: memory_size }
    }
}

impl Table {
    /// A whole new table.
    ///
    /// # Errors
    /// A region cannot be mapped, or two overlap.
    pub(super) fn new(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> Result<Table> {
        let mapped = regions.iter().zip(files).map(|(region, file)| map(region, file));
        let mapped = mapped.collect::<Result<_>>()?;
        let memory = GuestMemoryMmap::from_regions(mapped).map_err(no_sense)?;
        Ok(Table { memory, places: regions.iter().map(Place::from).collect() })
    }

    /// The table with one region more.
    ///
    /// # Errors
    /// It cannot be mapped, or overlaps another.
    pub(super) fn with(&self, region: &VhostUserSingleMemoryRegion, file: File) -> Result<Table> {
        let mapped = Arc::new(map(region, file)?);
        let memory = self.memory.insert_region(mapped).map_err(no_sense)?;
        let mut places = self.places.clone();
        places.push(Place::from(&**region));
        Ok(Table { memory, places })
    }

    /// The table with one region less.
    ///
    /// # Errors
    /// There is no such region.
    pub(super) fn without(&self, region: &VhostUserSingleMemoryRegion) -> Result<Table> {
        let at = GuestAddress(region.guest_phys_addr);
        let (memory, _) = self.memory.remove_region(at, region.memory_size).map_err(no_sense)?;
        let mut places = self.places.clone();
        places.retain(|place| place.guest != region.guest_phys_addr);
        Ok(Table { memory, places })
    }

    /// Where the guest sees what the front-end has at `address`.
    pub(super) fn guest_address(&self, address: u64) -> Option<u64> {
        self.places.iter().find_map(|place| {
            let offset = address.checked_sub(place.front_end)?;
            (offset < place.len).then(|| place.guest + offset)
        })
    }

    /// The regions as lanes use them.
    ///
    /// # Errors
    /// One is longer than its file, or the host does not tell.
    pub(super) fn regions(&self) -> io::Result<Regions> {
        Regions::try_from(&self.memory)
    }
}

/// A table for each lane, for each remembers its own last hit.
pub(super) fn lent(regions: &Regions) -> Memory {
    Memory::from(Arc::new(regions.clone()))
}

fn map(region: &VhostUserMemoryRegion, file: File) -> Result<GuestRegionMmap> {
    // The front-end's end of it has to exist too, or addresses could not be told apart.
    if region.user_addr.checked_add(region.memory_size).is_none() {
        return Err(Error::InvalidParam);
    }
    let mapped = region.mmap_region(file)?;
    let region = GuestRegionMmap::new(mapped, GuestAddress(region.guest_phys_addr));
    region.ok_or(Error::InvalidParam)
}

fn no_sense(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::ReqHandlerError(io::Error::other(error))
}
