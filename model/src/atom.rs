//! One atom: every explanation of the observations there, and its possible first contents.
//!
//! An explanation is a graph ([`crate::graph`]). There is more than one only while zeroes may have
//! come from several requests: a rule is broken iff *every* explanation fails, so each observation
//! replaces the explanations by all their legal continuations. An explanation is dropped when
//! another forbids less. Their number is bounded: beyond a limit they are replaced by one that
//! forbids less than any of them.
//!
//! The first content may be a set too: after a power loss it is one of the contents that the loss
//! could leave, until a read determines it.
//!
//! This file handles writes; [`reading`] handles reads, [`surviving`] power losses, and
//! [`weighing`] keeps the explanations few.

mod reading;
mod surviving;
mod weighing;

use crate::graph::{Node, is_in_order, prune};
use crate::ledger::{Ledger, Moment, Slot};
use crate::names::{Content, Instant};
use crate::terms::Profile;

/// The inputs of a decision about one atom.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) profile: Profile,
    /// Publication of the read in question, or else the present.
    pub(crate) moment: Moment,
    /// Publication of the oldest read in flight.
    pub(crate) oldest_read: Instant,
    /// Latest moment at which the host may have failed, if any: data that was not stable then may
    /// come and go until it is written again.
    pub(crate) failed: Option<Instant>,
}

/// The state of one atom.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtomState {
    /// The first explanation.
    nodes: Vec<Node>,
    /// If set, then in every explanation each version but the first was published after the write
    /// of its predecessor had ended, and no two are of one request. May be unset although the
    /// versions are in order.
    in_order: bool,
    /// The other explanations; usually none.
    others: Vec<Vec<Node>>,
    /// The contents that [`Content::UNKNOWN`] stands for here, sorted.
    unknown: Vec<Content>,
}

impl AtomState {
    /// An atom that held `content` before every event that matters.
    pub(crate) fn calm(content: Content) -> Self {
        Self { nodes: vec![Node::of_old(content)], ..Self::default() }
    }

    /// Starts the graph of an atom that held `content` before every event that matters, with a
    /// published write of `version`.
    #[inline]
    pub(crate) fn begin(&mut self, content: Content, version: Node) {
        debug_assert!(self.nodes.is_empty());
        self.in_order = true;
        self.nodes.push(Node::of_old(content));
        self.nodes.push(version);
    }

    /// Clears the state.
    #[inline]
    pub(crate) fn forget(&mut self) {
        self.nodes.clear();
        self.others.clear();
        self.unknown.clear();
    }

    /// The explanations, at least one.
    pub(crate) fn explanations(&self) -> impl Iterator<Item = &Vec<Node>> {
        std::iter::once(&self.nodes).chain(&self.others)
    }

    /// The contents that [`Content::UNKNOWN`] stands for here.
    pub(crate) fn unknown(&self) -> &[Content] {
        &self.unknown
    }

    /// Publishes a write of `version`.
    #[inline]
    pub(crate) fn submit(&mut self, version: Node, around: &Around<'_>) {
        self.prune(around);
        self.in_order &=
            self.nodes.last().is_none_or(|node| around.ledger.fate(node.slot).end < version.last);
        self.nodes.push(version);
        for nodes in &mut self.others {
            nodes.push(version);
        }
    }

    #[inline]
    fn prune(&mut self, around: &Around<'_>) {
        if around.failed.is_some() && around.oldest_read != Instant::NEVER {
            // That read may still return content that a flush has since ruled out.
            return;
        }
        let mut dropped = false;
        if self.nodes.len() > 2 {
            let before = self.nodes.len();
            prune(&mut self.nodes, self.in_order, around.oldest_read, around.ledger);
            dropped = self.nodes.len() < before;
            self.in_order |=
                dropped && self.others.is_empty() && is_in_order(&self.nodes, around.ledger);
        }
        if !self.others.is_empty() {
            for nodes in &mut self.others {
                let before = nodes.len();
                prune(nodes, false, around.oldest_read, around.ledger);
                dropped |= nodes.len() < before;
            }
            // Comparing explanations is expensive, and they rarely become alike except by losing
            // versions.
            if dropped {
                self.simplify(around.ledger);
            }
        }
    }

    /// Turns the write of `slot`, whose backend died, into a version of the line `dead`, which has
    /// ended.
    pub(crate) fn leave_behind(&mut self, slot: Slot, dead: Slot) {
        self.in_order = false;
        for node in self.nodes.iter_mut().chain(self.others.iter_mut().flatten()) {
            if node.slot == slot {
                node.slot = dead;
            }
        }
    }

    /// Publishes another execution of the write of `version`. Its content may equal that of an
    /// earlier version, so the shortcuts for versions in order do not apply.
    pub(crate) fn submit_again(&mut self, version: Node, around: &Around<'_>) {
        self.submit(version, around);
        self.in_order = false;
    }

    /// Removes a write that was never a version. Returns whether some explanation holds without it.
    pub(crate) fn retract(&mut self, slot: Slot) -> bool {
        let content = slot.id().map(Content::of);
        let is_it = |node: &Node| {
            node.slot == slot || (node.slot.is_dead() && Some(node.content) == content)
        };
        let does_without = |nodes: &Vec<Node>| {
            nodes.iter().all(|node| !is_it(node) || node.seen == Instant::NEVER)
        };
        self.others.retain(does_without);
        let mut ok = does_without(&self.nodes);
        if !ok && let Some(nodes) = self.others.pop() {
            self.nodes = nodes;
            ok = true;
        }
        self.nodes.retain(|node| !is_it(node));
        for nodes in &mut self.others {
            nodes.retain(|node| !is_it(node));
        }
        ok
    }
}
