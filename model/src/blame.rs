//! The violation for a read that no explanation allows: the rule that it breaks, and the events
//! that prove it.
//!
//! Nothing here decides whether a rule is broken, only how to report it. The broken promise is that
//! of a *winner*: the write that the read should have shown, or the stable one that the power loss
//! should have left.

use crate::atom::AtomState;
use crate::class::Class;
use crate::graph::{Node, may_read};
use crate::ledger::{Entry, Fate, Slot, State};
use crate::names::{Atom, Content, Instant, Observed, RequestId};
use crate::oracle::Oracle;
use crate::reason::Reason;
use crate::request::Kind;
use crate::rule::Rule;
use crate::ruling::S_OK;
use crate::terms::Row;
use crate::violation::Violation;

/// A wrong read, with its place and time.
struct Scene<'a> {
    oracle: &'a Oracle,
    read: RequestId,
    atom: usize,
    state: AtomState,
    seen: Observed,
    from: Instant,
    to: Instant,
}

/// The violation that the read of `slot`, `[from, to]`, found `seen` in an atom.
#[cold]
#[inline(never)]
pub(crate) fn wrong_read(
    oracle: &Oracle,
    slot: Slot,
    atom: usize,
    seen: Observed,
    from: Instant,
    to: Instant,
) -> Violation {
    let read = slot.id().expect("a request's slot");
    let scene = Scene { oracle, read, atom, state: oracle.disk.view(atom), seen, from, to };
    let winner = scene.winner();
    let (rule, class) = scene.rule(winner);
    let mut violation = Violation::new(rule).class(class).profile(oracle.profile).request(read);
    violation = violation.atom(Atom(scene.number())).observed(seen).allowed(scene.allowed());
    let culprit = match rule {
        Rule::LateEffect | Rule::RefusedEffect => scene.seen_writer(),
        _ => winner,
    };
    if let Some((entry, _)) = culprit.and_then(|id| oracle.line(id)) {
        violation.kind = Some(entry.kind);
        violation.row = entry.row;
    }
    violation.because = scene.because(winner);
    violation
}

impl Scene<'_> {
    fn number(&self) -> u32 {
        u32::try_from(self.atom).expect("below the number of atoms")
    }

    fn nodes(&self) -> &[Node] {
        self.state.explanations().next().expect("there is always one")
    }

    /// The contents that the read could have returned.
    fn allowed(&self) -> Vec<Content> {
        let mut allowed = Vec::new();
        for nodes in self.state.explanations() {
            for v in (0..nodes.len())
                .filter(|&v| may_read(nodes, v, self.from, self.to, &self.oracle.ledger))
            {
                match nodes[v].content {
                    Content::UNKNOWN => allowed.extend_from_slice(self.state.unknown()),
                    content => allowed.push(content),
                }
            }
        }
        allowed.retain(|content| content.is_named());
        allowed.sort_unstable();
        allowed.dedup();
        allowed
    }

    /// The request whose content was found.
    fn seen_writer(&self) -> Option<RequestId> {
        match self.seen {
            Observed::Content(content) => content.writer(),
            _ => None,
        }
    }

    /// The completed write of this powered life that this read should have shown, or else the
    /// stable write that should have survived.
    fn winner(&self) -> Option<RequestId> {
        let done =
            |node: &&Node| self.oracle.ledger.fate(node.slot).done && node.slot.id().is_some();
        let live = self
            .nodes()
            .iter()
            .filter(done)
            .map(|node| (self.oracle.ledger.fate(node.slot).end, node.slot));
        let live = live.filter(|&(end, _)| end < self.from).max();
        if let Some((_, slot)) = live {
            return slot.id();
        }
        let survivors = self.allowed();
        let of_zeroes = || {
            let lines = self.oracle.ledger.all();
            lines
                .filter(|(_, entry, _)| entry.kind == Kind::WriteZeroes)
                .map(|(id, ..)| id)
                .collect::<Vec<_>>()
        };
        let mut writers: Vec<_> = survivors.iter().filter_map(|content| content.writer()).collect();
        if survivors.contains(&Content::ZERO) {
            writers.extend(of_zeroes());
        }
        let stable = writers.into_iter().filter(|&id| self.oracle.became_stable(id).is_some());
        stable.max_by_key(|&id| self.oracle.ledger.fate(Slot::of(id)).end)
    }

    /// Whether the winner was written since the atom last fell back to the candidates of a power
    /// loss.
    fn is_live(&self, winner: Option<RequestId>) -> bool {
        let fell_back = self.nodes().iter().any(|node| node.slot.is_found());
        let line = winner.and_then(|id| self.oracle.line(id));
        line.is_some_and(|(entry, fate)| {
            entry.powered_life == self.oracle.powered_life()
                && !(fell_back && fate.sub < self.oracle.ledger.fate(Slot::IMAGE).end)
        })
    }

    fn rule(&self, winner: Option<RequestId>) -> (Rule, Class) {
        let rule = match self.seen {
            Observed::Torn => Rule::TornAtom,
            Observed::Misdirected { .. } => Rule::Misplaced,
            Observed::Foreign => Rule::ForeignContent,
            Observed::Garbage => Rule::NeverWritten,
            Observed::Content(content) => return self.rule_on_content(content, winner),
        };
        (rule, Class::of(rule))
    }

    fn rule_on_content(&self, content: Content, winner: Option<RequestId>) -> (Rule, Class) {
        let writer = content.writer();
        let line = writer.and_then(|id| self.oracle.line(id));
        let plain = |rule| (rule, Class::of(rule));
        match line {
            Some((entry, _)) if entry.void => return plain(Rule::RefusedEffect),
            Some((entry, _)) if entry.kind != Kind::Out || !entry.covers(self.number()) => {
                return plain(Rule::NeverWritten);
            }
            None if writer.is_some() => return plain(Rule::NeverWritten),
            _ => {}
        }
        let superseded = match (line, winner.and_then(|id| self.oracle.line(id))) {
            (Some((_, fate)), Some((_, winner))) => fate.end < winner.sub,
            (None, Some(_)) => true,
            (_, None) => false,
        };
        let unheard = line.is_some_and(|(entry, _)| entry.state == State::Abandoned);
        if self.is_live(winner) {
            let zeroed = winner
                .and_then(|id| self.oracle.line(id))
                .is_some_and(|(entry, _)| entry.kind == Kind::WriteZeroes);
            let older_life = line.map_or(content == Content::INITIAL, |(entry, _)| {
                entry.powered_life < self.oracle.powered_life()
            }) && self.oracle.powered_life() > 0;
            return match () {
                () if unheard && !older_life => plain(Rule::LateEffect),
                () if superseded && zeroed => plain(Rule::NotZeroed),
                () if superseded && older_life => (Rule::StaleRead, Class::Resurrected),
                () if superseded => plain(Rule::StaleRead),
                () => plain(Rule::ReadsDisagree),
            };
        }
        let collapsed =
            self.oracle.powered_life() > 0 || self.nodes().iter().any(|node| node.slot.is_found());
        let image_was_read =
            self.nodes().iter().any(|node| node.slot.id().is_none() && node.seen != Instant::NEVER);
        let had_survived = self.state.unknown().contains(&content);
        if collapsed && image_was_read && had_survived {
            return plain(Rule::ImageChanged);
        }
        if let (true, Some(winner)) = (collapsed, winner) {
            let rule = match self.oracle.became_stable(winner) {
                Some(Stability::AtCompletion(Row::B)) => Rule::FlushlessWriteLost,
                Some(Stability::AtCompletion(_)) => Rule::WriteThroughLost,
                Some(Stability::ByFlush(_) | Stability::BySave(..)) | None => Rule::StableWriteLost,
            };
            return if unheard && superseded { (rule, Class::Resurrected) } else { plain(rule) };
        }
        match line {
            Some((entry, _)) if entry.state == State::Abandoned => plain(Rule::LateEffect),
            Some((entry, _)) if !collapsed || entry.powered_life == self.oracle.powered_life() => {
                plain(Rule::ReadsDisagree)
            }
            _ if self.nodes().iter().any(|node| node.content == content) => {
                plain(Rule::ReadsDisagree)
            }
            _ => plain(Rule::UntouchedChanged),
        }
    }

    /// The events of the requests involved, in order.
    fn because(&self, winner: Option<RequestId>) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for id in [winner, self.seen_writer()].into_iter().flatten() {
            self.oracle.history(id, &mut reasons);
        }
        if let Some(id) = winner {
            match self.oracle.became_stable(id) {
                Some(Stability::AtCompletion(row)) => {
                    let at = self.oracle.ledger.fate(Slot::of(id)).end;
                    reasons.push(Reason::StableAtCompletion { id, row, at });
                }
                Some(Stability::ByFlush(flush)) => {
                    let fate = self.oracle.ledger.fate(Slot::of(flush));
                    reasons.push(Reason::FlushSubmitted { id: flush, at: fate.sub });
                    reasons.push(Reason::FlushCompleted { id: flush, at: fate.end });
                }
                Some(Stability::BySave(begun, at)) => reasons.push(Reason::Saved { begun, at }),
                None => {}
            }
        }
        self.earlier_reads(&mut reasons);
        reasons.extend(self.oracle.powered_lives.last().map(|&at| Reason::PowerLoss { at }));
        reasons.extend(self.oracle.failed.map(|at| Reason::HostFailed { at }));
        if self.nodes().iter().any(|node| node.slot.is_found()) {
            reasons.push(Reason::Kill { at: self.oracle.ledger.fate(Slot::IMAGE).end });
        }
        reasons.push(Reason::ReadSaw {
            id: self.read,
            content: self.seen,
            from: self.from,
            at: self.to,
        });
        reasons.sort_by_key(|reason| reason.at());
        reasons.dedup();
        reasons
    }

    /// Appends the reads that set `first` and `last` of this atom's versions. The moments of events
    /// are unique, so they identify the read.
    fn earlier_reads(&self, reasons: &mut Vec<Reason>) {
        for (id, entry, fate) in self.oracle.ledger.all() {
            if entry.kind == Kind::In && id != self.read && entry.covers(self.number()) {
                let saw = self.nodes().iter().find(|node| {
                    node.seen != Instant::NEVER && (node.seen == fate.end || node.last == fate.sub)
                });
                if let Some(node) = saw {
                    let content = Observed::Content(node.content);
                    reasons.push(Reason::ReadSaw { id, content, from: fate.sub, at: fate.end });
                }
            }
        }
    }
}

/// The cause of a write's stability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stability {
    /// The cache mode, in this row of the stability table.
    AtCompletion(Row),
    /// This flush, the first to complete.
    ByFlush(RequestId),
    /// A save with this begin and end.
    BySave(Instant, Instant),
}

impl Oracle {
    fn line(&self, id: RequestId) -> Option<(&Entry, &Fate)> {
        let slot = Slot::of(id);
        self.ledger.entry(slot).map(|entry| (entry, self.ledger.fate(slot)))
    }

    /// Number of power losses so far.
    pub(crate) fn powered_life(&self) -> u32 {
        u32::try_from(self.powered_lives.len()).expect("fewer power losses than events")
    }

    /// The cause that made the write `id` stable before the next power loss; `None` if it was never
    /// stable.
    pub(crate) fn became_stable(&self, id: RequestId) -> Option<Stability> {
        let (entry, fate) = self.line(id)?;
        if fate.stable_after == Instant::NEVER {
            return None;
        }
        if fate.stable_after == Instant(0) {
            return entry.row.map(Stability::AtCompletion);
        }
        let flushes = self.ledger.all().filter(|(_, flush, _)| {
            flush.counts
                && flush.state == State::Used
                && flush.status == S_OK
                && flush.powered_life == entry.powered_life
        });
        let after = flushes.filter(|(_, _, flush)| fate.end < flush.sub);
        let by_flush = after.min_by_key(|(_, _, flush)| flush.end);
        let lost = self.powered_lives.get(entry.powered_life as usize);
        let counts = |&&(begun, _): &&(Instant, Instant)| {
            fate.end < begun && lost.is_none_or(|&at| begun < at)
        };
        match (by_flush, self.saves.iter().find(counts)) {
            (Some((id, ..)), _) => Some(Stability::ByFlush(id)),
            (None, Some(&(begun, at))) => Some(Stability::BySave(begun, at)),
            (None, None) => None,
        }
    }

    /// Appends the events of one request.
    pub(crate) fn history(&self, id: RequestId, reasons: &mut Vec<Reason>) {
        let Some((entry, fate)) = self.line(id) else { return };
        reasons.push(Reason::Submitted { id, at: fate.sub });
        match entry.state {
            State::Used => {
                reasons.push(Reason::Completed { id, status: entry.status, at: fate.end })
            }
            State::Abandoned => reasons.push(Reason::Abandoned { id, at: fate.end }),
            State::Owed(_) | State::Unknown => {}
        }
        if entry.void {
            reasons.push(Reason::NeverAVersion { id, at: fate.sub });
        }
    }
}
