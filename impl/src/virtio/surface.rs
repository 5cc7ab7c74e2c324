//! The registers as a transport accesses them, the same for every kind of device.

use super::{Negotiates, Registers};

/// The parts of a device behind its registers.
pub(crate) trait Parts {
    type Shared: Negotiates;

    fn shared(&self) -> &Self::Shared;

    fn registers(&self) -> &Registers;

    fn registers_mut(&mut self) -> &mut Registers;

    /// Stops the queues and begins the reset in the registers.
    fn begin_reset(&mut self);

    /// Applies the changes in the queues since the last access to a register.
    fn catch_up(&mut self);
}

/// The registers of a virtio device that every transport shows. Configuration space and queues are
/// specific to each device.
#[expect(private_bounds, reason = "devices of other crates have registers of their own")]
pub trait RegisterSurface: Parts {
    /// The offered features.
    fn offered(&self) -> u64 {
        Parts::shared(self).negotiation().offered()
    }

    /// Notes the features the driver accepts; without effect once FEATURES_OK is set.
    fn set_driver_features(&mut self, features: u64) {
        self.registers_mut().accept(features);
    }

    /// The negotiated features; 0 before FEATURES_OK.
    fn negotiated(&self) -> u64 {
        Parts::shared(self).negotiation().negotiated()
    }

    /// The device status. After a reset it reads 0 only once no operation of the old life is in the
    /// host's hands.
    ///
    /// # Spec
    /// ST-02, ST-04, AMB-21.
    fn status(&mut self) -> u8 {
        self.catch_up();
        self.registers().status()
    }

    /// The driver writes the status: 0 requests a reset, any other value sets bits.
    ///
    /// FEATURES_OK stays clear if the features were not acceptable, and DRIVER_OK without
    /// FEATURES_OK. During a reset only another 0 has an effect.
    ///
    /// # Spec
    /// ST-01, FB-02, FB-03.
    fn set_status(&mut self, value: u8) {
        self.catch_up();
        if value == 0 {
            self.begin_reset();
            self.catch_up();
            return;
        }
        if self.registers().asks_for_features(value)
            && Parts::shared(self).accepts(self.registers().accepted())
        {
            self.registers_mut().confirm_features();
        }
        self.registers_mut().set(value);
    }

    /// The generation of the configuration space: it changes whenever the content may have changed
    /// (CF-02, CF-03).
    fn config_generation(&self) -> u32 {
        Parts::shared(self).negotiation().generation()
    }

    /// Whether a configuration change notification is due; clears the flag.
    fn take_config_signal(&mut self) -> bool {
        self.catch_up();
        self.registers_mut().take_config_signal()
    }
}

impl<D: Parts> RegisterSurface for D {}
