//! Properties of the oracle over random histories.

mod player;

use player::{ATOMS, Event, Player, Wish, tell, terms, wishes};
use powerfail_model::{
    Atom, Content, Framing, Kind, Observed, Oracle, Profile, Request, RequestId, Terms,
};
use proptest::prelude::*;

/// Index of the first event of a history to which an oracle objects.
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
            let read = Request { kind: Kind::In, sector: u64::from(atom), bytes: 512, segments: &[], framing: Framing::Sound };
            oracle.submit(RequestId(player.next), &read);
            let says = oracle.complete(RequestId(player.next), 0, &[Observed::Content(content)]).is_ok();
            prop_assert_eq!(says, survivors.contains(&content), "{}", content);
        }
    }

    #[test]
    fn some_atom_has_as_many_loose_versions_as_the_one_with_most(wishes in wishes(), fails: bool) {
        let player = Player::play(&wishes, terms(fails));
        let most = (0..ATOMS).map(|atom| player.oracle.loose_versions(Atom(atom))).max();
        for least in 0..6 {
            prop_assert_eq!(player.oracle.some_atom_has_loose_versions(least), most >= Some(least));
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
        // The same history with the requests cut down to this atom, and without those that do not
        // touch it.
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
        // A content that was written before that moment and could not survive then cannot survive
        // later.
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
