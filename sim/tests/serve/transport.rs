//! Messages of a front-end while rings are running: stopping, resetting, and other memory.

use std::os::fd::AsFd;

use crate::daemon::Place;
use crate::front::{
    ADD_MEM_REG, DATA, FEATURES, Front, GET_CONFIG, GET_VRING_BASE, MEMORY, REM_MEM_REG,
    RESET_DEVICE, SET_CONFIG, SET_FEATURES, SET_VRING_ENABLE, memory, region, state, words,
};

const OK: u8 = 0;
const IOERR: u8 = 1;

/// Reads the cache mode from the configuration space.
fn writeback(front: &mut Front) -> u8 {
    let mut body = [32_u32, 1, 0].map(u32::to_le_bytes).concat();
    body.push(0xee);
    *front.ask(GET_CONFIG, &body).unwrap().last().expect("one byte")
}

fn set_writeback(front: &mut Front, mode: u8) {
    let mut body = [32_u32, 1, 0].map(u32::to_le_bytes).concat();
    body.push(mode);
    front.tell(SET_CONFIG, &body, &[]).unwrap();
}

#[test]
fn a_stopped_ring_has_answered_what_it_took_and_goes_on_from_there() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::ready(&place.socket());
    for round in 1..=20_u8 {
        for n in 0..8 {
            front.publish(n, round, DATA + n * 512);
        }
        front.kick();
        let taken = front.stop();
        assert_eq!(taken, front.used(), "round {round}: every taken request is answered");
        assert!(taken <= front.published());
        let image = std::fs::read(place.disk()).unwrap();
        let written = image.chunks(512).filter(|sector| sector[0] == round).count();
        assert_eq!(written, usize::from(taken) - 8 * usize::from(round - 1));
        front.set_up(taken).unwrap();
        front.finish();
        assert!((0..8).all(|n| front.status(front.published() - 1 - n) == OK));
    }
}

#[test]
fn a_disabled_ring_is_not_served_until_it_is_enabled() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::ready(&place.socket());
    front.publish(0, 1, DATA);
    front.finish();
    front.tell(SET_VRING_ENABLE, &state(0, 0), &[]).unwrap();
    front.publish(1, 2, DATA);
    front.kick();
    // The kick stays in its eventfd: no thread sleeps on that of a disabled ring.
    front.tell(SET_VRING_ENABLE, &state(0, 0), &[]).unwrap();
    assert_eq!(front.used(), 1);
    front.tell(SET_VRING_ENABLE, &state(0, 1), &[]).unwrap();
    front.finish();
    assert_eq!(front.status(1), OK);
    assert_eq!(front.stop(), 2);
}

#[test]
fn a_reset_begins_a_new_life_on_the_same_disk() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::ready(&place.socket());
    set_writeback(&mut front, 0);
    assert_eq!(writeback(&mut front), 0);
    for round in 1..=20_u8 {
        for n in 0..8 {
            front.publish(n, round, DATA + n * 512);
        }
        front.kick();
        front.tell(RESET_DEVICE, &[], &[]).unwrap();
        let before = (front.used(), std::fs::read(place.disk()).unwrap());
        assert_eq!(writeback(&mut front), 1, "the cache mode is back at its start value");
        assert_eq!((front.used(), std::fs::read(place.disk()).unwrap()), before);
        front.clear();
        front.tell(SET_FEATURES, &words(&[FEATURES]), &[]).unwrap();
        front.set_up(0).unwrap();
        front.publish(9, round, DATA);
        front.finish();
        assert_eq!(front.status(0), OK);
        set_writeback(&mut front, 0);
    }
}

#[test]
fn the_cache_mode_outlives_a_pause_but_not_other_features() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::ready(&place.socket());
    set_writeback(&mut front, 0);
    let base = front.stop();
    front.tell(SET_FEATURES, &words(&[FEATURES]), &[]).unwrap();
    assert_eq!(writeback(&mut front), 0, "the same guest goes on");
    front.set_up(base).unwrap();
    front.stop();
    front.tell(SET_FEATURES, &words(&[FEATURES & !(1 << 9)]), &[]).unwrap();
    assert_eq!(writeback(&mut front), 0, "CONFIG_WCE without FLUSH starts write-through");
    front.tell(SET_FEATURES, &words(&[FEATURES]), &[]).unwrap();
    assert_eq!(writeback(&mut front), 1, "another guest");
}

#[test]
fn a_cache_mode_that_comes_before_the_features_counts() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::sharing(&place.socket());
    front.tell(RESET_DEVICE, &[], &[]).unwrap();
    set_writeback(&mut front, 0);
    front.tell(SET_FEATURES, &words(&[FEATURES]), &[]).unwrap();
    assert_eq!(writeback(&mut front), 0);
}

#[test]
fn memory_comes_and_goes_under_a_live_ring() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::ready(&place.socket());
    let more = memory(1 << 16);
    std::os::unix::fs::FileExt::write_all_at(&more, &[6; 512], 0).unwrap();
    for n in 0..20 {
        front.publish(1, 1, MEMORY);
        front.finish();
        assert_eq!(front.status(3 * n), IOERR, "it is not there yet");
        front.tell(ADD_MEM_REG, &region(MEMORY, 1 << 16, 0), &[more.as_fd()]).unwrap();
        front.publish(1, 6, MEMORY);
        front.finish();
        assert_eq!(front.status(3 * n + 1), OK);
        assert_eq!(std::fs::read(place.disk()).unwrap()[512..1024], [6; 512]);
        front.tell(REM_MEM_REG, &region(MEMORY, 1 << 16, 0), &[]).unwrap();
        front.publish(1, 1, MEMORY);
        front.finish();
        assert_eq!(front.status(3 * n + 2), IOERR, "it is gone");
    }
    front.share(MEMORY).unwrap();
    front.publish(2, 7, DATA);
    front.finish();
    assert_eq!(front.status(60), OK, "a whole new table");
    assert_eq!(front.ask(GET_VRING_BASE, &state(0, 0)).unwrap()[4], 61);
}
