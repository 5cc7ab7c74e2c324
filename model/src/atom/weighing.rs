//! Bound on the number of explanations: one is dropped when another forbids less.

use std::cmp::Reverse;

use super::AtomState;
use crate::graph::Node;
use crate::ledger::Ledger;
use crate::names::Content;

/// Beyond this number, explanations are replaced by their common weakening.
const MOST_EXPLANATIONS: usize = 64;

/// Beyond this number, explanations are not compared with each other, because that takes quadratic
/// time.
pub(super) const MOST_COMPARED: usize = 4 * MOST_EXPLANATIONS;

impl AtomState {
    /// Drops every explanation that forbids at least what another forbids.
    pub(super) fn simplify(&mut self, ledger: &Ledger) {
        if self.others.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.others);
        all.push(std::mem::take(&mut self.nodes));
        if all.len() > MOST_COMPARED {
            self.nodes = self.common_weakening(all);
            return;
        }
        let weighed = all.into_iter().map(|nodes| (Weight::of(&nodes, ledger), nodes));
        let mut all: Vec<(usize, (Weight, Vec<Node>))> = weighed.enumerate().collect();
        // Then none forbids less than an earlier one, unless their weights are equal.
        all.sort_unstable_by_key(|&(nth, (weight, _))| (weight.last, Reverse(weight.first), nth));
        let mut weights: Vec<Weight> = Vec::with_capacity(all.len());
        let mut kept: Vec<(usize, Vec<Node>)> = Vec::with_capacity(all.len());
        for (nth, (weight, nodes)) in all {
            let drops = |(other, (_, theirs)): (&Weight, &(usize, Vec<Node>))| {
                other.first >= weight.first && forbids_less(theirs, &nodes, ledger)
            };
            if weights.iter().zip(&kept).any(drops) {
                continue;
            }
            let equal = weights.iter().rev().take_while(|other| **other == weight).count();
            for at in (weights.len() - equal..weights.len()).rev() {
                if forbids_less(&nodes, &kept[at].1, ledger) {
                    weights.remove(at);
                    kept.remove(at);
                }
            }
            weights.push(weight);
            kept.push((nth, nodes));
        }
        // The first explanation names what is broken, so the order stays.
        kept.sort_unstable_by_key(|&(nth, _)| nth);
        let mut kept: Vec<Vec<Node>> = kept.into_iter().map(|(_, nodes)| nodes).collect();
        if kept.len() > MOST_EXPLANATIONS {
            kept = vec![self.common_weakening(kept)];
        }
        self.nodes = kept.swap_remove(0);
        self.others = kept;
    }

    /// The explanation that forbids what all of `explanations` forbid, and perhaps less.
    fn common_weakening(&mut self, explanations: Vec<Vec<Node>>) -> Vec<Node> {
        // A slot may have several versions here, each for a different segment. Those of dead
        // backends differ in content too.
        let alike =
            |a: &Node, b: &Node| a.slot == b.slot && (!a.slot.is_dead() || a.content == b.content);
        let mut weakest: Vec<Node> = Vec::new();
        self.in_order = false;
        for nodes in explanations {
            let mut taken = vec![false; weakest.len()];
            for node in nodes {
                let free = |at: &usize| !taken[*at] && alike(&weakest[*at], &node);
                match (0..taken.len()).find(free) {
                    None => weakest.push(node),
                    Some(at) => {
                        taken[at] = true;
                        let other = &mut weakest[at];
                        other.seen = other.seen.max(node.seen);
                        other.last = other.last.min(node.last);
                        if other.content != node.content {
                            other.content = Content::UNKNOWN;
                        }
                    }
                }
            }
        }
        weakest
    }
}

/// Sums over the versions of an explanation that settle most comparisons: one that forbids less has
/// no greater `last` and no smaller `first`, version by version.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Weight {
    last: u64,
    first: u64,
}

impl Weight {
    fn of(nodes: &[Node], ledger: &Ledger) -> Weight {
        nodes.iter().fold(Weight { last: 0, first: 0 }, |sum, node| Weight {
            last: sum.last + u64::from(node.last.0),
            first: sum.first + u64::from(ledger.fate(node.slot).end.min(node.seen).0),
        })
    }
}

/// Whether `a` accepts everything that `b` accepts: it has the same versions, with no more
/// knowledge and no more order.
fn forbids_less(a: &[Node], b: &[Node], ledger: &Ledger) -> bool {
    a.len() == b.len()
        && a.iter().zip(b).all(|(a, b)| {
            a.slot == b.slot
                && (a.content == b.content || a.content == Content::UNKNOWN)
                && a.last <= b.last
                && ledger.fate(a.slot).end.min(a.seen) >= ledger.fate(b.slot).end.min(b.seen)
                && (!a.is_in(ledger) || b.is_in(ledger))
        })
}
