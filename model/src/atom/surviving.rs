//! The contents that a power loss may leave in an atom, and the state afterwards.

use super::{Around, AtomState};
use crate::graph::{Loss, Node};
use crate::ledger::{Ledger, Slot};
use crate::names::{Content, Instant};
use crate::terms::Profile;

impl AtomState {
    /// Collects the contents that a power loss now may leave, sorted. Returns whether any of them
    /// is not stable.
    pub(crate) fn survivors(&self, out: &mut Vec<Content>, ledger: &Ledger) -> bool {
        out.clear();
        let mut loose =
            self.add_survivors(Loss::of(&self.nodes, self.in_order, ledger), out, ledger);
        for nodes in &self.others {
            loose |= self.add_survivors(Loss::of(nodes, false, ledger), out, ledger);
        }
        loose
    }

    fn add_survivors(&self, loss: Loss<'_>, out: &mut Vec<Content>, ledger: &Ledger) -> bool {
        let mut loose = false;
        for node in loss.survivors(ledger) {
            loose |= !ledger.is_stable(node.slot);
            if node.content == Content::UNKNOWN {
                self.unknown.iter().for_each(|&content| insert(out, content));
            } else {
                insert(out, node.content);
            }
        }
        loose
    }

    /// The single content that a power loss now may leave, if it is named and the newest version in
    /// order is stable.
    #[inline]
    fn sole_survivor(&self, ledger: &Ledger) -> Option<Content> {
        let last = self.nodes.last().filter(|_| self.in_order && self.others.is_empty())?;
        (ledger.is_stable(last.slot) && last.content.is_named()).then_some(last.content)
    }

    /// Upper bound of the number of versions that are not stable: at least one version is stable.
    #[inline]
    pub(crate) fn most_loose(&self) -> usize {
        self.explanations().map(|nodes| nodes.len() - 1).max().unwrap_or(0)
    }

    /// Number of versions that are not stable and that a power loss now could leave.
    #[inline]
    pub(crate) fn loose_versions(&self, ledger: &Ledger) -> usize {
        if self.sole_survivor(ledger).is_some() {
            return 0;
        }
        let loose = |node: &&Node| !ledger.is_stable(node.slot);
        let count = |loss: Loss<'_>| loss.survivors(ledger).filter(loose).count();
        let others = self.others.iter().map(|nodes| Loss::of(nodes, false, ledger));
        others.map(count).fold(count(Loss::of(&self.nodes, self.in_order, ledger)), usize::max)
    }

    /// Collapses the atom: from `image` on it holds one of the survivors. Returns the content if
    /// there is one survivor and it is named.
    ///
    /// With `found`, a restarted backend finds that content from then on, while the medium may
    /// still hold another survivor.
    #[inline]
    pub(crate) fn collapse(
        &mut self,
        image: Instant,
        found: Option<Instant>,
        scratch: &mut Vec<Content>,
        around: &Around<'_>,
    ) -> Option<Content> {
        match self.sole_survivor(around.ledger) {
            Some(content) => Some(content),
            None => self.collapse_to_several(image, found, scratch, around),
        }
    }

    /// The general case of [`collapse`](Self::collapse).
    fn collapse_to_several(
        &mut self,
        image: Instant,
        found: Option<Instant>,
        scratch: &mut Vec<Content>,
        around: &Around<'_>,
    ) -> Option<Content> {
        let loose = self.survivors(scratch, around.ledger);
        let content = match scratch[..] {
            _ if around.profile == Profile::Literal && loose => Content::ANYTHING,
            _ if scratch.contains(&Content::ANYTHING) => Content::ANYTHING,
            [content] => content,
            _ => {
                if around.profile == Profile::Literal && !scratch.contains(&Content::MIXTURE) {
                    scratch.push(Content::MIXTURE);
                }
                Content::UNKNOWN
            }
        };
        self.others.clear();
        self.nodes.clear();
        self.in_order = true;
        self.nodes.push(Node::new(Slot::IMAGE, content, image));
        if let (Some(found), true) = (found, loose) {
            let heard_of = scratch.iter().all(|&content| around.ledger.is_heard_of(content, found));
            let slot = if heard_of { Slot::FOUND } else { Slot::FOUND_LOOSE };
            self.nodes.push(Node::new(slot, content, found));
        }
        self.unknown.clear();
        if content == Content::UNKNOWN {
            std::mem::swap(&mut self.unknown, scratch);
        }
        (self.nodes.len() == 1 && content.is_named()).then_some(content)
    }
}

/// Inserts `content` into a sorted vector, unless it is present.
#[inline]
fn insert(sorted: &mut Vec<Content>, content: Content) {
    if sorted.last().is_none_or(|&last| last < content) {
        sorted.push(content);
    } else {
        insert_within(sorted, content);
    }
}

#[inline(never)]
fn insert_within(sorted: &mut Vec<Content>, content: Content) {
    if let Err(place) = sorted.binary_search(&content) {
        sorted.insert(place, content);
    }
}
