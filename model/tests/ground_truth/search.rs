//! Walks every history within bounds and compares, at each read, what the truth allows with what the oracle says.

use powerfail_model::{
    Atom, Content, Kind, Observed, Oracle, Profile, Request, Rule, Segment, Terms,
};

use crate::history::{History, Op, request};
use crate::worlds::{INITIAL, Truth, ZERO};

const FLUSH: u64 = 1 << 9;
const CONFIG_WCE: u64 = 1 << 11;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

/// Which cache mode a history runs in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only a flush makes stable.
    WriteBack,
    /// Completion makes stable, for `writeback` is zero.
    WriteThrough,
    /// Completion makes stable, for FLUSH was offered and refused.
    Flushless,
}

/// How much a history may hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) ops: [u8; 5],
    /// Power losses, each followed at once by a read.
    pub(crate) losses_read: u8,
    /// Power losses that nothing follows but what comes.
    pub(crate) losses: u8,
    pub(crate) resets: u8,
    pub(crate) kills: u8,
    pub(crate) toggles: u8,
    /// Requests may fail.
    pub(crate) errors: bool,
    pub(crate) profile: Profile,
    pub(crate) mode: Mode,
}

impl Bounds {
    pub(crate) fn new(writes: u8, reads: u8, flushes: u8) -> Self {
        Self {
            ops: [writes, 0, 0, reads, flushes],
            losses_read: 0,
            losses: 0,
            resets: 0,
            kills: 0,
            toggles: 0,
            errors: true,
            profile: Profile::Strict,
            mode: Mode::WriteBack,
        }
    }

    pub(crate) fn zeroes(mut self, zeroes: u8, discards: u8) -> Self {
        self.ops[1] = zeroes;
        self.ops[2] = discards;
        self
    }

    fn terms(&self, host_may_fail: bool) -> Terms {
        let offered = FLUSH | CONFIG_WCE | DISCARD | WRITE_ZEROES;
        let negotiated = match self.mode {
            Mode::Flushless => offered & !(FLUSH | CONFIG_WCE),
            Mode::WriteBack | Mode::WriteThrough => offered,
        };
        Terms {
            offered,
            negotiated,
            writeback: self.mode == Mode::WriteBack,
            capacity: 1,
            max_discard_sectors: 8,
            max_discard_seg: 2,
            max_write_zeroes_sectors: 8,
            max_write_zeroes_seg: 2,
            host_may_fail,
        }
    }
}

/// What a walk found.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) nodes: u64,
    pub(crate) reads_right: u64,
    pub(crate) reads_wrong: u64,
    /// The oracle objected to what an honest disk could have shown.
    pub(crate) false_alarms: u64,
    /// The oracle was silent about what no honest disk could have shown.
    pub(crate) misses: u64,
    /// The first of either.
    pub(crate) example: Option<Vec<String>>,
}

#[derive(Clone)]
struct Here<T> {
    worlds: T,
    history: History,
    oracle: Oracle,
    left: Bounds,
}

/// The whole walk.
pub(crate) fn walk<T: Truth>(bounds: Bounds) -> Found {
    let mut oracle = Oracle::new(bounds.profile, 1);
    oracle.begin_life(bounds.terms(!T::EXACT));
    let history = History { write_through: bounds.mode != Mode::WriteBack, ..History::default() };
    let mut found = Found::default();
    visit(
        &Here { worlds: T::new(), history, oracle, left: bounds },
        bounds,
        &mut found,
        &mut Vec::new(),
    );
    found
}

fn visit<T: Truth>(here: &Here<T>, bounds: Bounds, found: &mut Found, story: &mut Vec<String>) {
    found.nodes += 1;
    let here = Here { worlds: here.worlds.closed(&here.history), ..here.clone() };
    for (kind, op) in Op::ALL.into_iter().enumerate() {
        if here.left.ops[kind] > 0 {
            let mut next = here.clone();
            next.left.ops[kind] -= 1;
            let id = next.submit(op);
            story.push(format!("sub {op:?} {id}"));
            visit(&next, bounds, found, story);
            story.pop();
        }
    }
    for id in here.history.pending() {
        let op = here.history.op(id);
        if op == Op::Read {
            for seen in contents(&here.history) {
                here.read(id, seen, bounds, found, story);
            }
            continue;
        }
        let fails = here.left.errors && (op.writes() || !T::EXACT);
        let answers: &[bool] = if fails { &[true, false] } else { &[true] };
        for &ok in answers {
            let mut next = here.clone();
            next.worlds = next.worlds.complete(id, ok, None, &next.history);
            next.history.complete(id, ok);
            let answer = next.oracle.complete(request(id), u8::from(!ok), &[]);
            // A legal request may not fail on a host that does not, but what follows from its failure is exact only there.
            let objection = answer.err().map(|violation| violation.rule);
            assert_eq!(objection, (!ok && T::EXACT).then_some(Rule::LegalRequestFailed));
            assert!(
                next.worlds.is_possible() || !T::EXACT,
                "a write may land just before it completes"
            );
            if !next.worlds.is_possible() {
                continue;
            }
            story.push(format!("{id} {}", if ok { "OK" } else { "ERR" }));
            visit(&next, bounds, found, story);
            story.pop();
        }
    }
    here.crashes(bounds, found, story);
}

/// Everything a read could claim to have found.
fn contents(history: &History) -> Vec<u8> {
    let mut contents = vec![INITIAL];
    contents.extend(
        (1..=history.lines.len())
            .filter(|&id| history.op(id) == Op::Write)
            .map(|id| u8::try_from(id).expect("few")),
    );
    if history.lines.iter().any(|line| matches!(line.op, Op::Zero | Op::Discard)) {
        contents.push(ZERO);
    }
    contents
}

impl<T: Truth> Here<T> {
    fn submit(&mut self, op: Op) -> usize {
        let id = self.history.submit(op);
        self.worlds = self.worlds.submit(id);
        let whole = [Segment { sector: 0, sectors: 1, flags: 0 }];
        let (kind, bytes, segments) = match op {
            Op::Write => (Kind::Out, 512, &[][..]),
            Op::Read => (Kind::In, 512, &[][..]),
            Op::Flush => (Kind::Flush, 0, &[][..]),
            Op::Zero => (Kind::WriteZeroes, 16, &whole[..]),
            Op::Discard => (Kind::Discard, 16, &whole[..]),
        };
        self.oracle
            .submit(request(id), &Request { kind, sector: 0, bytes, segments, malformed: false });
        id
    }

    /// Read `id` claims to have found `seen`: compare, and go on if both agree that it may.
    fn read(
        &self,
        id: usize,
        seen: u8,
        bounds: Bounds,
        found: &mut Found,
        story: &mut Vec<String>,
    ) {
        let mut next = self.clone();
        next.worlds = next.worlds.complete(id, true, Some(seen), &next.history);
        next.history.complete(id, true);
        let may = next.worlds.is_possible();
        let says = next.oracle.complete(request(id), 0, &[observed(seen)]).is_ok();
        story.push(format!("{id} = {}", name(seen)));
        match (may, says) {
            (true, true) => {
                found.reads_right += 1;
                next.compare_candidates(story);
                visit(&next, bounds, found, story);
            }
            (false, false) => found.reads_wrong += 1,
            (true, false) => found.disagree(true, T::EXACT, story),
            (false, true) => found.disagree(false, T::EXACT, story),
        }
        story.pop();
    }

    /// What the oracle would expect of a power loss now is what the truth could leave.
    fn compare_candidates(&self, story: &[String]) {
        if self.oracle.profile() == Profile::Literal {
            return;
        }
        let mut expected = Vec::new();
        self.oracle.candidates(Atom(0), &mut expected);
        let truth = self.worlds.closed(&self.history).power_loss(&self.history);
        let mut truth: Vec<Content> =
            truth.first_contents(&self.history).into_iter().map(named).collect();
        truth.sort_unstable();
        if T::EXACT {
            assert_eq!(expected, truth, "{}", story.join("; "));
        } else {
            assert!(truth.iter().all(|content| expected.contains(content)), "{}", story.join("; "));
        }
    }

    fn crashes(&self, bounds: Bounds, found: &mut Found, story: &mut Vec<String>) {
        let terms = bounds.terms(!T::EXACT);
        if self.left.losses_read > 0 {
            let mut next = self.clone();
            next.left.losses_read -= 1;
            next.lose_power(&terms);
            let id = next.submit(Op::Read);
            next.worlds = next.worlds.closed(&next.history);
            story.push("POWER".to_owned());
            for seen in contents(&next.history) {
                next.read(id, seen, bounds, found, story);
            }
            story.pop();
        }
        if self.left.losses > 0 {
            let mut next = self.clone();
            next.left.losses -= 1;
            next.lose_power(&terms);
            story.push("POWER".to_owned());
            visit(&next, bounds, found, story);
            story.pop();
        }
        for (left, kill) in [(self.left.resets, false), (self.left.kills, true)] {
            if left == 0 {
                continue;
            }
            let mut next = self.clone();
            next.worlds = next.worlds.abandon(kill);
            next.history.abandon();
            if kill {
                next.left.kills -= 1;
                next.oracle.backend_kill();
            } else {
                next.left.resets -= 1;
                next.oracle.reset_shown();
            }
            next.begin_life(&terms);
            story.push(if kill { "KILL" } else { "RESET" }.to_owned());
            visit(&next, bounds, found, story);
            story.pop();
        }
        if self.left.toggles > 0 {
            let mut next = self.clone();
            next.left.toggles -= 1;
            next.history.toggle();
            next.oracle.set_writeback(!next.history.write_through);
            story.push("TOGGLE".to_owned());
            visit(&next, bounds, found, story);
            story.pop();
        }
    }

    fn lose_power(&mut self, terms: &Terms) {
        self.worlds = self.worlds.power_loss(&self.history);
        self.history.abandon();
        self.oracle.power_loss().expect("something always survives");
        self.begin_life(terms);
    }

    fn begin_life(&mut self, terms: &Terms) {
        self.history.write_through = !terms.writeback;
        self.oracle.begin_life(*terms);
    }
}

impl Found {
    fn disagree(&mut self, false_alarm: bool, exact: bool, story: &[String]) {
        if false_alarm {
            self.false_alarms += 1;
        } else {
            self.misses += 1;
        }
        if !false_alarm && !exact {
            return;
        }
        if self.example.as_ref().is_none_or(|example| example.len() > story.len()) {
            self.example = Some(story.to_vec());
        }
    }
}

fn named(code: u8) -> Content {
    match code {
        INITIAL => Content::INITIAL,
        ZERO => Content::ZERO,
        id => Content::of(request(id.into())),
    }
}

fn observed(code: u8) -> Observed {
    Observed::Content(named(code))
}

fn name(code: u8) -> String {
    named(code).to_string()
}
