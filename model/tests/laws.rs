//! Laws: what must hold of the oracle whatever the history.
//!
//! A history is a list of wishes, turned into events by [`Player`]: a wish that is not possible where it stands is skipped. What reads find is
//! drawn from what the oracle itself would accept, or at random, so that both legal and illegal histories are long.

use powerfail_model::{
    Atom, Content, Kind, Observed, Oracle, Profile, Request, RequestId, Segment, Terms, Violation,
};
use proptest::prelude::*;

const ATOMS: u32 = 4;
const FLUSH: u64 = 1 << 9;
const CONFIG_WCE: u64 = 1 << 11;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;

#[derive(Clone, Copy, Debug)]
enum Wish {
    Submit {
        kind: Kind,
        atom: u32,
        atoms: u32,
    },
    /// Completes the request in flight at this place, modulo how many there are.
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

fn wish() -> impl Strategy<Value = Wish> {
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

fn wishes() -> impl Strategy<Value = Vec<Wish>> {
    prop::collection::vec(wish(), 1..60)
}

fn terms(host_may_fail: bool) -> Terms {
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

/// One event as an oracle is told it.
#[derive(Clone, Debug, PartialEq)]
enum Event {
    Submit { id: u32, kind: Kind, atom: u32, atoms: u32 },
    Complete { id: u32, status: u8, seen: Vec<Observed> },
    PowerLoss,
    Reset,
    Kill,
    Writeback(bool),
}

fn tell(oracle: &mut Oracle, event: &Event, terms: &Terms) -> Result<(), Violation> {
    match event {
        Event::Submit { id, kind, atom, atoms } => {
            let segment = [Segment { sector: u64::from(*atom), sectors: *atoms, flags: 0 }];
            let (sector, bytes, segments) = match kind {
                Kind::In | Kind::Out => (u64::from(*atom), 512 * u64::from(*atoms), &[][..]),
                Kind::Discard | Kind::WriteZeroes => (0, 16, &segment[..]),
                _ => (0, 0, &[][..]),
            };
            let request = Request { kind: *kind, sector, bytes, segments, malformed: false };
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

/// Turns wishes into a history that the Strict oracle accepts to the last event but perhaps one.
struct Player {
    oracle: Oracle,
    terms: Terms,
    events: Vec<Event>,
    flying: Vec<(u32, Kind, u32, u32)>,
    next: u32,
    writeback: bool,
    /// Reads find only what they may.
    honest: bool,
    broken: bool,
}

impl Player {
    fn play(wishes: &[Wish], terms: Terms) -> Self {
        Self::play_as(wishes, terms, false)
    }

    fn play_honestly(wishes: &[Wish]) -> Self {
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

    /// Something that read `id` may find in `atom`, after `found` in those before it; rarely, something that it may not.
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
            // What follows is made garbage, so that the first complaint is about it unless it is about this.
            let mut seen = found.to_vec();
            seen.push(Observed::Content(*content));
            seen.resize(atoms, Observed::Garbage);
            let complaint = self.oracle.clone().complete(RequestId(id), 0, &seen).err();
            complaint.is_none_or(|violation| violation.atom.is_some_and(|wrong| wrong.0 > atom))
        };
        let accepted: Vec<Content> = any.iter().copied().filter(right).collect();
        let lies = choice % 50 == 0 && !self.honest;
        let from = if lies || accepted.is_empty() { &any } else { &accepted };
        Observed::Content(from[choice / 50 % from.len()])
    }

    fn event(&mut self, event: Event) {
        self.broken = tell(&mut self.oracle, &event, &self.terms).is_err();
        self.events.push(event);
    }
}

/// What an oracle says to a history: the place of its first objection.
fn objection(profile: Profile, events: &[Event], terms: &Terms) -> Option<usize> {
    let mut oracle = Oracle::new(profile, ATOMS);
    oracle.begin_life(*terms);
    events.iter().position(|event| tell(&mut oracle, event, terms).is_err())
}

fn candidates(oracle: &Oracle, atom: u32) -> Vec<Content> {
    let mut out = Vec::new();
    oracle.candidates(Atom(atom), &mut out);
    out
}

fn config() -> ProptestConfig {
    ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn something_always_survives(wishes in wishes(), fails: bool) {
        let player = Player::play(&wishes, terms(fails));
        for atom in 0..ATOMS {
            prop_assert!(!candidates(&player.oracle, atom).is_empty());
        }
    }

    #[test]
    fn whatever_may_survive_may_be_read_after_a_power_loss(wishes in wishes(), fails: bool, atom in 0..ATOMS) {
        let player = Player::play(&wishes, terms(fails));
        let survivors = candidates(&player.oracle, atom);
        let any = (1..player.next).map(|id| Content::of(RequestId(id))).chain([Content::INITIAL, Content::ZERO]);
        for content in any {
            let mut oracle = player.oracle.clone();
            oracle.power_loss().expect("something survives");
            oracle.begin_life(player.terms);
            let read = Request { kind: Kind::In, sector: u64::from(atom), bytes: 512, segments: &[], malformed: false };
            oracle.submit(RequestId(player.next), &read);
            let says = oracle.complete(RequestId(player.next), 0, &[Observed::Content(content)]).is_ok();
            prop_assert_eq!(says, survivors.contains(&content), "{}", content);
        }
    }

    #[test]
    fn literal_accepts_whatever_strict_accepts(wishes in wishes(), fails: bool) {
        let player = Player::play(&wishes, terms(fails));
        let strict = objection(Profile::Strict, &player.events, &player.terms).unwrap_or(usize::MAX);
        let literal = objection(Profile::Literal, &player.events, &player.terms).unwrap_or(usize::MAX);
        prop_assert!(strict <= literal, "{} {}", strict, literal);
    }

    #[test]
    fn a_host_that_may_fail_is_owed_no_less_patience(wishes in wishes()) {
        let player = Player::play(&wishes, terms(false));
        let plain = objection(Profile::Strict, &player.events, &terms(false)).unwrap_or(usize::MAX);
        let patient = objection(Profile::Strict, &player.events, &terms(true)).unwrap_or(usize::MAX);
        prop_assert!(plain <= patient);
    }

    #[test]
    fn a_restarted_oracle_is_a_new_one(first in wishes(), second in wishes(), fails: bool) {
        let (before, player) = (Player::play(&first, terms(fails)), Player::play(&second, terms(fails)));
        let mut used = before.oracle;
        used.restart(Profile::Strict, ATOMS);
        let mut new = Oracle::new(Profile::Strict, ATOMS);
        used.begin_life(player.terms);
        new.begin_life(player.terms);
        for event in &player.events {
            let (a, b) = (tell(&mut used, event, &player.terms), tell(&mut new, event, &player.terms));
            prop_assert_eq!(a, b);
            for atom in 0..ATOMS {
                prop_assert_eq!(candidates(&used, atom), candidates(&new, atom));
                prop_assert_eq!(used.loose_versions(Atom(atom)), new.loose_versions(Atom(atom)));
            }
        }
    }

    #[test]
    fn atoms_are_independent(wishes in wishes(), atom in 0..ATOMS) {
        let player = Player::play(&wishes, terms(false));
        let touches = |event: &Event| match event {
            Event::Submit { kind: Kind::Flush, .. } => true,
            Event::Submit { atom: first, atoms, .. } => (*first..first + atoms).contains(&atom),
            _ => true,
        };
        // The same history without the requests that leave this atom alone, the others cut down to it.
        let mut kept = Vec::new();
        let mut firsts = vec![None; player.next as usize];
        for event in &player.events {
            match event {
                Event::Submit { id, kind, atom: first, .. } if touches(event) => {
                    firsts[*id as usize] = Some(*first);
                    kept.push(Event::Submit { id: *id, kind: *kind, atom, atoms: 1 });
                }
                Event::Submit { .. } => {}
                Event::Complete { id, status, seen } => {
                    if let Some(first) = firsts[*id as usize] {
                        let seen = seen.get((atom.saturating_sub(first)) as usize).copied().into_iter().collect();
                        kept.push(Event::Complete { id: *id, status: *status, seen });
                    }
                }
                event => kept.push(event.clone()),
            }
        }
        let mut oracle = Oracle::new(Profile::Strict, ATOMS);
        oracle.begin_life(player.terms);
        let mut complained = false;
        for event in &kept {
            complained |= tell(&mut oracle, event, &player.terms).is_err();
        }
        if !player.broken {
            prop_assert!(!complained);
        }
        if !complained {
            prop_assert_eq!(candidates(&oracle, atom), candidates(&player.oracle, atom));
        }
    }

    #[test]
    fn what_is_stable_stays_so_while_the_power_is_on(wishes in wishes(), more in wishes(), atom in 0..ATOMS) {
        let before = Player::play(&wishes, terms(false));
        let was = candidates(&before.oracle, atom);
        let calm: Vec<Wish> = more.into_iter().filter(|wish| !matches!(wish, Wish::PowerLoss)).collect();
        let after = Player::play(&[&wishes[..], &calm[..]].concat(), terms(false));
        // Whatever could not survive then and was written before then cannot survive later.
        let written = |content: &Content| content.writer().is_none_or(|id| id.0 < before.next);
        for content in candidates(&after.oracle, atom).into_iter().filter(written) {
            prop_assert!(was.contains(&content) || content == Content::ZERO || before.broken, "{}", content);
        }
    }

    #[test]
    fn a_flush_never_promotes_what_was_in_flight(wishes in wishes(), atom in 0..ATOMS) {
        let player = Player::play_honestly(&wishes);
        prop_assert!(!player.broken);
        let mut oracle = player.oracle;
        oracle.set_writeback(true);
        let (write, flush) = (player.next, player.next + 1);
        let mut tell = |event: Event| tell(&mut oracle, &event, &player.terms);
        tell(Event::Submit { id: write, kind: Kind::Out, atom, atoms: 1 }).expect("legal");
        tell(Event::Submit { id: flush, kind: Kind::Flush, atom: 0, atoms: 0 }).expect("legal");
        tell(Event::Complete { id: write, status: 0, seen: Vec::new() }).expect("legal");
        tell(Event::Complete { id: flush, status: 0, seen: Vec::new() }).expect("legal");
        prop_assert!(candidates(&oracle, atom).len() > 1);
        prop_assert!(oracle.loose_versions(Atom(atom)) > 0);
    }

    #[test]
    fn a_flush_of_a_quiet_disk_leaves_one_content(wishes in wishes(), atom in 0..ATOMS) {
        let player = Player::play_honestly(&wishes);
        prop_assert!(!player.broken);
        let mut oracle = player.oracle;
        let terms = player.terms;
        oracle.reset_shown();
        oracle.begin_life(terms);
        let (write, flush) = (player.next, player.next + 1);
        let mut tell = |event: Event| tell(&mut oracle, &event, &terms);
        tell(Event::Submit { id: write, kind: Kind::Out, atom, atoms: 1 }).expect("legal");
        tell(Event::Complete { id: write, status: 0, seen: Vec::new() }).expect("legal");
        tell(Event::Submit { id: flush, kind: Kind::Flush, atom: 0, atoms: 0 }).expect("legal");
        tell(Event::Complete { id: flush, status: 0, seen: Vec::new() }).expect("legal");
        prop_assert_eq!(candidates(&oracle, atom), vec![Content::of(RequestId(write))]);
        prop_assert_eq!(oracle.loose_versions(Atom(atom)), 0);
    }

    #[test]
    fn what_is_owed_is_what_was_sent_and_not_answered(wishes in wishes()) {
        let player = Player::play(&wishes, terms(false));
        let mut owed: Vec<u32> = player.oracle.outstanding().map(|id| id.0).collect();
        let mut flying: Vec<u32> = player.flying.iter().map(|&(id, ..)| id).collect();
        prop_assert!(owed.is_sorted());
        owed.sort_unstable();
        flying.sort_unstable();
        prop_assert_eq!(&owed, &flying);
        prop_assert_eq!(player.oracle.quiesce().is_ok(), flying.is_empty());
    }
}
