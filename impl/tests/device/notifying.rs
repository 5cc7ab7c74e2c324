//! Kicks and signals: none is lost, and none is sent while the driver suppresses them, also where
//! indices wrap; and invalid rings.

use crate::support::guest::write;
use crate::support::{ALL, Rig, rig, rig_with};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use powerfail_device::{Config, Limits, QueueLayout, Step};

const NO_EVENT_IDX: u64 = ALL & !F_EVENT_IDX;

#[test]
fn used_event_decides_over_every_wrap_of_the_index() {
    let mut rig = rig(1);
    let mut expected = 0;
    for sent in 0..70_000_u32 {
        // The driver enables a signal for every third completion.
        let before = sent as u16;
        let event = if sent % 3 == 0 { before } else { before.wrapping_sub(1) };
        rig.guests[0].set_used_event(&rig.memory, event);
        expected += u32::from(sent % 3 == 0);
        rig.send(0, &write(1, 1, 1));
        rig.run();
        assert_eq!(rig.signals[0], expected, "after {sent}");
    }
    assert_eq!(rig.guests[0].used_idx(&rig.memory), (70_000_u32 % 65_536) as u16);
}

#[test]
fn used_event_in_the_middle_of_a_batch_signals_once() {
    let mut rig = rig(1);
    rig.host.hold();
    for _ in 0..4 {
        rig.send(0, &write(1, 1, 1));
    }
    rig.run();
    rig.guests[0].set_used_event(&rig.memory, 2);
    rig.host.release();
    rig.run();
    assert_eq!(rig.signals[0], 1);
}

#[test]
fn without_event_idx_the_flag_decides_and_used_event_is_ignored() {
    let mut rig = rig_with(1, Limits::plain(64 * 512), NO_EVENT_IDX);
    rig.guests[0].set_used_event(&rig.memory, 30_000);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK);
    assert_eq!(rig.signals[0], 1);
    rig.guests[0].set_avail_flags(&rig.memory, 1);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK);
    assert_eq!(rig.signals[0], 1);
    rig.guests[0].set_avail_flags(&rig.memory, 0);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK);
    assert_eq!(rig.signals[0], 2);
}

#[test]
fn with_event_idx_the_flag_is_ignored() {
    let mut rig = rig(1);
    rig.guests[0].set_avail_flags(&rig.memory, 1);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK);
    assert_eq!(rig.signals[0], 1);
    assert_eq!(rig.guests[0].used_flags(&rig.memory), 0, "it stays 0 with EVENT_IDX (VS-17)");
}

/// Steps queue 0 and lets the driver publish a request before step `at`, kicking only if the device
/// has enabled notifications.
fn publish_before(rig: &mut Rig, at: usize) {
    for step in 0.. {
        if step == at {
            let event = rig.guests[0].avail_event(&rig.memory);
            let flags = rig.guests[0].used_flags(&rig.memory);
            let before = rig.guests[0].avail;
            let request = write(1, 1, 1);
            let memory = rig.memory.clone();
            rig.guests[0].send(&memory, &request);
            let negotiated = rig.device.negotiated();
            let wanted = if negotiated & F_EVENT_IDX != 0 { event == before } else { flags == 0 };
            if wanted {
                rig.kick(0);
            }
        }
        if rig.step(0) == Step::Idle && step >= at {
            return;
        }
    }
}

#[test]
fn no_request_is_missed_wherever_in_the_dance_it_is_published() {
    for accept in [ALL, NO_EVENT_IDX] {
        for at in 0..24 {
            let mut rig = rig_with(1, Limits::plain(64 * 512), accept);
            rig.send(0, &write(0, 1, 1));
            publish_before(&mut rig, at);
            assert_eq!(rig.guests[0].reap(&rig.memory).len(), 2, "published before step {at}");
        }
    }
}

#[test]
fn requests_published_before_driver_ok_are_found_without_a_kick() {
    let mut rig = rig(1);
    let memory = rig.memory.clone();
    rig.guests[0].send(&memory, &write(0, 1, 1));
    rig.run();
    assert_eq!(rig.guests[0].reap(&rig.memory).len(), 1);
}

#[test]
fn kicks_for_nothing_do_nothing() {
    let mut rig = rig(1);
    for _ in 0..100 {
        rig.kick(0);
        rig.run();
    }
    assert_eq!(rig.signals[0], 0);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK);
}

/// Breaks the ring with `damage` while a request is in flight.
fn broken_by(damage: impl FnOnce(&mut Rig)) {
    let mut rig = rig(1);
    rig.host.hold();
    let sent = rig.send(0, &write(0, 1, 1));
    rig.run();
    assert!(!rig.device.take_config_signal());
    damage(&mut rig);
    rig.kick(0);
    rig.run();
    assert_eq!(rig.device.status() & STATUS_NEEDS_RESET, STATUS_NEEDS_RESET);
    assert!(rig.device.take_config_signal());
    assert!(!rig.device.take_config_signal(), "once");
    rig.host.release();
    rig.run();
    assert_eq!(rig.statuses(&[&sent]), "o", "requests in flight still end properly");
    rig.device.set_status(0);
    assert_eq!(rig.device.status(), 0);
    rig.boot(ALL);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK, "a reset heals it");
}

#[test]
fn a_ring_that_makes_no_sense_needs_a_reset() {
    broken_by(|rig| {
        let memory = rig.memory.clone();
        rig.guests[0].publish(&memory, 16);
    });
    broken_by(|rig| {
        let memory = rig.memory.clone();
        rig.guests[0].publish(&memory, u16::MAX);
    });
    broken_by(|rig| rig.guests[0].set_avail_idx(&rig.memory, 18));
    broken_by(|rig| rig.guests[0].set_avail_idx(&rig.memory, 0));
}

#[test]
fn a_ring_outside_memory_needs_a_reset() {
    use crate::support::{MEMORY, layout};
    use powerfail_device::{Config, QueueLayout};
    let start = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
    let inside = layout(0, 16);
    for place in [
        QueueLayout { available: MEMORY, ..inside },
        QueueLayout { available: MEMORY - 4, ..inside },
        QueueLayout { available: u64::MAX - 1, ..inside },
        QueueLayout { used: MEMORY, ..inside },
        QueueLayout { used: u64::MAX - 3, ..inside },
    ] {
        let config = Config { queue_size: 16, ..Config::default() };
        let mut rig = Rig::new(config, Limits::plain(64 * 512));
        rig.device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        rig.device.set_driver_features(ALL);
        rig.device.set_status(start);
        rig.device.set_queue(0, place).unwrap();
        rig.device.set_status(start | STATUS_DRIVER_OK);
        rig.run();
        assert_ne!(rig.device.status() & STATUS_NEEDS_RESET, 0, "{place:x?}");
    }
}

#[test]
fn an_available_index_that_lies_on_the_flags_of_the_used_ring_ends_the_dance() {
    let config = Config { queue_size: 16, ..Config::default() };
    let mut rig = Rig::new(config, Limits::plain(64 * 512));
    rig.boot_placed(NO_EVENT_IDX, |layout| {
        let available = layout.available + 2;
        QueueLayout { available, used: available + 2, ..layout }
    });
    rig.send(0, &write(0, 1, 1));
    // The device suppresses kicks while it polls, so the index shows one published chain; it
    // enables them again once it has taken that chain, so the index shows none.
    for _ in 0..200 {
        if rig.step(0) == Step::Idle {
            assert_ne!(rig.device.status() & STATUS_NEEDS_RESET, 0);
            return;
        }
    }
    panic!("the queue has no request and does not come to rest");
}
