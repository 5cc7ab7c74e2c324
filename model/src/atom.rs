//! One atom: every explanation of what has been observed there, and what its first content may be.
//!
//! An explanation is a graph ([`crate::graph`]). There is more than one only while zeroes may have come from several requests: a rule is
//! broken iff *every* explanation fails, so each observation replaces the explanations by all their legal continuations. One explanation is
//! dropped when another forbids less. They stay few; if they ever do not, they are replaced by one that forbids less than any of them.
//!
//! The first content may be a set too: after a power loss it is one of the contents the loss could leave, until a read says which.

use crate::graph::{Loss, Node, is_in_order, may_read, may_survive, prune};
use crate::ledger::{Ledger, Moment, Slot};
use crate::names::{Content, Instant, Observed};
use crate::terms::Profile;

/// More explanations than this are replaced by their common weakening.
const MOST_EXPLANATIONS: usize = 256;

/// What an atom needs to know of the world around it.
#[derive(Clone, Copy)]
pub(crate) struct Around<'a> {
    pub(crate) ledger: &'a Ledger,
    pub(crate) profile: Profile,
    /// The moment at which the read in question was published, or else the present.
    pub(crate) moment: Moment,
    /// The publication of the oldest read in flight.
    pub(crate) oldest_read: Instant,
    /// The host may have failed, last at this moment: what was not stable then may come and go until it is written again.
    pub(crate) failed: Option<Instant>,
}

/// What is known of one atom.
#[derive(Clone, Debug, Default)]
pub(crate) struct AtomState {
    /// The first explanation.
    nodes: Vec<Node>,
    /// Each version but the first was published after the write of the one before it had ended.
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

    /// The atom held `content` for as long as matters, and a write of `version` is published; nothing else is known.
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

    /// A write turns out never to have been a version. Says whether some explanation does without it.
    pub(crate) fn retract(&mut self, slot: Slot) -> bool {
        let does_without = |nodes: &Vec<Node>| {
            nodes.iter().all(|node| node.slot != slot || node.seen == Instant::NEVER)
        };
        self.others.retain(does_without);
        let mut ok = does_without(&self.nodes);
        if !ok && let Some(nodes) = self.others.pop() {
            self.nodes = nodes;
            ok = true;
        }
        self.nodes.retain(|node| node.slot != slot);
        for nodes in &mut self.others {
            nodes.retain(|node| node.slot != slot);
        }
        ok
    }

    /// A read `[from, to]` returned `seen`. Says whether it may.
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

    /// Replaces the only explanation by its continuations with this read. Says whether there are any; if not, nothing changes.
    #[inline]
    fn explain(&mut self, content: Content, from: Instant, to: Instant, ledger: &Ledger) -> bool {
        // In order, what was written last and has happened may be read on: all else reaches it already, and nobody else wrote the like.
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

    /// The same where more than one explanation may go in or come out.
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
        let mut next = Vec::new();
        for nodes in self.explanations() {
            for v in (0..nodes.len()).filter(|&v| fits(nodes, v)) {
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

    /// Drops every explanation that forbids at least what another forbids.
    fn simplify(&mut self, ledger: &Ledger) {
        if self.others.is_empty() {
            return;
        }
        let mut all = std::mem::take(&mut self.others);
        all.push(std::mem::take(&mut self.nodes));
        let mut kept: Vec<(Weight, Vec<Node>)> = Vec::with_capacity(all.len());
        for nodes in all {
            let weight = Weight::of(&nodes, ledger);
            let drops = |(a, a_nodes): (Weight, &[Node]), (b, b_nodes): (Weight, &[Node])| {
                a.may_forbid_less(b) && forbids_less(a_nodes, b_nodes, ledger)
            };
            if kept.iter().any(|(other, theirs)| drops((*other, theirs), (weight, &nodes))) {
                continue;
            }
            kept.retain(|(other, theirs)| !drops((weight, &nodes), (*other, theirs)));
            kept.push((weight, nodes));
        }
        let mut kept: Vec<Vec<Node>> = kept.into_iter().map(|(_, nodes)| nodes).collect();
        if kept.len() > MOST_EXPLANATIONS {
            kept = vec![self.common_weakening(kept)];
        }
        self.nodes = kept.swap_remove(0);
        self.others = kept;
    }

    /// The explanation that forbids what all of `explanations` forbid, and perhaps less.
    fn common_weakening(&mut self, explanations: Vec<Vec<Node>>) -> Vec<Node> {
        let mut weakest: Vec<Node> = Vec::new();
        self.in_order = false;
        for node in explanations.into_iter().flatten() {
            match weakest.iter_mut().find(|other| other.slot == node.slot) {
                None => weakest.push(node),
                Some(other) => {
                    other.seen = other.seen.max(node.seen);
                    other.last = other.last.min(node.last);
                    if other.content != node.content {
                        other.content = Content::UNKNOWN;
                    }
                }
            }
        }
        weakest
    }

    /// Whether what was not stable when the host failed is still exposed: nothing written since then has ended before `from`.
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

    /// Whether a version of `content` looks like `seen`.
    #[inline]
    fn shows(&self, content: Content, seen: Content) -> bool {
        content == seen || (!content.is_named() && self.may_show(content, seen))
    }

    /// Whether a version of a `content` without a name looks like `seen`.
    fn may_show(&self, content: Content, seen: Content) -> bool {
        content == Content::ANYTHING
            || (content == Content::UNKNOWN && self.unknown.contains(&seen))
    }

    /// Whether a read may return `content` where what was not stable may come and go; such a read leaves no trace.
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

    /// The Literal reading: reads leave no trace, and versions that may both be read may be mixed.
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

    /// Collects what a power loss now may leave, sorted, and says whether any of it is not stable.
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

    /// The content that alone a power loss now may leave, if that can be seen at a glance and it has a name.
    #[inline]
    fn sole_survivor(&self, ledger: &Ledger) -> Option<Content> {
        let last = self.nodes.last().filter(|_| self.in_order && self.others.is_empty())?;
        (ledger.is_stable(last.slot) && last.content.is_named()).then_some(last.content)
    }

    /// How many versions that are not stable a power loss now could leave.
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

    /// The live content is gone: from `image` on the atom holds one of the survivors. Says which, if there is but one and it has a name.
    ///
    /// With `found`, that is what a restarted backend finds; the medium may still hold another of them.
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

    /// The same where it takes more than a glance.
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
            let heard_of = scratch.iter().all(|&content| around.ledger.is_heard_of(content));
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

/// Adds `content` to what is sorted, if it is not there.
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

/// `node`, now that a read has told that it is `content`.
fn told(node: Node, content: Content, ledger: &Ledger) -> Node {
    let slot = match node.slot {
        Slot::FOUND_LOOSE if ledger.is_heard_of(content) => Slot::FOUND,
        slot => slot,
    };
    Node { slot, content, ..node }
}

/// What all versions of an explanation know and order, in two numbers: they settle most comparisons.
#[derive(Clone, Copy)]
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

    /// What forbids less has every `last` at most, and every `first` at least, as great; so it is with their sums.
    fn may_forbid_less(self, other: Weight) -> bool {
        self.last <= other.last && self.first >= other.first
    }
}

/// Whether `a` accepts whatever `b` accepts: the same versions, of which `a` knows no more and orders no more.
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
