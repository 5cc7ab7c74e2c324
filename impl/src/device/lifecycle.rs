//! The VMM lifecycle, which the driver does not see: pause, save, restore and resize; and the reset
//! of one queue, which the driver requests.
//!
//! A *paused* device takes no requests from its rings. Requests it has taken continue, and the
//! device is *drained* once they have ended. Kicks that come meanwhile are remembered. A drained
//! device is *saved* in two steps, because data that completed may be volatile:
//! [`begin_save`](Device::begin_save) requests a sync, which goes through the flush group and to
//! the disk like any other; once it has ended, [`save`](Device::save) returns the state. A saved
//! state therefore never carries volatile writes. If the sync fails, the save fails too, and its
//! error carries the state of a device that has failed.

use super::{Device, QueueAndRing};
use crate::config::{Config, ConfigError};
use crate::disk::Limits;
use crate::queue::OwnSync;
use crate::shared::ResizeError;
use crate::state::{DeviceState, RingState};
use crate::virtio::{LIVE, Parts, QueueError, QueueLayout, RegisterSurface, Registers};
use crate::wire::{
    F_EVENT_IDX, F_RING_RESET, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FAILED, STATUS_FEATURES_OK,
    STATUS_NEEDS_RESET,
};
use std::fmt;

/// The reason why a device cannot be saved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SaveError {
    /// It is not paused.
    NotPaused,
    /// It is not drained: requests were taken and not answered, or a reset is in progress.
    Busy,
    /// No sync was requested since the pause, or the sync has not ended.
    NotSynced,
    /// A sync has failed, now or earlier, so completed writes may be volatile. A device restored
    /// from this state has the failure recorded.
    NotStable(Box<DeviceState>),
}

impl fmt::Display for SaveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SaveError::NotPaused => "the device is not paused",
            SaveError::Busy => "the device is not drained",
            SaveError::NotSynced => "the device was not synced",
            SaveError::NotStable(_) => "a sync has failed: what completed may be volatile",
        })
    }
}

impl std::error::Error for SaveError {}

/// The reason why no device can continue from a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestoreError {
    /// No device can be created with this configuration.
    Config(ConfigError),
    /// The saved device and this one differ in these offered features.
    Offer(u64),
    /// The saved device had this number of queues.
    Queues(usize),
    /// The queues of the saved device had up to this number of descriptors.
    QueueSize(u16),
    /// The saved device had this number of bytes: more than the disk has, or not a whole number of
    /// granules.
    Capacity(u64),
    /// This part of the state is impossible in any device.
    Invalid(&'static str),
    /// A queue has an impossible layout.
    Queue(QueueError),
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Config(error) => error.fmt(f),
            RestoreError::Offer(bits) => {
                write!(f, "the saved device differs in the offered features {bits:#x}")
            }
            RestoreError::Queues(queues) => write!(f, "the saved device has {queues} queues"),
            RestoreError::QueueSize(size) => {
                write!(f, "the saved device has queues of up to {size} descriptors")
            }
            RestoreError::Capacity(bytes) => {
                write!(f, "the saved device has {bytes} bytes, and the disk does not")
            }
            RestoreError::Invalid(what) => write!(f, "the saved {what} is invalid"),
            RestoreError::Queue(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

impl Device {
    /// Stops taking requests from the rings; requests that were taken continue. The pause is
    /// complete when the device [is drained](Device::is_drained).
    pub fn pause(&mut self) {
        self.paused = true;
        for lane in &mut self.queues {
            lane.block.pause();
        }
    }

    /// Ends a pause, whether the device was saved or not. The caller must step every queue, because
    /// kicks may have come.
    ///
    /// A save in progress is forgotten; its sync, if it is in the host's hands, comes back like any
    /// other.
    pub fn resume(&mut self) {
        self.paused = false;
        for lane in &mut self.queues {
            lane.block.resume();
        }
    }

    /// Stops the rings of a drained device and starts them again at the same positions, as a
    /// vhost-user front-end does that reads their base (GET_VRING_BASE) and sets it. The device is
    /// no longer paused. In-flight records must be supplied again.
    ///
    /// # Panics
    /// If the device is not drained.
    pub fn restart_rings(&mut self) {
        assert!(self.is_drained(), "a ring is stopped when everything that was taken is answered");
        for lane in &mut self.queues {
            // The driver may be owed a signal, which the ring does not record.
            let signal = lane.block.poll_signal();
            lane.block.stop();
            lane.block.restart();
            lane.block.go_on(false, signal);
        }
        self.resume();
    }

    /// Detaches the front-end: nothing more is answered, and the requests in flight stay on the
    /// records. The caller must step every queue until nothing is in the host's hands; then the
    /// device [is left](Device::is_left). A pause ends too.
    pub fn leave(&mut self) {
        self.resume();
        for lane in &mut self.queues {
            lane.block.leave();
        }
        self.begin_reset();
        self.catch_up();
    }

    /// Whether the front-end has left and nothing is in the host's hands. The device is then in its
    /// reset state, on the same open disk. The next front-end may be the same one with its records,
    /// and an earlier failed sync still counts for it.
    pub fn is_left(&mut self) -> bool {
        self.status() == 0
    }

    /// Whether it was paused and not resumed.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Whether it is paused and every request it had taken has ended.
    pub fn is_drained(&mut self) -> bool {
        self.catch_up();
        let quiet = |lane: &QueueAndRing| lane.block.is_drained() && !lane.resetting;
        self.paused && !self.registers.is_resetting() && self.queues.iter().all(quiet)
    }

    /// Requests a sync that makes all completed data stable: queue 0 hands it to its lane of the
    /// disk when it is stepped.
    ///
    /// # Errors
    /// The device is not paused, or not drained.
    pub fn begin_save(&mut self) -> Result<(), SaveError> {
        self.may_save()?;
        self.queues[0].block.sync();
        Ok(())
    }

    /// The state of the device, once the sync requested by [`begin_save`](Device::begin_save) has
    /// ended. The device stays paused.
    ///
    /// # Errors
    /// [`SaveError::Busy`] while the sync runs. [`SaveError::NotStable`] if the sync, or an earlier
    /// one, has failed.
    pub fn save(&mut self) -> Result<DeviceState, SaveError> {
        self.may_save()?;
        match self.queues[0].block.own_sync() {
            OwnSync::Ended { made_stable } if made_stable && !self.shared.sync_failed() => {
                Ok(self.state())
            }
            OwnSync::Ended { .. } => Err(SaveError::NotStable(Box::new(self.state()))),
            OwnSync::None | OwnSync::Wanted | OwnSync::Runs => Err(SaveError::NotSynced),
        }
    }

    fn may_save(&mut self) -> Result<(), SaveError> {
        if !self.paused {
            return Err(SaveError::NotPaused);
        }
        if self.is_drained() { Ok(()) } else { Err(SaveError::Busy) }
    }

    fn state(&self) -> DeviceState {
        let shared = &self.shared;
        DeviceState {
            offered: shared.offered(),
            accepted: self.registers.accepted(),
            negotiated: shared.negotiated(),
            status: self.registers.status(),
            writeback: shared.writeback() == 1,
            generation: shared.generation(),
            capacity: shared.capacity(),
            config_signal: self.registers.config_signal(),
            failed: shared.sync_failed(),
            max_queue_size: shared.config().queue_size,
            queues: self.queues.iter().map(QueueAndRing::state).collect(),
        }
    }

    /// A device that continues where a saved one stopped, over the same disk or one with the same
    /// content. It is not paused.
    ///
    /// The caller must step every queue: each polls its ring as if kicked and signals its driver,
    /// because the saved device may have owed either.
    ///
    /// # Errors
    /// The state is impossible for a device of this configuration over this disk. A disk that has
    /// grown is accepted: the driver is shown the old capacity until the device [is
    /// resized](Device::resize).
    pub fn restore(
        config: Config,
        limits: Limits,
        state: &DeviceState,
    ) -> Result<Device, RestoreError> {
        let mut device = Device::new(config, limits).map_err(RestoreError::Config)?;
        let differing = device.offered() ^ state.offered;
        if differing != 0 {
            return Err(RestoreError::Offer(differing));
        }
        if state.queues.len() != device.queues.len() {
            return Err(RestoreError::Queues(state.queues.len()));
        }
        if state.max_queue_size != device.shared.config().queue_size {
            return Err(RestoreError::QueueSize(state.max_queue_size));
        }
        let whole = state.capacity.is_multiple_of(u64::from(limits.granule));
        if state.capacity > limits.capacity || !whole {
            return Err(RestoreError::Capacity(state.capacity));
        }
        device.adopt(state)?;
        Ok(device)
    }

    fn adopt(&mut self, state: &DeviceState) -> Result<(), RestoreError> {
        let known = LIVE | STATUS_FAILED | STATUS_NEEDS_RESET;
        let has = |bits: u8| state.status & bits == bits;
        let in_order = (!has(STATUS_DRIVER_OK) || has(STATUS_FEATURES_OK))
            && (!has(STATUS_FEATURES_OK) || has(STATUS_DRIVER));
        if state.status & !known != 0 || !in_order {
            return Err(RestoreError::Invalid("device status"));
        }
        if has(STATUS_FEATURES_OK) {
            let accepted = state.negotiated == state.accepted;
            if !accepted || self.shared.negotiate(state.negotiated).is_err() {
                return Err(RestoreError::Invalid("negotiation"));
            }
        } else if state.negotiated != 0 {
            return Err(RestoreError::Invalid("negotiation"));
        }
        self.shared.adopt(state);
        self.registers = Registers::restored(state.accepted, state.status, state.config_signal);
        let event_idx = state.negotiated & F_EVENT_IDX != 0;
        for (lane, ring) in self.queues.iter_mut().zip(&state.queues) {
            if !ring.ready {
                continue;
            }
            if !has(STATUS_FEATURES_OK) {
                return Err(RestoreError::Invalid("queue before FEATURES_OK"));
            }
            let layout = QueueLayout {
                size: ring.size,
                descriptors: ring.descriptors,
                available: ring.available,
                used: ring.used,
            };
            lane.ring.place(layout).map_err(RestoreError::Queue)?;
            lane.ring.set_event_idx(event_idx);
            lane.ring.set_position(ring.next_avail, ring.next_used);
            lane.block.go_on(ring.broken, has(STATUS_DRIVER_OK));
        }
        Ok(())
    }

    /// Shows the driver a disk of `capacity` bytes, which the disk must already have. Requests that
    /// were taken keep the size against which they were checked; later requests use the new one.
    ///
    /// # Errors
    /// The new size is smaller, which would remove sectors from requests that were accepted, or not
    /// a whole number of granules. Nothing changes then.
    ///
    /// # Spec
    /// CF-02: "MUST change config_generation"; CF-05: a live driver receives a configuration change
    /// notification.
    pub fn resize(&mut self, capacity: u64) -> Result<(), ResizeError> {
        if self.shared.grow(capacity)? {
            self.registers.config_changed();
        }
        Ok(())
    }

    /// Begins the reset of one queue, which the driver requests (2.6.1): its requests end
    /// unanswered, and the queue may be placed again once
    /// [`is_queue_resetting`](Device::is_queue_resetting) returns `false`. The other queues
    /// continue.
    ///
    /// # Errors
    /// RING_RESET was not negotiated, there is no such queue, or it is not in use.
    pub fn reset_queue(&mut self, index: u16) -> Result<(), QueueError> {
        self.catch_up();
        if !self.registers.has(STATUS_DRIVER_OK)
            || self.registers.is_resetting()
            || self.negotiated() & F_RING_RESET == 0
        {
            return Err(QueueError::NotNow);
        }
        let lane = self.queues.get_mut(usize::from(index)).ok_or(QueueError::NoSuchQueue)?;
        if !lane.ring.is_ready() {
            return Err(QueueError::NotNow);
        }
        lane.resetting = true;
        lane.block.stop();
        self.catch_up();
        Ok(())
    }

    /// Whether the reset of a queue was requested and has not ended: an operation is in the host's
    /// hands, or another queue must still be woken.
    pub fn is_queue_resetting(&mut self, index: u16) -> bool {
        self.catch_up();
        self.queues.get(usize::from(index)).is_some_and(|lane| lane.resetting)
    }
}

impl QueueAndRing {
    fn state(&self) -> RingState {
        let QueueLayout { size, descriptors, available, used } = self.ring.layout();
        let (next_avail, next_used) = self.ring.position();
        RingState {
            ready: self.ring.is_ready(),
            broken: self.block.is_broken(),
            size,
            next_avail,
            next_used,
            descriptors,
            available,
            used,
        }
    }
}
