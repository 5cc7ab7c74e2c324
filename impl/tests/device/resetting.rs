//! Reset: the operations that it waits for, the state that it ends, and the state that outlives it.

use crate::support::guest::{flush, write, zeroes};
use crate::support::host::Fault;
use crate::support::{ALL, Rig, rig, rig_with};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use powerfail_device::{Device, Errno, Limits};

const LIVE: u8 = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK | STATUS_DRIVER_OK;

/// The contents of guest memory.
fn memory(rig: &Rig) -> Vec<u8> {
    use vm_memory::{Bytes, GuestAddress};
    let mut bytes = vec![0; 0x10_0000];
    rig.memory.read_slice(&mut bytes, GuestAddress(0)).unwrap();
    bytes
}

#[test]
fn a_reset_waits_for_the_host_and_then_nobody_hears_of_the_old_requests() {
    let limits = Limits {
        granule: 1024,
        discard_granularity: 1024,
        write_zeroes_granularity: 1024,
        ..Limits::plain(64 * 512)
    };
    let mut rig = rig_with(3, limits, ALL);
    rig.host.hold();
    // A request submitted to the host, one waiting for a lock, one leading a sync, one waiting for
    // it, and one still on the ring.
    rig.send(0, &write(0, 1, 1));
    rig.send(0, &write(2, 1, 2));
    rig.run();
    rig.send(1, &write(1, 1, 1));
    rig.send(1, &flush());
    rig.run();
    rig.send(2, &flush());
    rig.send(2, &flush());
    rig.run();
    rig.send(0, &zeroes(8, 8));
    let before = memory(&rig);
    rig.device.set_status(0);
    assert_eq!(rig.device.status(), LIVE, "the host still works");
    rig.device.set_status(STATUS_ACKNOWLEDGE);
    rig.device.set_status(0);
    rig.run();
    assert_eq!(rig.device.status(), LIVE);
    assert_eq!(rig.host.pending(), 3, "nothing new is handed over");
    rig.host.release();
    rig.run();
    assert_eq!(rig.device.status(), 0);
    assert!(rig.device.queue_mut(0).is_none());
    assert!(memory(&rig) == before, "neither ring nor status is touched");
    assert_eq!(rig.signals, [0, 0, 0]);
    rig.boot(ALL);
    assert_eq!(rig.do_one(&write(1, 7, 1)), S_OK);
    assert_eq!(rig.do_one(&flush()), S_OK);
}

#[test]
fn a_signal_that_was_due_is_not_sent_after_a_reset_began() {
    let mut rig = rig(1);
    rig.host.hold();
    rig.send(0, &write(0, 1, 1));
    rig.send(0, &write(1, 1, 1));
    rig.run();
    let done = rig.lanes[0].complete_held(&rig.memory, 0);
    let (queue, ring) = rig.device.queue_mut(0).unwrap();
    queue.handle_completion(ring, &rig.memory, done);
    rig.device.set_status(0);
    rig.run();
    assert_eq!(rig.signals, [0]);
}

#[test]
fn a_reset_at_every_moment_leaves_nothing_behind() {
    for moment in 0..120 {
        let limits = Limits {
            granule: 1024,
            discard_granularity: 1024,
            write_zeroes_granularity: 2048,
            ..Limits::plain(64 * 512)
        };
        let mut rig = rig_with(2, limits, ALL);
        rig.writeback((moment % 2) as u8);
        for queue in [0, 1, 0, 1] {
            rig.send(queue, &write(1, 3, 4));
            rig.send(queue, &zeroes(2, 9));
            rig.send(queue, &flush());
        }
        rig.host.fail([Fault::None, Fault::Errno(Errno::EINTR), Fault::None, Fault::Short(512)]);
        rig.host.hold();
        for turn in 0..moment {
            rig.step(turn % 2);
            if turn % 3 == 0 {
                let lane = (turn / 3) % 2;
                if rig.host.pending_of(lane) > 0 {
                    let done = rig.lanes[usize::from(lane)].complete_held(&rig.memory, 0);
                    let (queue, ring) = rig.device.queue_mut(lane).unwrap();
                    queue.handle_completion(ring, &rig.memory, done);
                }
            }
        }
        rig.device.set_status(0);
        rig.host.release();
        rig.run();
        assert_eq!(rig.device.status(), 0, "moment {moment}");
        rig.boot(ALL);
        assert_eq!(rig.do_one(&write(1, 9, 3)), S_OK, "moment {moment}");
        assert_eq!(rig.do_one(&zeroes(2, 1)), S_OK, "moment {moment}");
        assert_eq!(rig.do_one(&flush()), S_OK, "moment {moment}");
        assert_eq!(rig.host.sectors()[1..4], [9, 0, 9], "moment {moment}");
    }
}

#[test]
fn a_stopped_leader_leaves_the_sync_to_another_queue() {
    let mut rig = rig(2);
    rig.host.set_room(0);
    rig.send(0, &flush());
    rig.run();
    let waiting = rig.send(1, &flush());
    rig.run();
    let (queue, _) = rig.device.queue_mut(0).unwrap();
    queue.stop();
    rig.host.set_room(1);
    rig.run();
    assert_eq!(rig.statuses(&[&waiting]), "o");
    assert_eq!(rig.host.log(), "sync");
}

#[test]
fn a_sync_that_fails_during_a_reset_still_counts() {
    let mut rig = rig(1);
    rig.host.hold();
    rig.send(0, &flush());
    rig.run();
    rig.device.set_status(0);
    rig.host.fail([Fault::Errno(Errno::EIO)]);
    rig.host.release();
    rig.run();
    rig.boot(ALL);
    assert_eq!(rig.do_one(&flush()), S_IOERR);
}

#[test]
fn the_sync_of_a_write_that_fails_during_a_reset_still_counts_and_the_write_does_not() {
    for (faults, after) in [
        ([Fault::None, Fault::Errno(Errno::EIO)], S_IOERR),
        ([Fault::None, Fault::Errno(Errno::EINTR)], S_OK),
        ([Fault::Errno(Errno::EIO), Fault::None], S_OK),
    ] {
        let mut rig = rig(1);
        rig.writeback(0);
        rig.host.hold();
        rig.send(0, &write(0, 1, 1));
        rig.run();
        rig.host.fail(faults);
        if faults[0] == Fault::None {
            rig.complete(0, 0);
        }
        rig.device.set_status(0);
        rig.host.release();
        rig.run();
        rig.boot(ALL);
        assert_eq!(rig.do_one(&flush()), after, "{faults:?}");
    }
}

#[test]
fn the_end_of_a_stopped_queues_sync_is_heard_by_those_who_waited() {
    for fault in [Fault::None, Fault::Errno(Errno::EINTR)] {
        let mut rig = rig(2);
        rig.host.hold();
        rig.send(0, &flush());
        rig.run();
        let waiting = rig.send(1, &flush());
        rig.run();
        let (queue, _) = rig.device.queue_mut(0).unwrap();
        queue.stop();
        rig.host.log();
        rig.host.fail([fault]);
        rig.host.release();
        rig.run();
        assert_eq!(rig.statuses(&[&waiting]), "o");
        assert_eq!(rig.host.log(), "sync", "one of its own, which began after it");
    }
}

#[test]
fn what_is_published_before_driver_ok_is_found_in_every_life() {
    let mut rig = rig(1);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_OK);
    rig.device.set_status(0);
    assert_eq!(rig.device.status(), 0);
    rig.boot(ALL);
    let memory = rig.memory.clone();
    rig.guests[0].send(&memory, &write(0, 1, 1));
    rig.run();
    assert_eq!(rig.guests[0].reap(&rig.memory).len(), 1, "it was taken without a kick");
}

#[test]
fn the_mode_cannot_be_changed_while_a_reset_goes_on() {
    let mut rig = rig(1);
    rig.host.hold();
    rig.send(0, &write(0, 1, 1));
    rig.run();
    rig.device.set_status(0);
    rig.writeback(0);
    let mut mode = [9];
    rig.device.config_read(32, &mut mode);
    assert_eq!(mode, [1]);
}

#[test]
fn a_clone_shares_nothing_with_its_original() {
    let limits = Limits {
        granule: 1024,
        discard_granularity: 1024,
        write_zeroes_granularity: 1024,
        ..Limits::plain(64 * 512)
    };
    let mut rig = rig_with(2, limits, ALL);
    rig.host.hold();
    rig.send(0, &write(0, 1, 1));
    rig.run();
    let waiting = rig.send(1, &write(1, 2, 1));
    rig.send(1, &flush());
    rig.run();
    let copy = rig.device.clone();
    rig.writeback(0);
    rig.host.release();
    rig.run();
    assert_eq!(rig.statuses(&[&waiting]), "o");
    let original = std::mem::replace(&mut rig.device, copy);
    let mut mode = [9];
    rig.device.config_read(32, &mut mode);
    assert_eq!(mode, [1]);
    let in_flight = |device: &mut Device, queue| device.queue_mut(queue).unwrap().0.in_flight();
    let mut original = original;
    assert_eq!((in_flight(&mut rig.device, 0), in_flight(&mut rig.device, 1)), (1, 2));
    assert_eq!((in_flight(&mut original, 0), in_flight(&mut original, 1)), (0, 0));
}
