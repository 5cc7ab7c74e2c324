//! Return value of a flush: the flush group, and the permanent effect of a failed sync.

use crate::support::rig;
use powerfail_device::Errno;
use powerfail_device::pmem::wire::*;

#[test]
fn a_flush_returns_0_when_its_sync_has_ended() {
    let mut rig = rig();
    rig.host.hold();
    let sent = rig.flushes(1);
    rig.run();
    assert_eq!((rig.host.syncs(), rig.returns(&sent)), (1, "?".into()));
    rig.end_one();
    assert_eq!(rig.returns(&sent), "0");
    assert_eq!(rig.guest.reap(&rig.memory), [(sent[0].head, 4)]);
    assert_eq!(rig.signals, 1);
}

#[test]
fn flushes_that_arrive_while_a_sync_runs_share_the_next_one() {
    let mut rig = rig();
    rig.host.hold();
    let first = rig.flushes(1);
    rig.run();
    let late = rig.flushes(5);
    rig.run();
    assert_eq!(rig.host.syncs(), 1, "one sync at a time");
    rig.end_one();
    assert_eq!(rig.returns(&first), "0");
    assert_eq!(rig.returns(&late), "?????", "it began before them");
    assert_eq!(rig.host.syncs(), 1);
    rig.end_one();
    assert_eq!(rig.returns(&late), "00000");
    assert_eq!(rig.host.syncs(), 0, "they shared it");
}

#[test]
fn a_full_queue_of_flushes_shares_one_sync() {
    let mut rig = rig();
    let sent = rig.flushes(8);
    rig.run();
    assert_eq!(rig.returns(&sent), "00000000");
    assert_eq!(rig.host.syncs(), 1);
    assert_eq!(rig.guest.reap(&rig.memory).len(), 8);
}

#[test]
fn a_head_published_twice_is_two_flushes() {
    let mut rig = rig();
    let sent = rig.send(T_FLUSH);
    rig.guest.publish(&rig.memory, sent.head);
    rig.run();
    assert_eq!(rig.guest.reap(&rig.memory), [(sent.head, 4); 2]);
}

#[test]
fn a_failed_sync_fails_every_flush_for_good() {
    let mut rig = rig();
    rig.host.hold();
    rig.host.fail([Errno::EIO]);
    let first = rig.flushes(1);
    rig.run();
    let late = rig.flushes(2);
    rig.run();
    rig.end_one();
    assert_eq!(rig.returns(&first), "-");
    assert_eq!(rig.returns(&late), "--", "a later sync would prove nothing");
    rig.host.release();
    for life in 0..2 {
        assert_eq!(rig.do_one(T_FLUSH), R_FAILED, "life {life}");
        rig.reset();
        rig.boot(crate::support::ALL);
    }
    rig.reset();
    rig.device.reopened();
    rig.boot(crate::support::ALL);
    assert_eq!(rig.do_one(T_FLUSH), R_OK);
}

#[test]
fn a_sync_that_was_interrupted_is_asked_for_again_but_not_for_ever() {
    let mut rig = rig();
    rig.host.fail([Errno::EINTR, Errno::EAGAIN]);
    assert_eq!(rig.do_one(T_FLUSH), R_OK);
    assert_eq!(rig.host.syncs(), 3);
    rig.host.fail([Errno::EINTR; 500]);
    assert_eq!(rig.do_one(T_FLUSH), R_FAILED);
    assert!(rig.host.syncs() < 500);
}

#[test]
fn those_who_come_while_a_sync_is_asked_for_again_need_the_next_one() {
    let mut rig = rig();
    rig.host.hold();
    rig.host.fail([Errno::EINTR]);
    let first = rig.flushes(1);
    rig.run();
    let late = rig.flushes(1);
    rig.end_one();
    assert_eq!(rig.host.syncs(), 2);
    rig.end_one();
    assert_eq!(rig.returns(&[first[0], late[0]]), "0?");
    rig.host.release();
    rig.run();
    assert_eq!(rig.returns(&late), "0");
}

#[test]
fn an_unknown_type_is_a_failure_and_no_flush() {
    let mut rig = rig();
    for kind in [1, 2, 4, 0x100, 0x0100_0000, u32::MAX] {
        assert_eq!(rig.do_one(kind), R_FAILED, "type {kind}");
    }
    assert_eq!(rig.host.syncs(), 0);
    assert_eq!(rig.do_one(T_FLUSH), R_OK, "and it says nothing about the host");
}

#[test]
fn an_unknown_type_does_not_wait_for_a_sync() {
    let mut rig = rig();
    rig.host.hold();
    let flush = rig.flushes(1);
    let other = rig.send(7);
    rig.run();
    assert_eq!(rig.returns(&[flush[0], other]), "?-");
}
