//! Resubmission that is interrupted: a guest whose server died returns with requests in flight, and
//! its ring is stopped or disconnected, or the next server dies, before all of them are taken. Each
//! request is answered or stays in the record.

use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;

use rustix::process::Signal;

use crate::daemon::Place;
use crate::front::{
    DATA, Front, GET_VRING_BASE, RESET_DEVICE, SET_INFLIGHT_FD, SET_VRING_ENABLE, SIZE, memory,
    record_of, state,
};

/// Requests in flight: all slots of the guest.
const IN_FLIGHT: u16 = 16;
/// Descriptors of the ring.
const RING: u16 = SIZE as u16;

/// An in-flight record of a dead back-end, byte for byte as in the protocol.
struct Left {
    file: OwnedFd,
    body: Vec<u8>,
    descriptors: u16,
}

impl Left {
    /// A record of a ring with this many descriptors and all requests in flight, the first one
    /// longest. `used_idx` is the recorded index.
    fn new(descriptors: u16, used_idx: u16) -> Left {
        let bytes = (16 + 16 * u64::from(descriptors)).next_multiple_of(64) + 64;
        let file = memory(bytes);
        let mut front = vec![0; 8];
        for field in [1, descriptors, 0, used_idx] {
            front.extend(u16::to_ne_bytes(field));
        }
        file.write_all_at(&front, 0).unwrap();
        // Counters begin at any value, here just before they wrap.
        for (slot, counter) in (0..IN_FLIGHT).zip(u64::MAX - u64::from(IN_FLIGHT)..) {
            let at = 16 + 16 * 4 * u64::from(slot);
            file.write_all_at(&[1], at).unwrap();
            file.write_all_at(&counter.to_ne_bytes(), at + 8).unwrap();
        }
        let body = record_of(bytes, 1, descriptors);
        Left { file: file.into(), body, descriptors }
    }

    /// The number of heads that the record has in flight.
    fn in_flight(&self) -> u16 {
        let file = std::fs::File::from(self.file.try_clone().unwrap());
        (0..self.descriptors)
            .map(|head| {
                let mut byte = [0];
                file.read_exact_at(&mut byte, 16 + 16 * u64::from(head)).unwrap();
                u16::from(byte[0])
            })
            .sum()
    }
}

/// A connected guest with all its requests in flight, whose ring is set up but not enabled.
fn about_to_go_on(place: &Place, left: &Left) -> Front {
    let mut front = Front::negotiated(&place.socket());
    front.tell(SET_INFLIGHT_FD, &left.body, &[left.file.as_fd()]).unwrap();
    front.share(1 << 20).unwrap();
    for slot in 0..u64::from(IN_FLIGHT) {
        front.publish(slot, 7, DATA + slot * 512);
    }
    front.set_up_silently(0).unwrap();
    front
}

#[test]
fn a_ring_that_is_stopped_has_answered_all_of_them() {
    let place = Place::new(u64::from(IN_FLIGHT) * 512);
    let _daemon = place.serve(&["--cache", "writethrough"]);
    for _ in 0..40 {
        let left = Left::new(RING, 0);
        let mut front = about_to_go_on(&place, &left);
        front.send(SET_VRING_ENABLE, &state(0, 1), &[]);
        front.send(GET_VRING_BASE, &state(0, 0), &[]);
        let base = u16::from(front.answer(GET_VRING_BASE).unwrap()[4]);
        let came = (base, front.used(), left.in_flight());
        // The ring may have been stopped before it was started.
        assert!(came == (IN_FLIGHT, IN_FLIGHT, 0) || came == (0, 0, IN_FLIGHT), "{came:?}");
    }
}

#[test]
fn a_front_end_that_leaves_finds_the_others_on_its_record() {
    let place = Place::new(u64::from(IN_FLIGHT) * 512);
    let mut daemon = place.serve(&["--cache", "writethrough"]);
    for _ in 0..40 {
        let left = Left::new(RING, 0);
        let mut front = about_to_go_on(&place, &left);
        front.send(SET_VRING_ENABLE, &state(0, 1), &[]);
        front.stream.shutdown(Shutdown::Write).unwrap();
        assert!(front.is_hung_up_on());
        daemon.until("is gone");
        assert_eq!(front.used() + left.in_flight(), IN_FLIGHT);
    }
}

#[test]
fn a_server_that_is_told_to_end_leaves_the_others_on_record_for_the_next() {
    let place = Place::new(u64::from(IN_FLIGHT) * 512);
    for _ in 0..10 {
        let daemon = place.serve(&["--cache", "writethrough"]);
        let left = Left::new(RING, 0);
        let mut front = about_to_go_on(&place, &left);
        front.send(SET_VRING_ENABLE, &state(0, 1), &[]);
        let (status, said) = daemon.end(Signal::TERM);
        assert_eq!(status.code(), Some(0), "{said}");
        assert_eq!(front.used() + left.in_flight(), IN_FLIGHT);

        let _daemon = place.serve(&[]);
        front = front.reconnect(&place.socket());
        front.tell(SET_INFLIGHT_FD, &left.body, &[left.file.as_fd()]).unwrap();
        front.share(1 << 20).unwrap();
        front.set_up(front.used()).unwrap();
        front.finish();
        let mut answers = front.answers(0);
        answers.sort_unstable();
        assert_eq!(answers, (0..IN_FLIGHT).collect::<Vec<_>>(), "each once");
    }
}

#[test]
fn a_device_reset_ends_those_of_rings_that_were_not_started() {
    let place = Place::new(u64::from(IN_FLIGHT) * 512);
    let _daemon = place.serve(&[]);
    let left = Left::new(RING, 0);
    let mut front = about_to_go_on(&place, &left);
    front.tell(RESET_DEVICE, &[], &[]).unwrap();
    assert_eq!(left.in_flight(), 0);
}

#[test]
fn a_record_of_another_implementation_is_gone_on_with() {
    let place = Place::new(u64::from(IN_FLIGHT) * 512);
    let _daemon = place.serve(&[]);
    // The record was kept over a device reset, so its index is that of the ring before, and it has
    // more descriptors than the ring.
    for used_idx in [0, 1000, 40_000] {
        let left = Left::new(RING * 4, used_idx);
        let mut front = about_to_go_on(&place, &left);
        front.tell(SET_VRING_ENABLE, &state(0, 1), &[]).unwrap();
        front.finish();
        assert_eq!(front.answers(0), (0..IN_FLIGHT).collect::<Vec<_>>(), "in the order taken");
        assert_eq!(left.in_flight(), 0);
    }
}

#[test]
fn a_record_with_too_little_room_does_not_keep_a_ring_from_being_served() {
    let place = Place::new(u64::from(IN_FLIGHT) * 512);
    let mut daemon = place.serve(&[]);
    let mut front = Front::negotiated(&place.socket());
    let file = memory(4096);
    front.tell(SET_INFLIGHT_FD, &record_of(4096, 1, RING / 4), &[file.as_fd()]).unwrap();
    front.share(1 << 20).unwrap();
    front.set_up(0).unwrap();
    assert!(daemon.until("ring 0").contains("too few descriptors"));
    front.publish(0, 1, DATA);
    front.finish();
    assert_eq!(front.status(0), 0);
}

#[test]
fn a_record_for_more_rings_than_the_server_has_is_kept_for_those_it_has() {
    let place = Place::new(u64::from(IN_FLIGHT) * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::negotiated(&place.socket());
    let file = memory(1 << 16);
    front.tell(SET_INFLIGHT_FD, &record_of(1 << 16, 8, 64), &[file.as_fd()]).unwrap();
    front.share(1 << 20).unwrap();
    front.set_up(0).unwrap();
    front.publish(0, 1, DATA);
    front.finish();
    let mut version = [0; 2];
    file.read_exact_at(&mut version, 8).unwrap();
    assert_eq!(u16::from_ne_bytes(version), 1, "the first ring's record was begun");
}
