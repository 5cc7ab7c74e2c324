//! The offered and the negotiated features, and the generation of the configuration space: the
//! shared state that every kind of device has.

use crate::sync::{AtomicU32, AtomicU64, DeepCopy, Ordering};
use crate::wire::F_VERSION_1;
use std::fmt;

/// The reason why negotiation failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The driver accepted these bits, which were not offered.
    NotOffered(u64),
    /// The driver is a legacy one.
    NotVersion1,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NotOffered(bits) => write!(f, "feature bits {bits:#x} were not offered"),
            Refused::NotVersion1 => write!(f, "VERSION_1 was not accepted"),
        }
    }
}

impl std::error::Error for Refused {}

/// Shared state of a device that includes its negotiation.
pub(crate) trait Negotiates {
    fn negotiation(&self) -> &Negotiation;

    /// Makes these the negotiated features if they are acceptable; returns whether they are.
    fn accepts(&self, features: u64) -> bool;
}

/// The features of a device, and the number of changes of its configuration space.
#[derive(Clone, Debug)]
pub(crate) struct Negotiation {
    offered: u64,
    /// 0 until negotiation is over.
    negotiated: DeepCopy<AtomicU64>,
    /// Counts changes of the configuration space, starting at 0 and wrapping.
    generation: DeepCopy<AtomicU32>,
}

impl Negotiation {
    /// A device that offers these features and has negotiated none.
    pub(crate) fn new(offered: u64) -> Negotiation {
        Negotiation {
            offered,
            negotiated: DeepCopy(AtomicU64::new(0)),
            generation: DeepCopy(AtomicU32::new(0)),
        }
    }

    pub(crate) fn offered(&self) -> u64 {
        self.offered
    }

    pub(crate) fn negotiated(&self) -> u64 {
        self.negotiated.load(Ordering::Acquire)
    }

    /// Checks whether a driver may accept these features.
    ///
    /// # Errors
    /// A bit was accepted that was not offered, or VERSION_1 was not.
    ///
    /// # Spec
    /// FB-02, FB-04, FB-05.
    pub(crate) fn judge(&self, features: u64) -> Result<(), Refused> {
        let unoffered = features & !self.offered;
        if unoffered != 0 {
            return Err(Refused::NotOffered(unoffered));
        }
        if features & F_VERSION_1 == 0 {
            return Err(Refused::NotVersion1);
        }
        Ok(())
    }

    /// Sets the negotiated features, 0 for none; returns the previous ones.
    pub(crate) fn set(&self, features: u64) -> u64 {
        self.negotiated.swap(features, Ordering::AcqRel)
    }

    pub(crate) fn generation(&self) -> u32 {
        self.generation.load(Ordering::Acquire)
    }

    /// Counts a change of the configuration space (CF-02, CF-03).
    pub(crate) fn config_changed(&self) {
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Continues from the generation of a saved device.
    pub(crate) fn set_generation(&self, generation: u32) {
        self.generation.store(generation, Ordering::Release);
    }
}

/// Reads a configuration space from `offset` on; bytes past its end are zero.
pub(crate) fn read_space(space: &[u8], offset: u64, out: &mut [u8]) {
    let from = usize::try_from(offset).map_or(space.len(), |offset| offset.min(space.len()));
    let inside = &space[from..];
    let (meant, beyond) = out.split_at_mut(inside.len().min(out.len()));
    meant.copy_from_slice(&inside[..meant.len()]);
    beyond.fill(0);
}
