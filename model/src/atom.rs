//! One atom: every explanation of what has been observed there, and what its first content may be.
//!
//! An explanation is a graph ([`crate::graph`]). There is more than one only while zeroes may have
//! come from several requests: a rule is broken iff *every* explanation fails, so each observation
//! replaces the explanations by all their legal continuations. One explanation is dropped when
//! another forbids less. They stay few; if they ever do not, they are replaced by one that forbids
//! less than any of them.
//!
//! The first content may be a set too: after a power loss it is one of the contents the loss could
//! leave, until a read says which.
//!
//! Here is what a write does to an atom; what a read does is in [`reading`], what a power loss does
//! in [`surviving`], and how the explanations are kept few in [`weighing`].

mod reading;
mod surviving;
mod weighing;

use crate::graph::{Node, is_in_order, prune};
use crate::ledger::{Ledger, Moment, Slot};
use crate::names::{Content, Instant};
use crate::terms::Profile;

/// What an atom needs to know of the world around it.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) profile: Profile,
    /// The moment at which the read in question was published, or else the present.
    pub(crate) moment: Moment,
    /// The publication of the oldest read in flight.
    pub(crate) oldest_read: Instant,
    /// The host may have failed, last at this moment: what was not stable then may come and go
    /// until it is written again.
    pub(crate) failed: Option<Instant>,
}

/// What is known of one atom.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtomState {
    /// The first explanation.
    nodes: Vec<Node>,
    /// Each version but the first was published after the write of the one before it had ended, in
    /// every explanation, and no two of them are of one request. That is forgotten early rather
    /// than late: what is in order may be called out of order.
    in_order: bool,
    /// The other explanations, rarely any.
    others: Vec<Vec<Node>>,
    /// What [`Content::UNKNOWN`] stands for here, sorted.
    unknown: Vec<Content>,
}

impl AtomState {
    /// The atom holds `content`, and has for as long as matters.
    pub(crate) fn calm(content: Content) -> Self {
        Self { nodes: vec![Node::of_old(content)], ..Self::default() }
    }

    /// The atom held `content` for as long as matters, and a write of `version` is published;
    /// nothing else is known.
    #[inline]
    pub(crate) fn begin(&mut self, content: Content, version: Node) {
        debug_assert!(self.nodes.is_empty());
        self.in_order = true;
        self.nodes.push(Node::of_old(content));
        self.nodes.push(version);
    }

    /// Nothing is known of the atom.
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

    /// What [`Content::UNKNOWN`] stands for here.
    pub(crate) fn unknown(&self) -> &[Content] {
        &self.unknown
    }

    /// A write of `version` is published.
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
            // That read may yet return what a flush has made impossible since.
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
            // Comparing explanations is dear, and they rarely become alike but by losing versions.
            if dropped {
                self.simplify(around.ledger);
            }
        }
    }

    /// The backend that had the write of `slot` in hand died: what it may have done stands, as a
    /// version that ends here.
    pub(crate) fn leave_behind(&mut self, slot: Slot, dead: Slot) {
        self.in_order = false;
        for node in self.nodes.iter_mut().chain(self.others.iter_mut().flatten()) {
            if node.slot == slot {
                node.slot = dead;
            }
        }
    }

    /// The write of `version` is carried out once more. It may look like what is there already, so
    /// nothing is known at a glance.
    pub(crate) fn submit_again(&mut self, version: Node, around: &Around<'_>) {
        self.submit(version, around);
        self.in_order = false;
    }

    /// A write turns out never to have been a version. Says whether some explanation does without
    /// it.
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
