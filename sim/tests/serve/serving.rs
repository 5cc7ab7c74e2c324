//! The service for a well-behaved driver.

use powerfail_device::Disk as _;
use powerfail_device::host::{Access, Regions, UringDisk};
use powerfail_model::Kind;

use crate::daemon::Place;
use crate::guest::{EVENT_IDX, Guest, GuestRequest, PIECE, PLAIN};
use crate::judged::{self, Port, SLOTS};
use crate::lives::{FOUR_QUEUES, QUEUES, is_direct, mount_over};

const EACH: u64 = PIECE as u64;

fn every_request_does_what_it_says(more: &[&str]) {
    let place = Place::holding(&[0; 64 * PIECE]);
    if more.contains(&"--direct") && !is_direct(&place) {
        return;
    }
    for features in [PLAIN, EVENT_IDX] {
        std::fs::write(place.disk(), [0; 64 * PIECE]).unwrap();
        let _daemon = place.serve(&[&FOUR_QUEUES, more].concat());
        let mut guest = Guest::connect(&place.socket(), features, 4).unwrap();
        assert_eq!(guest.features() & features & EVENT_IDX & !PLAIN, features & EVENT_IDX & !PLAIN);
        for queue in 0..4 {
            let at = queue as u64 * 8 * EACH;
            for offset in 0..4 {
                guest.write(queue, at + offset * EACH, 7 + queue as u8);
            }
            assert_eq!(guest.run(queue, 0, GuestRequest::Flush), 0);
            assert_eq!(guest.run(queue, 0, GuestRequest::Zero(at + EACH, EACH, false)), 0);
            assert_eq!(guest.run(queue, 0, GuestRequest::Zero(at + 2 * EACH, EACH, true)), 0);
            assert_eq!(guest.run(queue, 0, GuestRequest::Discard(at + 3 * EACH, EACH)), 0);
            // Another queue reads the data.
            let other = (queue + 1) % 4;
            assert_eq!(guest.read(other, at), [7 + queue as u8; PIECE]);
            assert_eq!(guest.read(other, at + EACH), [0; PIECE]);
            assert_eq!(guest.read(other, at + 2 * EACH), [0; PIECE]);
        }
        let beyond = guest.run(0, 0, GuestRequest::Read(64 * EACH));
        assert!(beyond < 0, "beyond the end: {beyond}");
    }
}

#[test]
fn every_request_does_what_it_says_with_and_without_event_idx() {
    every_request_does_what_it_says(&[]);
}

#[test]
fn every_request_does_what_it_says_on_direct_transfers() {
    every_request_does_what_it_says(&["--direct"]);
}

/// Direct transfers of whole pages only, and queues that write sectors of one page at the same
/// time.
#[test]
fn sectors_of_one_granule_are_all_kept_whichever_queue_writes_them() {
    let place = Place::new(0);
    let Some(mount) = mount_over(&place) else { return };
    mount.power().fill(&[0; 8 * PIECE]);
    let access = Access { read_only: false, direct: true };
    let granule = UringDisk::<Regions>::open(&place.disk(), access).unwrap().limits().granule;
    assert_eq!(granule, 4096);
    let _daemon = place.serve(&[&FOUR_QUEUES[..], &["--direct"]].concat());
    let mut guest = Guest::connect(&place.socket(), PLAIN, QUEUES).unwrap();
    for round in 1..=50_u8 {
        for slot in 0..SLOTS {
            for queue in 0..QUEUES {
                // Each queue writes two sectors of each page, and no two write one sector.
                let sector = (slot / 2 * 8 + slot % 2 * QUEUES + queue) as u32;
                let ask = judged::GuestRequest { kind: Kind::Out, sector, sectors: 1 };
                Port::submit(&mut guest, queue, slot, ask, &[round ^ sector as u8; 512]);
            }
        }
        (0..QUEUES).for_each(|queue| guest.kick(queue));
        for queue in 0..QUEUES {
            let mut answered = 0;
            while answered < SLOTS {
                let done = Port::wait(&mut guest, queue);
                assert!(done.iter().all(|(_, status)| *status == 0));
                answered += done.len();
            }
        }
        for (sector, bytes) in (0..).zip(std::fs::read(place.disk()).unwrap().chunks(512)) {
            assert!(bytes.iter().all(|byte| *byte == round ^ sector), "round {round}, {sector}");
        }
    }
}
