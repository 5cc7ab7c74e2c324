//! Clients that come, go and vanish. The server is there for the next one, and has lost nothing on the way.

use crate::daemon::Place;
use crate::guest::{Ask, EVENT_IDX, Guest, PIECE, PLAIN};

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

/// A few hundred in the usual run; `SERVE_CONNECTIONS=10000` for more.
#[test]
fn no_connection_leaves_anything_open() {
    let connections = std::env::var("SERVE_CONNECTIONS").map_or(300, |n| n.parse().unwrap());
    let place = Place::new(16 * EACH);
    let mut daemon = place.serve(&["--queues", "4"]);
    let descriptors = daemon.descriptors();
    for n in 0..connections {
        let mut guest = Guest::connect(&place.socket(), EVENT_IDX, 4).unwrap();
        if n % 2 == 0 {
            guest.write((n / 2) % 4, EACH, n as u8);
            assert_eq!(guest.read((n / 2 + 1) % 4, EACH), [n as u8; PIECE]);
        }
        drop(guest);
        daemon.until("is gone");
    }
    assert_eq!(daemon.descriptors(), descriptors);
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
            guest.submit(slot % 2, slot, Ask::Write(slot as u64 * EACH));
        }
        guest.submit(0, SLOTS, Ask::Flush);
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
            assert!(piece[0] <= round, "slot {slot} holds what nobody wrote");
        }
    }
    assert!(written > 0, "some were seen to complete");
    let mut guest = Guest::connect(&place.socket(), PLAIN, 2).unwrap();
    guest.write(1, 0, 99);
    assert_eq!(guest.read(0, 0), [99; PIECE]);
}
