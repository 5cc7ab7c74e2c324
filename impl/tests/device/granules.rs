//! Disks whose granule is larger than a sector: neighbours are never lost, whatever runs
//! concurrently.

use crate::support::guest::{self, discard, flush, read, write, zeroes};
use crate::support::host::Fault;
use crate::support::{ALL, Rig, rig_with};
use powerfail_device::wire::*;
use powerfail_device::{Errno, Limits};

fn coarse(granule: u32) -> Limits {
    Limits {
        granule,
        max_transfer: 4 * granule,
        discard_granularity: granule,
        write_zeroes_granularity: 2 * granule,
        max_write_zeroes: 8 * u64::from(granule),
        ..Limits::plain(64 * 512)
    }
}

fn coarse_rig(queues: u16, granule: u32) -> Rig {
    rig_with(queues, coarse(granule), ALL)
}

#[test]
fn a_partial_granule_is_read_patched_and_written_back() {
    let mut rig = coarse_rig(1, 2048);
    rig.host.fill(9);
    assert_eq!(rig.do_one(&write(2, 1, 8)), S_OK);
    assert_eq!(rig.host.log(), "read@0+4 write@0+4 write@4+4 read@8+4 write@8+4");
    assert_eq!(rig.host.sectors()[..12], [9, 9, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9]);
    rig.writeback(0);
    assert_eq!(rig.do_one(&write(1, 2, 1)), S_OK);
    assert_eq!(rig.host.log(), "read@0+4 write@0+4 sync", "one sync for all of it");
}

#[test]
fn faults_in_the_middle_of_a_patch_lose_nothing() {
    let (short, eintr) = (Fault::Short(512), Fault::Errno(Errno::EINTR));
    let mut rig = coarse_rig(1, 1024);
    rig.host.fill(9);
    rig.host.fail([short, eintr, Fault::None, eintr, short, Fault::None]);
    assert_eq!(rig.do_one(&write(1, 1, 1)), S_OK);
    assert_eq!(rig.host.log(), "read@0+2 read@0+2 read@0+2 write@0+2 write@0+2 write@0+2");
    assert_eq!(rig.host.sectors()[..3], [9, 1, 9]);
    rig.host.fail([Fault::Errno(Errno::EIO)]);
    assert_eq!(rig.do_one(&write(1, 2, 1)), S_IOERR);
    assert_eq!(rig.host.log(), "read@0+2", "a granule that cannot be read is not written back");
    assert_eq!(rig.do_one(&write(0, 3, 2)), S_OK, "and the range is free again");
}

#[test]
fn a_granule_that_cannot_be_read_or_written_is_no_failed_sync() {
    let mut rig = coarse_rig(1, 1024);
    rig.writeback(0);
    rig.host.fail([Fault::Errno(Errno::EIO)]);
    assert_eq!(rig.do_one(&write(1, 1, 1)), S_IOERR, "its read failed");
    assert_eq!(rig.do_one(&flush()), S_OK);
    rig.host.fail([Fault::None, Fault::Errno(Errno::EIO)]);
    assert_eq!(rig.do_one(&write(1, 1, 1)), S_IOERR, "its write failed");
    assert_eq!(rig.do_one(&flush()), S_OK);
    rig.host.fail([Fault::None, Fault::None, Fault::Errno(Errno::EIO)]);
    assert_eq!(rig.do_one(&write(1, 1, 1)), S_IOERR, "its sync failed");
    assert_eq!(rig.do_one(&flush()), S_IOERR);
}

#[test]
fn two_writers_of_one_granule_go_one_after_the_other() {
    let mut rig = coarse_rig(2, 1024);
    rig.host.hold();
    rig.send(0, &write(0, 1, 1));
    rig.run();
    rig.send(1, &write(1, 2, 1));
    rig.send(1, &write(3, 4, 1));
    rig.run();
    assert_eq!(rig.host.log(), "read@0+2 read@2+2", "the second writer of granule 0 waits");
    rig.host.release();
    rig.run();
    assert_eq!(rig.host.sectors()[..4], [1, 2, 0, 4]);
}

#[test]
fn a_reset_of_the_holder_lets_the_waiting_queue_go_on() {
    let mut rig = coarse_rig(2, 1024);
    rig.host.hold();
    rig.send(0, &write(0, 1, 1));
    rig.run();
    let waiting = rig.send(1, &write(1, 2, 1));
    rig.run();
    let (queue, _) = rig.device.queue_mut(0).unwrap();
    queue.stop();
    rig.run();
    assert_eq!(rig.host.pending(), 1, "the host still reads the granule");
    rig.host.release();
    rig.run();
    assert_eq!(rig.statuses(&[&waiting]), "o");
    assert_eq!(rig.host.sectors()[..2], [0, 2], "the stopped queue never wrote");
}

#[test]
fn discards_round_inward_and_zeroes_do_not_round() {
    let mut rig = coarse_rig(1, 1024);
    rig.host.fill(9);
    assert_eq!(rig.do_one(&discard(1, 5)), S_OK);
    assert_eq!(rig.host.log(), "discard@2+4");
    assert_eq!(rig.do_one(&discard(1, 2)), S_OK);
    assert_eq!(rig.host.log(), "", "nothing whole is inside");
    rig.host.fill(9);
    assert_eq!(rig.do_one(&zeroes(1, 10)), S_OK);
    assert_eq!(
        rig.host.log(),
        "read@0+2 write@0+2 write@2+2 zeroes@4+4 write@8+2 read@10+2 write@10+2"
    );
    assert_eq!(rig.host.sectors()[..12], [9, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
}

/// A generator that is good enough for shuffling.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn any_mix_of_disjoint_requests_in_any_order_ends_as_if_each_had_run_alone() {
    for seed in 1..400 {
        let mut dice = Dice(0x9e37_79b9_7f4a_7c15 ^ (seed << 20 | seed));
        let granule = 512 << dice.below(4);
        let mut rig = coarse_rig(3, granule);
        rig.host.fill(200);
        let mut model = [200; 64];
        for round in 0..4 {
            rig.host.hold();
            let mut sent = Vec::new();
            let mut at = dice.below(6);
            while at < 64 {
                let len = (1 + dice.below(12)).min(64 - at);
                let byte = (round * 30 + sent.len()) as u8 + 1;
                let (from, to) = (at as usize, (at + len) as usize);
                let request = match dice.below(4) {
                    0 => zeroes(at, len as u32),
                    1 => read(at, len as u32),
                    _ => write(at, byte, len as usize),
                };
                match request.kind {
                    T_WRITE_ZEROES => model[from..to].fill(0),
                    T_OUT => model[from..to].fill(byte),
                    _ => {}
                }
                let expected = (request.kind == T_IN).then(|| model[from..to].to_vec());
                sent.push((rig.send(dice.below(3) as u16, &request), expected));
                // Let the device take the request before the driver reuses its descriptors.
                rig.run();
                at += len + dice.below(3);
            }
            loop {
                rig.run();
                let busy: Vec<u16> = (0..3).filter(|lane| rig.host.pending_of(*lane) > 0).collect();
                let Some(&lane) = busy.get(dice.below(busy.len().max(1) as u64) as usize) else {
                    break;
                };
                if dice.below(5) == 0 {
                    rig.host.fail([match dice.below(3) {
                        0 => Fault::Errno(Errno::EINTR),
                        1 => Fault::Short(512),
                        _ => Fault::Short(granule + 512),
                    }]);
                }
                let at = dice.below(rig.host.pending_of(lane) as u64) as usize;
                rig.complete(lane, at);
            }
            rig.host.release();
            for (sent, expected) in &sent {
                assert_eq!(sent.status(&rig.memory), S_OK, "seed {seed}");
                if let Some(expected) = expected {
                    let got = sent.data(&rig.memory);
                    let firsts: Vec<u8> = got.chunks(512).map(|sector| sector[0]).collect();
                    assert_eq!(&firsts, expected, "seed {seed}");
                }
            }
            let whole: Vec<u8> = model.iter().flat_map(|byte| [*byte; 512]).collect();
            assert!(rig.host.bytes() == whole, "seed {seed} round {round}");
        }
    }
}

#[test]
fn a_guest_range_may_start_anywhere() {
    let mut rig = coarse_rig(1, 4096);
    let content: Vec<u8> = (0..1536_u32).map(|at| (at % 253) as u8).collect();
    let request = guest::Request { kind: T_OUT, sector: 7, out: content.clone(), room: 0 };
    let cuts = guest::Cuts { header: vec![3, 13], data: vec![1, 700, 30], glued: false };
    let sent = rig.guests[0].send_cut(&rig.memory, &request, &cuts, true);
    rig.kick(0);
    rig.run();
    assert_eq!(sent.status(&rig.memory), S_OK);
    assert_eq!(rig.host.bytes()[7 * 512..10 * 512], content);
}
