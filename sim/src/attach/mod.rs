//! Backends of other projects, as they ship: a program that serves vhost-user-blk is a device under
//! test.
//!
//! ```text
//!   guest drivers, schedules, oracle           as for every device
//!   ------------------------------------
//!   vhost-user front-end                       messages, shared
//!   ====================================       the program, unchanged: process
//!   NBD server                                 below
//!   ------------------------------------
//!   simulated disk                             as for every device
//! ```
//!
//! The program runs only inside a step: it is kicked, or gets an answer of its host, and then works
//! until it is at rest. All that it asks of its host becomes an operation of the
//! simulated disk, in the lane of background work. So the scheduler decides when an operation
//! completes, in which order, whether it fails, and which sectors survive a power loss, and traces,
//! stories and shrinking are the same as for a device of this repository.
//!
//! What stays outside: the order in which the program's own threads do things. A run is therefore
//! not repeatable in general ([`REPEATABLE`](crate::dut::DeviceUnderTest::REPEATABLE)), and a
//! finding says how often it was seen again.
//!
//! Not here: save, reconnection and reset of one queue; devices whose medium is not plain sectors.

mod backend;
mod below;
mod messages;
mod offer;
mod operations;
mod place;
mod preset;
mod process;
mod running;
mod shared;

pub use backend::Foreign;
pub use offer::{Offer, probe};
pub use preset::{Backend, Preset};
