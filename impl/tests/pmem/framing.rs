//! The division of a request into descriptors carries no meaning, and an invalid request is never
//! executed.

use crate::support::guest::Piece;
use crate::support::{MEMORY, Rig, UNANSWERED, rig};
use powerfail_device::pmem::wire::*;

/// Divides `len` bytes from `addr` on into pieces of these lengths.
fn cut(addr: u64, lengths: &[u32], write: bool) -> Vec<Piece> {
    let mut at = addr;
    let mut piece = |len: &u32| {
        let addr = at;
        at += u64::from(*len);
        Piece { addr, len: *len, write }
    };
    lengths.iter().map(&mut piece).collect()
}

#[test]
fn the_same_flush_in_every_cut_does_the_same() {
    // Parts larger than necessary are legal; the excess is left alone.
    let requests: [&[u32]; 5] = [&[4], &[1, 1, 1, 1], &[0, 3, 0, 1], &[8], &[2, 6]];
    let responses: [&[u32]; 5] = [&[4], &[1, 1, 1, 1], &[0, 3, 0, 1], &[16], &[2, 10]];
    for request in requests {
        for response in responses {
            let mut rig = rig();
            let (from, to) = rig.place(T_FLUSH);
            let pieces = [cut(from, request, false), cut(to, response, true)].concat();
            let sent = rig.publish(&pieces, to);
            rig.run();
            assert_eq!(rig.returns(&[sent]), "0", "{request:?} {response:?}");
            assert_eq!(rig.guest.reap(&rig.memory), [(sent.head, 4)]);
            assert_eq!(rig.word(to + 4), UNANSWERED, "nothing is written after the response");
            assert_eq!(rig.host.syncs(), 1);
        }
    }
}

/// Publishes `pieces` for a flush and returns the used length. Checks that they cause no sync.
fn used(rig: &mut Rig, pieces: &[Piece], response: u64) -> u32 {
    rig.guest.reap(&rig.memory);
    let sent = rig.publish(pieces, response);
    rig.run();
    let used = rig.guest.reap(&rig.memory);
    assert_eq!(used.len(), 1, "{pieces:?}");
    assert_eq!(used[0].0, sent.head);
    assert_eq!(rig.host.syncs(), 0, "{pieces:?}");
    used[0].1
}

#[test]
fn a_malformed_chain_with_a_response_is_answered_with_failure() {
    let mut rig = rig();
    for shape in 0..6 {
        let (from, to) = rig.place(T_FLUSH);
        let readable = |addr, len| Piece { addr, len, write: false };
        let writable = |addr, len| Piece { addr, len, write: true };
        let pieces = match shape {
            0 => vec![writable(to, 4)],
            1 => vec![readable(from, 3), writable(to, 4)],
            2 => vec![writable(to, 4), readable(from, 4)],
            3 => vec![readable(from, 4), writable(to, 4), readable(from, 4)],
            4 => vec![readable(MEMORY, 4), writable(to, 4)],
            _ => vec![readable(from, 4), writable(to, 4), writable(MEMORY - 1, 2)],
        };
        assert_eq!(used(&mut rig, &pieces, to), 4, "shape {shape}");
        assert_eq!(rig.word(to), R_FAILED, "shape {shape}");
    }
    assert_eq!(rig.do_one(T_FLUSH), R_OK);
}

#[test]
fn a_chain_without_a_whole_response_is_returned_with_nothing_in_it() {
    let mut rig = rig();
    for shape in 0..5 {
        let (from, to) = rig.place(T_FLUSH);
        let readable = |addr, len| Piece { addr, len, write: false };
        let writable = |addr, len| Piece { addr, len, write: true };
        let pieces = match shape {
            0 => vec![readable(from, 4)],
            1 => vec![readable(from, 4), writable(to, 3)],
            2 => vec![readable(from, 4), writable(MEMORY - 2, 4)],
            3 => vec![readable(from, 4), writable(u64::MAX - 1, 4)],
            _ => vec![readable(from, 4), writable(to, 0)],
        };
        assert_eq!(used(&mut rig, &pieces, to), 0, "shape {shape}");
        assert_eq!(rig.word(to), UNANSWERED, "shape {shape}");
    }
    assert_eq!(rig.do_one(T_FLUSH), R_OK);
}

#[test]
fn a_chain_that_loops_is_answered_and_no_flush() {
    let mut rig = rig();
    let (from, to) = rig.place(T_FLUSH);
    let table = crate::support::layout().descriptors;
    let guest = &mut rig.guest;
    guest.write_descriptor(&rig.memory, table, 0, from, 4, 1, 1);
    guest.write_descriptor(&rig.memory, table, 1, to, 4, 3, 1);
    guest.publish(&rig.memory, 0);
    rig.kick();
    rig.run();
    assert_eq!(rig.word(to), R_FAILED);
    assert_eq!((rig.guest.reap(&rig.memory), rig.host.syncs()), (vec![(0, 4)], 0));
}
