//! A malicious front-end: a conversation in which every step is drawn.
//!
//! Most conversations begin correctly, because a message that is rejected at once reaches no
//! further code. Then follow messages that are invalid or come at the wrong time, unsuitable
//! descriptors, invalid rings, truncated files, and in-flight records that no back-end wrote. No
//! step waits for the server longer than [`MOMENT`].

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};

use super::descriptors::Descriptors;
use super::draws::Draws;
use super::field::{self, DATA, Field, INDIRECT, LEN, MARGIN, MOST, NEXT, USER, WRITE, place};
use super::protocol::*;

/// The longest wait for an answer. Most answers come much sooner, and none is required.
const MOMENT: Duration = Duration::from_millis(20);

/// Numbers close to an edge case.
const EDGES: [u64; 20] = [
    0,
    1,
    2,
    3,
    8,
    16,
    255,
    256,
    1024,
    4095,
    4096,
    0x7fff,
    0x8000,
    0xffff,
    0x1_0000,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 40,
    u64::MAX - 1,
    u64::MAX,
];

/// Types of requests: IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, and an unknown one.
const KINDS: [u32; 7] = [0, 1, 4, 8, 11, 13, 99];

/// Counts of conversations.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) messages: u64,
    pub(crate) answers: u64,
    /// Conversations that the server did not end.
    pub(crate) whole: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, more: Tally) {
        self.messages += more.messages;
        self.answers += more.answers;
        self.whole += more.whole;
    }
}

/// Holds a conversation over this connection with the server of `disk`; `nudge` makes the server
/// check whether its disk has grown.
///
/// # Panics
/// If the server changed a byte next to guest memory.
pub(crate) fn converse(
    draws: &mut Draws<'_>,
    stream: UnixStream,
    disk: &Path,
    nudge: &dyn Fn(),
) -> Tally {
    let fds = Descriptors::new(disk, stream.as_fd());
    let size = draws.pick(&[2, 16, 64, 256, 256, MOST]);
    let end = End::new(stream);
    let mut conversation = Conversation {
        draws,
        end,
        fds,
        field: Field::new(),
        size,
        kick: event(),
        nudge,
        meddlers: Vec::new(),
    };
    conversation.begin();
    let steps = 1 + conversation.draws.below(24);
    for _ in 0..steps {
        if conversation.end.gone {
            break;
        }
        conversation.step();
    }
    conversation.end()
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("a descriptor")
}

struct Conversation<'a, 'b> {
    draws: &'a mut Draws<'b>,
    end: End,
    fds: Descriptors,
    field: Field,
    /// Descriptors of each ring.
    size: u16,
    kick: OwnedFd,
    nudge: &'a dyn Fn(),
    meddlers: Vec<Meddler>,
}

impl Conversation<'_, '_> {
    /// Sends the first messages of a correct front-end, most often.
    fn begin(&mut self) {
        if self.draws.once_in(12) {
            return;
        }
        self.say(message(SET_OWNER, VERSION, &[]), &[]);
        self.ask(GET_FEATURES, &[]);
        self.ask(GET_PROTOCOL_FEATURES, &[]);
        self.say(message(SET_PROTOCOL_FEATURES, VERSION, &words(&[PROTOCOL])), &[]);
        let features = self.features();
        self.tell(SET_FEATURES, &words(&[features]), &[]);
        self.share();
        if self.draws.once_in(4) {
            self.keep_record();
        }
        for queue in 0..1 + self.draws.below(2) {
            self.set_up(queue);
        }
    }

    fn step(&mut self) {
        match self.draws.below(32) {
            0 => self.out_of_shape(Self::anything),
            1 => self.out_of_shape(Self::mutated),
            2 => self.out_of_shape(Self::cut_up),
            3 => self.many_at_once(),
            4..=8 => self.publish(),
            9 => self.scribble(),
            10 => self.table(),
            11 => self.region(),
            12 => self.share(),
            13 => self.set_up_wrong(),
            14 => self.storm(),
            15..=16 => self.stop(),
            17 => self.reset(),
            18 => self.negotiate(),
            19..=20 => self.configure(),
            21 => self.take_record(),
            22..=23 => self.keep_record(),
            24 => self.resize(),
            25 => (self.nudge)(),
            26 => self.channel(),
            27 => self.fds.forget(self.draws),
            28 => self.many_descriptors(),
            29 => self.meddle_with_memory(),
            30 => self.kick(),
            _ => {
                let queue = self.draws.below(3);
                self.set_up(queue);
            }
        }
        if self.draws.once_in(2) {
            self.end.hear(Duration::ZERO);
        }
    }

    /// Ends the conversation: at once, or after the server has answered, or with half a message.
    fn end(mut self) -> Tally {
        match self.draws.below(4) {
            0 => {}
            1 => self.end.send(&message(SET_FEATURES, VERSION, &[0; 8])[..13], &[]),
            _ => self.ask(GET_FEATURES, &[]),
        }
        let Conversation { end, field, fds, meddlers, .. } = self;
        let tally = Tally { messages: end.sent, answers: end.answers, whole: u64::from(!end.gone) };
        drop((end, fds));
        meddlers.into_iter().for_each(Meddler::end);
        field.check_margins();
        tally
    }

    fn say(&mut self, bytes: Vec<u8>, fds: &[BorrowedFd<'_>]) {
        self.end.send(&bytes, fds);
    }

    fn ask(&mut self, request: u32, body: &[u8]) {
        self.say(message(request, VERSION, body), &[]);
        self.end.hear(MOMENT);
    }

    fn tell(&mut self, request: u32, body: &[u8], fds: &[BorrowedFd<'_>]) {
        // Without an answer the next message may arrive before this one is processed.
        let flags = if self.draws.once_in(5) { VERSION } else { VERSION | WANTS_ANSWER };
        self.say(message(request, flags, body), fds);
        if flags != VERSION {
            self.end.hear(MOMENT);
        }
    }

    /// A number: close to an edge case, an address, or any.
    fn number(&mut self) -> u64 {
        match self.draws.below(5) {
            0 | 1 => self.draws.pick(&EDGES),
            2 => USER + u64::from(self.draws.below(2 * LEN as u32)) / 8 * 8,
            3 => u64::from(self.draws.below(256)) * 4096,
            _ => self.draws.word(),
        }
    }

    fn features(&mut self) -> u64 {
        match self.draws.below(8) {
            0..=3 => FEATURES,
            4 | 5 => FEATURES | EVENT_IDX,
            6 => FEATURES & !(1 << self.draws.below(34)),
            _ => FEATURES & self.draws.word(),
        }
    }

    /// Sends a message after which the server may take the next message, or a part of it, for the
    /// rest of this one. Then a descriptor may be used for another purpose, such as the guest's
    /// memory for an in-flight record.
    fn out_of_shape(&mut self, say: impl FnOnce(&mut Self)) {
        say(self);
        self.field.give_up_margins();
    }

    /// Sends an arbitrary message.
    fn anything(&mut self) {
        let request = match self.draws.below(8) {
            0 => self.draws.word() as u32,
            _ => self.draws.below(65),
        };
        let flags = match self.draws.below(4) {
            0 => self.draws.word() as u32,
            1 => VERSION | WANTS_ANSWER,
            _ => VERSION,
        };
        let words = self.draws.below(12) as usize;
        let mut body: Vec<u8> = (0..words).flat_map(|_| self.number().to_le_bytes()).collect();
        body.truncate(body.len().saturating_sub(self.draws.below(8) as usize));
        let mut bytes = message(request, flags, &body);
        if self.draws.once_in(3) {
            let size = self.number() as u32;
            bytes[8..12].copy_from_slice(&size.to_le_bytes());
        }
        let many = self.draws.pick(&[0, 0, 1, 1, 2, 8]);
        self.with_descriptors(many, |end, fds| end.send(&bytes, fds));
        self.end.hear(MOMENT);
    }

    /// Sends a correct message with one mutation.
    fn mutated(&mut self) {
        let (request, body, many) = self.right();
        let mut bytes = message(request, VERSION | WANTS_ANSWER, &body);
        for _ in 0..1 + self.draws.below(2) {
            let at = self.draws.below(bytes.len() as u32) as usize;
            match self.draws.below(4) {
                0 => bytes[at] ^= 1 << self.draws.below(8),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.extend([0; 8]),
                _ => {
                    let number = self.number().to_le_bytes();
                    let at = 12 + at / 8 * 8;
                    if let Some(word) = bytes.get_mut(at..at + 8) {
                        word.copy_from_slice(&number);
                    }
                }
            }
        }
        let many = self.draws.pick(&[many, many, 0, many + 1]);
        self.with_descriptors(many, |end, fds| end.send(&bytes, fds));
        self.end.hear(MOMENT);
    }

    /// A message according to the protocol, and the number of its descriptors.
    fn right(&mut self) -> (u32, Vec<u8>, usize) {
        let queue = self.draws.below(2);
        match self.draws.below(14) {
            0 => (SET_FEATURES, words(&[FEATURES]), 0),
            1 => (SET_MEM_TABLE, Field::table(), 1),
            2 => (SET_VRING_NUM, state(queue, self.size.into()), 0),
            3 => (SET_VRING_ADDR, field::address(queue, queue), 0),
            4 => (SET_VRING_BASE, state(queue, 0), 0),
            5 => (GET_VRING_BASE, state(queue, 0), 0),
            6 => (SET_VRING_KICK, words(&[queue.into()]), 1),
            7 => (SET_VRING_CALL, words(&[queue.into()]), 1),
            8 => (SET_VRING_ERR, words(&[queue.into()]), 1),
            9 => (SET_VRING_ENABLE, state(queue, 1), 0),
            10 => (GET_CONFIG, config(0, &[0; 60]), 0),
            11 => (SET_CONFIG, config(32, &[0]), 0),
            12 => (GET_INFLIGHT_FD, record(0, 0, 1, self.size), 0),
            _ => (SET_INFLIGHT_FD, record(LEN, 0, 1, self.size), 1),
        }
    }

    /// Sends two messages in pieces that do not match their boundaries.
    fn cut_up(&mut self) {
        let mut bytes = Vec::new();
        for _ in 0..2 {
            let (request, body, _) = self.right();
            bytes.extend(message(request, VERSION, &body));
        }
        while !bytes.is_empty() {
            let len = 1 + self.draws.below(bytes.len() as u32) as usize;
            let rest = bytes.split_off(len);
            let many = self.draws.pick(&[0, 0, 1]);
            self.with_descriptors(many, |end, fds| end.send(&bytes, fds));
            bytes = rest;
            if self.draws.once_in(2) {
                self.end.hear(Duration::from_micros(200));
            }
        }
    }

    /// Sends many messages at once, without waiting.
    fn many_at_once(&mut self) {
        let mut bytes = Vec::new();
        for _ in 0..self.draws.below(40) {
            let (request, body, _) = self.right();
            bytes.extend(message(request, VERSION | WANTS_ANSWER, &body));
        }
        self.say(bytes, &[]);
    }

    /// Sends as many descriptors as one message can carry.
    fn many_descriptors(&mut self) {
        let many = self.draws.pick(&[9, 32, 33, 252, MOST_DESCRIPTORS]);
        let (request, body, _) = self.right();
        self.with_descriptors(many, |end, fds| {
            end.send(&message(request, VERSION | WANTS_ANSWER, &body), fds);
        });
        self.end.hear(MOMENT);
    }

    /// Calls a closure with this many descriptors of any kind; more than a few of them repeat.
    fn with_descriptors(&mut self, many: usize, say: impl FnOnce(&mut End, &[BorrowedFd<'_>])) {
        for _ in 0..many.min(8) {
            self.fds.any(self.draws);
        }
        let held: Vec<BorrowedFd<'_>> = self.fds.held().collect();
        let last = &held[held.len().saturating_sub(many.min(8))..];
        let fds: Vec<BorrowedFd<'_>> = last.iter().copied().cycle().take(many).collect();
        say(&mut self.end, &fds);
    }

    /// Shares the memory correctly.
    fn share(&mut self) {
        let memory = self.field.file().try_clone().expect("a descriptor");
        self.tell(SET_MEM_TABLE, &Field::table(), &[memory.as_fd()]);
    }

    /// Shares an invalid memory table, or only a part of the memory.
    fn table(&mut self) {
        let many = self.draws.below(9);
        let mut body = words(&[many.into()]);
        for index in 0..u64::from(many) {
            let part = u64::from(self.draws.below(16)) * 0x1_0000;
            let right = [part, 0x1_0000, USER + part, index * 4096];
            for word in right {
                let word = if self.draws.once_in(8) { self.number() } else { word };
                body.extend(word.to_le_bytes());
            }
        }
        let wrong = self.draws.below(8).saturating_sub(6);
        let made: Vec<OwnedFd> = (0..many + wrong)
            .map(|_| {
                let fd = self.fds.mappable(self.draws);
                fd.try_clone_to_owned().expect("a descriptor")
            })
            .collect();
        let fds: Vec<BorrowedFd<'_>> = made.iter().map(AsFd::as_fd).collect();
        self.tell(SET_MEM_TABLE, &body, &fds);
    }

    /// Adds or removes a region.
    fn region(&mut self) {
        let at = u64::from(self.draws.below(32)) * 0x1_0000;
        let mut region = [0, at, 0x1_0000, USER + at, 0];
        if self.draws.once_in(3) {
            region[self.draws.below(5) as usize] = self.number();
        }
        if self.draws.once_in(3) {
            self.tell(REM_MEM_REG, &words(&region), &[]);
        } else {
            let fd = self.fds.mappable(self.draws).try_clone_to_owned().expect("a descriptor");
            self.tell(ADD_MEM_REG, &words(&region), &[fd.as_fd()]);
        }
    }

    /// Sets up a ring correctly, except for the drawn deviations.
    fn set_up(&mut self, queue: u32) {
        let size = self.size.into();
        self.tell(SET_VRING_NUM, &state(queue, size), &[]);
        let base = self.field.published(queue).into();
        let base = if self.draws.once_in(3) { self.field.used(queue).into() } else { base };
        self.tell(SET_VRING_BASE, &state(queue, base), &[]);
        // Sometimes two queues share one ring.
        let at = if self.draws.once_in(6) { 0 } else { queue };
        self.tell(SET_VRING_ADDR, &field::address(queue, at), &[]);
        for request in [SET_VRING_CALL, SET_VRING_ERR] {
            if self.draws.once_in(3) {
                let fd = self.fds.event(self.draws).try_clone_to_owned().expect("a descriptor");
                self.tell(request, &words(&[queue.into()]), &[fd.as_fd()]);
            }
        }
        let kick = self.kick.try_clone().expect("a descriptor");
        self.tell(SET_VRING_KICK, &words(&[queue.into()]), &[kick.as_fd()]);
        self.tell(SET_VRING_ENABLE, &state(queue, 1), &[]);
    }

    /// Sends one invalid message about a ring.
    fn set_up_wrong(&mut self) {
        let queue = self.draws.pick(&[0, 0, 1, 2, 64, 255, 256, u32::MAX]);
        let number = self.number();
        match self.draws.below(6) {
            0 => self.tell(SET_VRING_NUM, &state(queue, number as u32), &[]),
            1 => self.tell(SET_VRING_BASE, &state(queue, number as u32), &[]),
            2 => {
                let mut body = words(&[queue.into()]);
                body.extend((0..4).flat_map(|_| self.number().to_le_bytes()));
                self.tell(SET_VRING_ADDR, &body, &[]);
            }
            which => {
                let request = [SET_VRING_KICK, SET_VRING_CALL, SET_VRING_ERR][which as usize - 3];
                // Bit 8 means that the message has no descriptor.
                let body = words(&[u64::from(queue & 0xff) | self.draws.pick(&[0, 0, 0, 0x100])]);
                if body[1] == 0 {
                    let fd = self.fds.any(self.draws).try_clone_to_owned().expect("a descriptor");
                    self.tell(request, &body, &[fd.as_fd()]);
                } else {
                    self.tell(request, &body, &[]);
                }
            }
        }
    }

    /// Enables and disables rings as fast as possible.
    fn storm(&mut self) {
        let mut bytes = Vec::new();
        for _ in 0..self.draws.below(200) {
            let (queue, on) = (self.draws.below(2), self.draws.below(2));
            bytes.extend(message(SET_VRING_ENABLE, VERSION, &state(queue, on)));
        }
        self.say(bytes, &[]);
        self.kick();
    }

    /// Stops a ring, which may have requests in flight.
    fn stop(&mut self) {
        self.kick();
        let queue = self.draws.below(2);
        self.ask(GET_VRING_BASE, &state(queue, 0));
        if self.draws.once_in(2) {
            self.set_up(queue);
        }
    }

    fn reset(&mut self) {
        self.tell(RESET_DEVICE, &[], &[]);
        if self.draws.once_in(2) {
            self.field.clear();
        }
        self.negotiate();
    }

    fn negotiate(&mut self) {
        let features = self.features();
        self.tell(SET_FEATURES, &words(&[features]), &[]);
    }

    /// Reads or writes the configuration space; most often the cache mode.
    fn configure(&mut self) {
        let offset = if self.draws.once_in(2) { 32 } else { self.number() as u32 };
        let len = self.draws.pick(&[1, 1, 1, 4, 60, 96, 255, 256]);
        let byte = self.draws.below(3) as u8;
        let body = config(offset, &vec![byte; len]);
        if self.draws.once_in(2) {
            self.ask(GET_CONFIG, &body);
        } else {
            self.tell(SET_CONFIG, &body, &[]);
        }
    }

    /// Lets the server create an in-flight record, and returns it with arbitrary contents.
    fn take_record(&mut self) {
        let queues = self.draws.pick(&[1, 1, 2, 3, 64, u16::MAX]);
        let size = self.draws.pick(&[self.size, self.size, 0, 3, 256, u16::MAX]);
        self.say(message(GET_INFLIGHT_FD, VERSION, &record(0, 0, queues, size)), &[]);
        let Some(answer) = self.end.hear(MOMENT) else { return };
        if let Some(made) = answer.descriptor {
            self.scribble_record(&File::from(made.try_clone().expect("a descriptor")));
            let body = answer.body;
            self.tell(SET_INFLIGHT_FD, &body, &[made.as_fd()]);
            self.fds.keep(made);
        }
    }

    /// Passes a record that no back-end wrote, in memory of any size.
    fn keep_record(&mut self) {
        let body = match self.draws.below(5) {
            0 => record(self.number(), self.number(), self.number() as u16, self.number() as u16),
            1 => record(1 << 36, 0, u16::MAX, u16::MAX),
            _ => record(LEN, 0, self.draws.pick(&[1, 2, 2, 3]), self.size),
        };
        let made = if self.draws.once_in(4) {
            self.fds.mappable(self.draws).try_clone_to_owned().expect("a descriptor")
        } else {
            let len = u64::from_le_bytes(*body.first_chunk().expect("three words"));
            // A sparse file of the length that the message gives.
            Descriptors::memory(len.min(1 << 42)).into()
        };
        let file = File::from(made.try_clone().expect("a descriptor"));
        self.scribble_record(&file);
        self.tell(SET_INFLIGHT_FD, &body, &[made.as_fd()]);
        if self.draws.once_in(3) {
            let len = (16 + 16 * u64::from(self.size)) * 2;
            self.meddlers.push(Meddler::begin(file, 0, len, self.draws));
        }
        self.fds.keep(made);
        for queue in 0..2 {
            self.set_up(queue);
        }
    }

    /// Writes a record of both queues: its header is correct most often, its entries are not.
    fn scribble_record(&mut self, file: &File) {
        let part = (16 + 16 * u64::from(self.size)).next_multiple_of(64);
        for queue in 0..2 {
            let mut record = vec![0; 8];
            let front = [1, self.size, self.draws.below(self.size.into()) as u16, 0];
            for half in front {
                let half = if self.draws.once_in(10) { self.number() as u16 } else { half };
                record.extend(half.to_le_bytes());
            }
            let near_the_end = self.draws.once_in(3);
            let many = self.draws.pick(&[1, 4, 256]);
            for _ in 0..self.size {
                let next = self.draws.below(u32::from(self.size) + 1) as u16;
                record.extend([u8::from(self.draws.once_in(many)), 0, 0, 0, 0, 0]);
                record.extend(next.to_le_bytes());
                let count = u64::from(self.draws.below(64));
                let count = if near_the_end { u64::MAX - count } else { count };
                record.extend(count.to_le_bytes());
            }
            // The file may not be writable.
            let _ = file.write_all_at(&record, queue * part);
        }
    }

    /// Publishes requests on a ring, valid ones and others.
    fn publish(&mut self) {
        let queue = self.draws.below(2);
        let most = self.size / 3;
        for _ in 0..1 + self.draws.below(u32::from(most.clamp(1, 40))) {
            let slot = self.draws.below(most.max(1).into()) as u16;
            let kind = self.draws.pick(&KINDS);
            let sector = match self.draws.below(4) {
                0 => self.number(),
                _ => self.draws.below(4096).into(),
            };
            let at = match self.draws.below(6) {
                0 => self.number(),
                // Data on the rings themselves.
                1 => u64::from(self.draws.below(4 * 0x1_0000)),
                _ => DATA + u64::from(self.draws.below(1024)) * 512,
            };
            let len = match kind {
                4 => 0,
                8 => 20,
                11 | 13 => 16,
                _ => self.draws.pick(&[512, 4096, 1536, 65536, 0x4_0000, 100, u32::MAX]),
            };
            if matches!(kind, 11 | 13) && at < LEN {
                let sectors = self.draws.below(4096).to_le_bytes();
                let segment = [&sector.to_le_bytes()[..], &sectors, &[0; 4]].concat();
                self.field.put(at, &segment);
            }
            let (head, _) = self.field.request(queue, slot, kind, sector, (at, len));
            self.field.publish(queue, self.size, head);
        }
        self.kick();
    }

    /// Writes arbitrary descriptors on a ring, and publishes them.
    fn scribble(&mut self) {
        let queue = self.draws.below(2);
        for _ in 0..self.draws.below(20) {
            let index = self.draws.below(self.size.into()) as u16;
            let address = match self.draws.below(3) {
                0 => self.number(),
                _ => u64::from(self.draws.below(LEN as u32)),
            };
            let len = match self.draws.below(3) {
                0 => self.number() as u32,
                _ => self.draws.pick(&[1, 16, 32, 160, 512, 4096, 1_048_560]),
            };
            let flags = self.draws.pick(&[0, NEXT, WRITE, NEXT | WRITE, INDIRECT, 7]);
            let next = self.draws.below(u32::from(self.size) + 1) as u16;
            let bytes = field::descriptor(address, len, flags, next);
            // In the table of the queue, or in memory that may serve as an indirect table.
            let table = if self.draws.once_in(4) { DATA } else { place(queue) };
            self.field.put(table + 16 * u64::from(index), &bytes);
            if self.draws.once_in(2) {
                self.field.publish(queue, self.size, index);
            }
        }
        if self.draws.once_in(6) {
            let index = (self.number() as u16).to_le_bytes();
            self.field.put(place(queue) + field::AVAILABLE + 2, &index);
        }
        self.kick();
    }

    fn kick(&mut self) {
        // The eventfd is full if it has not been read for long.
        let _ = rustix::io::write(&self.kick, &1_u64.to_ne_bytes());
    }

    /// Truncates or extends a shared file.
    fn resize(&mut self) {
        if self.draws.once_in(3) {
            let len =
                self.draws.pick(&[0, MARGIN, MARGIN + LEN / 2, MARGIN + LEN, LEN + 2 * MARGIN]);
            self.field.cut(len);
        } else {
            self.fds.resize(self.draws);
        }
    }

    /// Passes the back-end channel.
    fn channel(&mut self) {
        let fd = self.fds.any(self.draws).try_clone_to_owned().expect("a descriptor");
        self.tell(SET_BACKEND_REQ_FD, &[], &[fd.as_fd()]);
        (self.nudge)();
    }

    /// Starts a thread that writes arbitrary words on the rings.
    fn meddle_with_memory(&mut self) {
        let file = self.field.file().try_clone().expect("a descriptor");
        let from = MARGIN + place(self.draws.below(2));
        self.meddlers.push(Meddler::begin(file, from, field::HEADERS, self.draws));
    }
}

/// A thread that writes words to a file until the conversation ends.
struct Meddler {
    over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Meddler {
    fn begin(file: File, from: u64, len: u64, draws: &mut Draws<'_>) -> Meddler {
        let over = Arc::new(AtomicBool::new(false));
        let (told, mut prng) = (Arc::clone(&over), draws.fork());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let at = from + u64::from(prng.below((len / 8) as u32)) * 8;
                let word = match prng.below(3) {
                    0 => EDGES[prng.below(EDGES.len() as u32) as usize],
                    1 => u64::from(prng.below(1 << 16)),
                    _ => prng.word(),
                };
                // The write extends a truncated file again, and fails on a sealed one.
                let _ = file.write_all_at(&word.to_le_bytes(), at);
            }
        });
        Meddler { over, thread }
    }

    fn end(self) {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("it only writes");
    }
}
