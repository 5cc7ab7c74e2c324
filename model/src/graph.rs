//! The versions of one atom as a graph that must stay acyclic: one explanation of what was observed
//! there.
//!
//! A version's *operations* are its write and every read that returned it. `u -> v` iff some
//! operation of `u` ended before some operation of `v` was submitted, which needs two numbers a
//! version: `first`, the least end, and `last`, the greatest submission; `u -> v` iff `first(u) <
//! last(v)`. Such edges have two useful properties, both used below. Any cycle contains one of
//! length two: of a cycle's versions take the one with the least `first`; whoever reaches its
//! predecessor it reaches too. And what reaches `x` is found by raising one number until it stays.
//!
//! *In* the graph are versions that are known to have happened: completed with `OK`, observed, or
//! first. The others, in flight or failed, may be observed or survive, and join the graph then.
//!
//! This is exact if a write takes effect once per atom. One that is carried out by two backends,
//! the first of which died, is two versions of one content here
//! ([`Oracle::reconnect`](crate::Oracle::reconnect)). Devices that may re-issue part of a write as
//! often as they like need the multi-effect form, in which a read before a write's end sees a
//! replica of it; that form is not here.

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

    /// The version that has been there for as long as matters.
    #[inline]
    pub(crate) fn of_old(content: Content) -> Self {
        Self::new(Slot::IMAGE, content, Instant(0))
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

/// Whether version `v` of `nodes` may be what a read `[from, to]` returned: whether the graph stays
/// acyclic.
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
        // Most versions were last touched before this one ended, and need no look at the ledger.
        other.last <= first || u == v || other.first(ledger) >= node.last || !other.is_in(ledger)
    })
}

/// Whether version `v` of `nodes` may be what a power loss `then` leaves: whether the graph, with
/// an edge to `v` from every stable version, is acyclic.
pub(crate) fn may_survive(nodes: &[Node], v: usize, ledger: &Ledger, then: Moment) -> bool {
    let node = &nodes[v];
    let is_stable =
        |other: &Node| !std::ptr::eq(other, node) && ledger.was_stable(other.slot, then);
    let Some(x) = latest(nodes, is_stable) else { return true };
    node.first(ledger) >= reach(nodes, x, ledger)
        && (node.is_in(ledger) || fits_at(nodes, v, node, ledger))
}

/// Whether each version was published after the write of the one before it had ended.
pub(crate) fn is_in_order(nodes: &[Node], ledger: &Ledger) -> bool {
    nodes.windows(2).all(|pair| ledger.fate(pair[0].slot).end < ledger.fate(pair[1].slot).sub)
}

/// What a power loss now may leave of a graph.
///
/// All versions are measured against the stable version `x` with the greatest `last`: whatever
/// reaches any stable version reaches that one. `x` itself can reach another stable version at once
/// only, for whatever reaches that one reaches `x`, and there is no cycle.
///
/// Most graphs are *in order*: each version was published after the write of the one before it had
/// ended, so that every version reaches all newer ones. Then `x` is the last stable one, nothing
/// older survives, and nothing newer is on a way to it.
#[derive(Clone, Copy)]
pub(crate) struct Loss<'a> {
    /// In order, only `x` and what is newer.
    nodes: &'a [Node],
    in_order: bool,
    x: usize,
    /// What has its `first` below this reaches `x`.
    bound: Instant,
}

impl<'a> Loss<'a> {
    #[inline]
    pub(crate) fn of(nodes: &'a [Node], in_order: bool, ledger: &Ledger) -> Self {
        let is_stable = |node: &Node| ledger.is_stable(node.slot);
        if in_order {
            let x = nodes.iter().rposition(is_stable).expect(ALWAYS_STABLE);
            let nodes = &nodes[x..];
            Self { nodes, in_order, x: 0, bound: nodes[0].last }
        } else {
            let x = latest(nodes, is_stable).expect(ALWAYS_STABLE);
            Self { nodes, in_order, x, bound: reach(nodes, x, ledger) }
        }
    }

    /// Whether version `v` of those looked at may be left.
    #[inline]
    fn may_leave(&self, v: usize, node: &Node, ledger: &Ledger) -> bool {
        if v != self.x {
            return node.first(ledger) >= self.bound
                && (node.is_in(ledger) || fits_at(self.nodes, v, node, ledger));
        }
        let first = node.first(ledger);
        let is_reached = |(u, other): (usize, &Node)| {
            first < other.last && u != v && ledger.is_stable(other.slot)
        };
        self.in_order || !self.nodes.iter().enumerate().any(is_reached)
    }

    /// The versions that it may leave, in the order of publication.
    #[inline]
    pub(crate) fn survivors(self, ledger: &Ledger) -> impl Iterator<Item = &'a Node> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(move |&(v, node)| self.may_leave(v, node, ledger)).map(|(_, node)| node)
    }
}

const ALWAYS_STABLE: &str = "some version is always stable";

/// Of the versions that qualify, the one with the greatest `last`: whatever reaches any other of
/// them reaches it.
#[inline]
fn latest(nodes: &[Node], qualifies: impl Fn(&Node) -> bool) -> Option<usize> {
    let mut latest = None;
    let mut least = Instant(0);
    // From the newest on, for most of those before it need only one look.
    for (u, node) in nodes.iter().enumerate().rev() {
        if (latest.is_none() || least < node.last) && qualifies(node) {
            (latest, least) = (Some(u), node.last);
        }
    }
    latest
}

/// The bound below which a version's `first` means that it reaches version `x`, at once or by way
/// of others.
#[inline]
fn reach(nodes: &[Node], x: usize, ledger: &Ledger) -> Instant {
    let mut bound = nodes[x].last;
    loop {
        let before = bound;
        for other in nodes {
            if bound < other.last && other.first(ledger) < bound && other.is_in(ledger) {
                bound = other.last;
            }
        }
        if bound == before {
            return bound;
        }
    }
}

/// Drops versions that can be neither read nor survive any more.
///
/// Those are the versions that reach a stable version `x`, once no read is in flight that was
/// published before `first(x)`: a later read of one of them would close a cycle. Whatever reaches
/// one of them reaches `x` too and goes with it, so no path is lost. A version that reaches only
/// another than the latest `x` may stay for a while, which costs nothing but its place.
///
/// In order, all that is older than such an `x` reaches it.
pub(crate) fn prune(nodes: &mut Vec<Node>, in_order: bool, oldest_read: Instant, ledger: &Ledger) {
    let dooms = |node: &Node| ledger.is_stable(node.slot) && node.first(ledger) <= oldest_read;
    let Some(x) = latest(nodes, dooms) else { return };
    let keeper = nodes[x];
    let mut bound = keeper.last;
    let mut from = if in_order { x } else { 0 };
    loop {
        let before = bound;
        let mut kept = 0;
        for u in from..nodes.len() {
            let node = nodes[u];
            if node == keeper || node.first(ledger) >= bound {
                nodes[kept] = node;
                kept += 1;
            } else if bound < node.last && node.is_in(ledger) {
                // What reaches this one reaches `x` by way of it.
                bound = node.last;
            }
        }
        nodes.truncate(kept);
        from = 0;
        if bound == before {
            return;
        }
    }
}
