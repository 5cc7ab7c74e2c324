//! What a virtio disk owes its guest, exactly.
//!
//! An [`Oracle`] is told what a guest did and saw, one event after the other, and answers with a
//! [`Violation`] when no device that keeps the rules could have shown it that. It never sees a
//! byte: contents are named by the request that wrote them ([`Content`]). It believes only the
//! guest: nothing a device or a host says about itself reaches it. It knows no device and no
//! simulator, keeps no clock and draws no number.
//!
//! The rule, for each atom by itself: the versions of what it held form a graph, in which `u -> v`
//! iff some operation of `u` ended before some operation of `v` was submitted. That graph must stay
//! acyclic, and what a power loss leaves must not precede any *stable* write. All the rest follows
//! from that and from who is stable when. A [`PmemOracle`] says the same of a persistent memory.
//!
//! The rules in words, with every requirement they come from: [`law`].
//!
//! What is *not* here: the ring, guest memory, interrupts and the medium. Whoever watches those
//! reports what it finds with the same [`Violation`] and the rules of the last group of [`Rule`].
//! Zones and secure erase are not modelled; devices that re-issue part of a write would need the
//! multi-effect form of the graph.

#![forbid(unsafe_code)]

mod answer;
mod atom;
mod blame;
mod class;
mod disk;
mod graph;
pub mod law;
mod ledger;
mod lives;
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
pub use oracle::{CompletionFacts, Oracle};
pub use pmem::{PmemOracle, PmemRequest};
pub use reason::Reason;
pub use request::{Demand, Kind, Request, Segment};
pub use rule::Rule;
pub use terms::{Profile, Terms};
pub use violation::{Unit, Violation};
