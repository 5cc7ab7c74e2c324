//! Guest memory of a bare-metal guest: an arena from which the driver's rings and copies of its
//! buffers come.

use std::ptr::NonNull;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};
use vm_memory::{GuestAddress, GuestMemoryBackend, GuestMemoryMmap};

/// Where guest memory begins: not at zero, so that an address is no offset.
const BASE: u64 = 0x4000_0000;
/// Pages are only touched once they are used.
const LEN: usize = 1 << 30;

/// Guest memory; all drivers of this process share it.
pub(crate) fn guest() -> &'static GuestMemoryMmap<()> {
    static MEMORY: OnceLock<GuestMemoryMmap<()>> = OnceLock::new();
    MEMORY.get_or_init(|| {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(BASE), LEN)]).expect("address space")
    })
}

/// Takes aligned bytes that nobody else has. They are never given back.
fn take(len: usize, align: usize) -> (PhysAddr, NonNull<u8>) {
    static TAKEN: AtomicUsize = AtomicUsize::new(PAGE_SIZE);
    let room = (len + align).next_multiple_of(64);
    let start = TAKEN.fetch_add(room, Ordering::Relaxed).next_multiple_of(align);
    assert!(start + len <= LEN, "the arena is used up");
    let at = BASE + start as u64;
    let host = guest().get_host_address(GuestAddress(at)).expect("in the arena");
    (at, NonNull::new(host).expect("a mapping is not at zero"))
}

/// Hands memory to the driver; buffers are copied in and out, as for a device that sees only part
/// of memory.
#[derive(Debug)]
pub(crate) struct Dma;

// SAFETY: what `dma_alloc` returns is mapped for good, page-aligned, zero, and nobody else's;
// `share` returns the address of a copy.
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
            // SAFETY: the driver's buffer is valid for its length, and the copy was just taken with
            // the same.
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
        // SAFETY: `share` took this copy with the length of the buffer, which the driver has to
        // itself.
        unsafe { buffer.cast::<u8>().copy_from_nonoverlapping(copy, buffer.len()) };
    }
}
