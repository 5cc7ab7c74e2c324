//! Turns wishes into histories: a wish that is impossible in the current state is skipped.
//!
//! The observations of reads are drawn from those that the oracle accepts or, rarely, from all, so
//! that histories are long but not all legal.

use powerfail_model::{
    Content, Framing, Kind, Observed, Oracle, Profile, Request, RequestId, Segment, Terms,
    Violation,
};
use proptest::prelude::*;

pub(crate) const ATOMS: u32 = 4;
const FLUSH: u64 = 1 << 9;
const CONFIG_WCE: u64 = 1 << 11;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Wish {
    Submit {
        kind: Kind,
        atom: u32,
        atoms: u32,
    },
    /// Completes the request at this index of those in flight, modulo their number.
    Complete {
        place: usize,
        status: u8,
        choice: usize,
    },
    PowerLoss,
    Reset,
    Kill,
    Toggle,
}

pub(crate) fn wish() -> impl Strategy<Value = Wish> {
    let kind = prop_oneof![
        4 => Just(Kind::Out),
        3 => Just(Kind::In),
        2 => Just(Kind::Flush),
        1 => Just(Kind::WriteZeroes),
        1 => Just(Kind::Discard),
    ];
    let submit = (kind, 0..ATOMS, 1..=2u32).prop_map(|(kind, atom, atoms)| Wish::Submit {
        kind,
        atom,
        atoms,
    });
    let status = prop_oneof![8 => Just(0u8), 1 => Just(1u8)];
    let complete = (any::<usize>(), status, any::<usize>())
        .prop_map(|(place, status, choice)| Wish::Complete { place, status, choice });
    prop_oneof![
        8 => submit,
        9 => complete,
        1 => Just(Wish::PowerLoss),
        1 => Just(Wish::Reset),
        1 => Just(Wish::Kill),
        1 => Just(Wish::Toggle),
    ]
}

pub(crate) fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    prop::collection::vec(wish(), 1..60)
}

pub(crate) fn terms(host_may_fail: bool) -> Terms {
    let features = FLUSH | CONFIG_WCE | DISCARD | WRITE_ZEROES;
    Terms {
        offered: features,
        negotiated: features,
        writeback: true,
        capacity: u64::from(ATOMS),
        max_discard_sectors: 8,
        max_discard_seg: 2,
        max_write_zeroes_sectors: 8,
        max_write_zeroes_seg: 2,
        host_may_fail,
    }
}

/// One event of a history.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    Submit { id: u32, kind: Kind, atom: u32, atoms: u32 },
    Complete { id: u32, status: u8, seen: Vec<Observed> },
    PowerLoss,
    Reset,
    Kill,
    Writeback(bool),
}

pub(crate) fn tell(oracle: &mut Oracle, event: &Event, terms: &Terms) -> Result<(), Violation> {
    match event {
        Event::Submit { id, kind, atom, atoms } => {
            let segment = [Segment { sector: u64::from(*atom), sectors: *atoms, flags: 0 }];
            let (sector, bytes, segments) = match kind {
                Kind::In | Kind::Out => (u64::from(*atom), 512 * u64::from(*atoms), &[][..]),
                Kind::Discard | Kind::WriteZeroes => (0, 16, &segment[..]),
                _ => (0, 0, &[][..]),
            };
            let request = Request { kind: *kind, sector, bytes, segments, framing: Framing::Sound };
            oracle.submit(RequestId(*id), &request);
        }
        Event::Complete { id, status, seen } => {
            return oracle.complete(RequestId(*id), *status, seen);
        }
        Event::PowerLoss => oracle.power_loss()?,
        Event::Reset => oracle.reset_shown(),
        Event::Kill => oracle.backend_kill(),
        Event::Writeback(on) => oracle.set_writeback(*on),
    }
    if matches!(event, Event::PowerLoss | Event::Reset | Event::Kill) {
        oracle.begin_life(*terms);
    }
    Ok(())
}

/// Turns wishes into a history of which the Strict oracle accepts all but possibly the last event.
pub(crate) struct Player {
    pub(crate) oracle: Oracle,
    pub(crate) terms: Terms,
    pub(crate) events: Vec<Event>,
    pub(crate) flying: Vec<(u32, Kind, u32, u32)>,
    pub(crate) next: u32,
    pub(crate) writeback: bool,
    /// Reads return only legal observations.
    pub(crate) honest: bool,
    pub(crate) broken: bool,
}

impl Player {
    pub(crate) fn play(wishes: &[Wish], terms: Terms) -> Self {
        Self::play_as(wishes, terms, false)
    }

    pub(crate) fn play_honestly(wishes: &[Wish]) -> Self {
        Self::play_as(wishes, terms(false), true)
    }

    fn play_as(wishes: &[Wish], terms: Terms, honest: bool) -> Self {
        let mut oracle = Oracle::new(Profile::Strict, ATOMS);
        oracle.begin_life(terms);
        let mut player = Self {
            oracle,
            terms,
            events: Vec::new(),
            flying: Vec::new(),
            next: 1,
            writeback: true,
            honest,
            broken: false,
        };
        for wish in wishes {
            if !player.broken {
                player.wish(*wish);
            }
        }
        player
    }

    fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Submit { kind, atom, atoms } => {
                let atoms = atoms.min(ATOMS - atom);
                self.flying.push((self.next, kind, atom, atoms));
                self.event(Event::Submit { id: self.next, kind, atom, atoms });
                self.next += 1;
            }
            Wish::Complete { place, status, choice } => {
                if self.flying.is_empty() {
                    return;
                }
                let (id, kind, atom, atoms) = self.flying.remove(place % self.flying.len());
                let status = if self.terms.host_may_fail { status } else { 0 };
                let mut seen = Vec::new();
                if kind == Kind::In && status == 0 {
                    for place in 0..atoms {
                        seen.push(self.choose(id, atom + place, atoms as usize, &seen, choice));
                    }
                }
                self.event(Event::Complete { id, status, seen });
            }
            Wish::PowerLoss => self.crash(Event::PowerLoss),
            Wish::Reset => self.crash(Event::Reset),
            Wish::Kill => self.crash(Event::Kill),
            Wish::Toggle => {
                self.writeback = !self.writeback;
                self.event(Event::Writeback(self.writeback));
            }
        }
    }

    fn crash(&mut self, event: Event) {
        self.flying.clear();
        self.writeback = true;
        self.event(event);
    }

    /// An observation that read `id` may make in `atom`, after `found` in the atoms before; rarely,
    /// an illegal one.
    fn choose(
        &self,
        id: u32,
        atom: u32,
        atoms: usize,
        found: &[Observed],
        choice: usize,
    ) -> Observed {
        let written = (1..self.next).map(|id| Content::of(RequestId(id)));
        let any: Vec<Content> = written.chain([Content::INITIAL, Content::ZERO]).collect();
        let right = |content: &Content| {
            // The following observations become garbage, so that the first objection concerns them
            // unless it concerns this one.
            let mut seen = found.to_vec();
            seen.push(Observed::Content(*content));
            seen.resize(atoms, Observed::Garbage);
            let complaint = self.oracle.clone().complete(RequestId(id), 0, &seen).err();
            complaint.is_none_or(|violation| violation.atom.is_some_and(|wrong| wrong.0 > atom))
        };
        let accepted: Vec<Content> = any.iter().copied().filter(right).collect();
        let lies = choice.is_multiple_of(50) && !self.honest;
        let from = if lies || accepted.is_empty() { &any } else { &accepted };
        Observed::Content(from[choice / 50 % from.len()])
    }

    fn event(&mut self, event: Event) {
        self.broken = tell(&mut self.oracle, &event, &self.terms).is_err();
        self.events.push(event);
    }
}
