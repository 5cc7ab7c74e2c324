//! Validation of requests: an invalid one is rejected before any effect, and an unusual but valid
//! one is executed.

use crate::support::guest::{self, discard, flush, get_id, read, segments, write, zeroes};
use crate::support::{ALL, Rig, rig, rig_with};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use powerfail_device::{Config, Limits, QueueLayout};

/// A request of `kind` over `out` readable and `room` writable bytes.
fn odd(kind: u32, sector: u64, out: usize, room: u32) -> guest::Request {
    guest::Request { kind, sector, out: vec![0; out], room }
}

#[test]
fn requests_are_judged_by_the_table() {
    const WZ: u32 = T_WRITE_ZEROES;
    let far = [63, 64, 65, (1 << 23) - 1, 1 << 54, 1 << 55, (1 << 55) - 1, 1 << 63, u64::MAX];
    let mut table = vec![
        (write(0, 1, 64), S_OK),
        (write(63, 1, 2), S_IOERR),
        (write(64, 1, 0), S_OK),
        (write(65, 1, 0), S_IOERR),
        (odd(T_OUT, 0, 511, 0), S_IOERR),
        (odd(T_OUT, 0, 513, 0), S_IOERR),
        (odd(T_OUT, 0, 512, 512), S_IOERR),
        (odd(T_IN, 0, 0, 511), S_IOERR),
        (odd(T_IN, 0, 1, 512), S_IOERR),
        (odd(T_IN, 64, 0, 0), S_OK),
        (read(0, 64), S_OK),
        (flush(), S_OK),
        (odd(T_FLUSH, 77, 0, 0), S_OK),
        (odd(T_FLUSH, 0, 16, 0), S_OK),
        (get_id(20), S_OK),
        (get_id(19), S_IOERR),
        (get_id(21), S_IOERR),
        (odd(T_GET_ID, 0, 20, 20), S_IOERR),
        (discard(0, 64), S_OK),
        (discard(0, 65), S_IOERR),
        (discard(0, 0), S_OK),
        (segments(T_DISCARD, &[]), S_OK),
        (segments(T_DISCARD, &[(0, 1, 1)]), S_UNSUPP),
        (segments(T_DISCARD, &[(0, 1, 2)]), S_UNSUPP),
        (segments(WZ, &[(0, 1, 1)]), S_OK),
        (segments(WZ, &[(0, 1, 2)]), S_UNSUPP),
        (segments(WZ, &[(0, 1, 0), (1, 1, 1 << 31)]), S_UNSUPP),
        (segments(WZ, &[(99, 1, 0), (1, 1, 2)]), S_UNSUPP),
        (segments(WZ, &[(0, 1, 0), (1, 64, 0)]), S_IOERR),
        (segments(WZ, &[(0, 2, 0), (1, 2, 0)]), S_OK),
        (segments(WZ, &[(0, u32::MAX, 0)]), S_IOERR),
        (segments(WZ, &[(0, 1, 0); 32]), S_OK),
        (segments(WZ, &[(0, 1, 0); 33]), S_IOERR),
        (odd(WZ, 0, 15, 0), S_IOERR),
        (odd(WZ, 0, 17, 0), S_IOERR),
        (odd(WZ, 0, 16, 16), S_IOERR),
    ];
    for sector in far {
        let status = if sector < 64 { S_OK } else { S_IOERR };
        table.push((write(sector, 1, 1), status));
        table.push((read(sector, 1), status));
        table.push((discard(sector, 1), status));
        table.push((zeroes(sector, 1), status));
    }
    // SCSI, FLUSH_OUT, odd and even neighbours, GET_LIFETIME, SECURE_ERASE, zone requests, BARRIER.
    let unknown =
        [2, 3, 5, 6, 7, 9, 10, 12, 14, 15, 16, 17, 18, 20, 22, 24, 26, 1 << 31, 1 << 31 | 1];
    table.extend(unknown.map(|kind| (odd(kind, 0, 512, 0), S_UNSUPP)));
    table.extend(unknown.map(|kind| (odd(kind, 0, 0, 512), S_UNSUPP)));
    for (request, status) in table {
        let mut rig = rig(1);
        rig.host.fill(9);
        assert_eq!(rig.do_one(&request), status, "{request:?}");
        let touched = rig.host.log().split(' ').any(|op| op != "sync" && !op.starts_with("read"));
        if status != S_OK {
            assert!(!touched || rig.host.bytes() == vec![9; 64 * 512], "{request:?}");
            assert_eq!(rig.host.bytes(), vec![9; 64 * 512], "{request:?} had an effect");
        }
    }
}

#[test]
fn len_claims_no_more_than_was_written() {
    for (request, len) in [
        (read(0, 1), 513),
        (read(99, 1), 0),
        (odd(77, 0, 0, 512), 0),
        (odd(77, 0, 512, 0), 1),
        (get_id(20), 21),
        (get_id(19), 0),
        (write(0, 1, 1), 1),
        (write(99, 1, 1), 1),
        (flush(), 1),
        (odd(T_FLUSH, 0, 0, 4), 0),
        (odd(T_OUT, 0, 512, 4), 0),
    ] {
        let mut rig = rig(1);
        let sent = rig.send(0, &request);
        rig.run();
        assert_eq!(rig.guests[0].reap(&rig.memory), [(sent.head, len)], "{request:?}");
        let untouched = sent.data(&rig.memory).iter().all(|byte| *byte == 0x5a);
        assert_eq!(untouched, len <= 1, "{request:?}");
    }
}

#[test]
fn a_read_only_disk_refuses_every_mutator_whatever_was_negotiated() {
    let limits = Limits { read_only: true, ..Limits::plain(64 * 512) };
    for accept in [ALL, ALL | F_RO, F_VERSION_1] {
        let mut rig = rig_with(1, limits, accept);
        rig.host.fill(9);
        assert_eq!(rig.device.offered() & F_RO, F_RO);
        for request in [write(0, 1, 1), write(0, 1, 0), discard(0, 1), zeroes(0, 1)] {
            assert_eq!(rig.do_one(&request), S_IOERR, "{request:?}");
        }
        assert_eq!(rig.host.log(), "");
        for request in [read(0, 1), flush(), get_id(20)] {
            assert_eq!(rig.do_one(&request), S_OK, "{request:?}");
        }
        assert_eq!(rig.host.log(), "read@0+1 sync");
    }
}

#[test]
fn what_was_not_negotiated_is_not_done() {
    let mut rig = rig_with(1, Limits::plain(64 * 512), F_VERSION_1 | F_FLUSH);
    assert_eq!(rig.do_one(&discard(0, 1)), S_UNSUPP);
    assert_eq!(rig.do_one(&zeroes(0, 1)), S_UNSUPP);
    assert_eq!(rig.host.log(), "");
}

#[test]
fn segments_above_the_offered_length_are_refused() {
    use crate::support::Rig;
    let config = powerfail_device::Config {
        queue_size: 16,
        max_discard_sectors: 4,
        max_write_zeroes_sectors: 8,
        ..Default::default()
    };
    let mut rig = Rig::new(config, Limits::plain(64 * 512));
    rig.boot(ALL);
    for (request, status) in [
        (discard(0, 4), S_OK),
        (discard(0, 5), S_IOERR),
        (zeroes(0, 8), S_OK),
        (zeroes(0, 9), S_IOERR),
        (segments(T_WRITE_ZEROES, &[(0, 8, 0), (8, 9, 0)]), S_IOERR),
    ] {
        assert_eq!(rig.do_one(&request), status, "{request:?}");
    }
    assert_eq!(rig.host.log(), "discard@0+4 zeroes@0+8");
}

#[test]
fn the_serial_is_twenty_bytes() {
    let mut rig = rig(1);
    let sent = rig.send(0, &get_id(20));
    rig.run();
    assert_eq!(sent.data(&rig.memory), b"powerfail\0\0\0\0\0\0\0\0\0\0\0");
}

#[test]
fn a_chain_longer_than_the_queue_is_refused_and_its_status_is_reached() {
    let mut rig = rig(1);
    // The ring has 16 descriptors: VS-06.
    for (pieces, status) in [(14, S_OK), (15, S_IOERR), (300, S_IOERR)] {
        let cuts = guest::Cuts { header: vec![16], data: vec![64; pieces - 1], glued: false };
        let sent = rig.guests[0].send_cut(&rig.memory, &read(0, 32), &cuts, true);
        rig.kick(0);
        rig.run();
        assert_eq!(sent.status(&rig.memory), status, "{pieces} pieces of data");
    }
}

#[test]
fn a_driver_that_keeps_to_seg_max_is_served_on_a_ring_of_any_size() {
    let config = Config { queue_size: 64, ..Config::default() };
    let mut rig = Rig::new(config, Limits::plain(64 * 512));
    rig.boot_placed(ALL, |layout| QueueLayout { size: 8, ..layout });
    let cuts = guest::Cuts { header: vec![16], data: vec![512; 31], glued: false };
    let sent = rig.guests[0].send_cut(&rig.memory, &read(0, 32), &cuts, true);
    rig.kick(0);
    rig.run();
    assert_eq!(
        sent.status(&rig.memory),
        S_OK,
        "34 descriptors on a ring of 8, 62 segments offered"
    );
}
