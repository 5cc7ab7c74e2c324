//! The division of a request into descriptors carries no meaning, and an invalid request is never
//! executed.

use crate::support::guest::{self, Cuts, Piece, UNANSWERED};
use crate::support::{MEMORY, Rig, rig};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use vm_memory::{Bytes, GuestAddress};

/// Layouts of 16 bytes of header, `len` bytes of data and the status.
fn all_cuts(len: u32) -> Vec<Cuts> {
    let headers = [vec![16], vec![1; 5], vec![0, 4, 0, 4, 8], vec![8, 8], vec![15, 1]];
    let data = [
        vec![u32::MAX],
        vec![1, 1, 1],
        vec![0, 511, 1, 0],
        vec![len / 2, len / 2],
        vec![512, 0, 512],
    ];
    let mut cuts = Vec::new();
    for header in &headers {
        for data in &data {
            for glued in [false, true] {
                cuts.push(Cuts { header: header.clone(), data: data.clone(), glued });
            }
        }
    }
    cuts
}

#[test]
fn the_same_request_in_every_cut_does_the_same() {
    for cuts in all_cuts(1024) {
        for indirect in [false, true] {
            let mut rig = rig(1);
            let mut content: Vec<u8> = (0..1024_u32).map(|at| (at % 251) as u8 + 1).collect();
            let write = guest::Request { kind: T_OUT, sector: 3, out: content.clone(), room: 0 };
            let sent = rig.guests[0].send_cut(&rig.memory, &write, &cuts, indirect);
            rig.kick(0);
            rig.run();
            assert_eq!(sent.status(&rig.memory), S_OK, "{cuts:?}");
            assert_eq!(rig.guests[0].reap(&rig.memory), [(sent.head, 1)], "{cuts:?}");
            assert_eq!(rig.host.bytes()[1536..2560], content, "{cuts:?}");

            let read = guest::read(3, 2);
            let sent = rig.guests[0].send_cut(&rig.memory, &read, &cuts, indirect);
            rig.kick(0);
            rig.run();
            assert_eq!(rig.guests[0].reap(&rig.memory), [(sent.head, 1025)], "{cuts:?}");
            assert_eq!(sent.data(&rig.memory), content, "{cuts:?}");
            content.clear();
            let canary: u8 = rig.memory.read_obj(GuestAddress(sent.status + 1)).unwrap();
            assert_eq!(canary, 0xcc, "nothing is written after the status");
        }
    }
}

#[test]
fn direct_descriptors_may_precede_an_indirect_table() {
    let mut rig = rig(1);
    let guest = &mut rig.guests[0];
    let (header, data, table) = (guest.take(16), guest.take(513), 0xf_0000);
    put_header(&rig.memory, header, T_IN, 0);
    let layout = guest.layout;
    guest.write_descriptor(&rig.memory, layout.descriptors, 4, header, 16, guest::NEXT, 5);
    guest.write_descriptor(&rig.memory, layout.descriptors, 5, table, 16, guest::INDIRECT, 0);
    guest.write_descriptor(&rig.memory, table, 0, data, 513, guest::WRITE, 0);
    guest.publish(&rig.memory, 4);
    rig.kick(0);
    rig.run();
    assert_eq!(rig.guests[0].reap(&rig.memory), [(4, 513)]);
}

#[test]
fn a_head_published_twice_is_two_requests() {
    let mut rig = rig(1);
    rig.host.hold();
    let sent = rig.send(0, &guest::write(1, 7, 1));
    rig.guests[0].publish(&rig.memory, sent.head);
    rig.kick(0);
    rig.run();
    assert_eq!(rig.host.pending(), 2);
    rig.host.release();
    rig.run();
    assert_eq!(rig.guests[0].reap(&rig.memory), [(sent.head, 1), (sent.head, 1)]);
}

#[test]
fn in_flight_never_exceeds_the_queue_size() {
    let mut rig = rig(1);
    rig.host.hold();
    let sent = rig.send(0, &guest::write(1, 7, 1));
    rig.run();
    for _ in 0..20 {
        rig.guests[0].publish(&rig.memory, sent.head);
        rig.kick(0);
        rig.run();
    }
    let (queue, _) = rig.device.queue_mut(0).unwrap();
    assert_eq!(queue.in_flight(), 16);
    rig.host.release();
    rig.run();
    assert_eq!(rig.guests[0].used_idx(&rig.memory), 21);
    assert_eq!(rig.device.status() & STATUS_NEEDS_RESET, 0);
}

fn put_header(memory: &vm_memory::GuestMemoryMmap<()>, at: u64, kind: u32, sector: u64) {
    memory.write_obj(kind.to_le(), GuestAddress(at)).unwrap();
    memory.write_obj(0_u32, GuestAddress(at + 4)).unwrap();
    memory.write_obj(sector.to_le(), GuestAddress(at + 8)).unwrap();
}

/// Publishes a chain in a small notation: `r16` readable, `w1` writable, `R16` and `W1` outside
/// memory, `R16+` and `W2+` with only the first byte in memory, `^` NEXT on the last one, pointing
/// at the first, `!` pointing at no descriptor. Returns `(len, last writable byte)`.
fn chain(rig: &mut Rig, words: &str) -> (u32, Option<u8>) {
    let mut pieces = Vec::new();
    let mut last = None;
    let (mut dangling, mut headed) = (None, false);
    for word in words.split_whitespace() {
        if word == "^" || word == "!" {
            dangling = Some(word);
            continue;
        }
        let begins_inside = word.ends_with('+');
        let len: u32 = word[1..].trim_end_matches('+').parse().expect("a length");
        let write = word[..1].eq_ignore_ascii_case("w");
        let outside = word.starts_with(char::is_uppercase);
        let addr = match outside {
            true if begins_inside => MEMORY - 1,
            true => MEMORY + 64,
            false => rig.guests[0].take(u64::from(len) + 16),
        };
        if !outside {
            let fill = vec![UNANSWERED; len as usize];
            rig.memory.write_slice(&fill, GuestAddress(addr)).unwrap();
        }
        if !headed && !write && !outside && len >= 16 {
            headed = true;
            put_header(&rig.memory, addr, T_OUT, 5);
        }
        if write && len > 0 {
            last = (!outside).then(|| addr + u64::from(len) - 1);
        }
        pieces.push(Piece { addr, len, write });
    }
    let guest = &mut rig.guests[0];
    let head = guest.chain(&rig.memory, &pieces);
    if let Some(word) = dangling {
        let next = if word == "^" { head } else { 16 };
        let tail = Piece { ..*pieces.last().expect("a chain") };
        let index = (head + pieces.len() as u16 - 1) % guest.layout.size;
        let flags = guest::NEXT | if tail.write { guest::WRITE } else { 0 };
        let table = guest.layout.descriptors;
        guest.write_descriptor(&rig.memory, table, index, tail.addr, tail.len, flags, next);
    }
    guest.publish(&rig.memory, head);
    rig.kick(0);
    rig.run();
    let used = rig.guests[0].reap(&rig.memory);
    assert_eq!(used.len(), 1, "{words} is used exactly once");
    assert_eq!(used[0].0, head);
    let status = last.map(|at| rig.memory.read_obj(GuestAddress(at)).unwrap());
    (used[0].1, status)
}

#[test]
fn a_chain_that_is_no_request_is_answered_or_at_least_returned() {
    let ioerr = (1, Some(S_IOERR));
    let silent = (0, Some(S_IOERR));
    for (words, expected) in [
        ("r16 r512 w1", (1, Some(S_OK))),
        ("r16 r511 w1", ioerr),
        ("r15 w1", ioerr),
        ("r16 r512 w2", silent),
        ("r16 r512", (0, None)),
        ("r16", (0, None)),
        ("w1", ioerr),
        ("r16 w1 r512", ioerr),
        ("w1 r16 r512", ioerr),
        ("r16 r512 w1 ^", silent),
        ("r16 r512 ^", (0, None)),
        ("r16 r512 w1 !", ioerr),
        ("r16 r512 !", (0, None)),
        ("w1 ^", silent),
        ("r16 R512 w1", ioerr),
        ("R16 r512 w1", ioerr),
        ("r16 r512 W1", (0, None)),
        ("r16 R512+ w1", ioerr),
        ("R16+ r512 w1", ioerr),
        ("r16 r512 W2+", (0, None)),
        ("r0 r16 r0 r512 w0 w1 w0", (1, Some(S_OK))),
        ("r0 w0", (0, None)),
    ] {
        let mut rig = rig(1);
        let got = chain(&mut rig, words);
        assert_eq!(got, expected, "{words}");
        let wrote = rig.host.log() != "";
        assert_eq!(wrote, expected.1 == Some(S_OK), "{words} has no effect unless it is right");
        assert_eq!(rig.do_one(&guest::write(0, 1, 1)), S_OK, "{words}: the queue lives on");
    }
}

#[test]
fn a_table_that_cannot_be_followed_returns_the_head() {
    // (address, length, nested) of a table whose first descriptor would be a status.
    for (addr, len, nested) in
        [(0xf_0000, 15, false), (0xf_0000, 0, false), (MEMORY, 16, false), (0xf_0000, 16, true)]
    {
        let mut rig = rig(1);
        let guest = &mut rig.guests[0];
        let table = guest.layout.descriptors;
        guest.write_descriptor(&rig.memory, table, 0, addr, len, guest::INDIRECT, 0);
        let flags = if nested { guest::INDIRECT } else { guest::WRITE };
        guest.write_descriptor(&rig.memory, 0xf_0000, 0, 0xe_0000, 16, flags, 0);
        guest.publish(&rig.memory, 0);
        rig.kick(0);
        rig.run();
        assert_eq!(rig.guests[0].reap(&rig.memory), [(0, 0)]);
        assert_eq!(rig.do_one(&guest::write(0, 1, 1)), S_OK);
    }
}
