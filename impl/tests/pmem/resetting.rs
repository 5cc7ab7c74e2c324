//! Ends of lives: a life has no effect in the next one, and a failed sync still counts there.

use crate::support::{ALL, rig};
use powerfail_device::RegisterSurface;
use powerfail_device::pmem::wire::*;
use powerfail_device::wire::STATUS_NEEDS_RESET;
use powerfail_device::{Errno, Step};

#[test]
fn a_reset_shows_when_the_sync_has_come_back_and_answers_nobody() {
    let mut rig = rig();
    rig.host.hold();
    let sent = rig.flushes(3);
    rig.run();
    rig.device.set_status(0);
    assert_ne!(rig.device.status(), 0, "a sync is in the host's hands");
    rig.end_one();
    assert_eq!(rig.device.status(), 0);
    assert_eq!(rig.returns(&sent), "???");
    assert_eq!(rig.guest.used_idx(&rig.memory), 0);
    rig.host.release();
    rig.boot(ALL);
    assert_eq!(rig.do_one(T_FLUSH), R_OK);
}

#[test]
fn a_reset_before_the_sync_was_handed_over_ends_at_once() {
    let mut rig = rig();
    rig.flushes(3);
    while !rig.device.queue_mut().expect("live").0.has_submission() {
        assert_ne!(rig.step(), Step::Idle);
    }
    rig.reset();
    rig.device.reopened();
    rig.boot(ALL);
    rig.run();
    assert_eq!(rig.host.syncs(), 0);
    assert_eq!(rig.do_one(T_FLUSH), R_OK);
}

#[test]
fn a_sync_that_fails_after_the_reset_was_asked_for_counts_in_the_next_life() {
    for (errno, then) in [(Errno::EIO, R_FAILED), (Errno::EINTR, R_OK)] {
        let mut rig = rig();
        rig.host.hold();
        rig.host.fail([errno]);
        rig.flushes(1);
        rig.run();
        rig.device.set_status(0);
        rig.end_one();
        rig.host.release();
        assert_eq!(rig.device.status(), 0);
        rig.boot(ALL);
        assert_eq!(rig.do_one(T_FLUSH), then, "{errno:?}");
    }
}

#[test]
fn a_ring_that_makes_no_sense_needs_a_reset() {
    let mut rig = rig();
    rig.host.hold();
    let sent = rig.flushes(1);
    rig.run();
    rig.guest.set_avail_idx(&rig.memory, 40);
    rig.kick();
    rig.run();
    assert_ne!(rig.device.status() & STATUS_NEEDS_RESET, 0);
    assert!(rig.device.take_config_signal());
    rig.end_one();
    assert_eq!(rig.returns(&sent), "0", "requests in flight still end properly");
    rig.host.release();
    rig.reset();
    rig.boot(ALL);
    assert_eq!(rig.do_one(T_FLUSH), R_OK);
}

#[test]
fn a_clone_shares_nothing_with_its_original() {
    let mut rig = rig();
    rig.host.hold();
    let sent = rig.flushes(2);
    rig.run();
    let mut copy = rig.device.clone();
    let ended = rig.host.end_one();
    let (queue, ring) = copy.queue_mut().expect("live");
    queue.handle_completion(ring, &rig.memory, ended);
    assert_eq!(queue.in_flight(), 0);
    assert_eq!(rig.returns(&sent), "00");
    let (queue, ring) = rig.device.queue_mut().expect("live");
    assert_eq!(queue.in_flight(), 2);
    queue.handle_completion(ring, &rig.memory, ended);
    assert_eq!(queue.in_flight(), 0);
}
