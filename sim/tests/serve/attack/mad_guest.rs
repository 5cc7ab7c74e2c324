//! A guest that writes anywhere while it is served.
//!
//! Two processors rewrite descriptors, headers, indirect tables and rings, and publish all the
//! time; data is on the rings too, and in some rounds two queues share one ring. Meanwhile the
//! front-end is correct, but changes memory, features, cache mode and enabled rings, stops rings
//! and resets the device. So memory that a queue has read once may have changed when the queue
//! reads it again.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use powerfail::base::prng::Prng;
use rustix::event::{EventfdFlags, eventfd};
use vm_memory::{Bytes, FileOffset, MmapRegion, VolatileMemory, VolatileSlice};

use super::draws::Draws;
use super::field::{
    AVAILABLE, DATA, Field, HEADERS, INDIRECT, LEN, MARGIN, NEXT, USED, USER, WRITE, address, place,
};
use super::protocol::*;
use super::right::TIMEOUT;
use super::watch::Campaign;

/// The longest time for which a guest is served.
const ROUND: Duration = Duration::from_millis(600);

/// Number of queues.
const QUEUES: u32 = 2;

/// Types of requests: IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, and an unknown one.
const KINDS: [u32; 10] = [0, 0, 0, 1, 1, 4, 8, 11, 13, 99];

/// Counts of guests.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    guests: u64,
    answers: u64,
    messages: u64,
    /// Guests whose connection the server ended.
    parted: u64,
}

#[test]
fn whatever_guests_write_the_next_one_is_served() {
    let mut tally = Tally::default();
    Campaign::new().run("mad guest", |watch, seed| {
        round(&mut Draws::new(&[], seed), watch.connect(), &mut tally);
    });
    println!("{tally:?}");
    // Fewer answers would mean that the rings were not served after the first invalid descriptor.
    assert!(tally.answers > 100 * tally.guests, "{tally:?}");
}

/// Choices that are drawn once for each guest.
#[derive(Clone, Copy, Debug)]
struct Plan {
    size: u16,
    /// Whether both queues have the ring of the first.
    one_ring: bool,
    /// Whether used indices are written too, so that they do not count answers.
    writes_used: bool,
    /// One of this many descriptors is any word; the others resemble a driver's.
    wild: u32,
}

/// A guest from its beginning to its end.
fn round(draws: &mut Draws<'_>, stream: UnixStream, tally: &mut Tally) {
    let field = Field::new();
    let file = field.file().try_clone().expect("a descriptor");
    let mapped = MmapRegion::<()>::from_file(FileOffset::new(file, MARGIN), LEN as usize);
    let memory = mapped.expect("the file can be mapped");
    let plan = Plan {
        size: draws.pick(&[4, 16, 64, 256]),
        one_ring: draws.once_in(2),
        writes_used: draws.once_in(4),
        wild: draws.pick(&[10, 100, 2000]),
    };
    let over = AtomicBool::new(false);
    let kicks = [event(), event()];
    let mut front = Front {
        end: End::new(stream),
        field: &field,
        kicks: &kicks,
        plan,
        seen: [0; 2],
        answers: 0,
    };
    std::thread::scope(|scope| {
        let _end = Over(&over);
        for _ in 0..2 {
            let (over, memory, kicks) = (&over, &memory, &kicks);
            let prng = draws.fork();
            scope.spawn(move || {
                Processor { memory: memory.as_volatile_slice(), prng, plan }.run(over, kicks)
            });
        }
        front.begin();
        let begun = Instant::now();
        while begun.elapsed() < ROUND && !front.end.gone {
            front.act(draws);
            front.count();
        }
        // The processors continue while the server ends its requests.
        tally.messages += front.end.sent;
        tally.answers += front.answers;
        tally.parted += u64::from(front.end.gone);
        drop(front);
    });
    tally.guests += 1;
    field.check_margins();
}

/// Stops the processors, also when the front-end panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("a descriptor")
}

/// The front-end of the guest: correct, but with many changes.
struct Front<'a> {
    end: End,
    field: &'a Field,
    kicks: &'a [OwnedFd; 2],
    plan: Plan,
    /// The used indices at the last count of answers, and that count. They prove nothing if the
    /// guest writes them too.
    seen: [u16; QUEUES as usize],
    answers: u64,
}

impl Front<'_> {
    fn begin(&mut self) {
        self.end.send(&message(SET_OWNER, VERSION, &[]), &[]);
        self.ask(GET_FEATURES, &[]);
        self.ask(GET_PROTOCOL_FEATURES, &[]);
        self.end.send(&message(SET_PROTOCOL_FEATURES, VERSION, &words(&[PROTOCOL])), &[]);
        self.negotiate(FEATURES);
        self.share(LEN);
        (0..QUEUES).for_each(|queue| self.set_up(queue, 0));
    }

    /// Makes one change, and then waits a while.
    fn act(&mut self, draws: &mut Draws<'_>) {
        let queue = draws.below(QUEUES);
        match draws.below(12) {
            0 => self.negotiate(draws.pick(&[FEATURES, FEATURES | EVENT_IDX])),
            1 | 2 => {
                // Sometimes without most or all of the memory that holds the data.
                let len = draws.pick(&[LEN, LEN, LEN / 2, DATA, DATA / 2]);
                self.share(len);
            }
            3 => self.two_regions(draws),
            4 => self.tell(SET_CONFIG, &config(32, &[draws.below(2) as u8]), None),
            5 => self.tell(SET_VRING_ENABLE, &state(queue, draws.below(2)), None),
            6 => {
                self.tell(RESET_DEVICE, &[], None);
                self.negotiate(draws.pick(&[FEATURES, FEATURES | EVENT_IDX]));
                (0..QUEUES).for_each(|queue| self.set_up(queue, self.field.used(queue)));
            }
            // A broken ring is not served until it is set up again.
            _ => {
                let base = self.ask(GET_VRING_BASE, &state(queue, 0));
                let base = base.map_or(0, |body| u16::from_le_bytes([body[4], body[5]]));
                let base = if draws.once_in(2) { base } else { self.skip(queue) };
                self.set_up(queue, base);
            }
        }
        std::thread::park_timeout(Duration::from_micros(draws.below(4000).into()));
    }

    /// Address of the ring of a queue.
    fn ring(&self, queue: u32) -> u32 {
        if self.plan.one_ring { 0 } else { queue }
    }

    /// Skips all requests of a ring, as if they had been answered. Returns the index at which the
    /// ring continues.
    fn skip(&mut self, queue: u32) -> u16 {
        self.count();
        let at = place(self.ring(queue));
        let index = self.field.get(at + AVAILABLE + 2, 2);
        self.field.put(at + USED + 2, &index);
        let index = u16::from_le_bytes([index[0], index[1]]);
        self.seen[self.ring(queue) as usize] = index;
        index
    }

    /// Counts the answers since the last count.
    fn count(&mut self) {
        for (queue, seen) in (0..).zip(&mut self.seen) {
            let used = self.field.used(queue);
            let more = used.wrapping_sub(std::mem::replace(seen, used));
            if !self.plan.writes_used && !self.plan.one_ring && more < 0x8000 {
                self.answers += u64::from(more);
            }
        }
    }

    fn negotiate(&mut self, features: u64) {
        self.tell(SET_FEATURES, &words(&[features]), None);
    }

    fn share(&mut self, len: u64) {
        let memory = self.field.file().try_clone().expect("a descriptor");
        self.tell(SET_MEM_TABLE, &words(&[1, 0, len, USER, MARGIN]), Some(memory.as_fd()));
    }

    /// Shares the memory in two parts, the second of them by a separate message.
    fn two_regions(&mut self, draws: &mut Draws<'_>) {
        let part = 4096 * u64::from(1 + draws.below(255));
        self.share(part);
        let memory = self.field.file().try_clone().expect("a descriptor");
        let region = words(&[0, part, LEN - part, USER + part, MARGIN + part]);
        self.tell(ADD_MEM_REG, &region, Some(memory.as_fd()));
    }

    fn set_up(&mut self, queue: u32, base: u16) {
        let kick = self.kicks[queue as usize].try_clone().expect("a descriptor");
        let ring = self.ring(queue);
        self.tell(SET_VRING_NUM, &state(queue, self.plan.size.into()), None);
        self.tell(SET_VRING_BASE, &state(queue, base.into()), None);
        self.tell(SET_VRING_ADDR, &address(queue, ring), None);
        self.tell(SET_VRING_KICK, &words(&[queue.into()]), Some(kick.as_fd()));
        self.tell(SET_VRING_ENABLE, &state(queue, 1), None);
    }

    fn tell(&mut self, request: u32, body: &[u8], fd: Option<BorrowedFd<'_>>) {
        self.end.send(&message(request, VERSION | WANTS_ANSWER, body), fd.as_slice());
        self.hear(request);
    }

    fn ask(&mut self, request: u32, body: &[u8]) -> Option<Vec<u8>> {
        self.end.send(&message(request, VERSION, body), &[]);
        self.hear(request)
    }

    /// The answer, unless the server ended the connection.
    fn hear(&mut self, request: u32) -> Option<Vec<u8>> {
        let answer = self.end.hear(TIMEOUT);
        assert!(answer.is_some() || self.end.gone, "no answer to message {request}");
        answer.map(|answer| answer.body)
    }
}

/// A processor of the guest.
struct Processor<'a> {
    memory: VolatileSlice<'a>,
    prng: Prng,
    plan: Plan,
}

impl Processor<'_> {
    fn run(mut self, over: &AtomicBool, kicks: &[OwnedFd; 2]) {
        while !over.load(Ordering::Relaxed) {
            for _ in 0..64 {
                self.write_something();
            }
            let kick = &kicks[self.prng.below(QUEUES) as usize];
            // The eventfd is full if it is not read.
            let _ = rustix::io::write(kick, &1_u64.to_ne_bytes());
        }
    }

    fn write_something(&mut self) {
        let ring = if self.plan.one_ring { 0 } else { self.prng.below(QUEUES) };
        let at = place(ring);
        match self.prng.below(16) {
            0..=3 => {
                let index = self.prng.below(self.plan.size.into());
                self.descriptor(at, index);
            }
            // Tables that may serve as indirect ones.
            4 | 5 => {
                let table = DATA + 4096 * u64::from(self.prng.below(8));
                let index = self.prng.below(64);
                self.descriptor(table, index);
            }
            6 | 7 => self.header(at),
            8 if self.prng.below(self.plan.wild) == 0 => self.anything(at),
            9 if self.plan.writes_used => {
                let index = self.prng.word() as u16;
                self.put(at + USED + 2, index);
            }
            10 => {
                let flags = self.prng.below(2) as u16;
                self.put(at + AVAILABLE, flags);
            }
            _ => self.publish(at),
        }
    }

    /// Publishes any head; sometimes the index jumps.
    fn publish(&mut self, at: u64) {
        let index: u16 =
            self.memory.load((at + AVAILABLE + 2) as usize, Ordering::Relaxed).unwrap_or(0);
        let size = self.plan.size;
        let beyond = u32::from(self.prng.below(self.plan.wild * 50) == 0);
        let head = self.prng.below(u32::from(size) + beyond);
        self.put(at + AVAILABLE + 4 + 2 * u64::from(index % size), head as u16);
        let jump = match self.prng.below(self.plan.wild * 100) {
            0 => self.prng.word() as u16,
            _ => 1,
        };
        // Most often no more is published than fits.
        let used: u16 = self.memory.load((at + USED + 2) as usize, Ordering::Relaxed).unwrap_or(0);
        if index.wrapping_sub(used) < size || self.prng.below(2000) == 0 {
            let next = index.wrapping_add(jump);
            // After the entry, as a driver does.
            self.memory
                .store(next, (at + AVAILABLE + 2) as usize, Ordering::Release)
                .expect("a ring");
        }
    }

    fn descriptor(&mut self, table: u64, index: u32) {
        let wild = self.prng.below(self.plan.wild) == 0;
        let address = match self.prng.below(8) {
            _ if wild => self.prng.word(),
            0..=2 => place(self.prng.below(QUEUES)) + HEADERS + 32 * u64::from(self.prng.below(64)),
            // The rings and tables themselves.
            3 => u64::from(self.prng.below(DATA as u32)),
            4 => DATA + 4096 * u64::from(self.prng.below(8)),
            _ => DATA + 512 * u64::from(self.prng.below(1500)),
        };
        let lens = [16, 16, 512, 512, 4096, 1, 1, 20, 64, 1024];
        let len = match self.prng.below(40) {
            _ if wild => self.prng.word() as u32,
            0 => self.prng.below(1 << 20),
            _ => lens[self.prng.below(lens.len() as u32) as usize],
        };
        let flags = [NEXT, NEXT, NEXT, NEXT | WRITE, NEXT | WRITE, WRITE, 0, INDIRECT];
        let flags = flags[self.prng.below(flags.len() as u32) as usize];
        let next = self.prng.below(self.plan.size.into()) as u16;
        let at = table + 16 * u64::from(index);
        // In either order, so that a reader sees half-written descriptors.
        if self.prng.below(2) == 0 {
            self.put(at, address);
            self.put(at + 8, len);
            self.put(at + 12, flags);
            self.put(at + 14, next);
        } else {
            self.put(at + 12, flags);
            self.put(at + 14, next);
            self.put(at + 8, len);
            self.put(at, address);
        }
    }

    fn header(&mut self, at: u64) {
        let at = at + HEADERS + 32 * u64::from(self.prng.below(64));
        let kind = KINDS[self.prng.below(KINDS.len() as u32) as usize];
        self.put(at, kind);
        let sector = match self.prng.below(40) {
            0 => self.prng.word(),
            _ => self.prng.below(1 << 16).into(),
        };
        self.put(at + 8, sector);
    }

    /// Writes any word anywhere in a queue.
    fn anything(&mut self, at: u64) {
        let word = self.prng.word();
        let end = if self.plan.writes_used { HEADERS } else { USED };
        let at = at + u64::from(self.prng.below(end as u32 / 8)) * 8;
        self.put(at, word);
    }

    fn put<T: vm_memory::ByteValued>(&mut self, at: u64, value: T) {
        self.memory.write_obj(value, at as usize).expect("it is in the memory");
    }
}
