//! The contents that a read may return from an atom, and the write order that a read implies.

use super::weighing::MOST_COMPARED;
use super::{Around, AtomState};
use crate::graph::{Node, may_read, may_survive};
use crate::ledger::{Ledger, Slot};
use crate::names::{Content, Instant, Observed};
use crate::terms::Profile;

impl AtomState {
    /// Records that a read `[from, to]` returned `seen`. Returns whether that is legal.
    #[inline]
    pub(crate) fn read(
        &mut self,
        seen: Observed,
        from: Instant,
        to: Instant,
        around: &Around<'_>,
    ) -> bool {
        if around.profile == Profile::Literal {
            return self.may_be_by_the_letter(seen, from, to, around);
        }
        let Observed::Content(content) = seen else { return false };
        if let Some(failed) = around.failed
            && self.is_unsettled(failed, from, around)
        {
            return self.may_be_unsettled(content, from, to, around);
        }
        if self.others.is_empty() {
            self.explain(content, from, to, around.ledger)
        } else {
            self.explain_variously(content, from, to, around.ledger)
        }
    }

    /// Replaces the only explanation by its continuations with this read. Returns whether there are
    /// any; if not, nothing changes.
    #[inline]
    fn explain(&mut self, content: Content, from: Instant, to: Instant, ledger: &Ledger) -> bool {
        // In order, the newest version that has happened may be read again: every other version
        // reaches it already, and no other version has the same content.
        if self.in_order
            && let Some(node) = self.nodes.last_mut()
            && node.content == content
            && node.slot.id().is_some_and(|id| content == Content::of(id))
            && node.is_in(ledger)
        {
            *node = node.after_read(from, to);
            return true;
        }
        let shows = |node: &Node| self.shows(node.content, content);
        let Some(v) = self.nodes.iter().rposition(shows) else { return false };
        if self.nodes[..v].iter().any(shows) {
            return self.explain_variously(content, from, to, ledger);
        }
        let right = may_read(&self.nodes, v, from, to, ledger);
        if right {
            let node = &mut self.nodes[v];
            *node = told(*node, content, ledger).after_read(from, to);
        }
        right
    }

    /// The general case: there may be several explanations before or after the read.
    #[inline(never)]
    fn explain_variously(
        &mut self,
        content: Content,
        from: Instant,
        to: Instant,
        ledger: &Ledger,
    ) -> bool {
        let fits = |nodes: &[Node], v: usize| {
            self.shows(nodes[v].content, content) && may_read(nodes, v, from, to, ledger)
        };
        let count = |nodes: &Vec<Node>| (0..nodes.len()).filter(|&v| fits(nodes, v)).count();
        let many = self.explanations().map(count).sum::<usize>();
        let mut next = Vec::with_capacity(many);
        let mut places = Vec::new();
        for nodes in self.explanations() {
            places.clear();
            places.extend((0..nodes.len()).filter(|&v| fits(nodes, v)));
            if many > MOST_COMPARED && places.len() > 1 {
                // An explanation forbids less than each of its continuations, so keeping it drops
                // this read from the evidence.
                next.push(nodes.clone());
                continue;
            }
            for &v in &places {
                let mut nodes = nodes.clone();
                nodes[v] = told(nodes[v], content, ledger).after_read(from, to);
                next.push(nodes);
            }
        }
        let Some(first) = next.pop() else { return false };
        self.nodes = first;
        self.others = next;
        self.simplify(ledger);
        true
    }

    /// Whether data that was not stable when the host failed is still exposed: no write submitted
    /// since then has ended before `from`.
    #[inline(never)]
    fn is_unsettled(&self, failed: Instant, from: Instant, around: &Around<'_>) -> bool {
        let Around { ledger, moment, .. } = *around;
        self.explanations().any(|nodes| {
            let rewritten = nodes.iter().any(|node| {
                let fate = ledger.fate(node.slot);
                fate.done && failed < fate.sub && fate.end < from
            });
            !rewritten && nodes.iter().any(|node| !ledger.was_stable(node.slot, moment))
        })
    }

    /// Whether a version of `content` may read as `seen`.
    #[inline]
    fn shows(&self, content: Content, seen: Content) -> bool {
        content == seen || (!content.is_named() && self.may_show(content, seen))
    }

    /// Whether a version of an unnamed `content` may read as `seen`.
    fn may_show(&self, content: Content, seen: Content) -> bool {
        content == Content::ANYTHING
            || (content == Content::UNKNOWN && self.unknown.contains(&seen))
    }

    /// Whether a read may return `content` while data that was not stable may come and go; such a
    /// read leaves no trace.
    fn may_be_unsettled(
        &self,
        content: Content,
        from: Instant,
        to: Instant,
        around: &Around<'_>,
    ) -> bool {
        let Around { ledger, moment, .. } = *around;
        self.explanations().any(|nodes| {
            (0..nodes.len()).any(|v| {
                self.shows(nodes[v].content, content)
                    && (may_read(nodes, v, from, to, ledger)
                        || may_survive(nodes, v, ledger, moment))
            })
        })
    }

    /// The Literal reading: reads leave no trace, and versions that may each be read may be mixed.
    #[inline(never)]
    fn may_be_by_the_letter(
        &self,
        seen: Observed,
        from: Instant,
        to: Instant,
        around: &Around<'_>,
    ) -> bool {
        let unsettled = around.failed.is_some_and(|failed| self.is_unsettled(failed, from, around));
        let Around { ledger, moment, .. } = *around;
        let nodes = &self.nodes;
        let mut readable = 0;
        for v in 0..nodes.len() {
            let loose = !ledger.was_stable(nodes[v].slot, moment);
            if unsettled && loose && may_survive(nodes, v, ledger, moment) {
                return true;
            }
            if !may_read(nodes, v, from, to, ledger) {
                continue;
            }
            readable += 1;
            match seen {
                _ if nodes[v].content == Content::ANYTHING => return true,
                Observed::Content(content) if self.shows(nodes[v].content, content) => return true,
                Observed::Torn
                    if readable > 1 || self.shows(nodes[v].content, Content::MIXTURE) =>
                {
                    return true;
                }
                _ => {}
            }
        }
        false
    }
}

/// `node`, after a read has determined its `content`.
fn told(node: Node, content: Content, ledger: &Ledger) -> Node {
    let slot = match node.slot {
        Slot::FOUND_LOOSE if ledger.is_heard_of(content, ledger.fate(Slot::FOUND).end) => {
            Slot::FOUND
        }
        slot => slot,
    };
    Node { slot, content, ..node }
}
