//! What a backend offers.

use super::messages::{PROTOCOL_FEATURES, protocol};
use super::preset::{Backend, Preset};
use super::running::Running;
use crate::dut::ALL_FEATURES;
use crate::guest::wire::{config, feature};

/// What a backend offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The features that a driver is shown.
    pub shown: u64,
    /// The other features.
    pub kept_back: u64,
    /// Whether the cache mode reads write-back before there is a driver.
    pub writeback: bool,
    /// The features of the protocol.
    protocol: u64,
}

impl Offer {
    /// The features of the protocol that the front-end knows, each with whether it is offered, and
    /// so used.
    pub fn protocol(&self) -> impl Iterator<Item = (&'static str, bool)> + '_ {
        let names = [
            (protocol::MQ, "MQ"),
            (protocol::REPLY_ACK, "REPLY_ACK"),
            (protocol::CONFIG, "CONFIG"),
            (protocol::RESET_DEVICE, "RESET_DEVICE"),
        ];
        names.into_iter().map(|(bit, name)| (name, self.protocol & bit != 0))
    }
}

/// The features that a front-end shows to its driver: those that it knows, except for what a preset
/// hides.
pub(super) fn shown(preset: &Preset, features: u64) -> u64 {
    features & (ALL_FEATURES | feature::RO) & !preset.hidden()
}

/// Starts a backend once, on an empty disk, and returns what it offers.
///
/// # Errors
/// One line: it does not start, does not listen, or does not speak vhost-user.
pub fn probe(backend: &Backend) -> Result<Offer, String> {
    let image = [0; 1 << 15];
    let mut running = Running::start(&backend.0, &image)?;
    let space = running.config(&image);
    let space = space.map_err(|e| format!("it does not show its configuration space: {e}"))?;
    let writeback = space.get(config::WRITEBACK as usize).is_some_and(|byte| *byte != 0);
    let shown = shown(&backend.0, running.features);
    let kept_back = running.features & !shown & !PROTOCOL_FEATURES;
    Ok(Offer { shown, kept_back, writeback, protocol: running.protocol })
}
