//! Walks every history within bounds and compares, at each read, the ground truth with the verdict
//! of the oracle.

use powerfail_model::{
    Atom, Content, Framing, Kind, Observed, Oracle, Profile, Request, Rule, Segment, Terms,
};

use crate::history::{History, Op, request};
use crate::worlds::{INITIAL, Truth, ZERO};

const FLUSH: u64 = 1 << 9;
const CONFIG_WCE: u64 = 1 << 11;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

/// The cache mode of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Only a flush makes writes stable.
    WriteBack,
    /// Completion makes writes stable, because `writeback` is zero.
    WriteThrough,
    /// Completion makes writes stable, because FLUSH was offered and declined.
    Flushless,
}

/// Maximum number of each kind of event in a history.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) ops: [u8; 5],
    /// Power losses that are each followed at once by a read.
    pub(crate) losses_read: u8,
    /// Power losses without a read.
    pub(crate) losses: u8,
    pub(crate) resets: u8,
    pub(crate) kills: u8,
    /// Deaths of the backend that the guest does not see.
    pub(crate) reconnects: u8,
    pub(crate) toggles: u8,
    /// Whether requests may fail.
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
            reconnects: 0,
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

/// The result of a walk.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) nodes: u64,
    pub(crate) reads_right: u64,
    pub(crate) reads_wrong: u64,
    /// Objections of the oracle to observations that an honest disk could cause.
    pub(crate) false_alarms: u64,
    /// Acceptances by the oracle of observations that no honest disk could cause.
    pub(crate) misses: u64,
    /// The first false alarm or miss.
    pub(crate) example: Option<Vec<String>>,
}

#[derive(Clone)]
struct Here<T> {
    worlds: T,
    history: History,
    oracle: Oracle,
    left: Bounds,
}

/// A possible next event.
#[derive(Clone, Copy, Debug)]
enum Move {
    Submit(Op),
    Answer(usize, bool),
    /// A read claims this observation.
    Find(usize, u8),
    LoseAndFind(u8),
    Lose,
    End {
        kill: bool,
    },
    Toggle,
    Reconnect,
}

/// Walks every history.
pub(crate) fn walk<T: Truth>(bounds: Bounds) -> Found {
    let mut found = Found::default();
    visit(&Here::<T>::start(bounds), &mut found, &mut Vec::new());
    found
}

fn visit<T: Truth>(here: &Here<T>, found: &mut Found, story: &mut Vec<Move>) {
    found.nodes += 1;
    let here = here.closed();
    for step in here.moves() {
        story.push(step);
        if let Some(next) = here.step(step, found, story) {
            visit(&next, found, story);
        }
        story.pop();
    }
}

/// Walks `walks` random paths, each until no event is possible.
pub(crate) fn stroll<T: Truth>(bounds: Bounds, walks: u64) -> Found {
    let mut found = Found::default();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..walks {
        let mut here = Here::<T>::start(bounds).closed();
        let mut story = Vec::new();
        loop {
            found.nodes += 1;
            let moves = here.moves();
            if moves.is_empty() {
                break;
            }
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let step = moves[usize::try_from(state >> 33).expect("31 bits") % moves.len()];
            story.push(step);
            match here.step(step, &mut found, &story) {
                Some(next) => here = next.closed(),
                None => {
                    story.pop();
                }
            }
        }
    }
    found
}

/// Every observation that a read could claim.
fn contents(history: &History) -> Vec<u8> {
    let mut contents = vec![INITIAL];
    let writes = (1..=history.lines.len()).filter(|&id| history.op(id) == Op::Write);
    contents.extend(writes.map(|id| u8::try_from(id).expect("few")));
    if history.lines.iter().any(|line| matches!(line.op, Op::Zero | Op::Discard)) {
        contents.push(ZERO);
    }
    contents
}

impl<T: Truth> Here<T> {
    fn start(bounds: Bounds) -> Self {
        let mut oracle = Oracle::new(bounds.profile, 1);
        oracle.begin_life(bounds.terms(!T::EXACT));
        let history =
            History { write_through: bounds.mode != Mode::WriteBack, ..History::default() };
        Self { worlds: T::new(), history, oracle, left: bounds }
    }

    fn closed(&self) -> Self {
        Self { worlds: self.worlds.closed(&self.history), ..self.clone() }
    }

    fn moves(&self) -> Vec<Move> {
        let left = &self.left;
        let may_send = |&(kind, _): &(usize, Op)| left.ops[kind] > 0;
        let mut moves: Vec<Move> = Op::ALL
            .into_iter()
            .enumerate()
            .filter(may_send)
            .map(|(_, op)| Move::Submit(op))
            .collect();
        for id in self.history.pending() {
            let op = self.history.op(id);
            if op == Op::Read {
                moves.extend(contents(&self.history).into_iter().map(|seen| Move::Find(id, seen)));
                continue;
            }
            moves.push(Move::Answer(id, true));
            if left.errors && (op.writes() || !T::EXACT) {
                moves.push(Move::Answer(id, false));
            }
        }
        if left.losses_read > 0 {
            moves.extend(contents(&self.history).into_iter().map(Move::LoseAndFind));
        }
        let crashes = [
            (left.losses, Move::Lose),
            (left.resets, Move::End { kill: false }),
            (left.kills, Move::End { kill: true }),
            (left.toggles, Move::Toggle),
            (left.reconnects, Move::Reconnect),
        ];
        moves.extend(crashes.into_iter().filter(|(left, _)| *left > 0).map(|(_, step)| step));
        moves
    }

    /// Takes a step; `None` if it is impossible.
    fn step(&self, step: Move, found: &mut Found, story: &[Move]) -> Option<Self> {
        let mut next = self.clone();
        match step {
            Move::Submit(op) => {
                next.left.ops[op as usize] -= 1;
                next.submit(op);
            }
            Move::Answer(id, ok) => {
                next.worlds = next.worlds.complete(id, ok, None, &next.history);
                next.history.complete(id, ok);
                let answer = next.oracle.complete(request(id), u8::from(!ok), &[]);
                // A legal request may not fail on a healthy host, but the consequences of a failure
                // are exact only there.
                let objection = answer.err().map(|violation| violation.rule);
                assert_eq!(objection, (!ok && T::EXACT).then_some(Rule::LegalRequestFailed));
                assert!(
                    next.worlds.is_possible() || !T::EXACT,
                    "a write may land just before it completes"
                );
                return next.worlds.is_possible().then_some(next);
            }
            Move::Find(id, seen) => return next.find(id, seen, found, story),
            Move::LoseAndFind(seen) => {
                next.left.losses_read -= 1;
                next.lose_power();
                let id = next.submit(Op::Read);
                return next.closed().find(id, seen, found, story);
            }
            Move::Lose => {
                next.left.losses -= 1;
                next.lose_power();
            }
            Move::End { kill } => {
                next.worlds = next.worlds.abandon(kill);
                next.history.abandon();
                if kill {
                    next.left.kills -= 1;
                    next.oracle.backend_kill();
                } else {
                    next.left.resets -= 1;
                    next.oracle.reset_shown();
                }
                next.begin_life();
            }
            Move::Reconnect => {
                next.left.reconnects -= 1;
                next.worlds = next.worlds.reconnect(&next.history);
                next.history.tick();
                next.oracle.reconnect();
            }
            Move::Toggle => {
                next.left.toggles -= 1;
                next.history.toggle();
                next.oracle.set_writeback(!next.history.write_through);
            }
        }
        Some(next)
    }

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
        self.oracle.submit(
            request(id),
            &Request { kind, sector: 0, bytes, segments, framing: Framing::Sound },
        );
        id
    }

    /// Compares the verdicts on read `id` claiming `seen`; returns the next state if both accept
    /// it.
    fn find(mut self, id: usize, seen: u8, found: &mut Found, story: &[Move]) -> Option<Self> {
        self.worlds = self.worlds.complete(id, true, Some(seen), &self.history);
        self.history.complete(id, true);
        let may = self.worlds.is_possible();
        let says = self.oracle.complete(request(id), 0, &[Observed::Content(named(seen))]).is_ok();
        match (may, says) {
            (true, true) => {
                found.reads_right += 1;
                self.compare_candidates(story);
                return Some(self);
            }
            (false, false) => found.reads_wrong += 1,
            (true, false) => found.disagree(true, T::EXACT, story),
            (false, true) => found.disagree(false, T::EXACT, story),
        }
        None
    }

    /// Compares the oracle's candidates for a power loss now with the contents that it could leave.
    fn compare_candidates(&self, story: &[Move]) {
        if self.oracle.profile() == Profile::Literal {
            return;
        }
        let mut expected = Vec::new();
        self.oracle.candidates(Atom(0), &mut expected);
        let truth = self.worlds.closed(&self.history).power_loss(&self.history);
        let truth = truth.first_contents(&self.history);
        let mut truth: Vec<Content> = truth.into_iter().map(named).collect();
        truth.sort_unstable();
        if T::EXACT {
            assert_eq!(expected, truth, "{story:?}");
        } else {
            assert!(truth.iter().all(|content| expected.contains(content)), "{story:?}");
        }
    }

    fn lose_power(&mut self) {
        self.worlds = self.worlds.power_loss(&self.history);
        self.history.abandon();
        self.oracle.power_loss().expect("something always survives");
        self.begin_life();
    }

    fn begin_life(&mut self) {
        let terms = self.left.terms(!T::EXACT);
        self.history.write_through = !terms.writeback;
        self.oracle.begin_life(terms);
    }
}

impl Found {
    fn disagree(&mut self, false_alarm: bool, exact: bool, story: &[Move]) {
        if false_alarm {
            self.false_alarms += 1;
        } else {
            self.misses += 1;
        }
        if !false_alarm && !exact {
            return;
        }
        if self.example.as_ref().is_none_or(|example| example.len() > story.len()) {
            self.example = Some(story.iter().map(|step| format!("{step:?}")).collect());
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
