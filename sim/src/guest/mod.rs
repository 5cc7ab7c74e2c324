//! The guest: one driver per queue, which follows the specification.
//!
//! A driver lays requests out in guest memory in every legal way, publishes them, and kicks the
//! device unless the kick is suppressed. It checks every used element: guard bytes surround every
//! byte that the device may write, the status byte is poisoned, and a signal is due whenever the
//! used index passes the event. It also sends malformed chains, of kinds whose answer the
//! specification (or a decision on its gaps) fixes.
//!
//! Not here: the meaning of an answer, which the oracle judges.

mod alter;
mod altered;
mod form;
mod kind;
mod layout;
pub mod memory;
mod outcome;
pub mod payload;
mod queue;
mod request;
mod request_kinds;
mod ring;
mod slots;
pub mod wire;

pub use alter::{Change, Moment};
pub use kind::{Kind, REGION};
pub use layout::{Cut, Layout};
pub(crate) use memory::Edit;
pub use memory::MEMORY;
pub use outcome::{Breach, Done};
pub use queue::{Limits, QueueDriver, Shape};
pub use request::{GuestRequest, MAX_SECTORS, MAX_SEGMENTS, MAX_WORDS, Malformation, Segments};
pub use request_kinds::RangeKind;
pub use ring::{MAX_RING, Ring, RingPlan};
