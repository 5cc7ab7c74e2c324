//! The exact promises of a virtio disk to its guest, as an oracle that judges them.
//!
//! An [`Oracle`] takes the actions and observations of a guest as events, one after the other, and
//! returns a [`Violation`] iff no correct device could have caused an observation. It sees no
//! bytes: contents are named by the request that wrote them ([`Content`]). Its only input is the
//! guest's view; no statement of a device or a host about itself is an input. It depends on no
//! device and no simulator, reads no clock and draws no random number.
//!
//! The rule, for each atom by itself: the versions of its content form a graph, in which `u -> v`
//! iff some operation of `u` ended before some operation of `v` was submitted. That graph must stay
//! acyclic, and the content after a power loss must not precede any *stable* write. Everything else
//! follows from this rule and from the definition of *stable*. A [`PmemOracle`] applies the same
//! rule to a persistent memory.
//!
//! [`law`] states the rules in words and lists every requirement behind them.
//!
//! Not here: the ring, guest memory, interrupts and the medium. Their checkers report through the
//! same [`Violation`], with the later groups of [`Rule`]. Zones and secure erase are not modelled;
//! devices that re-issue part of a write would need the multi-effect form of the graph.

#![forbid(unsafe_code)]

mod answer;
mod atom;
mod blame;
mod class;
mod crash_ladder;
mod disk;
mod graph;
pub mod law;
mod ledger;
mod names;
mod oracle;
mod outlook;
mod pmem;
mod promise;
mod reason;
mod request;
mod rule;
mod ruling;
mod terms;
mod violation;

pub use class::Class;
pub use names::{Atom, Content, Instant, Observed, RequestId};
pub use oracle::{CompletionFacts, Excuse, Oracle};
pub use pmem::{PmemOracle, PmemRequest};
pub use reason::Reason;
pub use request::{Demand, Framing, Kind, Request, Segment};
pub use rule::Rule;
pub use terms::{Profile, Row, Terms};
pub use violation::{Unit, Violation};
