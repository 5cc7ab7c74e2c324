//! The reasons for which a ring is not served.

use crate::inflight::InflightError;
use std::fmt;

/// The reason why a ring is not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RingError {
    /// Its size is not a power of two, or exceeds the server's maximum.
    Size {
        /// In descriptors.
        size: u16,
        /// The server's maximum.
        most: u16,
    },
    /// The driver's features were not accepted, or none were set.
    Features,
    /// A part of it is outside guest memory.
    Memory,
    /// Its content is invalid; it is not served until it is set up again.
    Broken,
    /// Its kick is no eventfd.
    Kick,
    /// Its in-flight record cannot be continued.
    Record(InflightError),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RingError::Record(error) => return error.fmt(f),
            RingError::Size { size, most } => {
                return write!(f, "its size is {size}, and it must be a power of two up to {most}");
            }
            RingError::Features => "no features were negotiated for it",
            RingError::Memory => "it is not in the memory that the front-end shares",
            RingError::Broken => "its content is invalid",
            RingError::Kick => "its kick is not an event descriptor",
        })
    }
}
