//! A guest that outlives its server: the next server answers the requests that the last one had
//! taken, each of them once.

use std::os::fd::{AsFd, OwnedFd};

use rustix::process::Signal;

use crate::daemon::Place;
use crate::front::{
    DATA, FEATURES, Front, GET_CONFIG, SET_CONFIG, SET_FEATURES, SET_INFLIGHT_FD, memory, record,
    words,
};

/// The number of requests published at a time: all slots of the ring.
const SLOTS: u64 = 16;

/// The body of a message about the cache mode.
fn cache_mode(value: u8) -> Vec<u8> {
    let mut body = [32_u32, 1, 0].map(u32::to_le_bytes).concat();
    body.push(value);
    body
}

fn mode(front: &mut Front) -> u8 {
    *front.ask(GET_CONFIG, &cache_mode(0xee)).unwrap().last().expect("one byte")
}

/// Connects the guest to a new server and sets up its ring with the in-flight record of the last
/// one.
fn serve_again(front: Front, place: &Place, kept: &(Vec<u8>, OwnedFd)) -> Front {
    let mut front = front.reconnect(&place.socket());
    front.tell(SET_INFLIGHT_FD, &kept.0, &[kept.1.as_fd()]).unwrap();
    front.share(1 << 20).unwrap();
    // The base that a front-end can compute after the death of a server.
    front.set_up(front.used()).unwrap();
    front
}

#[test]
fn each_request_is_answered_once_over_any_number_of_deaths() {
    let place = Place::new(SLOTS * 512);
    let mut daemon = place.serve(&[]);
    let mut front = Front::negotiated(&place.socket());
    let kept = front.make_record();
    front.tell(SET_INFLIGHT_FD, &kept.0, &[kept.1.as_fd()]).unwrap();
    // Each write waits for the host's disk, so that the server dies with some of them in flight.
    front.tell(SET_CONFIG, &cache_mode(0), &[]).unwrap();
    front.share(1 << 20).unwrap();
    front.set_up(0).unwrap();
    let mut in_flight = 0;
    for round in 1..=60_u8 {
        let before = front.used();
        for slot in 0..SLOTS {
            front.publish(slot, round, DATA + slot * 512);
        }
        front.kick();
        while front.used() == before && round % 3 != 0 {
            std::hint::spin_loop();
        }
        let (status, _) = daemon.end(Signal::KILL);
        assert_eq!(status.code(), None, "it was killed");
        in_flight += front.published() - front.used();
        daemon = place.serve(&[]);
        front = serve_again(front, &place, &kept);
        front.finish();
        let mut answers = front.answers(before);
        answers.sort_unstable();
        assert_eq!(answers, (0..SLOTS as u16).collect::<Vec<_>>(), "round {round}");
        assert_eq!(mode(&mut front), 0, "the driver's cache mode");
        let image = std::fs::read(place.disk()).unwrap();
        assert!(image.iter().all(|byte| *byte == round), "round {round}: all is written");
    }
    assert!(in_flight > 0, "no server died with anything in its hands");
}

#[test]
fn a_server_that_is_stopped_leaves_nothing_in_flight_and_the_mode() {
    let place = Place::new(SLOTS * 512);
    let mut daemon = place.serve(&["--cache", "writethrough"]);
    let mut front = Front::negotiated(&place.socket());
    let kept = front.make_record();
    front.tell(SET_INFLIGHT_FD, &kept.0, &[kept.1.as_fd()]).unwrap();
    assert_eq!(mode(&mut front), 0, "there was no server before, so this server's mode counts");
    front.tell(SET_CONFIG, &cache_mode(1), &[]).unwrap();
    front.share(1 << 20).unwrap();
    front.set_up(0).unwrap();
    for round in 1..=10_u8 {
        let before = front.used();
        for slot in 0..SLOTS {
            front.publish(slot, round, DATA + slot * 512);
        }
        front.kick();
        let (status, said) = daemon.end(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{said}");
        daemon = place.serve(&["--cache", "writethrough"]);
        front = serve_again(front, &place, &kept);
        front.finish();
        assert_eq!(front.answers(before).len(), SLOTS as usize);
        assert_eq!(mode(&mut front), 1);
    }
    // Another driver begins with the server's mode.
    front.tell(crate::front::RESET_DEVICE, &[], &[]).unwrap();
    front.tell(SET_FEATURES, &words(&[FEATURES]), &[]).unwrap();
    assert_eq!(mode(&mut front), 0);
}

#[test]
fn a_record_of_another_hand_that_says_no_mode_means_write_through() {
    let place = Place::new(SLOTS * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::negotiated(&place.socket());
    // The entries alone, and a version in the header: a back-end has used the record.
    let file = memory(1088);
    std::os::unix::fs::FileExt::write_all_at(&file, &1_u16.to_ne_bytes(), 8).unwrap();
    front.tell(SET_INFLIGHT_FD, &record(1088), &[file.as_fd()]).unwrap();
    assert_eq!(mode(&mut front), 0);
}

#[test]
fn a_record_that_makes_no_sense_is_not_gone_on_with() {
    let place = Place::new(SLOTS * 512);
    let mut daemon = place.serve(&[]);
    let mut front = Front::negotiated(&place.socket());
    let small = memory(64);
    assert!(front.tell(SET_INFLIGHT_FD, &record(64), &[small.as_fd()]).is_err());
    let mut front = Front::sharing(&place.socket());
    let kept = front.make_record();
    // An unknown version.
    let file = std::fs::File::from(kept.1.try_clone().unwrap());
    std::os::unix::fs::FileExt::write_all_at(&file, &7_u16.to_ne_bytes(), 8).unwrap();
    front.tell(SET_INFLIGHT_FD, &kept.0, &[kept.1.as_fd()]).unwrap();
    front.set_up(0).unwrap();
    assert!(daemon.until("ring 0").contains("version 7"));
    front.publish(0, 1, DATA);
    front.kick();
    assert_eq!(front.stop(), 0);
    drop(front);
    let mut next = Front::ready(&place.socket());
    next.publish(0, 1, DATA);
    next.finish();
    assert_eq!(next.status(0), 0, "the next client is served");
}
