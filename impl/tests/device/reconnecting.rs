//! A backend that dies under a live driver, and its successor, which continues from the in-flight
//! record.

use crate::support::guest::{discard, flush, read, write, zeroes};
use crate::support::{ALL, Rig, layout, rig};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use powerfail_device::{Config, Device, InflightError, InflightRecord, Limits};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

#[derive(Clone, Debug)]
struct Words(Arc<[AtomicU64]>);

impl AsRef<[AtomicU64]> for Words {
    fn as_ref(&self) -> &[AtomicU64] {
        &self.0
    }
}

fn words(size: u16) -> Words {
    Words((0..InflightRecord::words(size)).map(|_| AtomicU64::new(0)).collect())
}

/// Replaces the backend, without any action of the driver.
fn reconnect(rig: &mut Rig, record: &Words) {
    rig.host.forget();
    let config = Config { queue_size: 16, ..Config::default() };
    rig.device = Device::new(config, Limits::plain(64 * 512)).expect("as before");
    let device = &mut rig.device;
    device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
    device.set_driver_features(ALL);
    let ready = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
    device.set_status(ready);
    device.set_queue(0, layout(0, 16)).expect("where it was");
    device.set_status(ready | STATUS_DRIVER_OK);
    keep(rig, record);
}

fn keep(rig: &mut Rig, record: &Words) {
    let (queue, ring) = rig.device.queue_mut(0).expect("it is live");
    queue.keep_record(Arc::new(record.clone()), ring, &rig.memory).expect("our own record");
}

#[test]
fn each_head_is_used_exactly_once_wherever_the_backend_dies() {
    for moment in 0..90 {
        let record = words(16);
        let mut rig = rig(1);
        keep(&mut rig, &record);
        let mut sent = Vec::new();
        for request in [write(1, 7, 2), read(1, 1), flush(), zeroes(8, 4), discard(30, 2)] {
            sent.push(rig.send(0, &request));
        }
        for _ in 0..moment {
            rig.step(0);
        }
        let before = rig.signals[0];
        reconnect(&mut rig, &record);
        rig.run();
        assert!(rig.signals[0] > before, "the driver may be owed a signal");
        let heads: Vec<u16> = rig.guests[0].reap(&rig.memory).iter().map(|used| used.0).collect();
        let mut sorted = heads.clone();
        sorted.sort_unstable();
        let expected: Vec<u16> = sent.iter().map(|sent| sent.head).collect();
        assert_eq!(sorted, expected, "after {moment} steps: {heads:?}");
        assert_eq!(rig.statuses(&sent.iter().collect::<Vec<_>>()), "ooooo");
        assert_eq!(rig.host.sectors()[1..3], [7, 7]);
        assert_eq!(rig.do_one(&write(4, 9, 1)), S_OK, "and it goes on");
    }
}

#[test]
fn what_was_in_flight_goes_before_what_is_new() {
    let record = words(16);
    let mut rig = rig(1);
    keep(&mut rig, &record);
    rig.host.hold();
    rig.send(0, &write(5, 1, 1));
    rig.send(0, &write(6, 2, 1));
    rig.run();
    rig.complete(0, 1);
    rig.send(0, &write(7, 3, 1));
    rig.host.log();
    reconnect(&mut rig, &record);
    rig.run();
    assert_eq!(rig.host.log(), "write@5+1 write@7+1");
}

#[test]
fn an_indirect_chain_is_found_again() {
    use crate::support::guest::Cuts;
    let record = words(16);
    let mut rig = rig(1);
    keep(&mut rig, &record);
    rig.host.hold();
    let cuts = Cuts { header: vec![3, 13], data: vec![100, 412], glued: true };
    let whole = rig.guests[0].send_cut(&rig.memory, &read(3, 1), &cuts, true);
    rig.kick(0);
    rig.run();
    reconnect(&mut rig, &record);
    rig.host.release();
    rig.run();
    assert_eq!(whole.status(&rig.memory), S_OK);
    assert_eq!(rig.guests[0].reap(&rig.memory), [(whole.head, 513)]);
}

#[test]
fn a_reset_ends_what_the_record_says() {
    let record = words(16);
    let mut rig = rig(1);
    keep(&mut rig, &record);
    rig.host.hold();
    rig.send(0, &write(5, 1, 1));
    rig.run();
    rig.device.set_status(0);
    rig.host.release();
    rig.run();
    assert_eq!(rig.device.status(), 0);
    rig.boot(ALL);
    keep(&mut rig, &record);
    rig.host.log();
    rig.run();
    assert_eq!(rig.host.log(), "", "nothing of the old life is taken again");
    assert_eq!(rig.do_one(&write(4, 9, 1)), S_OK);
}

#[test]
fn a_record_too_small_for_the_ring_is_refused_and_nothing_changes() {
    let record = words(8);
    let mut rig = rig(1);
    drop(InflightRecord::open(Arc::new(record.clone()), 8, 0).expect("an empty one"));
    let (queue, ring) = rig.device.queue_mut(0).expect("it is live");
    let position = ring.position();
    let refused = queue.keep_record(Arc::new(record), ring, &rig.memory);
    assert_eq!(refused, Err(InflightError::TooSmall(18)));
    assert_eq!(ring.position(), position);
    assert_eq!(rig.do_one(&write(4, 9, 1)), S_OK);
}
