//! The guest: one driver per queue, by the book.
//!
//! It lays requests out in guest memory in every legal way, publishes them, kicks when the device
//! asks for it, and looks at what comes back with suspicion: guards around every byte the device
//! may write, a poisoned status byte, a signal owed whenever the used index passes the event. It
//! also breaks the rules on purpose, in ways whose answer the standard (or our policy) fixes.
//!
//! Not here: what an answer *means*. That is the oracle's business.

mod ask;
mod form;
mod kind;
mod layout;
pub mod memory;
mod outcome;
pub mod payload;
mod queue;
mod ring;
mod slots;
pub mod wire;

pub use ask::{Ask, MAX_SECTORS, MAX_SEGMENTS, Mischief, Segments};
pub use kind::{Kind, REGION};
pub use layout::{Cut, Layout};
pub use memory::MEMORY;
pub use outcome::{Breach, Done};
pub use queue::{QueueDriver, Shape};
pub use ring::{Ring, RingPlan};
