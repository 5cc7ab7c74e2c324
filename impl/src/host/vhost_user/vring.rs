//! The transport's half of a ring: what the front-end said about it, and the two descriptors it talks through.
//!
//! This is the framework's vring with what it lacks: it notes a size that it would swallow, it never waits for a descriptor that the
//! front-end may have set to waiting, and it says without a lock whether the ring is enabled.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, MutexGuard};
use vhost_user_backend::{VringMutex, VringState, VringStateGuard, VringStateMutGuard, VringT};
use virtio_queue::{Error, QueueT};
use vm_memory::{GuestMemoryAtomic, GuestMemoryMmap};

type Memory = GuestMemoryAtomic<GuestMemoryMmap>;

/// One ring as the front-end set it up; copies are the same ring.
#[derive(Clone)]
pub(super) struct Vring {
    state: VringMutex<Memory>,
    notes: Arc<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    enabled: AtomicBool,
    /// The size asked for last was not a power of two, and the ring still has the one before.
    odd_size: AtomicBool,
    /// The kick is something that can be readable for ever.
    dead_kick: AtomicBool,
}

impl Vring {
    /// Whether the front-end wants the ring served.
    pub(super) fn enabled(&self) -> bool {
        self.notes.enabled.load(Ordering::Acquire)
    }

    /// Whether the size asked for is impossible.
    pub(super) fn has_odd_size(&self) -> bool {
        self.notes.odd_size.load(Ordering::Acquire)
    }

    /// Whether the kick is no eventfd, and would wake its thread for ever.
    pub(super) fn has_dead_kick(&self) -> bool {
        self.notes.dead_kick.load(Ordering::Acquire)
    }

    /// Tells the driver that something was used. A counter that is full says so already.
    pub(super) fn signal(&self) {
        let state = self.state.get_ref();
        let Some(call) = state.get_call() else { return };
        // SAFETY: the descriptor is open for as long as `state` is locked.
        let fd = unsafe { BorrowedFd::borrow_raw(call.as_raw_fd()) };
        let mut writable = [PollFd::new(&fd, PollFlags::OUT)];
        let ready = poll(&mut writable, Some(&Timespec::default()));
        if ready.is_ok() && writable[0].revents().contains(PollFlags::OUT) {
            // A front-end that handed over something else than an eventfd is not told.
            let _ = call.notify();
        }
    }
}

impl<'a> VringStateGuard<'a, Memory> for Vring {
    type G = MutexGuard<'a, VringState<Memory>>;
}

impl<'a> VringStateMutGuard<'a, Memory> for Vring {
    type G = MutexGuard<'a, VringState<Memory>>;
}

impl VringT<Memory> for Vring {
    fn new(memory: Memory, max_queue_size: u16) -> Result<Vring, Error> {
        let state = VringMutex::new(memory, max_queue_size)?;
        Ok(Vring { state, notes: Arc::default() })
    }

    fn get_ref(&self) -> <Vring as VringStateGuard<'_, Memory>>::G {
        self.state.get_ref()
    }

    fn get_mut(&self) -> <Vring as VringStateMutGuard<'_, Memory>>::G {
        self.state.get_mut()
    }

    fn set_enabled(&self, enabled: bool) {
        self.notes.enabled.store(enabled, Ordering::Release);
        self.state.set_enabled(enabled);
    }

    fn set_queue_size(&self, size: u16) {
        self.notes.odd_size.store(!size.is_power_of_two(), Ordering::Release);
        self.state.set_queue_size(size);
    }

    /// Empties the kick; it may have been read by the front-end meanwhile.
    fn read_kick(&self) -> io::Result<bool> {
        let state = self.state.get_ref();
        if let Some(kick) = state.get_kick() {
            // SAFETY: the descriptor is open for as long as `state` is locked.
            let fd = unsafe { BorrowedFd::borrow_raw(kick.as_raw_fd()) };
            let mut count = [0; 8];
            // An offset of -1 is none: an eventfd has no position.
            let read =
                preadv2(fd, &mut [IoSliceMut::new(&mut count)], u64::MAX, ReadWriteFlags::NOWAIT);
            match read {
                Ok(8) | Err(Errno::AGAIN | Errno::INTR) => {}
                // An error here would end the thread while it has things going.
                Ok(_) | Err(_) => {
                    self.notes.dead_kick.store(true, Ordering::Release);
                    return Ok(true);
                }
            }
        }
        Ok(self.enabled())
    }

    fn add_used(&self, head: u16, len: u32) -> Result<(), Error> {
        self.state.add_used(head, len)
    }

    fn signal_used_queue(&self) -> io::Result<()> {
        self.signal();
        Ok(())
    }

    fn enable_notification(&self) -> Result<bool, Error> {
        self.state.enable_notification()
    }

    fn disable_notification(&self) -> Result<(), Error> {
        self.state.disable_notification()
    }

    fn needs_notification(&self) -> Result<bool, Error> {
        self.state.needs_notification()
    }

    fn set_queue_info(&self, descriptors: u64, available: u64, used: u64) -> Result<(), Error> {
        // `virtio-queue` takes an available ring at 0 for a missing one.
        if available == 0 {
            return Err(Error::InvalidAvailRingAlign);
        }
        self.state.set_queue_info(descriptors, available, used)
    }

    fn queue_next_avail(&self) -> u16 {
        self.get_ref().get_queue().next_avail()
    }

    fn set_queue_next_avail(&self, base: u16) {
        self.state.set_queue_next_avail(base);
    }

    fn set_queue_next_used(&self, index: u16) {
        self.state.set_queue_next_used(index);
    }

    fn queue_used_idx(&self) -> Result<u16, Error> {
        self.state.queue_used_idx()
    }

    fn set_queue_event_idx(&self, enabled: bool) {
        self.state.set_queue_event_idx(enabled);
    }

    fn set_queue_ready(&self, ready: bool) {
        self.state.set_queue_ready(ready);
    }

    fn set_kick(&self, file: Option<File>) {
        self.state.set_kick(file);
    }

    fn set_call(&self, file: Option<File>) {
        self.state.set_call(file);
    }

    fn set_err(&self, file: Option<File>) {
        self.state.set_err(file);
    }
}
