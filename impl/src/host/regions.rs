//! The memory of a guest in another process: a flat table of the regions that its front-end shares.
//!
//! Nearly every access is in the same region as the one before, so the table caches its last hit,
//! and a range within one region is one slice. A table is immutable: when the front-end adds or
//! removes a region, a new table is created, and the mappings of the old one stay as long as it is
//! held.
//!
//! A region that exceeds its file is refused. If a front-end shrinks a file later, the missing part
//! reads as zeroes, and the table reports that it [is shrunk](Regions::is_shrunk), so that the
//! server disconnects.

use super::sigbus::Watch;
use std::io;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    Address, FileOffset, GuestAddress, GuestMemory, GuestMemoryBackend, GuestMemoryError,
    GuestMemoryMmap, GuestMemoryRegion, MmapRegion, Permissions, VolatileMemory, VolatileSlice,
};

/// Regions of guest memory, mapped as long as this value or a copy lives.
///
/// A copy shares the mappings but not the cached last hit, so that each queue has its own.
#[derive(Debug, Default)]
pub struct Regions {
    /// Sorted by address; no two overlap.
    table: Arc<[Region]>,
    /// The region hit last; only a hint, which any value satisfies.
    last: AtomicUsize,
}

#[derive(Debug)]
struct Region {
    start: u64,
    len: u64,
    /// Dropped before the mapping, by field order.
    watch: Watch,
    map: Arc<MmapRegion>,
}

impl Region {
    /// Number of bytes from `addr` to the end of this region; 0 if `addr` is not in it.
    fn left_from(&self, addr: u64) -> u64 {
        addr.checked_sub(self.start).map_or(0, |offset| self.len.saturating_sub(offset))
    }
}

impl Regions {
    /// Whether an access met a missing part of a shrunk file.
    pub fn is_shrunk(&self) -> bool {
        self.table.iter().any(|region| region.watch.is_shrunk())
    }

    fn find(&self, addr: u64) -> Option<&Region> {
        // Relaxed: any value read is only a hint.
        let hint = self.last.load(Ordering::Relaxed);
        if let Some(region) = self.table.get(hint)
            && region.left_from(addr) > 0
        {
            return Some(region);
        }
        let after = self.table.partition_point(|region| region.start <= addr);
        let index = after.checked_sub(1)?;
        let region = &self.table[index];
        if region.left_from(addr) == 0 {
            return None;
        }
        self.last.store(index, Ordering::Relaxed);
        Some(region)
    }

    /// The part of `addr..addr + count` that lies in the region of `addr`.
    fn slice(&self, addr: GuestAddress, count: usize) -> Option<VolatileSlice<'_, ()>> {
        let region = self.find(addr.0)?;
        let here = region.left_from(addr.0).min(count as u64);
        region.map.get_slice((addr.0 - region.start) as usize, here as usize).ok()
    }
}

impl TryFrom<&GuestMemoryMmap> for Regions {
    type Error = io::Error;

    /// Converts the regions that a front-end shares.
    ///
    /// # Errors
    /// A region exceeds its file, the host does not report the file's size, or there are too many
    /// regions.
    fn try_from(memory: &GuestMemoryMmap) -> io::Result<Regions> {
        let mut table = Vec::new();
        for region in memory.iter() {
            if let Some(place) = region.file_offset() {
                check_file(place, region.len())?;
            }
            let (start, len, map) = (region.start_addr().0, region.len(), region.get_mmap());
            let mapped = map.as_ptr().addr();
            let watch = Watch::over(mapped..mapped + map.size())?;
            table.push(Region { start, len, watch, map });
        }
        table.sort_by_key(|region| region.start);
        Ok(Regions { table: table.into(), last: AtomicUsize::new(0) })
    }
}

/// Checks that a file has all the bytes that were mapped. A device file is exempt.
fn check_file(place: &FileOffset, len: u64) -> io::Result<()> {
    let file = place.file().metadata()?;
    let end = place.start().checked_add(len);
    if file.is_file() && end.is_none_or(|end| end > file.len()) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(())
}

impl Clone for Regions {
    fn clone(&self) -> Regions {
        Regions { table: Arc::clone(&self.table), last: AtomicUsize::new(0) }
    }
}

/// The slices of a range: one per region it crosses, and an error where there is no region.
#[derive(Debug)]
struct Slices<'a> {
    regions: &'a Regions,
    addr: GuestAddress,
    left: usize,
}

impl<'a> Iterator for Slices<'a> {
    type Item = Result<VolatileSlice<'a, ()>, GuestMemoryError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let Some(slice) = self.regions.slice(self.addr, self.left) else {
            self.left = 0;
            return Some(Err(GuestMemoryError::InvalidGuestAddress(self.addr)));
        };
        self.left -= slice.len();
        match self.addr.checked_add(slice.len() as u64) {
            Some(next) => self.addr = next,
            // There is no memory past the end of the address space.
            None if self.left > 0 => {
                self.left = 0;
                return Some(Err(GuestMemoryError::InvalidGuestAddress(self.addr)));
            }
            None => {}
        }
        Some(Ok(slice))
    }
}

impl FusedIterator for Slices<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for Slices<'a> {}

impl GuestMemory for Regions {
    type PhysicalMemory = GuestMemoryMmap;
    type Bitmap = ();

    fn check_range(&self, addr: GuestAddress, count: usize, _access: Permissions) -> bool {
        Slices { regions: self, addr, left: count }.all(|slice| slice.is_ok())
    }

    #[inline]
    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        _access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>, GuestMemoryError> {
        Ok(Slices { regions: self, addr, left: count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vm_memory::Bytes;

    fn regions(ranges: &[(u64, usize)]) -> Regions {
        let ranges: Vec<_> = ranges.iter().map(|&(at, len)| (GuestAddress(at), len)).collect();
        Regions::try_from(&GuestMemoryMmap::from_ranges(&ranges).unwrap()).unwrap()
    }

    fn lengths(regions: &Regions, addr: u64, count: usize) -> Vec<Option<usize>> {
        let slices = regions.get_slices(GuestAddress(addr), count, Permissions::Read).unwrap();
        slices.map(|slice| slice.ok().map(|slice| slice.len())).collect()
    }

    #[test]
    fn a_range_in_one_region_is_one_slice_wherever_the_last_one_was() {
        let regions = regions(&[(0x1000, 0x1000), (0x8000, 0x2000)]);
        for addr in [0x1000, 0x8000, 0x1800, 0x9ff8] {
            assert_eq!(lengths(&regions, addr, 8), [Some(8)], "{addr:#x}");
        }
        assert_eq!(lengths(&regions, 0x1000, 0), []);
    }

    #[test]
    fn a_range_is_cut_where_regions_meet_and_ends_where_there_is_none() {
        let regions = regions(&[(0x1000, 0x1000), (0x2000, 0x1000)]);
        assert_eq!(lengths(&regions, 0x1ff0, 0x20), [Some(0x10), Some(0x10)]);
        assert_eq!(lengths(&regions, 0x2ff0, 0x20), [Some(0x10), None]);
        assert_eq!(lengths(&regions, 0xfff, 1), [None]);
        assert_eq!(lengths(&regions, u64::MAX, 2), [None]);
        assert!(regions.check_range(GuestAddress(0x1000), 0x2000, Permissions::Read));
        assert!(!regions.check_range(GuestAddress(0x1000), 0x2001, Permissions::Read));
        assert!(!Regions::default().check_range(GuestAddress(0), 1, Permissions::Read));
    }

    #[test]
    fn a_copy_keeps_its_mapping_when_the_table_is_replaced() {
        let mut current = regions(&[(0x1000, 0x1000)]);
        let held = current.clone();
        current = regions(&[(0x4000, 0x1000)]);
        held.write_slice(b"late", GuestAddress(0x1000)).unwrap();
        let mut seen = [0; 4];
        held.read_slice(&mut seen, GuestAddress(0x1000)).unwrap();
        assert_eq!(&seen, b"late");
        assert!(current.read_slice(&mut seen, GuestAddress(0x1000)).is_err());
    }
}
