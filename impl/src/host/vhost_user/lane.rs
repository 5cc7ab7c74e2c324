//! One request queue with its ring, its lane of the disk and its view of guest memory.
//!
//! Whoever holds the lock of a lane may step it. That is the queue's own thread, woken by a kick, a completion or the bell, and it steps
//! until nothing moves. The control thread takes the lane away from it for a moment, to swap memory, to drain or to reset: it says so with
//! `wanted`, which the other sees between any two steps, and rings the bell when it is done.

use super::vring::Vring;
use super::{Memory, QueueDisk};
use crate::crank::{Step, settle, step};
use crate::queue::BlockQueue;
use crate::shared::Shared;
use crate::wakes::QueueIndex;
use crate::wire::F_EVENT_IDX;
use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use vhost_user_backend::VringT;
use virtio_queue::{Queue, QueueT};
use vmm_sys_util::eventfd::{EFD_CLOEXEC, EFD_NONBLOCK, EventFd};

/// Why a ring is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// Its size is not a power of two.
    Size,
    /// The driver's features were not accepted, or there were none.
    Features,
    /// A part of it lies in no region of guest memory.
    Memory,
    /// What is on it makes no sense; it is not served until it is set up again.
    Broken,
    /// Its kick is no eventfd.
    Kick,
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RingError::Size => "its size is not a power of two",
            RingError::Features => "no features were negotiated for it",
            RingError::Memory => "it is not in the memory that the front-end shares",
            RingError::Broken => "what is on it makes no sense",
            RingError::Kick => "its kick is not an event descriptor",
        })
    }
}

/// A queue, and who may step it.
#[derive(Debug)]
pub(super) struct Lane<D> {
    /// Wakes the thread of this queue.
    pub(super) bell: EventFd,
    /// Another queue moved what this one waits for.
    woken: AtomicBool,
    /// How many wait to take this lane from the thread that steps it.
    wanted: AtomicU32,
    state: Mutex<State<D>>,
}

#[derive(Debug)]
pub(super) struct State<D> {
    block: BlockQueue,
    pub(super) disk: D,
    pub(super) memory: Memory,
    ring: Option<Ring>,
    /// Something was said about this ring already, and it will not be served.
    refused: bool,
}

/// A ring that is served: the copy of the transport's that moves, and the transport's.
struct Ring {
    queue: Queue,
    vring: Vring,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.queue.fmt(f)
    }
}

impl<D: QueueDisk> Lane<D> {
    pub(super) fn new(index: QueueIndex, shared: &Arc<Shared>, disk: D) -> io::Result<Lane<D>> {
        let size = shared.config().queue_size;
        let state = State {
            block: BlockQueue::new(index, Arc::clone(shared), size),
            disk,
            memory: Memory::default(),
            ring: None,
            refused: false,
        };
        Ok(Lane {
            bell: EventFd::new(EFD_NONBLOCK | EFD_CLOEXEC)?,
            woken: AtomicBool::new(false),
            wanted: AtomicU32::new(0),
            state: Mutex::new(state),
        })
    }

    /// Another queue moved what this one waits for.
    pub(super) fn wake(&self) {
        // Released to whoever takes the mark: what was moved is seen then.
        self.woken.store(true, Ordering::Release);
        self.ring_bell();
    }

    pub(super) fn ring_bell(&self) {
        // It fails only when the bell rings already.
        let _ = self.bell.write(1);
    }

    pub(super) fn quiet_bell(&self) {
        // It fails only when the bell does not ring.
        let _ = self.bell.read();
    }

    pub(super) fn is_woken(&self) -> bool {
        self.woken.load(Ordering::Acquire)
    }

    /// The lane, for the thread of this queue.
    pub(super) fn lock(&self) -> MutexGuard<'_, State<D>> {
        crate::sync::lock(&self.state)
    }

    /// The lane, taken from the thread of this queue.
    pub(super) fn take(&self) -> Taken<'_, D> {
        self.wanted.fetch_add(1, Ordering::AcqRel);
        Taken { lane: self, state: self.lock() }
    }

    /// Steps until nothing moves, or somebody wants the lane.
    pub(super) fn run(&self, state: &mut State<D>, wake: impl Fn(QueueIndex)) -> Option<RingError> {
        let State { block, disk, memory, ring, refused } = state;
        let Ring { queue, vring } = ring.as_mut()?;
        while self.wanted.load(Ordering::Acquire) == 0 {
            if self.woken.swap(false, Ordering::AcqRel) {
                block.handle_wake(queue, memory);
            }
            let enabled = vring.enabled();
            let stepped = if enabled { step } else { settle }(block, queue, disk, memory);
            match stepped {
                Step::Completed | Step::Submitted | Step::Ring => {}
                Step::Wake(other) => wake(other),
                Step::Signal => vring.signal(),
                Step::Idle => break,
            }
        }
        let newly_broken = block.is_broken() && !*refused;
        *refused |= newly_broken;
        newly_broken.then_some(RingError::Broken)
    }
}

impl<D: QueueDisk> State<D> {
    /// The driver kicked, or the ring was enabled.
    pub(super) fn kick(&mut self) {
        self.block.handle_kick();
    }

    /// Begins to serve `vring`, if that is not done already and the front-end has set it up.
    pub(super) fn start(&mut self, vring: &Vring, shared: &Shared) -> Result<(), RingError> {
        if self.ring.is_some() || self.refused || !vring.enabled() {
            return Ok(());
        }
        let state = vring.get_ref();
        if !state.get_queue().ready() {
            return Ok(());
        }
        let queue = self.judge(vring, state.get_queue(), shared);
        drop(state);
        self.refused = queue.is_err();
        self.ring = Some(Ring { queue: queue?, vring: vring.clone() });
        Ok(())
    }

    /// A copy of `queue` that goes on where the driver last saw an answer.
    fn judge(&self, vring: &Vring, queue: &Queue, shared: &Shared) -> Result<Queue, RingError> {
        if vring.has_odd_size() {
            return Err(RingError::Size);
        }
        let features = shared.negotiated();
        if features == 0 {
            return Err(RingError::Features);
        }
        let mut queue = Queue::try_from(queue.state()).map_err(|_| RingError::Size)?;
        if !queue.is_valid(&self.memory) {
            return Err(RingError::Memory);
        }
        let used = queue.used_idx(&self.memory, Ordering::Acquire);
        queue.set_next_used(used.map_err(|_| RingError::Memory)?.0);
        queue.set_event_idx(features & F_EVENT_IDX != 0);
        Ok(queue)
    }

    pub(super) fn is_serving(&self) -> bool {
        self.ring.is_some()
    }

    /// Number of requests that were taken and not answered.
    pub(super) fn in_flight(&self) -> usize {
        self.block.in_flight()
    }

    /// Abandons what is not in the host's hands; nothing is answered from here on.
    pub(super) fn abandon(&mut self) {
        self.block.stop();
    }
}

/// A lane that was taken from its thread, until this is dropped.
pub(super) struct Taken<'a, D> {
    lane: &'a Lane<D>,
    state: MutexGuard<'a, State<D>>,
}

impl<D: QueueDisk> Taken<'_, D> {
    pub(super) fn lane(&self) -> &Lane<D> {
        self.lane
    }

    /// Steps what is in flight until nothing moves; takes nothing from the ring.
    pub(super) fn settle(&mut self, wake: impl Fn(QueueIndex)) {
        let State { block, disk, memory, ring, .. } = &mut *self.state;
        let Some(Ring { queue, vring }) = ring else { return };
        loop {
            if self.lane.woken.swap(false, Ordering::AcqRel) {
                block.handle_wake(queue, memory);
            }
            match settle(block, queue, disk, memory) {
                Step::Completed | Step::Submitted | Step::Ring => {}
                Step::Wake(other) => wake(other),
                Step::Signal => vring.signal(),
                Step::Idle => return,
            }
        }
    }

    /// Serves the ring no more. The transport's copy says where the driver goes on.
    ///
    /// # Panics
    /// If something is in flight.
    pub(super) fn stop(&mut self) {
        self.block.stop();
        self.block.restart();
        self.refused = false;
        if let Some(Ring { queue, vring }) = self.ring.take() {
            vring.set_queue_next_avail(queue.next_avail());
            vring.set_queue_next_used(queue.next_used());
        }
    }
}

impl<D> Deref for Taken<'_, D> {
    type Target = State<D>;

    fn deref(&self) -> &State<D> {
        &self.state
    }
}

impl<D> DerefMut for Taken<'_, D> {
    fn deref_mut(&mut self) -> &mut State<D> {
        &mut self.state
    }
}

impl<D> Drop for Taken<'_, D> {
    fn drop(&mut self) {
        self.lane.wanted.fetch_sub(1, Ordering::AcqRel);
        // Its thread stopped in the middle of things and has to look again; it waits for the lock if it comes too early.
        let _ = self.lane.bell.write(1);
    }
}
