//! What a well-behaved driver gets.

use crate::daemon::Place;
use crate::guest::{Ask, EVENT_IDX, Guest, PIECE, PLAIN};

const EACH: u64 = PIECE as u64;

#[test]
fn every_request_does_what_it_says_with_and_without_event_idx() {
    for features in [PLAIN, EVENT_IDX] {
        let place = Place::new(64 * EACH);
        let _daemon = place.serve(&["--queues", "4"]);
        let mut guest = Guest::connect(&place.socket(), features, 4).unwrap();
        assert_eq!(guest.features() & features & EVENT_IDX & !PLAIN, features & EVENT_IDX & !PLAIN);
        for queue in 0..4 {
            let at = queue as u64 * 8 * EACH;
            for offset in 0..4 {
                guest.write(queue, at + offset * EACH, 7 + queue as u8);
            }
            assert_eq!(guest.run(queue, 0, Ask::Flush), 0);
            assert_eq!(guest.run(queue, 0, Ask::Zero(at + EACH, EACH, false)), 0);
            assert_eq!(guest.run(queue, 0, Ask::Zero(at + 2 * EACH, EACH, true)), 0);
            assert_eq!(guest.run(queue, 0, Ask::Discard(at + 3 * EACH, EACH)), 0);
            // What one queue wrote another reads.
            let other = (queue + 1) % 4;
            assert_eq!(guest.read(other, at), [7 + queue as u8; PIECE]);
            assert_eq!(guest.read(other, at + EACH), [0; PIECE]);
            assert_eq!(guest.read(other, at + 2 * EACH), [0; PIECE]);
        }
        let beyond = guest.run(0, 0, Ask::Read(64 * EACH));
        assert!(beyond < 0, "beyond the end: {beyond}");
    }
}
