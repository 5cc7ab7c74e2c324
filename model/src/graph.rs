//! The versions of one atom as a graph that must stay acyclic: one explanation of what was observed there.
//!
//! A version's *operations* are its write and every read that returned it. `u -> v` iff some operation of `u` ended before some operation of
//! `v` was submitted, which needs two numbers a version: `first`, the least end, and `last`, the greatest submission; `u -> v` iff
//! `first(u) < last(v)`. Such edges have two useful properties, both used below. Any cycle contains one of length two: of a cycle's
//! versions take the one with the least `first`; whoever reaches its predecessor it reaches too. And what is reachable from `v` is found
//! by lowering one number until it stays.
//!
//! *In* the graph are versions that are known to have happened: completed with `OK`, observed, or first. The others, in flight or failed,
//! may be observed or survive, and join the graph then.
//!
//! This is exact if a write takes effect once per atom. Devices that may re-issue part of a write need the multi-effect form, in which a
//! read before a write's end sees a replica of it; that form is not here.

use crate::ledger::{Ledger, Moment, Slot};
use crate::names::{Content, Instant};

/// A version in one atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// Who wrote it.
    pub(crate) slot: Slot,
    /// What it looks like.
    pub(crate) content: Content,
    /// The least end of the reads that returned it; `NEVER` iff none did.
    pub(crate) seen: Instant,
    /// The greatest submission of its operations.
    pub(crate) last: Instant,
}

impl Node {
    /// A version as its write was published.
    #[inline]
    pub(crate) fn new(slot: Slot, content: Content, sub: Instant) -> Self {
        Self { slot, content, seen: Instant::NEVER, last: sub }
    }

    #[inline]
    fn first(&self, ledger: &Ledger) -> Instant {
        ledger.fate(self.slot).end.min(self.seen)
    }

    /// Whether it is known to have happened.
    #[inline]
    pub(crate) fn is_in(&self, ledger: &Ledger) -> bool {
        self.seen != Instant::NEVER || ledger.fate(self.slot).done
    }

    /// This version after a read `[from, to]` has returned it.
    #[inline]
    #[must_use]
    pub(crate) fn after_read(mut self, from: Instant, to: Instant) -> Self {
        self.seen = self.seen.min(to);
        self.last = self.last.max(from);
        self
    }
}

/// Whether version `v` of `nodes` may be what a read `[from, to]` returned: whether the graph stays acyclic.
#[inline]
pub(crate) fn may_read(
    nodes: &[Node],
    v: usize,
    from: Instant,
    to: Instant,
    ledger: &Ledger,
) -> bool {
    let read = nodes[v].after_read(from, to);
    fits_at(nodes, v, &read, ledger)
}

/// Whether `node`, in the place of version `v`, is on no cycle.
#[inline]
fn fits_at(nodes: &[Node], v: usize, node: &Node, ledger: &Ledger) -> bool {
    let first = node.first(ledger);
    nodes.iter().enumerate().all(|(u, other)| {
        u == v || !other.is_in(ledger) || !(first < other.last && other.first(ledger) < node.last)
    })
}

/// Whether version `v` of `nodes` may be what a power loss `then` leaves: whether the graph, with an edge to `v` from every stable version, is acyclic.
#[inline]
pub(crate) fn may_survive(nodes: &[Node], v: usize, ledger: &Ledger, then: Moment) -> bool {
    if nodes.len() == 1 {
        return true;
    }
    if !nodes[v].is_in(ledger) && !fits_at(nodes, v, &nodes[v], ledger) {
        return false;
    }
    let mut reach = nodes[v].first(ledger);
    loop {
        let mut lower = reach;
        for (u, other) in nodes.iter().enumerate() {
            if u != v && reach < other.last && other.is_in(ledger) {
                if ledger.was_stable(other.slot, then) {
                    return false;
                }
                lower = lower.min(other.first(ledger));
            }
        }
        if lower == reach {
            return true;
        }
        reach = lower;
    }
}

/// Drops the versions that can be neither read nor survive any more.
///
/// Those are the versions that reach a stable version `x`, once no read is in flight that was published before `first(x)`: a later read of
/// one of them would close a cycle. Whatever reaches one of them reaches `x` too and goes with it, so no path is lost.
pub(crate) fn prune(nodes: &mut Vec<Node>, oldest_read: Instant, ledger: &Ledger) {
    let mut x = 0;
    while x < nodes.len() {
        let keeper = nodes[x];
        if !ledger.is_stable(keeper.slot) || oldest_read < keeper.first(ledger) {
            x += 1;
            continue;
        }
        let mut bound = keeper.last;
        loop {
            let mut higher = bound;
            for (u, other) in nodes.iter().enumerate() {
                if u != x && other.first(ledger) < bound && other.is_in(ledger) {
                    higher = higher.max(other.last);
                }
            }
            if higher == bound {
                break;
            }
            bound = higher;
        }
        let mut kept_before = 0;
        let mut index = 0;
        nodes.retain(|other| {
            let keep = index == x || other.first(ledger) >= bound;
            kept_before += usize::from(keep && index < x);
            index += 1;
            keep
        });
        x = kept_before + 1;
    }
}
