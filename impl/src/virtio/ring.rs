//! The split ring of one queue: its location, its indices, and the accesses to it.
//!
//! This module wraps the queue of `virtio_queue`. Between two calls the whole state of the ring is
//! in its indices, so a copy of it, or of its [`layout`](Ring::layout) and
//! [`position`](Ring::position), is equivalent to it.

use crate::sync::{Ordering, fence};
use crate::wire::AVAIL_NO_INTERRUPT;
use std::fmt;
pub(crate) use virtio_queue::desc::split::Descriptor;
use virtio_queue::{Error, Queue, QueueOwnedT, QueueT};
use vm_memory::{Address, Bytes, GuestAddress, GuestMemory};

/// The location of one queue: guest-physical addresses of its three parts and the number of
/// descriptors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLayout {
    /// Number of descriptors: a power of two, at most the offered size.
    pub size: u16,
    /// The descriptor table, 16-byte aligned.
    pub descriptors: u64,
    /// The available ring (the driver's area), 2-byte aligned, not at address 0.
    pub available: u64,
    /// The used ring (the device's area), 4-byte aligned.
    pub used: u64,
}

/// The reason why a queue cannot be set up or reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueError {
    /// It is the wrong time. A queue is set up between FEATURES_OK and DRIVER_OK, or later after
    /// its reset. To be reset, a queue must be in use, and RING_RESET negotiated.
    NotNow,
    /// There is no such queue, or only with MQ negotiated.
    NoSuchQueue,
    /// The size is not a power of two, or exceeds the offered one.
    Size(u16),
    /// An address is misaligned, or the available ring is at 0, which `virtio-queue` takes for
    /// missing.
    Address(u64),
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            QueueError::NotNow => {
                write!(f, "this is not the time to set up or reset that queue")
            }
            QueueError::NoSuchQueue => write!(f, "no such queue"),
            QueueError::Size(size) => {
                write!(f, "queue size {size} is no power of two or above the offer")
            }
            QueueError::Address(address) => {
                write!(f, "a part of a queue cannot be at {address:#x}")
            }
        }
    }
}

impl std::error::Error for QueueError {}

/// A split ring in guest memory (2.7).
///
/// Guest memory is lent per call. A ring that is [ready](Ring::is_ready) has a layout whose size
/// and alignment are valid; each access checks whether it lies in guest memory.
#[derive(Debug)]
pub struct Ring(Queue);

impl Ring {
    /// A ring of at most `max_size` descriptors that is not placed yet.
    ///
    /// # Panics
    /// If `max_size` is not a power of two of at most 32768.
    pub fn new(max_size: u16) -> Ring {
        Ring(Queue::new(max_size).expect("the size of a ring is a power of two"))
    }

    /// A ring with `layout` that was not used yet, without EVENT_IDX.
    ///
    /// # Errors
    /// See [`place`](Ring::place).
    ///
    /// # Panics
    /// If `layout.size` is not a power of two.
    pub fn at(layout: QueueLayout) -> Result<Ring, QueueError> {
        let mut ring = Ring::new(layout.size);
        ring.place(layout)?;
        Ok(ring)
    }

    /// Places the ring at `layout`; it is ready then.
    ///
    /// # Errors
    /// [`QueueError::Size`] or [`QueueError::Address`]; nothing changes then.
    ///
    /// # Spec
    /// 2.7 (VS-20): alignment of the three parts.
    pub fn place(&mut self, layout: QueueLayout) -> Result<(), QueueError> {
        if !layout.size.is_power_of_two() || layout.size > self.0.max_size() {
            return Err(QueueError::Size(layout.size));
        }
        for (address, align) in [(layout.descriptors, 16), (layout.available, 2), (layout.used, 4)]
        {
            if address % align != 0 {
                return Err(QueueError::Address(address));
            }
        }
        if layout.available == 0 {
            return Err(QueueError::Address(0));
        }
        self.0.set_size(layout.size);
        let placed = self
            .0
            .try_set_desc_table_address(GuestAddress(layout.descriptors))
            .and_then(|()| self.0.try_set_avail_ring_address(GuestAddress(layout.available)))
            .and_then(|()| self.0.try_set_used_ring_address(GuestAddress(layout.used)));
        placed.expect("the alignment was checked");
        self.0.set_ready(true);
        Ok(())
    }

    /// The location of the ring; its size is the maximum if it was never placed.
    pub fn layout(&self) -> QueueLayout {
        QueueLayout {
            size: self.0.size(),
            descriptors: self.0.desc_table(),
            available: self.0.avail_ring(),
            used: self.0.used_ring(),
        }
    }

    /// Clears the layout and the indices.
    pub fn reset(&mut self) {
        self.0.reset();
    }

    /// Sets whether EVENT_IDX was negotiated.
    pub fn set_event_idx(&mut self, negotiated: bool) {
        self.0.set_event_idx(negotiated);
    }

    /// Whether EVENT_IDX was negotiated.
    pub fn event_idx(&self) -> bool {
        self.0.event_idx_enabled()
    }

    /// Whether it was placed since its reset.
    pub fn is_ready(&self) -> bool {
        self.0.ready()
    }

    /// Whether all of it lies in guest memory.
    pub fn is_in<M: GuestMemory>(&self, memory: &M) -> bool {
        self.0.is_valid(memory)
    }

    /// Number of descriptors.
    pub fn size(&self) -> u16 {
        self.0.size()
    }

    /// The next index to read of the available ring, and the next to write of the used ring.
    pub fn position(&self) -> (u16, u16) {
        (self.0.next_avail(), self.0.next_used())
    }

    /// Sets these indices: the next to read of the available ring, and the next to write of the
    /// used ring.
    pub fn set_position(&mut self, next_avail: u16, next_used: u16) {
        self.0.set_next_avail(next_avail);
        self.0.set_next_used(next_used);
    }

    /// The value of `used.idx` in guest memory; `None` if it is not there.
    pub fn used_idx<M: GuestMemory>(&self, memory: &M) -> Option<u16> {
        self.0.used_idx(memory, Ordering::Acquire).ok().map(|index| index.0)
    }

    /// Number of chains that were published and not taken; more than the [size](Ring::size) if
    /// `avail.idx` is invalid, and `None` if it is not in guest memory (VS-10).
    pub(crate) fn published<M: GuestMemory>(&self, memory: &M) -> Option<u16> {
        let published = self.0.avail_idx(memory, Ordering::Acquire).ok()?;
        Some(published.0.wrapping_sub(self.0.next_avail()))
    }

    /// Requests no kicks from the driver; returns whether the ring is in guest memory.
    pub(crate) fn disable_kicks<M: GuestMemory>(&mut self, memory: &M) -> bool {
        self.0.disable_notification(memory).is_ok()
    }

    /// Requests a kick with the next chain; returns whether the ring is in guest memory. Chains
    /// that were published before the driver could see this are found by
    /// [`published`](Ring::published).
    pub(crate) fn enable_kicks<M: GuestMemory>(&mut self, memory: &M) -> bool {
        self.0.enable_notification(memory).is_ok()
    }

    /// Takes the next chain: its head and its descriptors, which the iterator reads as it advances.
    ///
    /// # Errors
    /// The ring is not in guest memory, `avail.idx` is too far ahead, or the head is not a
    /// descriptor of the table (VS-10).
    #[inline]
    pub fn take<'m, M: GuestMemory>(
        &mut self,
        memory: &'m M,
    ) -> Result<Option<(u16, impl Iterator<Item = Descriptor> + use<'m, M>)>, Invalid> {
        let chain = self.0.iter(memory).map_err(|_| Invalid)?.next();
        match chain {
            Some(chain) if chain.head_index() >= self.0.size() => Err(Invalid),
            Some(chain) => Ok(Some((chain.head_index(), chain))),
            None if self.entry_is_readable(memory) => Ok(None),
            None => Err(Invalid),
        }
    }

    /// The descriptors of the chain that begins at `head`, whose entry in the available ring may
    /// have been overwritten. Ends silently where the iterator of [`take`](Ring::take) does.
    pub(crate) fn chain_at<'m, M: GuestMemory>(
        &self,
        memory: &'m M,
        head: u16,
    ) -> impl Iterator<Item = Descriptor> + use<'m, M> {
        let size = self.0.size();
        assert!(head < size, "head {head} of {size}");
        Chain {
            memory,
            table: GuestAddress(self.0.desc_table()),
            len: size,
            next: head,
            left: size,
            bytes: 0,
            indirect: false,
        }
    }

    /// Returns the chain of `head` through the used ring, with `len` bytes written.
    ///
    /// # Errors
    /// The used ring is not in guest memory.
    #[inline]
    pub fn put<M: GuestMemory>(&mut self, memory: &M, head: u16, len: u32) -> Result<(), Invalid> {
        assert!(head < self.size(), "head {head} of {}", self.size());
        self.0.add_used(memory, head, len).map_err(|_| Invalid)
    }

    /// Whether the driver must be signalled after the last [`put`](Ring::put).
    ///
    /// # Errors
    /// The available ring is not in guest memory.
    ///
    /// # Spec
    /// VS-11: without EVENT_IDX "if flags is 0, the device MUST send a notification", "if flags is
    /// 1, the device SHOULD NOT"; VS-12 with it.
    #[inline]
    pub(crate) fn wants_signal<M: GuestMemory>(&mut self, memory: &M) -> Result<bool, Invalid> {
        if self.0.event_idx_enabled() {
            return self.0.needs_notification(memory).map_err(|_: Error| Invalid);
        }
        // Pairs with the driver, which enables signals and then reads `used.idx`. `used.idx` was
        // written before this fence and the flag is read after it, so one side sees the other's
        // store.
        fence(Ordering::SeqCst);
        let flags = memory.load(GuestAddress(self.0.avail_ring()), Ordering::Relaxed);
        let flags: u16 = flags.map_err(|_| Invalid)?;
        Ok(u16::from_le(flags) & AVAIL_NO_INTERRUPT == 0)
    }

    /// Whether the next entry is readable: `virtio_queue`'s iterator ends in the same way when
    /// there is no entry and when it cannot read one.
    fn entry_is_readable<M: GuestMemory>(&self, memory: &M) -> bool {
        let entry = 4 + 2 * u64::from(self.0.next_avail() & (self.0.size() - 1));
        GuestAddress(self.0.avail_ring())
            .checked_add(entry)
            .is_some_and(|address| memory.read_obj::<u16>(address).is_ok())
    }
}

impl Clone for Ring {
    fn clone(&self) -> Ring {
        Ring(Queue::try_from(self.0.state()).expect("a queue's own state is valid"))
    }
}

/// The ring, or what the driver published on it, is invalid: only a reset helps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invalid;

/// The descriptors of a chain whose head did not come from the available ring.
struct Chain<'a, M> {
    memory: &'a M,
    table: GuestAddress,
    /// Number of descriptors in the table, and the number that may still come.
    len: u16,
    left: u16,
    next: u16,
    bytes: u32,
    indirect: bool,
}

impl<M: GuestMemory> Chain<'_, M> {
    fn enter(&mut self, table: Descriptor) -> Option<()> {
        if self.indirect || !table.len().is_multiple_of(16) {
            return None;
        }
        self.len = u16::try_from(table.len() / 16).ok()?;
        self.left = self.len;
        self.table = table.addr();
        self.next = 0;
        self.indirect = true;
        Some(())
    }
}

impl<M: GuestMemory> Iterator for Chain<'_, M> {
    type Item = Descriptor;

    fn next(&mut self) -> Option<Descriptor> {
        if self.left == 0 || self.next >= self.len {
            return None;
        }
        let address = self.table.checked_add(16 * u64::from(self.next))?;
        let descriptor: Descriptor = self.memory.read_obj(address).ok()?;
        if descriptor.refers_to_indirect_table() {
            self.enter(descriptor)?;
            return self.next();
        }
        self.bytes = self.bytes.checked_add(descriptor.len())?;
        self.left = if descriptor.has_next() { self.left - 1 } else { 0 };
        self.next = descriptor.next();
        Some(descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{self, AtomicUsize};
    use vm_memory::GuestMemoryMmap;

    const AVAILABLE: GuestAddress = GuestAddress(0x100);
    const USED: GuestAddress = GuestAddress(0x200);
    const ROUNDS: u16 = 50_000;

    fn memory() -> GuestMemoryMmap<()> {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1000)]).expect("a page of memory")
    }

    /// Waits until both threads have called it for the `nth` time.
    fn meet(arrived: &AtomicUsize, nth: u16) {
        arrived.fetch_add(1, Ordering::SeqCst);
        let mut waits = 0;
        while arrived.load(Ordering::SeqCst) < 2 * usize::from(nth) {
            waits += 1;
            // The other thread may have no processor.
            if waits % 1000 == 0 { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
    }

    /// Loom cannot model accesses to guest memory, so this needs a processor that may take the load
    /// of the flag before the store of the index, as x86 and Arm do.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "device and driver run at the same time")]
    fn a_driver_that_enables_signals_sees_the_index_or_is_signalled() {
        let memory = memory();
        let layout = QueueLayout { size: 4, descriptors: 0, available: AVAILABLE.0, used: USED.0 };
        let mut ring = Ring::at(layout).expect("it is aligned");
        let (begin, end) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let suppress = |flag: u16| {
            memory.store(flag.to_le(), AVAILABLE, Ordering::Relaxed).expect("it is in memory");
        };
        let learned: Vec<bool> = std::thread::scope(|threads| {
            let device = threads.spawn(|| {
                let mut device = |round| {
                    meet(&begin, round);
                    ring.put(&memory, 0, 0).expect("it is in memory");
                    let signal = ring.wants_signal(&memory).expect("it is in memory");
                    meet(&end, round);
                    signal
                };
                (1..=ROUNDS).map(&mut device).collect()
            });
            let mut missed = Vec::new();
            for round in 1..=ROUNDS {
                suppress(AVAIL_NO_INTERRUPT);
                meet(&begin, round);
                suppress(0);
                atomic::fence(Ordering::SeqCst);
                let index: u16 =
                    memory.load(USED.unchecked_add(2), Ordering::Acquire).expect("it is in memory");
                missed.push(u16::from_le(index) != round);
                meet(&end, round);
            }
            let signalled: Vec<bool> = device.join().expect("the device's thread ends");
            missed.into_iter().zip(signalled).map(|(missed, signal)| !missed || signal).collect()
        });
        let lost = learned.iter().filter(|learned| !**learned).count();
        assert_eq!(lost, 0, "of {ROUNDS} completions the driver learned of all but {lost}");
    }
}
