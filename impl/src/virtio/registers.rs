//! The registers of any virtio device: the accepted features, the device status, and the course of
//! a reset.
//!
//! The device decides which features are acceptable and when nothing is in flight, and passes that
//! in.

use crate::wire::{
    STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK, STATUS_FAILED, STATUS_FEATURES_OK,
    STATUS_NEEDS_RESET,
};

/// The status of a device that is in use.
pub(crate) const LIVE: u8 =
    STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;

/// Registers that every transport has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Registers {
    /// The features the driver accepted so far; judged at FEATURES_OK.
    accepted: u64,
    status: u8,
    /// True from the request for a reset until the status reads 0.
    resetting: bool,
    config_signal: bool,
}

impl Registers {
    /// The registers of a saved device, whose status was found valid.
    pub(crate) fn restored(accepted: u64, status: u8, config_signal: bool) -> Registers {
        Registers { accepted, status, resetting: false, config_signal }
    }

    /// The device status, as it stands.
    pub(crate) fn status(&self) -> u8 {
        self.status
    }

    /// Whether all of these status bits are set.
    pub(crate) fn has(&self, bits: u8) -> bool {
        self.status & bits == bits
    }

    /// Whether a reset was requested and has not ended.
    pub(crate) fn is_resetting(&self) -> bool {
        self.resetting
    }

    /// The features that the driver accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Notes the features the driver accepts; without effect once FEATURES_OK is set.
    pub(crate) fn accept(&mut self, features: u64) {
        if !self.has(STATUS_FEATURES_OK) {
            self.accepted = features;
        }
    }

    /// Whether writing `value` makes the device check the accepted features: DRIVER must be set
    /// already, or with the same write.
    ///
    /// # Spec
    /// ST-01, FB-02.
    pub(crate) fn asks_for_features(&self, value: u8) -> bool {
        let bits = self.status | value;
        let both = STATUS_DRIVER | STATUS_FEATURES_OK;
        !self.resetting && bits & both == both && !self.has(STATUS_FEATURES_OK)
    }

    /// Makes the accepted features the negotiated ones.
    pub(crate) fn confirm_features(&mut self) {
        self.status |= STATUS_DRIVER | STATUS_FEATURES_OK;
    }

    /// Sets status bits for the driver. FEATURES_OK is not among them, because it is
    /// [confirmed](Registers::confirm_features); DRIVER_OK is set only with it. During a reset
    /// nothing is set.
    ///
    /// # Spec
    /// ST-01, FB-03.
    pub(crate) fn set(&mut self, value: u8) {
        if self.resetting {
            return;
        }
        self.status |= value & (STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FAILED);
        if value & STATUS_DRIVER_OK != 0 && self.has(STATUS_FEATURES_OK) {
            self.status |= STATUS_DRIVER_OK;
        }
    }

    /// Begins a reset. The status reads as before until it [ends](Registers::end_reset).
    pub(crate) fn begin_reset(&mut self) {
        self.resetting = true;
        self.config_signal = false;
    }

    /// Ends the reset: nothing of the old life is in the host's hands.
    ///
    /// # Spec
    /// ST-02, ST-04, AMB-21.
    pub(crate) fn end_reset(&mut self) {
        assert!(self.resetting, "a reset that ends was begun");
        *self = Registers::default();
    }

    /// Requests a reset because a queue is broken, and notifies the driver if it is live.
    ///
    /// # Spec
    /// ST-02: DEVICE_NEEDS_RESET, and "if DRIVER_OK is set ... a configuration change
    /// notification".
    pub(crate) fn need_reset(&mut self) {
        if !self.has(STATUS_NEEDS_RESET) && !self.resetting {
            self.status |= STATUS_NEEDS_RESET;
            self.config_signal = self.has(STATUS_DRIVER_OK);
        }
    }

    /// Records a change of the configuration space; a live driver receives a notification (CF-05).
    pub(crate) fn config_changed(&mut self) {
        self.config_signal |= self.has(STATUS_DRIVER_OK) && !self.resetting;
    }

    /// Whether a configuration change notification is due.
    pub(crate) fn config_signal(&self) -> bool {
        self.config_signal
    }

    /// Whether a configuration change notification is due; clears the flag.
    pub(crate) fn take_config_signal(&mut self) -> bool {
        std::mem::take(&mut self.config_signal)
    }

    /// Asserts that the bits were set in order, and that a device in reset owes no notification.
    pub(crate) fn check(&self) {
        assert!(!self.has(STATUS_DRIVER_OK) || self.has(STATUS_FEATURES_OK), "ST-01");
        assert!(!self.has(STATUS_FEATURES_OK) || self.has(STATUS_DRIVER), "ST-01");
        assert!(!self.resetting || !self.config_signal, "a reset cancels the notification");
    }
}
