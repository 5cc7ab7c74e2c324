//! Servers that are stopped, and servers that are killed.

use crate::daemon::Place;
use crate::guest::{Guest, GuestRequest, PIECE, PLAIN};
use crate::judged::{Judge, times};
use crate::lives::{FOUR_QUEUES, connect, expect, is_direct};
use powerfail_model::Oracle;
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
        guest.submit(0, slot, GuestRequest::Write(slot as u64 * EACH));
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

/// Servers that are killed with requests of all queues in flight, and started again.
fn servers_are_killed(seed: u32, more: &[&str]) {
    let kills = times("POWERFAIL_KILLS", 24);
    let mut judge = Judge::new(seed);
    let place = Place::holding(&judge.image());
    if more.contains(&"--direct") && !is_direct(&place) {
        return;
    }
    for n in 0..kills {
        let cache = if n % 3 == 2 { "writethrough" } else { "writeback" };
        let daemon = place.serve(&[&FOUR_QUEUES, &["--cache", cache], more].concat());
        assert_eq!(place.names(), ["blk.sock", "disk.img"], "the dead leave nothing but a socket");
        let mut guest = expect(connect(&place, &mut judge));
        let requests = 50 + judge.draw(150);
        expect(judge.load(&mut guest, requests));
        let (status, _) = daemon.end(Signal::KILL);
        assert_eq!(status.code(), None, "it was killed");
        judge.end(Oracle::backend_kill);
    }
    println!("{kills} kills {more:?}, {judge}");
    assert!(judge.cut_short > kills / 2, "servers died in the middle");
    let daemon = place.serve(&[&FOUR_QUEUES, more].concat());
    drop(expect(connect(&place, &mut judge)));
    daemon.end(Signal::TERM);
    assert_eq!(place.names(), ["disk.img"]);
}

#[test]
fn killed_servers_lose_nothing_and_leave_nothing_behind() {
    servers_are_killed(3, &[]);
}

#[test]
fn killed_servers_on_direct_transfers_lose_nothing_either() {
    servers_are_killed(4, &["--direct"]);
}
