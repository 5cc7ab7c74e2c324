//! The versions of one atom as a graph that must stay acyclic: one explanation of the observations
//! there.
//!
//! A version's *operations* are its write and every read that returned it. `u -> v` iff some
//! operation of `u` ended before some operation of `v` was submitted, which needs two numbers per
//! version: `first`, the least end, and `last`, the greatest submission; `u -> v` iff `first(u) <
//! last(v)`. Such edges have two properties, both used below. First, any cycle contains one of
//! length two: let `u` be the version of the cycle with the least `first`, and `p` its predecessor;
//! some version of the cycle reaches `p`, so `u` reaches `p` too. Second, the versions that reach
//! `x` are found by raising one number until it stays.
//!
//! *In* the graph are the versions that are known to have happened: completed with `OK`, observed,
//! or first. Versions in flight or failed may be observed or survive, and join the graph then.
//!
//! This is exact if a write takes effect once per atom. A write carried out by two backends, of
//! which the first died, is two versions of one content here
//! ([`Oracle::reconnect`](crate::Oracle::reconnect)). Devices that may re-issue part of a write any
//! number of times need the multi-effect form, in which a read before a write's end sees a replica
//! of it; that form is not here.

use crate::ledger::{Ledger, Moment, Slot};
use crate::names::{Content, Instant};

/// A version in one atom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    /// The line of its writer.
    pub(crate) slot: Slot,
    /// Its content.
    pub(crate) content: Content,
    /// Least end of the reads that returned it; `NEVER` iff none did.
    pub(crate) seen: Instant,
    /// Greatest submission of its operations.
    pub(crate) last: Instant,
}

impl Node {
    /// A version at the publication of its write.
    #[inline]
    pub(crate) fn new(slot: Slot, content: Content, sub: Instant) -> Self {
        Self { slot, content, seen: Instant::NEVER, last: sub }
    }

    /// A stable version older than every event.
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

/// Whether a read `[from, to]` may have returned version `v` of `nodes`, so that the graph stays
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

/// Whether `node`, in place of version `v`, is on no cycle.
#[inline]
fn fits_at(nodes: &[Node], v: usize, node: &Node, ledger: &Ledger) -> bool {
    let first = node.first(ledger);
    nodes.iter().enumerate().all(|(u, other)| {
        // Most versions were last touched before this one ended, and need no ledger lookup.
        other.last <= first || u == v || other.first(ledger) >= node.last || !other.is_in(ledger)
    })
}

/// Whether a power loss at `then` may leave version `v` of `nodes`: whether the graph, with an edge
/// to `v` from every stable version, is acyclic.
pub(crate) fn may_survive(nodes: &[Node], v: usize, ledger: &Ledger, then: Moment) -> bool {
    let node = &nodes[v];
    let is_stable =
        |other: &Node| !std::ptr::eq(other, node) && ledger.was_stable(other.slot, then);
    let Some(x) = latest(nodes, is_stable) else { return true };
    node.first(ledger) >= reach(nodes, x, ledger)
        && (node.is_in(ledger) || fits_at(nodes, v, node, ledger))
}

/// Whether each version was published after the write of its predecessor had ended.
pub(crate) fn is_in_order(nodes: &[Node], ledger: &Ledger) -> bool {
    nodes.windows(2).all(|pair| ledger.fate(pair[0].slot).end < ledger.fate(pair[1].slot).sub)
}

/// The effect of a power loss now on a graph.
///
/// All versions are compared with the stable version `x` with the greatest `last`: any version that
/// reaches a stable version also reaches `x`. `x` itself can reach another stable version only
/// directly, because any version that reaches that one reaches `x`, and there is no cycle.
///
/// Most graphs are *in order*: each version was published after the write of its predecessor had
/// ended, so every version reaches all newer ones. Then `x` is the last stable version, no older
/// version survives, and no newer one lies on a path to `x`.
#[derive(Clone, Copy)]
pub(crate) struct Loss<'a> {
    /// If in order, only `x` and newer versions.
    nodes: &'a [Node],
    in_order: bool,
    x: usize,
    /// A version reaches `x` iff its `first` is below this.
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

    /// Whether the loss may leave version `v` of `nodes`.
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

    /// The versions that the loss may leave, in the order of publication.
    #[inline]
    pub(crate) fn survivors(self, ledger: &Ledger) -> impl Iterator<Item = &'a Node> {
        let nodes = self.nodes.iter().enumerate();
        nodes.filter(move |&(v, node)| self.may_leave(v, node, ledger)).map(|(_, node)| node)
    }
}

const ALWAYS_STABLE: &str = "some version is always stable";

/// Of the qualifying versions, the one with the greatest `last`: any version that reaches another
/// of them reaches it too.
#[inline]
fn latest(nodes: &[Node], qualifies: impl Fn(&Node) -> bool) -> Option<usize> {
    let mut latest = None;
    let mut least = Instant(0);
    // From the newest on, because most of the older ones then need only one comparison.
    for (u, node) in nodes.iter().enumerate().rev() {
        if (latest.is_none() || least < node.last) && qualifies(node) {
            (latest, least) = (Some(u), node.last);
        }
    }
    latest
}

/// The bound below which a version's `first` means that it reaches version `x`, directly or through
/// other versions.
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

/// Drops versions that can no longer be read and can no longer survive.
///
/// These are the versions that reach a stable version `x`, once no read is in flight that was
/// published before `first(x)`: a later read of one of them would close a cycle. Any version that
/// reaches one of them reaches `x` too and is dropped with it, so no path is lost. A version that
/// only reaches a stable version other than the latest `x` may stay for a while; it costs only its
/// memory.
///
/// In order, every version older than such an `x` reaches it.
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
                // Versions that reach this one reach `x` through it.
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
