//! Servers that are stopped, and servers that are killed.

use crate::daemon::Place;
use crate::guest::{Ask, EVENT_IDX, Guest, PIECE, PLAIN};
use rustix::process::Signal;

const EACH: u64 = PIECE as u64;

#[test]
fn a_stop_ends_well_with_and_without_a_client() {
    for signal in [Signal::TERM, Signal::INT] {
        for connected in [false, true] {
            let place = Place::new(16 * EACH);
            let daemon = place.serve(&[]);
            let guest = connected.then(|| {
                let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
                guest.write(0, EACH, 5);
                guest
            });
            let (status, said) = daemon.end(signal);
            assert_eq!(status.code(), Some(0), "{said}");
            assert_eq!(said.contains("front-end 1 is gone"), connected, "{said}");
            assert!(!place.socket().exists(), "the socket is removed");
            let image = std::fs::read(place.disk()).unwrap();
            assert_eq!(image[PIECE], if connected { 5 } else { 0 });
            drop(guest);
        }
    }
}

#[test]
fn a_stop_answers_what_was_taken() {
    let place = Place::new(64 * EACH);
    let daemon = place.serve(&[]);
    let mut guest = Guest::connect(&place.socket(), PLAIN, 1).unwrap();
    for slot in 0..32 {
        guest.piece(0, slot).fill(9);
        guest.submit(0, slot, Ask::Write(slot as u64 * EACH));
    }
    guest.kick(0);
    let (status, said) = daemon.end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{said}");
    let image = std::fs::read(place.disk()).unwrap();
    let mut answered = [false; 64];
    for (slot, result) in guest.take(0) {
        assert_eq!(result, 0);
        answered[slot] = true;
    }
    for (slot, piece) in image.chunks_exact(PIECE).enumerate() {
        assert_eq!(piece[0] == 9, answered[slot], "slot {slot} is written iff it is answered");
    }
}

#[test]
fn a_killed_server_loses_nothing_that_was_flushed() {
    const SLOTS: usize = 32;
    let place = Place::new(SLOTS as u64 * EACH);
    let mut version = 0_u8;
    let mut flushed = [0_u8; SLOTS];
    let mut sent = [0_u8; SLOTS];
    for round in 0..12 {
        let daemon = place.serve(&["--queues", "2"]);
        let mut guest = Guest::connect(&place.socket(), EVENT_IDX, 2).unwrap();
        for slot in 0..SLOTS {
            let found = guest.read(slot % 2, slot as u64 * EACH);
            assert!(found.iter().all(|byte| *byte == found[0]), "slot {slot} is torn");
            let allowed = flushed[slot]..=sent[slot];
            assert!(allowed.contains(&found[0]), "slot {slot}: {} not in {allowed:?}", found[0]);
            // What was read stays, so from here on it is the least there may be.
            flushed[slot] = found[0];
        }
        for batch in 0..=round % 3 {
            version += 1;
            for (slot, sent) in sent.iter_mut().enumerate() {
                *sent = version;
                guest.piece(slot % 2, slot).fill(version);
                guest.submit(slot % 2, slot, Ask::Write(slot as u64 * EACH));
            }
            guest.kick(0);
            guest.kick(1);
            if batch == round % 3 {
                // The last batch is under way when the server dies.
                break;
            }
            for queue in 0..2 {
                let mut done = 0;
                while done < SLOTS / 2 {
                    done += guest.wait(queue).unwrap().len();
                }
            }
            assert_eq!(guest.run(batch % 2, SLOTS, Ask::Flush), 0);
            flushed = sent;
        }
        let (status, _) = daemon.end(Signal::KILL);
        assert_eq!(status.code(), None, "it was killed");
    }
}
