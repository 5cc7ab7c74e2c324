//! Splitting at the disk's limits, and continuation after a short transfer or a transient error.

use crate::support::guest::{discard, flush, read, write, zeroes};
use crate::support::host::Fault::{self, Short};
use crate::support::{ALL, Rig, rig, rig_with};
use powerfail_device::wire::*;
use powerfail_device::{Completion, Errno, Limits, Step, Submission, Token};

const EIO: Fault = Fault::Errno(Errno::EIO);
const EINTR: Fault = Fault::Errno(Errno::EINTR);
const EAGAIN: Fault = Fault::Errno(Errno::EAGAIN);
const EOPNOTSUPP: Fault = Fault::Errno(Errno::EOPNOTSUPP);

fn faulty(faults: &[Fault]) -> Rig {
    let rig = rig(1);
    rig.host.fail(faults.iter().copied());
    rig
}

#[test]
fn transfers_are_split_at_the_disks_limits() {
    let limits = Limits {
        max_transfer: 2048,
        max_discard: 4096,
        max_write_zeroes: 5120,
        ..Limits::plain(64 * 512)
    };
    let mut rig = rig_with(1, limits, ALL);
    assert_eq!(rig.do_one(&write(1, 3, 9)), S_OK);
    assert_eq!(rig.do_one(&read(1, 9)), S_OK);
    assert_eq!(rig.do_one(&discard(0, 20)), S_OK);
    assert_eq!(rig.do_one(&zeroes(0, 20)), S_OK);
    assert_eq!(
        rig.host.log(),
        "write@1+4 write@5+4 write@9+1 read@1+4 read@5+4 read@9+1 \
         discard@0+8 discard@8+8 discard@16+4 zeroes@0+10 zeroes@10+10"
    );
}

#[test]
fn a_short_transfer_goes_on_where_it_stopped() {
    let mut rig = faulty(&[Short(512), EINTR, Short(1024), EAGAIN]);
    assert_eq!(rig.do_one(&write(2, 5, 5)), S_OK);
    assert_eq!(rig.host.log(), "write@2+5 write@3+4 write@3+4 write@5+2 write@5+2");
    assert_eq!(rig.host.sectors()[1..8], [0, 5, 5, 5, 5, 5, 0]);

    rig.host.fail([Short(512), Short(700)]);
    let sent = rig.send(0, &read(2, 4));
    rig.run();
    assert_eq!(rig.host.log(), "read@2+4 read@3+3 read@4+2", "a part of a granule is not counted");
    assert_eq!(sent.data(&rig.memory), vec![5; 2048]);
}

#[test]
fn a_transfer_that_moves_nothing_has_failed() {
    let mut rig = faulty(&[Short(0)]);
    assert_eq!(rig.do_one(&write(0, 1, 1)), S_IOERR);
    rig.host.fail([Short(0)]);
    assert_eq!(rig.do_one(&read(0, 1)), S_IOERR);
}

#[test]
fn a_disk_that_is_never_ready_is_asked_a_bounded_number_of_times() {
    for fault in [EINTR, EAGAIN, Short(100)] {
        let mut rig = faulty(&[fault; 300]);
        assert_eq!(rig.do_one(&write(0, 1, 1)), S_IOERR);
        assert_eq!(rig.host.log().split(' ').count(), 201);
    }
    let mut rig = faulty(&[EAGAIN; 300]);
    assert_eq!(rig.do_one(&flush()), S_IOERR);
}

#[test]
fn patience_begins_anew_with_every_progress() {
    let mut faults = vec![EAGAIN; 150];
    faults.push(Short(512));
    faults.extend([EAGAIN; 150]);
    let mut rig = faulty(&faults);
    assert_eq!(rig.do_one(&write(0, 1, 2)), S_OK);
}

#[test]
fn a_failed_read_shows_zeroes_and_claims_them() {
    let mut rig = faulty(&[Short(512), EIO]);
    rig.host.fill(7);
    let sent = rig.send(0, &read(0, 2));
    rig.run();
    assert_eq!(sent.status(&rig.memory), S_IOERR);
    assert_eq!(rig.guests[0].reap(&rig.memory), [(sent.head, 1025)]);
    assert_eq!(sent.data(&rig.memory), vec![0; 1024]);
}

#[test]
fn other_errors_end_the_request() {
    for errno in [Errno::EIO, Errno::ENOSPC, Errno::EINVAL, Errno::EOPNOTSUPP, Errno(121)] {
        let mut rig = faulty(&[Fault::Errno(errno)]);
        assert_eq!(rig.do_one(&write(0, 1, 2)), S_IOERR);
        assert_eq!(rig.do_one(&write(0, 1, 2)), S_OK, "and only that one");
        assert_eq!(rig.host.log(), "write@0+2 write@0+2");
    }
}

#[test]
fn a_discard_the_disk_does_not_know_is_no_failure() {
    let mut rig = faulty(&[EOPNOTSUPP]);
    assert_eq!(rig.do_one(&discard(0, 4)), S_OK);
    rig.host.fail([EIO]);
    assert_eq!(rig.do_one(&discard(0, 4)), S_IOERR);
    let limits = Limits { can_discard: false, ..Limits::plain(64 * 512) };
    let mut rig = rig_with(1, limits, ALL);
    assert_eq!(rig.do_one(&discard(0, 4)), S_OK);
    assert_eq!(rig.host.log(), "");
}

#[test]
fn zeroes_the_disk_does_not_know_are_written() {
    let mut rig = faulty(&[EOPNOTSUPP, Short(512)]);
    rig.host.fill(7);
    assert_eq!(rig.do_one(&zeroes(1, 3)), S_OK);
    assert_eq!(rig.host.log(), "zeroes@1+3 write@1+3 write@2+2");
    assert_eq!(rig.host.sectors()[..6], [7, 0, 0, 0, 7, 7]);
}

#[test]
fn a_full_disk_queue_holds_submissions_back_and_rings_the_doorbell() {
    let mut rig = rig(1);
    rig.host.hold();
    rig.host.set_room(2);
    for sector in 0..5 {
        rig.send(0, &write(sector, 1, 1));
    }
    rig.run();
    assert_eq!(rig.host.pending(), 2);
    assert_eq!(rig.host.doorbells(), 1);
    rig.host.release();
    rig.run();
    assert_eq!(rig.guests[0].reap(&rig.memory).len(), 5);
    assert_eq!(rig.host.sectors()[..6], [1, 1, 1, 1, 1, 0]);
}

#[test]
fn a_disk_that_completes_at_its_doorbell_is_heard_at_once() {
    let mut rig = rig(1);
    rig.host.be_lazy();
    for sector in 0..3 {
        rig.send(0, &write(sector, 1, 1));
    }
    while rig.step(0) != Step::Idle {}
    assert_eq!(rig.guests[0].reap(&rig.memory).len(), 3);
    assert_eq!(rig.host.doorbells(), 1, "one doorbell for all available requests");
}

/// A queue with one write of one sector submitted to its disk.
fn in_hand() -> (Rig, Submission) {
    let mut rig = rig(1);
    rig.send(0, &write(0, 1, 1));
    let (queue, ring) = rig.device.queue_mut(0).unwrap();
    while queue.poll_ring(ring, &rig.memory) {}
    let submission = queue.poll_submission().expect("the write");
    (rig, submission)
}

fn complete(rig: &mut Rig, token: Token, result: Result<u32, Errno>) {
    let (queue, ring) = rig.device.queue_mut(0).unwrap();
    queue.handle_completion(ring, &rig.memory, Completion { token, result, buffer: None });
}

#[test]
#[should_panic(expected = "which is not in its hands")]
fn a_disk_that_completes_twice_is_noticed() {
    let (mut rig, first) = in_hand();
    complete(&mut rig, first.token, Ok(512));
    rig.send(0, &write(0, 1, 1));
    let (queue, ring) = rig.device.queue_mut(0).unwrap();
    while queue.poll_ring(ring, &rig.memory) {}
    let second = queue.poll_submission().expect("the same slot");
    assert_eq!(second.token.slot(), first.token.slot());
    complete(&mut rig, first.token, Ok(512));
}

#[test]
#[should_panic(expected = "which is not in its hands")]
fn a_disk_that_completes_a_stranger_is_noticed() {
    let (mut rig, _) = in_hand();
    complete(&mut rig, Token::new(77, 0), Ok(0));
}

#[test]
#[should_panic(expected = "the disk moved 1024 bytes of 512")]
fn a_disk_that_moves_too_much_is_noticed() {
    let (mut rig, submission) = in_hand();
    complete(&mut rig, submission.token, Ok(1024));
}
