//! The simulated host disk: what lies below the device's seam, with every uncertainty in the open.
//!
//! # The fault model
//!
//! A disk is a `medium`, which survives a power loss, under a `cache`, which may not. Reads see the
//! cache. A write lands in the cache sector by sector, whenever an action says so, and at most once
//! per sector; it may be *written back* to the medium at any moment after.
//!
//! * Every accepted operation completes exactly once, or the power or the backend is lost.
//! * A sync makes stable every effect whose completion was **taken** before the sync was
//!   **submitted**, through any lane, in this backend life or an earlier one. Which sectors it owes
//!   is fixed at submission; whatever else it persists is a choice.
//! * A short transfer touched nothing at or after its end; one that was put off touched nothing; a
//!   failed one may have landed in any part, and has cost nothing else ([`damage`]). Nothing lands
//!   after a completion.
//! * A failed sync may forget, sector by sector, that data of its own device's part was dirty: a
//!   later sync then succeeds without it. The cache still shows it until it is evicted, which may
//!   happen once somebody was told, and happens to all of it when the backend dies. If nobody was
//!   told, nothing was forgotten: the pages are found dirty again.
//! * A power loss keeps any subset of the dirty sectors and loses the rest.
//!
//! The unit of all this is the *tear*: 512 bytes up to the granule.
//!
//! A persistent memory is such a part, mapped: a store lands in the cache at once, whole and taken,
//! and its words tear from each other like sectors.
//!
//! Not here: latent sector errors, bit rot, a medium that lies (see
//! [`wrong`](crate::devices::faulty)), and sectors torn inside: an atom is one sector.

mod ahead;
mod errno;
mod landing;
mod lane;
mod loss;
mod memory;
mod operation;
mod record;
mod sabotage;
mod shape;
mod sim;
mod witness;

pub use errno::{Damage, damage};
pub(crate) use errno::{EIO, FAILED, PUT_OFF};
pub use lane::{BelowSeam, Lane};
pub use memory::MemoryLane;
pub use operation::{OpKey, OpKind, Outcome};
pub use record::Note;
pub use shape::DiskShape;
pub use sim::SimDisk;
pub(crate) use sim::word_of;
pub use witness::Witness;
