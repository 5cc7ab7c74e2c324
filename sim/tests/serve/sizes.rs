//! Sizes that front-ends use: rings of any valid size, messages longer than their content, and
//! chains longer than any driver builds.

use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use crate::daemon::Place;
use crate::front::{
    DATA, Front, GET_CONFIG, GET_INFLIGHT_FD, GET_VRING_BASE, MEMORY, SET_INFLIGHT_FD,
    SET_MEM_TABLE, SET_VRING_ADDR, SET_VRING_BASE, SET_VRING_CALL, SET_VRING_ENABLE,
    SET_VRING_KICK, SET_VRING_NUM, USER, memory, record, state, words,
};

/// Addresses of the parts of a large ring, each with room for 32,768 descriptors.
const DESCRIPTORS: u64 = 0x10_0000;
const AVAILABLE: u64 = 0x18_0000;
const USED: u64 = 0x1a_0000;
/// Address of the requests' header, data and status, 32 bytes each, and of indirect tables.
const REQUESTS: u64 = 0x20_0000;
const TABLE: u64 = 0x40_0000;
/// Address of the tables of requests that share the data buffers.
const TABLES: u64 = 0x80_0000;
const LARGE: u64 = 0x90_0000;

/// GET_ID: the smallest request with data.
const GET_ID: u32 = 8;
const IN: u32 = 0;
const OUT: u32 = 1;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// A guest with one ring of any size.
struct Large {
    front: Front,
    size: u16,
    published: u16,
}

impl Large {
    fn connect(place: &Place, size: u16) -> Large {
        let mut front = Front::negotiated(&place.socket());
        front.memory = memory(LARGE);
        front.share(LARGE).unwrap();
        front.tell(SET_VRING_NUM, &state(0, size.into()), &[]).unwrap();
        front.tell(SET_VRING_BASE, &state(0, 0), &[]).unwrap();
        let parts = [0, USER + DESCRIPTORS, USER + USED, USER + AVAILABLE, 0];
        front.tell(SET_VRING_ADDR, &words(&parts), &[]).unwrap();
        let (kick, call) = (front.kick.try_clone().unwrap(), front.call.try_clone().unwrap());
        front.tell(SET_VRING_CALL, &words(&[0]), &[call.as_fd()]).unwrap();
        front.tell(SET_VRING_KICK, &words(&[0]), &[kick.as_fd()]).unwrap();
        front.tell(SET_VRING_ENABLE, &state(0, 1), &[]).unwrap();
        Large { front, size, published: 0 }
    }

    fn descriptor(&self, at: u64, parts: (u64, u32, u16, u16)) {
        let (addr, len, flags, next) = parts;
        let mut bytes = addr.to_le_bytes().to_vec();
        bytes.extend(len.to_le_bytes());
        bytes.extend(flags.to_le_bytes());
        bytes.extend(next.to_le_bytes());
        self.front.put(at, &bytes);
    }

    fn publish(&mut self, head: u16) {
        let entry = u64::from(self.published % self.size);
        self.front.put(AVAILABLE + 4 + 2 * entry, &head.to_le_bytes());
        self.published = self.published.wrapping_add(1);
        self.front.put(AVAILABLE + 2, &self.published.to_le_bytes());
    }

    /// Publishes a GET_ID with this head, whose indirect table is shared by all.
    fn get_id(&mut self, head: u16) {
        let request = REQUESTS + u64::from(head) * 48;
        self.front.put(request, &[&GET_ID.to_le_bytes()[..], &[0; 12]].concat());
        let table = TABLE + u64::from(head) * 48;
        self.descriptor(table, (request, 16, NEXT, 1));
        self.descriptor(table + 16, (request + 16, 20, NEXT | WRITE, 2));
        self.descriptor(table + 32, (request + 36, 1, WRITE, 0));
        let at = DESCRIPTORS + 16 * u64::from(head);
        self.descriptor(at, (table, 48, INDIRECT, 0));
        self.publish(head);
    }

    /// Publishes a write with as many buffers as a table has.
    fn long_write(&mut self, head: u16, descriptors: u16) {
        self.front.put(0, &[&OUT.to_le_bytes()[..], &[0; 12]].concat());
        let last = descriptors - 1;
        // Bytes one by one, and the rest of a whole number of sectors.
        let rest = 512 - u32::from(descriptors - 3) % 512;
        let table: Vec<u8> = (0..descriptors)
            .flat_map(|index| {
                let (addr, len, flags): (u64, u32, u16) = match index {
                    0 => (0, 16, NEXT),
                    _ if index < last - 1 => (DATA, 1, NEXT),
                    _ if index < last => (DATA, rest, NEXT),
                    _ => (16, 1, WRITE),
                };
                let mut bytes = addr.to_le_bytes().to_vec();
                bytes.extend(len.to_le_bytes());
                bytes.extend(flags.to_le_bytes());
                bytes.extend((index + 1).to_le_bytes());
                bytes
            })
            .collect();
        self.front.put(TABLE, &table);
        let at = DESCRIPTORS + 16 * u64::from(head);
        self.descriptor(at, (TABLE, 16 * u32::from(descriptors), INDIRECT, 0));
        self.publish(head);
    }

    /// Kicks and waits until every request is answered.
    fn finish(&self) {
        self.front.finish_as(self.published, || {
            let mut index = [0; 2];
            self.front.memory.read_exact_at(&mut index, USED + 2).unwrap();
            u16::from_le_bytes(index)
        });
    }
}

#[test]
fn rings_of_every_size_are_served() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    for size in [1, 2, 64, 512, 1024, 32768_u16] {
        let mut guest = Large::connect(&place, size);
        for _ in 0..2 {
            for head in 0..size {
                guest.get_id(head);
            }
            guest.finish();
        }
        let mut id = [0; 9];
        let last = REQUESTS + u64::from(size - 1) * 48;
        guest.front.memory.read_exact_at(&mut id, last + 16).unwrap();
        assert_eq!(&id, b"powerfail", "the last of {size}");
    }
}

#[test]
fn messages_may_be_longer_than_their_content() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    let mut front = Front::negotiated(&place.socket());
    let padded = |body: Vec<u8>, more: usize| [body, vec![0xee; more]].concat();
    let memory = front.memory.try_clone().unwrap();
    // Linux' `virtio_uml` always sends room for two regions.
    let table = [words(&[1]), words(&[0, MEMORY, USER, 0]), vec![0; 32]].concat();
    front.tell(SET_MEM_TABLE, &table, &[memory.as_fd()]).unwrap();
    front.tell(SET_VRING_NUM, &padded(state(0, 64), 4), &[]).unwrap();
    front.tell(SET_VRING_BASE, &padded(state(0, 0), 32), &[]).unwrap();
    front.tell(SET_VRING_ADDR, &padded(Front::address(), 8), &[]).unwrap();
    let (kick, call) = (front.kick.try_clone().unwrap(), front.call.try_clone().unwrap());
    front.tell(SET_VRING_CALL, &padded(words(&[0]), 8), &[call.as_fd()]).unwrap();
    front.tell(SET_VRING_KICK, &padded(words(&[0]), 8), &[kick.as_fd()]).unwrap();
    front.tell(SET_VRING_ENABLE, &padded(state(0, 1), 1), &[]).unwrap();
    front.publish(0, 1, DATA);
    front.finish();
    assert_eq!(front.status(0), 0);
    let config = [[0_u32, 8, 0].map(u32::to_ne_bytes).concat(), vec![0; 256]].concat();
    let answer = front.ask(GET_CONFIG, &config).unwrap();
    assert_eq!(answer[12..], 64_u64.to_le_bytes(), "as long as was asked for");
    let answer = front.ask(GET_VRING_BASE, &padded(state(0, 0), 16)).unwrap();
    assert_eq!(answer, state(0, 1));
}

#[test]
fn a_record_is_described_with_padding_or_without() {
    let place = Place::new(64 * 512);
    let _daemon = place.serve(&[]);
    for len in [20, 24] {
        let mut front = Front::negotiated(&place.socket());
        let (body, file) = front.make_record_as(&record(0)[..len]);
        assert_eq!(body.len(), len, "answered as it was asked");
        front.tell(SET_INFLIGHT_FD, &body, &[file.as_fd()]).unwrap();
    }
}

#[test]
fn a_record_for_more_rings_than_there_are_is_refused_with_their_number() {
    let place = Place::new(64 * 512);
    let mut daemon = place.serve(&["--queues", "2"]);
    let mut front = Front::negotiated(&place.socket());
    let asked = crate::front::record_of(0, 3, 64);
    assert!(front.ask(GET_INFLIGHT_FD, &asked).is_err());
    let said = daemon.until("GET_INFLIGHT_FD");
    assert!(said.contains("3 rings") && said.contains("the server has 2"), "{said}");
}

#[test]
fn chains_longer_than_the_queue_are_refused_and_take_no_memory() {
    let place = Place::new(1 << 20);
    let daemon = place.serve(&["--cache", "writethrough"]);
    let mut guest = Large::connect(&place, 256);
    let before = daemon.footprint().resident;
    for head in 0..=255 {
        guest.long_write(head, u16::MAX);
    }
    guest.finish();
    let mut status = [0];
    guest.front.memory.read_exact_at(&mut status, 16).unwrap();
    assert_eq!(status, [1], "IOERR");
    let after = daemon.footprint().resident;
    // The guest memory that the server has touched counts too.
    let guests = LARGE as usize >> 10;
    assert!(after < before + guests + (8 << 10), "{before} KiB, then {after} KiB");
}

#[test]
fn requests_of_a_front_end_that_is_gone_are_not_carried_out_for_ever() {
    const PIECES: u16 = 120;
    const PIECE: u32 = 4 << 20;
    // Reads of 480 MiB, 256 of them.
    let place = Place::new(u64::from(PIECES) * u64::from(PIECE));
    let mut daemon = place.serve(&[]);
    let mut guest = Large::connect(&place, 256);
    let memory = guest.front.memory.try_clone().unwrap();
    for head in 0..256 {
        let request = REQUESTS + u64::from(head) * 32;
        guest.front.put(request, &[&IN.to_le_bytes()[..], &[0; 12]].concat());
        let table = TABLES + u64::from(head) * 2048;
        for index in 0..PIECES + 2 {
            let parts = match index {
                0 => (request, 16, NEXT, 1),
                _ if index > PIECES => (request + 16, 1, WRITE, 0),
                _ => (TABLE, PIECE, NEXT | WRITE, index + 1),
            };
            guest.descriptor(table + 16 * u64::from(index), parts);
        }
        let at = DESCRIPTORS + 16 * u64::from(head);
        guest.descriptor(at, (table, 16 * u32::from(PIECES + 2), INDIRECT, 0));
        guest.publish(head);
    }
    guest.front.kick();
    drop(guest);
    daemon.until("is gone");
    let mut used = [0; 2];
    memory.read_exact_at(&mut used, USED + 2).unwrap();
    assert!(
        u16::from_le_bytes(used) < 256,
        "all requests were executed, and the signals are not read"
    );
    let mut next = Front::ready(&place.socket());
    next.publish(0, 1, DATA);
    next.finish();
    assert_eq!(next.status(0), 0);
}
