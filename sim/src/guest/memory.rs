//! Guest memory: from address zero, in one region or in several.
//!
//! This crate implements `GuestMemory` itself because a single region needs no look-up:
//! `get_slices` returns exactly one slice. That makes a ring round trip an order of magnitude
//! cheaper than with a container of regions, and a world cheap to copy. [`Memory`] owns the bytes
//! and belongs to the guest. A device is given a [`Ram`], a pointer and a length, which a backend
//! built on any version of vm-memory can wrap.
//!
//! In some runs the memory consists of several [regions](Ram::regions) of equal size, as a
//! front-end of vhost-user may announce it, and it moves to other addresses of this process while
//! requests are in flight, as after a new SET_MEM_TABLE.
//!
//! Not here: dirty tracking, holes. A world has one thread, so every access is plain; the memory
//! order between threads is checked elsewhere.

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc};
use std::cell::Cell;
use std::iter::FusedIterator;
use std::marker::PhantomData;
use std::ptr::{self, NonNull};

use vm_memory::guest_memory::GuestMemorySliceIterator;
use vm_memory::{
    Bytes, GuestAddress, GuestMemory, GuestMemoryError, GuestMemoryMmap, Permissions, VolatileSlice,
};

/// Bytes of guest memory in a world.
pub const MEMORY: usize = 64 << 10;

/// The bytes of one guest's memory.
///
/// The guest and the device take turns: [`ram`](Memory::ram), through which a device writes,
/// borrows the memory mutably, so borrowed bytes cannot change meanwhile.
///
/// ```compile_fail,E0502
/// # use powerfail::guest::memory::Memory;
/// let mut memory = Memory::new(4096);
/// let before = memory.bytes(0, 1);
/// memory.ram().write(0, &[1]);
/// assert_eq!(before, [0]);
/// ```
#[derive(Debug)]
pub struct Memory {
    base: NonNull<u8>,
    len: usize,
    /// The allocation that the memory moved away from.
    former: Option<NonNull<u8>>,
    /// `Some` iff there is a trap or more than one region. Few runs have either.
    extra: Option<Box<Extra>>,
}

/// What makes an access to memory more than a look at its bytes.
#[derive(Clone, Debug)]
struct Extra {
    trap: Option<Trap>,
    /// Bytes of a region.
    region: usize,
}

/// The bytes at a former place of guest memory.
const STALE: u8 = 0xa5;

/// A write of the guest to its memory.
#[derive(Clone, Debug)]
pub(crate) struct Edit {
    /// The guest address.
    pub(crate) at: u32,
    /// The new bytes.
    pub(crate) bytes: Box<[u8]>,
}

/// A write of the guest that happens inside a step of a device, just before a read of the first of
/// the same bytes. A field or a sector may be read in several pieces, from the first to the last;
/// these make one read.
#[derive(Clone, Debug)]
struct Trap {
    edit: Edit,
    /// Reads until then, that one included; 0 once it has happened.
    left: Cell<u32>,
}

impl Trap {
    /// Counts a read of `at..at + count`, and writes to the memory at `base` if it is the one.
    #[cold]
    fn read(&self, base: *mut u8, at: u64, count: usize) {
        let Edit { at: start, bytes } = &self.edit;
        let start = u64::from(*start);
        if !(at..at + count as u64).contains(&start) || self.left.get() == 0 {
            return;
        }
        self.left.set(self.left.get() - 1);
        if self.left.get() == 0 {
            // SAFETY: `Memory::set_trap` has shown the edit to lie inside the memory at `base`.
            let to = unsafe { base.add(start as usize) };
            // SAFETY: as above. The `Ram` has the only access to the memory, which does not hold
            // `bytes`.
            unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), to, bytes.len()) };
        }
    }
}

// SAFETY: this value alone owns the allocation, which has no thread affinity.
unsafe impl Send for Memory {}

impl Memory {
    /// Allocates `len` zeroed bytes.
    ///
    /// # Panics
    /// If `len` is zero or not a multiple of 4096.
    #[must_use]
    pub fn new(len: usize) -> Memory {
        assert!(len > 0 && len.is_multiple_of(4096), "guest memory comes in pages");
        let layout = Memory::layout(len);
        // SAFETY: the layout has a non-zero size, checked above.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        Memory { base, len, former: None, extra: None }
    }

    /// Divides the memory into regions of so many bytes, and removes the trap; 0 means a single
    /// one.
    ///
    /// # Panics
    /// If it is not a multiple of 4096.
    pub(crate) fn divide(&mut self, region: u32) {
        assert!(region.is_multiple_of(4096), "a region comes in pages");
        let region = if region == 0 { self.len } else { region as usize };
        self.extra = (region < self.len).then(|| Box::new(Extra { trap: None, region }));
    }

    /// Moves the memory to other addresses of this process. What is read at the former ones makes
    /// no sense, and what is written there is lost.
    pub(crate) fn move_away(&mut self) {
        let layout = Memory::layout(self.len);
        let to = self.former.take().unwrap_or_else(|| {
            // SAFETY: the layout has a non-zero size, as that of the first allocation.
            let base = unsafe { alloc_zeroed(layout) };
            NonNull::new(base).unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
        });
        // SAFETY: both are allocations of `len` initialised bytes, and they differ.
        unsafe { ptr::copy_nonoverlapping(self.base.as_ptr(), to.as_ptr(), self.len) };
        // SAFETY: as above. Everything that borrows the bytes borrows `self`.
        unsafe { ptr::write_bytes(self.base.as_ptr(), STALE, self.len) };
        self.former = Some(std::mem::replace(&mut self.base, to));
    }

    /// A copy of the first `len` bytes.
    ///
    /// # Panics
    /// As [`new`](Self::new), or if the memory is shorter than `len`.
    pub(crate) fn first(&self, len: usize) -> Memory {
        let bytes = self.bytes(0, len as u32);
        assert!(len > 0 && len.is_multiple_of(4096), "guest memory comes in pages");
        let layout = Memory::layout(len);
        // SAFETY: the layout has a non-zero size, checked above.
        let base = unsafe { alloc(layout) };
        let Some(base) = NonNull::new(base) else { std::alloc::handle_alloc_error(layout) };
        // SAFETY: both ranges are `len` bytes long, one inside each allocation, and do not overlap
        // because the second allocation is new. The copy initialises every byte of it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), base.as_ptr(), len) };
        Memory { base, len, former: None, extra: self.extra.clone() }
    }

    fn layout(len: usize) -> Layout {
        Layout::from_size_align(len, 4096).expect("a page-aligned layout of a small size")
    }

    /// The memory as a device sees it. The borrow excludes every other access meanwhile.
    #[inline]
    #[must_use]
    pub fn ram(&mut self) -> Ram<'_> {
        let extra = self.extra.as_deref();
        Ram { base: self.base.as_ptr(), len: self.len, extra, owner: PhantomData }
    }

    /// The memory for code that only reads it, while others may read too.
    ///
    /// # Safety
    /// The caller must not write through it.
    #[inline]
    pub(crate) unsafe fn ram_to_read(&self) -> Ram<'_> {
        Ram { base: self.base.as_ptr(), len: self.len, extra: None, owner: PhantomData }
    }

    /// Has the guest write just before the `nth` read of the first of the bytes through a [`Ram`],
    /// counted from one. It replaces an earlier such order.
    ///
    /// # Panics
    /// If the bytes do not lie in memory.
    pub(crate) fn set_trap(&mut self, edit: Edit, nth: u8) {
        self.check(edit.at, edit.bytes.len() as u32);
        let trap = Some(Trap { edit, left: Cell::new(nth.into()) });
        match &mut self.extra {
            Some(extra) => extra.trap = trap,
            None => self.extra = Some(Box::new(Extra { trap, region: self.len })),
        }
    }

    /// Whether a [trap](Self::set_trap) is set.
    #[inline]
    pub(crate) fn has_trap(&self) -> bool {
        self.extra.as_ref().is_some_and(|extra| extra.trap.is_some())
    }

    /// Removes the trap; returns whether it has written.
    pub(crate) fn drop_trap(&mut self) -> bool {
        let is_sprung = self.is_sprung();
        if let Some(extra) = &mut self.extra {
            extra.trap = None;
        }
        self.extra.take_if(|extra| extra.region == self.len);
        is_sprung
    }

    /// Whether the trap has written.
    pub(crate) fn is_sprung(&self) -> bool {
        let trap = self.extra.as_ref().and_then(|extra| extra.trap.as_ref());
        trap.is_some_and(|trap| trap.left.get() == 0)
    }

    /// Zeroes every byte.
    pub(crate) fn clear(&mut self) {
        self.bytes_mut(0, self.len as u32).fill(0);
    }

    /// The length in bytes.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always `false`: a guest has memory.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The bytes `at..at + len`.
    ///
    /// # Panics
    /// If the range exceeds the memory.
    #[inline]
    #[must_use]
    pub fn bytes(&self, at: u32, len: u32) -> &[u8] {
        let start = self.check(at, len);
        // SAFETY: `check` has shown the offset to lie inside the allocation.
        let first = unsafe { self.base.as_ptr().add(start) };
        // SAFETY: `check` has shown the whole range to lie inside the allocation, and every writer
        // (`bytes_mut`, `ram`) borrows `self` mutably.
        unsafe { std::slice::from_raw_parts(first, len as usize) }
    }

    /// All bytes.
    pub(crate) fn all(&self) -> &[u8] {
        self.bytes(0, self.len as u32)
    }

    /// The bytes `at..at + len`, mutably.
    ///
    /// # Panics
    /// If the range exceeds the memory.
    #[inline]
    #[must_use]
    pub(crate) fn bytes_mut(&mut self, at: u32, len: u32) -> &mut [u8] {
        let start = self.check(at, len);
        // SAFETY: `check` has shown the offset to lie inside the allocation.
        let first = unsafe { self.base.as_ptr().add(start) };
        // SAFETY: `check` has shown the whole range to lie inside the allocation, and `&mut self`
        // excludes every other access.
        unsafe { std::slice::from_raw_parts_mut(first, len as usize) }
    }

    #[inline]
    fn check(&self, at: u32, len: u32) -> usize {
        let start = at as usize;
        assert!(
            start <= self.len && len as usize <= self.len - start,
            "the driver reached outside guest memory"
        );
        start
    }

    /// Reads a little-endian 16-bit field.
    #[inline]
    #[must_use]
    pub fn read_u16(&self, at: u32) -> u16 {
        u16::from_le_bytes(self.array(at))
    }

    /// Reads a little-endian 32-bit field.
    #[inline]
    #[must_use]
    pub fn read_u32(&self, at: u32) -> u32 {
        u32::from_le_bytes(self.array(at))
    }

    /// Reads a little-endian 64-bit field.
    #[inline]
    #[must_use]
    pub(crate) fn read_u64(&self, at: u32) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    #[inline]
    fn array<const N: usize>(&self, at: u32) -> [u8; N] {
        let bytes = self.bytes(at, N as u32).first_chunk();
        *bytes.expect("the slice has N bytes")
    }

    /// Writes a little-endian 16-bit field.
    #[inline]
    pub fn write_u16(&mut self, at: u32, value: u16) {
        *self.array_mut(at) = value.to_le_bytes();
    }

    /// Writes a little-endian 64-bit field.
    #[inline]
    pub fn write_u64(&mut self, at: u32, value: u64) {
        *self.array_mut(at) = value.to_le_bytes();
    }

    #[inline]
    fn array_mut<const N: usize>(&mut self, at: u32) -> &mut [u8; N] {
        self.bytes_mut(at, N as u32).first_chunk_mut().expect("the slice has N bytes")
    }

    /// Copies bytes to a guest address.
    #[inline]
    pub fn write(&mut self, at: u32, bytes: &[u8]) {
        self.bytes_mut(at, bytes.len() as u32).copy_from_slice(bytes);
    }
}

impl Clone for Memory {
    fn clone(&self) -> Memory {
        self.first(self.len)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        for base in [Some(self.base), self.former].into_iter().flatten() {
            // SAFETY: allocated with the same layout, and not freed since.
            unsafe { dealloc(base.as_ptr(), Memory::layout(self.len)) };
        }
    }
}

/// Guest memory as a device borrows it. It starts at guest address zero and has no holes.
///
/// It may lie elsewhere in the next call: a device must not keep [`base`](Self::base).
#[derive(Clone, Copy, Debug)]
pub struct Ram<'a> {
    base: *mut u8,
    len: usize,
    extra: Option<&'a Extra>,
    owner: PhantomData<&'a mut Memory>,
}

impl Ram<'_> {
    /// The address of guest address zero in this process.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Always `false`: a guest has memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The regions that the memory consists of, each with its guest address and its length. In most
    /// runs there is one. A buffer or a ring may lie in several. [`Divided`] respects them.
    pub fn regions(&self) -> impl Iterator<Item = (u64, usize)> + use<> {
        let (len, region) = (self.len, self.region());
        (0..len).step_by(region).map(move |at| (at as u64, region.min(len - at)))
    }

    fn region(&self) -> usize {
        self.extra.map_or(self.len, |extra| extra.region)
    }

    /// Whether there is more than one region.
    #[inline]
    pub(crate) fn is_divided(&self) -> bool {
        self.region() < self.len
    }

    /// The same memory where it was when its base was `base`.
    ///
    /// # Safety
    /// `base` must be the base of an earlier `Ram` of the same [`Memory`].
    pub(crate) unsafe fn as_before(self, base: *mut u8) -> Self {
        Ram { base, ..self }
    }

    /// Reads `N` bytes from a guest address.
    ///
    /// # Panics
    /// If they exceed the memory.
    #[must_use]
    pub fn read<const N: usize>(&self, at: u32) -> [u8; N] {
        let mut bytes = [0; N];
        self.read_slice(&mut bytes, GuestAddress(u64::from(at))).expect("an address in memory");
        bytes
    }

    /// Fills `out` with the bytes from a guest address.
    ///
    /// # Panics
    /// If they exceed the memory.
    pub(crate) fn read_into(&self, at: u32, out: &mut [u8]) {
        self.read_slice(out, GuestAddress(u64::from(at))).expect("an address in memory");
    }

    /// Writes bytes to a guest address.
    ///
    /// # Panics
    /// If they exceed the memory.
    pub fn write(&self, at: u32, bytes: &[u8]) {
        self.write_slice(bytes, GuestAddress(u64::from(at))).expect("an address in memory");
    }
}

/// The one slice of a range of flat memory, or none for an empty range.
#[derive(Debug)]
pub struct OneSlice<'a>(Option<VolatileSlice<'a, ()>>);

impl<'a> Iterator for OneSlice<'a> {
    type Item = Result<VolatileSlice<'a, ()>, GuestMemoryError>;

    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl FusedIterator for OneSlice<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for OneSlice<'a> {
    #[inline(always)]
    fn stop_on_error(
        self,
    ) -> Result<impl Iterator<Item = VolatileSlice<'a, ()>>, GuestMemoryError> {
        Ok(self.0.into_iter())
    }
}

/// All memory as one region.
impl GuestMemory for Ram<'_> {
    type PhysicalMemory = GuestMemoryMmap<()>;
    type Bitmap = ();

    #[inline(always)]
    fn check_range(&self, addr: GuestAddress, count: usize, _access: Permissions) -> bool {
        usize::try_from(addr.0)
            .ok()
            .and_then(|start| start.checked_add(count))
            .is_some_and(|end| end <= self.len)
    }

    #[inline(always)]
    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>, GuestMemoryError> {
        if count == 0 {
            return Ok(OneSlice(None));
        }
        if !self.check_range(addr, count, access) {
            return Err(GuestMemoryError::InvalidGuestAddress(addr));
        }
        if let Some(extra) = self.extra
            && let Some(trap) = &extra.trap
            && access.allow(Permissions::Read)
        {
            trap.read(self.base, addr.0, count);
        }
        // SAFETY: `check_range` has shown the offset to lie inside the memory.
        let start = unsafe { self.base.add(addr.0 as usize) };
        // SAFETY: `check_range` has shown the whole range to lie inside the memory, which the
        // lifetime keeps allocated.
        let slice = unsafe { VolatileSlice::new(start, count) };
        Ok(OneSlice(Some(slice)))
    }
}

/// Guest memory as the regions that it consists of. No slice of it reaches into two.
#[derive(Clone, Copy, Debug)]
pub struct Divided<'a>(pub Ram<'a>);

/// The slices of a range of divided memory.
#[derive(Debug)]
pub struct Slices<'a> {
    /// What is left of the range, as one slice.
    left: Option<VolatileSlice<'a, ()>>,
    /// The length of the next slice.
    next: usize,
    region: usize,
}

impl<'a> Iterator for Slices<'a> {
    type Item = Result<VolatileSlice<'a, ()>, GuestMemoryError>;

    fn next(&mut self) -> Option<Self::Item> {
        let left = self.left.take()?;
        if left.len() <= self.next {
            return Some(Ok(left));
        }
        let (slice, rest) = left.split_at(self.next).expect("it is shorter");
        (self.left, self.next) = (Some(rest), self.region);
        Some(Ok(slice))
    }
}

impl FusedIterator for Slices<'_> {}

impl<'a> GuestMemorySliceIterator<'a, ()> for Slices<'a> {}

impl GuestMemory for Divided<'_> {
    type PhysicalMemory = GuestMemoryMmap<()>;
    type Bitmap = ();

    fn check_range(&self, addr: GuestAddress, count: usize, access: Permissions) -> bool {
        self.0.check_range(addr, count, access)
    }

    fn get_slices<'a>(
        &'a self,
        addr: GuestAddress,
        count: usize,
        access: Permissions,
    ) -> Result<impl GuestMemorySliceIterator<'a, ()>, GuestMemoryError> {
        let left = self.0.get_slices(addr, count, access)?.stop_on_error()?.next();
        let region = self.0.region();
        Ok(Slices { left, next: region - addr.0 as usize % region, region })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_and_its_guest_see_the_same_bytes() {
        let mut memory = Memory::new(4096);
        memory.write(100, b"guest");
        let mut seen = [0; 5];
        memory.ram().read_slice(&mut seen, GuestAddress(100)).unwrap();
        assert_eq!(&seen, b"guest");
        memory.ram().write_slice(b"dev", GuestAddress(4093)).unwrap();
        assert_eq!(memory.bytes(4093, 3), b"dev");
        assert_eq!(memory.clone().bytes(100, 5), b"guest");
    }

    #[test]
    fn a_range_has_a_slice_in_each_region_that_it_touches() {
        let mut memory = Memory::new(5 * 4096);
        let lens = |memory: &mut Memory, at, count| -> Vec<usize> {
            let divided = Divided(memory.ram());
            let slices = divided.get_slices(GuestAddress(at), count, Permissions::Read).unwrap();
            slices.map(|slice| slice.unwrap().len()).collect()
        };
        assert_eq!(lens(&mut memory, 4000, 9000), [9000]);
        memory.divide(8192);
        assert_eq!(lens(&mut memory, 4000, 9000), [4192, 4808]);
        assert_eq!(lens(&mut memory, 8192, 8192), [8192]);
        assert_eq!(lens(&mut memory, 8191, 8194), [1, 8192, 1]);
        assert_eq!(lens(&mut memory, 1 << 40, 0), [0; 0]);
        let regions: Vec<(u64, usize)> = memory.ram().regions().collect();
        assert_eq!(regions, [(0, 8192), (8192, 8192), (16384, 4096)]);
        assert_eq!(memory.clone().ram().regions().count(), 3);
        let bytes: Vec<u8> = (0..9000).map(|n| n as u8).collect();
        Divided(memory.ram()).write_slice(&bytes, GuestAddress(4000)).unwrap();
        assert_eq!(memory.bytes(4000, 9000), bytes);
    }

    #[test]
    fn memory_that_moves_keeps_its_bytes_and_leaves_none_behind() {
        let mut memory = Memory::new(4096);
        memory.write(7, b"guest");
        let before = memory.ram().base();
        memory.move_away();
        assert_eq!(memory.bytes(7, 5), b"guest");
        // SAFETY: the base is that of the same memory.
        let stale = unsafe { memory.ram().as_before(before) };
        assert_eq!(stale.read::<5>(7), [STALE; 5]);
        stale.write(7, b"lost.");
        assert_eq!(memory.bytes(7, 5), b"guest");
        memory.move_away();
        assert_eq!(memory.ram().base(), before);
        assert_eq!(memory.bytes(7, 5), b"guest");
    }

    #[test]
    fn a_range_that_leaves_memory_is_refused() {
        let mut memory = Memory::new(4096);
        let ram = memory.ram();
        assert!(ram.write_slice(b"dev", GuestAddress(4094)).is_err());
        assert!(ram.read_obj::<u64>(GuestAddress(u64::MAX - 3)).is_err());
    }
}
