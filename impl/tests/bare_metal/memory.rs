//! Guest memory of a bare-metal guest: an arena for the driver's rings and copies of its buffers.

use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Start of guest memory: not zero, so that an address differs from an offset.
const BASE: u64 = 0x4000_0000;
/// Pages are only touched on first use.
const LEN: usize = 1 << 30;

/// Guest memory; all drivers of this process share it.
pub(crate) fn guest() -> &'static GuestMemoryMmap<()> {
    static MEMORY: OnceLock<GuestMemoryMmap<()>> = OnceLock::new();
    MEMORY.get_or_init(|| {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(BASE), LEN)]).expect("address space")
    })
}

/// Allocates aligned bytes, which are never freed.
fn take(len: usize, align: usize) -> (PhysAddr, NonNull<u8>) {
    static TAKEN: AtomicUsize = AtomicUsize::new(PAGE_SIZE);
    let room = (len + align).next_multiple_of(64);
    let start = TAKEN.fetch_add(room, Ordering::Relaxed).next_multiple_of(align);
    assert!(start + len <= LEN, "the arena is used up");
    let at = BASE + start as u64;
    let host = guest().get_host_address(GuestAddress(at)).expect("in the arena");
    (at, NonNull::new(host).expect("a mapping is not at zero"))
}

/// Allocator of the driver's memory; buffers are copied in and out, as for a device that can access
/// only part of memory.
#[derive(Debug)]
pub(crate) struct Dma;

// SAFETY: the memory that `dma_alloc` returns is never unmapped, page-aligned, zero, and not
// shared; `share` returns the address of a copy.
unsafe impl Hal for Dma {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        take(pages * PAGE_SIZE, PAGE_SIZE)
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("there is no MMIO")
    }

    unsafe fn share(buffer: NonNull<[u8]>, direction: BufferDirection) -> PhysAddr {
        let (at, copy) = take(buffer.len(), 16);
        if direction != BufferDirection::DeviceToDriver {
            // SAFETY: the driver's buffer is valid for its length, and the copy was just allocated
            // with the same length.
            unsafe { copy.copy_from_nonoverlapping(buffer.cast(), buffer.len()) };
        }
        at
    }

    unsafe fn unshare(at: PhysAddr, buffer: NonNull<[u8]>, direction: BufferDirection) {
        if direction == BufferDirection::DriverToDevice {
            return;
        }
        let copy = guest().get_host_address(GuestAddress(at)).expect("shared before");
        let copy = NonNull::new(copy).expect("a mapping is not at zero");
        // SAFETY: `share` allocated this copy with the length of the buffer, which is exclusive to
        // the driver.
        unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(copy, buffer.len()) };
    }
}
