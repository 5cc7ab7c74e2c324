//! The simulated host disk below the device's [`Disk`](powerfail_device::Disk) trait. Every
//! uncertainty of a real disk is an explicit choice.
//!
//! # The fault model
//!
//! A disk is a `medium`, which survives a power loss, under a `cache`, which may not. Reads see the
//! cache. A write *lands* in the cache sector by sector, at times that actions choose, and at most
//! once per sector. It may be *written back* to the medium at any time after that.
//!
//! * Every accepted operation completes exactly once, unless the power or the backend is lost.
//! * A sync makes stable every effect whose completion was **taken** before the sync was
//!   **submitted**, through any lane, in this backend life or an earlier one. The sectors that it
//!   must persist are fixed at submission; any others are a choice.
//! * A short transfer changes nothing at or after its end, which may lie anywhere, even inside a
//!   sector, or at its beginning; one refused with EINTR or EAGAIN changes
//!   nothing; a failed one may land in any part, and changes nothing else
//!   ([`Errno::damage`]). Nothing lands after a completion.
//! * A failed sync may *forget* dirty sectors of its own device's part: they are marked clean, and
//!   a later sync succeeds without them. The cache holds them until they are evicted. Eviction is
//!   possible once the guest has seen the failure, and a backend kill then evicts all of them. A
//!   backend kill before that makes them dirty again.
//! * A power loss keeps any subset of the dirty sectors and loses the rest.
//!
//! The unit of all these choices is the *tear*: 512 bytes up to the granule.
//!
//! A persistent memory is a mapped part: a store lands in the cache at once, whole, and every later
//! sync covers it. Its words tear from each other like sectors.
//!
//! Not here: latent sector errors, bit rot, a medium that breaks its promises (see
//! [`faulty`](crate::devices::faulty)), and tears inside a sector, which is the atom.

mod ahead;
mod errno;
mod landing;
mod lane;
mod loss;
mod memory;
mod op_kind;
mod operation;
mod record;
mod sabotage;
mod shape;
mod sim;
mod witness;

pub use errno::{Damage, Errno};
pub use lane::Lane;
pub use memory::MemoryLane;
pub use op_kind::OpKind;
pub(crate) use operation::BACKGROUND_LANE;
pub use operation::{OpKey, Outcome};
pub use record::Note;
pub(crate) use sabotage::FaultHandle;
pub use shape::DiskShape;
pub use sim::SimDisk;
pub(crate) use sim::word_of;
pub use witness::Witness;
