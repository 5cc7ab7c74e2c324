//! Parts of any virtio device over split rings: registers, the ring, a queue's end of it, and
//! negotiation.
//!
//! The block device and the persistent memory are built from these; a further device, or another
//! layout of the ring, needs no change in either.

mod front;
mod negotiation;
mod registers;
mod ring;
mod surface;

pub(crate) use front::{RingFront, Taken};
pub use negotiation::Refused;
pub(crate) use negotiation::{Negotiates, Negotiation, read_space};
pub(crate) use registers::{LIVE, Registers};
pub(crate) use ring::Descriptor;
pub use ring::{QueueError, QueueLayout, Ring};
pub(crate) use surface::Parts;
pub use surface::RegisterSurface;
