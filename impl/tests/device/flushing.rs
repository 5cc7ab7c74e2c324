//! Stability of writes: cache modes, the flush group, and the permanent effect of a failed sync.

use crate::support::guest::{discard, flush, read, write, zeroes};
use crate::support::host::Fault;
use crate::support::{ALL, Rig, rig, rig_with};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use powerfail_device::{Config, Errno, Limits};

const EIO: Fault = Fault::Errno(Errno::EIO);

/// The disk operations of a write when `accept` was negotiated of `offer`.
fn written(offer: u64, accept: u64, writeback: Option<u8>) -> String {
    let config = Config { queue_size: 16, features: offer, ..Config::default() };
    let mut rig = Rig::new(config, Limits::plain(64 * 512));
    rig.boot(accept | F_VERSION_1);
    if let Some(value) = writeback {
        rig.writeback(value);
    }
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK);
    rig.host.log()
}

#[test]
fn writes_are_stable_by_the_rows_of_the_table() {
    let none = F_VERSION_1;
    let (flush, wce) = (none | F_FLUSH, none | F_FLUSH | F_CONFIG_WCE);
    assert_eq!(written(none, none, None), "write@0+1", "row A: FLUSH was not offered");
    assert_eq!(written(flush, none, None), "write@0+1 sync", "row B: FLUSH was declined");
    assert_eq!(written(wce, none, None), "write@0+1 sync", "row B");
    assert_eq!(written(wce, flush, None), "write@0+1", "row C");
    assert_eq!(written(wce, F_CONFIG_WCE, None), "write@0+1 sync", "row D: starts write-through");
    assert_eq!(written(wce, F_CONFIG_WCE, Some(1)), "write@0+1", "row E");
    assert_eq!(written(wce, wce, Some(0)), "write@0+1 sync", "row F");
    assert_eq!(written(wce, wce, None), "write@0+1", "row G");
    assert_eq!(written(wce, wce, Some(7)), "write@0+1", "row G: any other value is 1");
}

#[test]
fn the_mode_is_that_of_the_moment_the_request_was_taken() {
    let mut rig = rig(1);
    rig.host.hold();
    rig.send(0, &zeroes(0, 1));
    rig.run();
    rig.writeback(0);
    rig.send(0, &zeroes(1, 1));
    rig.run();
    rig.writeback(1);
    rig.host.release();
    rig.run();
    assert_eq!(rig.host.log(), "zeroes@0+1 zeroes@1+1 sync");
}

#[test]
fn write_through_zeroes_are_synced_before_they_are_answered() {
    let mut rig = rig(1);
    rig.writeback(0);
    let sent = rig.send(0, &zeroes(0, 1));
    rig.host.hold();
    rig.run();
    rig.complete(0, 0);
    assert_eq!(rig.host.log(), "zeroes@0+1 sync");
    assert_eq!(rig.statuses(&[&sent]), "?");
    rig.host.release();
    rig.run();
    assert_eq!(rig.statuses(&[&sent]), "o");
    assert_eq!(rig.do_one(&discard(0, 1)), S_OK);
    assert_eq!(rig.host.log(), "discard@0+1", "a discard promises nothing");
}

#[test]
fn a_flush_syncs_whatever_the_mode_is_and_whatever_was_negotiated() {
    for accept in [ALL, F_VERSION_1, F_VERSION_1 | F_CONFIG_WCE] {
        let mut rig = rig_with(1, Limits::plain(64 * 512), accept);
        rig.writeback(0);
        assert_eq!(rig.do_one(&flush()), S_OK);
        assert_eq!(rig.host.log(), "sync");
    }
}

#[test]
fn flushes_that_arrive_while_a_sync_runs_share_the_next_one() {
    let mut rig = rig(3);
    rig.host.hold();
    let first = rig.send(0, &flush());
    rig.run();
    assert_eq!(rig.host.log(), "sync");
    let late: Vec<_> = [1, 2, 1, 0].map(|queue| rig.send(queue, &flush())).into();
    rig.run();
    assert_eq!(rig.host.log(), "", "one sync at a time");
    rig.complete(0, 0);
    assert_eq!(rig.statuses(&[&first]), "o");
    assert_eq!(rig.statuses(&late.iter().collect::<Vec<_>>()), "????", "it began before them");
    assert_eq!(rig.host.log(), "sync");
    rig.host.release();
    rig.run();
    assert_eq!(rig.statuses(&late.iter().collect::<Vec<_>>()), "oooo");
    assert_eq!(rig.host.log(), "", "they shared it");
}

#[test]
fn flushes_taken_before_the_sync_is_handed_over_share_it() {
    let mut rig = rig(2);
    rig.host.set_room(0);
    let sent = [rig.send(0, &flush()), rig.send(1, &flush()), rig.send(0, &flush())];
    rig.run();
    rig.host.set_room(1);
    rig.run();
    assert_eq!(rig.statuses(&[&sent[0], &sent[1], &sent[2]]), "ooo");
    assert_eq!(rig.host.log(), "sync");
}

#[test]
fn a_failed_sync_fails_every_flush_and_every_write_through_write_for_good() {
    let mut rig = rig(2);
    rig.host.fail([EIO]);
    let sent = [rig.send(0, &flush()), rig.send(1, &flush())];
    rig.run();
    assert_eq!(rig.statuses(&[&sent[0], &sent[1]]), "ee");
    for life in 0..2 {
        assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK, "a volatile write promises nothing");
        assert_eq!(rig.do_one(&flush()), S_IOERR, "life {life}");
        rig.writeback(0);
        assert_eq!(rig.do_one(&write(0, 2, 1)), S_IOERR);
        assert_eq!(rig.do_one(&zeroes(0, 1)), S_IOERR);
        assert_eq!(rig.do_one(&read(0, 1)), S_OK);
        rig.device.set_status(0);
        assert_eq!(rig.device.status(), 0);
        rig.boot(ALL);
    }
    assert!(!rig.host.log().contains("write@0+2"), "refused before any effect");
    rig.device.set_status(0);
    rig.device.reopened();
    rig.boot(ALL);
    assert_eq!(rig.do_one(&flush()), S_OK);
}

/// Errors with which a host may end an operation, and some unexpected ones.
const ERRNOS: [Errno; 14] = [
    Errno::EIO,
    Errno::EFAULT,
    Errno::EINVAL,
    Errno::EFBIG,
    Errno::ENOSPC,
    Errno::EDQUOT,
    Errno::EOPNOTSUPP,
    Errno(1),
    Errno(9),
    Errno(12),
    Errno(30),
    Errno(61),
    Errno(84),
    Errno(4095),
];

#[test]
fn whatever_a_write_fails_with_is_its_own_affair() {
    for errno in ERRNOS {
        for mode in [0, 1] {
            let mut rig = rig(1);
            rig.writeback(mode);
            rig.host.fail([Fault::Errno(errno)]);
            assert_eq!(rig.do_one(&write(0, 1, 1)), S_IOERR, "{errno:?}");
            assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK, "{errno:?}");
            assert_eq!(rig.do_one(&flush()), S_OK, "{errno:?}");
            rig.host.fail([Fault::Errno(errno)]);
            assert_eq!(rig.do_one(&read(0, 1)), S_IOERR, "{errno:?}");
            for other in [zeroes(0, 1), discard(0, 1)] {
                rig.host.fail([Fault::Errno(errno)]);
                let advice = errno == Errno::EOPNOTSUPP;
                let status = if advice { S_OK } else { S_IOERR };
                assert_eq!(rig.do_one(&other), status, "{errno:?}");
            }
            assert_eq!(rig.do_one(&flush()), S_OK, "{errno:?}");
            assert!(!rig.device.shared().sync_failed(), "{errno:?}");
        }
    }
}

#[test]
fn whatever_a_sync_fails_with_counts_for_good() {
    for errno in ERRNOS {
        for mode in [0, 1] {
            let mut rig = rig(1);
            rig.writeback(mode);
            rig.host.fail([Fault::None, Fault::Errno(errno)]);
            assert_eq!(rig.do_one(&write(0, 1, 1)), if mode == 0 { S_IOERR } else { S_OK });
            assert_eq!(rig.do_one(&flush()), S_IOERR, "{errno:?}");
            assert_eq!(rig.do_one(&flush()), S_IOERR, "{errno:?}");
            rig.writeback(0);
            assert_eq!(rig.do_one(&write(0, 1, 1)), S_IOERR, "{errno:?}");
            assert!(rig.device.shared().sync_failed(), "{errno:?}");
        }
    }
}

#[test]
fn a_sync_that_is_put_off_for_ever_fails_only_those_who_waited_for_it() {
    for errno in [Errno::EINTR, Errno::EAGAIN] {
        let mut rig = rig(1);
        rig.host.fail([Fault::Errno(errno); 201]);
        assert_eq!(rig.do_one(&flush()), S_IOERR, "{errno:?}");
        assert_eq!(rig.do_one(&flush()), S_OK, "nothing was lost: {errno:?}");
    }
}

#[test]
fn a_write_through_write_that_moved_nothing_fails_alone() {
    let mut rig = rig(1);
    rig.writeback(0);
    rig.host.fail([Fault::Short(0)]);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_IOERR);
    assert_eq!(rig.host.log(), "write@0+1");
    assert_eq!(rig.do_one(&flush()), S_OK);
}

#[test]
fn write_through_writes_of_all_queues_share_syncs() {
    let mut rig = rig(2);
    rig.writeback(0);
    rig.host.hold();
    let first = rig.send(0, &write(0, 1, 1));
    let second = rig.send(1, &write(1, 2, 1));
    rig.run();
    rig.complete(0, 0);
    rig.complete(1, 0);
    assert_eq!(rig.statuses(&[&first, &second]), "??", "written, and not yet stable");
    let third = rig.send(0, &write(2, 3, 1));
    rig.run();
    rig.host.release();
    rig.run();
    assert_eq!(rig.statuses(&[&first, &second, &third]), "ooo");
    assert_eq!(rig.host.log(), "write@0+1 write@1+1 sync write@2+1 sync");
}

#[test]
fn a_write_through_write_in_flight_when_a_sync_fails_does_not_succeed() {
    let mut rig = rig(2);
    rig.writeback(0);
    rig.host.hold();
    let write = rig.send(0, &write(0, 1, 1));
    let flush = rig.send(1, &flush());
    rig.run();
    rig.host.fail([EIO]);
    rig.complete(1, 0);
    rig.host.release();
    rig.run();
    assert_eq!(rig.statuses(&[&write, &flush]), "ee");
}

#[test]
fn a_sync_that_was_interrupted_is_asked_for_again() {
    let mut rig = rig(1);
    rig.host.fail([Fault::Errno(Errno::EINTR), Fault::Errno(Errno::EAGAIN)]);
    assert_eq!(rig.do_one(&flush()), S_OK);
    assert_eq!(rig.host.log(), "sync sync sync");
}
