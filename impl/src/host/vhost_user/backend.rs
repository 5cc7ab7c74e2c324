//! The device as the framework sees it: features, configuration space, memory, and what to do when a descriptor is readable.
//!
//! It outlives connections: the disk stays open, and with it the failure of a sync. What belongs to one connection goes at its end.

use super::lane::{Lane, RingError, Taken};
use super::vring::Vring;
use super::{Event, Memory, QueueDisk, Report};
use crate::config::WRITEBACK_OFFSET;
use crate::host::Regions;
use crate::shared::Shared;
use crate::wakes::QueueIndex;
use rustix::event::{PollFd, PollFlags, poll};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use vhost::vhost_user::message::{VhostUserProtocolFeatures, VhostUserVirtioFeatures};
use vhost_user_backend::{VhostUserBackend, VringEpollHandler};
use vm_memory::{GuestAddressSpace, GuestMemoryAtomic, GuestMemoryMmap};
use vmm_sys_util::epoll::EventSet;

/// What the framework calls the kick of a thread's only ring.
const KICK: u16 = 0;

/// A device for one front-end after the other.
pub(super) struct Backend<D> {
    shared: Arc<Shared>,
    lanes: Vec<Lane<D>>,
    /// A front-end is connected, so rings may be served and threads go on.
    connected: AtomicBool,
    /// A cache mode that came before the features that make it count.
    early: Mutex<Option<u8>>,
    report: Report,
}

impl<D: QueueDisk> Backend<D> {
    pub(super) fn new(
        shared: Arc<Shared>,
        disks: Vec<D>,
        report: Report,
    ) -> io::Result<Backend<D>> {
        let lanes = disks
            .into_iter()
            .zip(0..)
            .map(|(disk, index)| Lane::new(QueueIndex(index), &shared, disk))
            .collect::<io::Result<_>>()?;
        Ok(Backend {
            shared,
            lanes,
            connected: AtomicBool::new(false),
            early: Mutex::new(None),
            report,
        })
    }

    pub(super) fn lanes(&self) -> &[Lane<D>] {
        &self.lanes
    }

    pub(super) fn report(&self, event: Event) {
        (self.report)(event);
    }

    /// Has the framework's threads sleep on more than kicks.
    pub(super) fn begin(
        self: &Arc<Self>,
        threads: &[Arc<VringEpollHandler<Arc<Self>>>],
    ) -> io::Result<()> {
        self.connected.store(true, Ordering::Release);
        for (lane, thread) in self.lanes.iter().zip(threads) {
            thread.register_listener(lane.bell.as_raw_fd(), EventSet::IN, self.bell().into())?;
            if let Some(fd) = lane.lock().disk.completion_fd() {
                let done = u64::from(self.bell()) + 1;
                thread.register_listener(fd.as_raw_fd(), EventSet::IN, done)?;
            }
        }
        Ok(())
    }

    /// Ends what a connection has begun: what was taken is answered, then rings, memory and features are gone. The threads end.
    pub(super) fn end(&self) {
        self.connected.store(false, Ordering::Release);
        let mut taken = self.take_all();
        self.drain(&mut taken);
        for lane in &mut taken {
            lane.stop();
            lane.memory = Memory::default();
        }
        self.forget();
    }

    /// The name of a bell; the framework has those up to the number of queues for itself.
    fn bell(&self) -> u16 {
        self.lanes.len() as u16 + 1
    }

    fn take_all(&self) -> Vec<Taken<'_, D>> {
        self.lanes.iter().map(Lane::take).collect()
    }

    fn wake(&self, queue: QueueIndex) {
        self.lanes[usize::from(queue.0)].wake();
    }

    /// Steps these lanes until nothing is in flight in any of them. Others go on by themselves, for these may wait for them.
    fn drain(&self, taken: &mut [Taken<'_, D>]) {
        loop {
            for lane in taken.iter_mut() {
                lane.settle(|queue| self.wake(queue));
            }
            if taken.iter().all(|lane| lane.in_flight() == 0) {
                return;
            }
            if !taken.iter().any(|lane| lane.lane().is_woken()) {
                sleep(taken);
            }
        }
    }

    /// Ends a life of the device: nothing is negotiated any more.
    fn forget(&self) {
        self.shared.forget_negotiation();
        *crate::sync::lock(&self.early) = None;
    }

    fn refuse(&self, queue: usize, why: RingError) {
        self.report(Event::Ring(QueueIndex(queue as u16), why));
    }
}

/// Waits until something may have come for one of these lanes.
fn sleep<D: QueueDisk>(taken: &[Taken<'_, D>]) {
    let bells = taken.iter().map(|lane| {
        // SAFETY: the lane, and the bell in it, is borrowed for longer than this call.
        unsafe { BorrowedFd::borrow_raw(lane.lane().bell.as_raw_fd()) }
    });
    let completions = taken.iter().filter_map(|lane| lane.disk.completion_fd());
    let fds: Vec<BorrowedFd<'_>> = bells.chain(completions).collect();
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    // It fails only when a signal came, and then the lanes are looked at once more.
    let _ = poll(&mut polled, None);
    for lane in taken {
        lane.lane().quiet_bell();
    }
}

impl<D: QueueDisk> VhostUserBackend for Backend<D> {
    type Bitmap = ();
    type Vring = Vring;

    fn num_queues(&self) -> usize {
        self.lanes.len()
    }

    fn max_queue_size(&self) -> usize {
        self.shared.config().queue_size.into()
    }

    fn queues_per_thread(&self) -> Vec<u64> {
        (0..self.lanes.len()).map(|index| 1 << index).collect()
    }

    fn features(&self) -> u64 {
        self.shared.offered() | PROTOCOL_FEATURES
    }

    fn protocol_features(&self) -> VhostUserProtocolFeatures {
        VhostUserProtocolFeatures::CONFIG
            | VhostUserProtocolFeatures::REPLY_ACK
            | VhostUserProtocolFeatures::MQ
            | VhostUserProtocolFeatures::CONFIGURE_MEM_SLOTS
            | VhostUserProtocolFeatures::RESET_DEVICE
    }

    /// With rings being served this changes nothing. With none it begins a life of the device, unless the features are those it has: a guest
    /// that was paused goes on, and the cache mode it chose holds.
    fn acked_features(&self, features: u64) {
        let features = features & !PROTOCOL_FEATURES;
        if features == self.shared.negotiated() {
            return;
        }
        if self.lanes.iter().any(|lane| lane.take().is_serving()) {
            return self.report(Event::LateFeatures(features));
        }
        self.shared.forget_negotiation();
        if let Err(refused) = self.shared.negotiate(features) {
            return self.report(Event::Features(refused));
        }
        if let Some(mode) = crate::sync::lock(&self.early).take() {
            self.shared.config_write(WRITEBACK_OFFSET, &[mode]);
        }
    }

    fn reset_device(&self) {
        let mut taken = self.take_all();
        for lane in &mut taken {
            lane.abandon();
        }
        self.drain(&mut taken);
        for lane in &mut taken {
            lane.stop();
        }
        self.forget();
    }

    fn set_event_idx(&self, _enabled: bool) {
        // A ring takes this from the negotiated features when it is started.
    }

    fn get_config(&self, offset: u32, size: u32) -> Vec<u8> {
        let mut bytes = vec![0; size as usize];
        self.shared.config_read(offset.into(), &mut bytes);
        bytes
    }

    fn set_config(&self, offset: u32, bytes: &[u8]) -> io::Result<()> {
        match bytes {
            // A front-end passes on at once what the driver writes, but its features only when the driver is ready.
            &[mode] if u64::from(offset) == WRITEBACK_OFFSET && self.shared.negotiated() == 0 => {
                *crate::sync::lock(&self.early) = Some(mode);
            }
            _ => self.shared.config_write(offset.into(), bytes),
        }
        Ok(())
    }

    /// Lanes are given the new table before the front-end is told that it counts: what a driver puts on a ring afterwards lies in it.
    fn update_memory(&self, memory: GuestMemoryAtomic<GuestMemoryMmap>) -> io::Result<()> {
        let table = Regions::try_from(&*memory.memory())?;
        for lane in &self.lanes {
            lane.take().memory = Memory::from(Arc::new(table.clone()));
        }
        Ok(())
    }

    fn stop_vring(&self, index: u32) -> io::Result<()> {
        let mut taken = [self.lanes[index as usize].take()];
        self.drain(&mut taken);
        let [lane] = &mut taken;
        lane.stop();
        Ok(())
    }

    fn handle_event(
        &self,
        event: u16,
        _set: EventSet,
        vrings: &[Vring],
        thread: usize,
    ) -> io::Result<()> {
        let lane = &self.lanes[thread];
        let mut state = lane.lock();
        if !self.connected.load(Ordering::Acquire) {
            // The framework has no way to end a thread that costs no descriptor; an error does.
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if event == KICK && vrings[0].has_dead_kick() {
            // A ring of the host may cancel what a thread that ends has given it.
            drop(state);
            self.drain(&mut [lane.take()]);
            self.refuse(thread, RingError::Kick);
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if event == KICK {
            state.kick();
        } else if event == self.bell() {
            lane.quiet_bell();
        }
        if let Err(why) = state.start(&vrings[0], &self.shared) {
            self.refuse(thread, why);
        }
        if let Some(why) = lane.run(&mut state, |queue| self.wake(queue)) {
            self.refuse(thread, why);
        }
        Ok(())
    }
}

const PROTOCOL_FEATURES: u64 = VhostUserVirtioFeatures::PROTOCOL_FEATURES.bits();
