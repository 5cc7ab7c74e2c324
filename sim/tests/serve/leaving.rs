//! Clients that connect, disconnect and vanish. The server is ready for the next one, and has lost
//! no data.

use crate::daemon::Place;
use crate::front::{Front, GET_FEATURES};
use crate::guest::{EVENT_IDX, Guest, GuestRequest, PIECE, PLAIN};
use crate::judged::{Judge, times};
use crate::lives::{FOUR_QUEUES, connect, expect, is_direct, keeps_nothing};
use powerfail_model::Oracle;
use rustix::process::Signal;

const EACH: u64 = PIECE as u64;

#[test]
fn the_next_client_on_the_socket_finds_what_the_last_one_wrote() {
    let place = Place::new(16 * EACH);
    let mut daemon = place.serve(&[]);
    for (byte, features) in [(1, PLAIN), (2, EVENT_IDX), (3, PLAIN)] {
        let mut guest = Guest::connect(&place.socket(), features, 1).unwrap();
        assert_eq!(guest.read(0, 0), [byte - 1; PIECE]);
        guest.write(0, 0, byte);
        drop(guest);
        daemon.until("is gone");
    }
}

#[test]
fn a_client_that_vanishes_leaves_whole_pieces_behind() {
    const SLOTS: usize = 32;
    let place = Place::new(SLOTS as u64 * EACH);
    let mut daemon = place.serve(&["--queues", "2"]);
    let mut written = 0;
    for round in 1..=40_u8 {
        let mut guest = Guest::connect(&place.socket(), PLAIN, 2).unwrap();
        for slot in 0..SLOTS {
            guest.piece(slot % 2, slot).fill(round);
            guest.submit(slot % 2, slot, GuestRequest::Write(slot as u64 * EACH));
        }
        guest.submit(0, SLOTS, GuestRequest::Flush);
        guest.kick(0);
        guest.kick(1);
        if round % 2 == 0 {
            written += guest.wait(usize::from(round / 2 % 2)).unwrap().len();
        }
        drop(guest);
        daemon.until("is gone");
        let image = std::fs::read(place.disk()).unwrap();
        for (slot, piece) in image.chunks_exact(PIECE).enumerate() {
            assert!(piece.iter().all(|byte| *byte == piece[0]), "slot {slot} is torn");
            assert!(piece[0] <= round, "slot {slot} holds data that was never written");
        }
    }
    assert!(written > 0, "some were seen to complete");
    let mut guest = Guest::connect(&place.socket(), PLAIN, 2).unwrap();
    guest.write(1, 0, 99);
    assert_eq!(guest.read(0, 0), [99; PIECE]);
}

/// Clients that read the data of the last one, send more requests, and disconnect after all
/// answers, with requests in flight, or before the first message.
fn clients_come_and_go(seed: u32, more: &[&str]) {
    let connections = times("POWERFAIL_CONNECTIONS", 300);
    let mut judge = Judge::new(seed);
    let place = Place::holding(&judge.image());
    if more.contains(&"--direct") && !is_direct(&place) {
        return;
    }
    let daemon = place.serve(&[&FOUR_QUEUES, more].concat());
    let mut footprints = Vec::new();
    for n in 0..connections {
        if n % 8 == 7 {
            drop(Front::silent(&place.socket()));
        } else {
            let mut guest = expect(connect(&place, &mut judge));
            let requests = judge.draw(60);
            expect(judge.load(&mut guest, requests));
            if n % 3 == 0 {
                expect(judge.settle(&mut guest));
            }
            drop(guest);
            judge.end(Oracle::reset_shown);
        }
        // A client that gets an answer has the server alone; the server does not log every one of
        // so many.
        let mut next = Front::silent(&place.socket());
        next.ask(GET_FEATURES, &[]).unwrap();
        footprints.push(daemon.footprint());
    }
    println!("{connections} clients {more:?}, {judge}");
    keeps_nothing(&footprints);
    let (status, said) = daemon.end(Signal::TERM);
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(place.names(), ["disk.img"], "nothing is left on the host's disk");
    assert!(judge.cut_short > connections / 4, "clients left in the middle");
}

#[test]
fn clients_that_come_and_go_lose_nothing_and_leave_nothing_behind() {
    clients_come_and_go(1, &[]);
}

#[test]
fn clients_that_come_and_go_on_direct_transfers_leave_nothing_behind_either() {
    clients_come_and_go(2, &["--direct"]);
}
