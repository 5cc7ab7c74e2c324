//! The well-behaved guest on the second queue, and the oracle that judges its requests.
//!
//! The two queues share a disk, and the hostile one may write to every sector of it. A sector that
//! it may have written, by [`reference::serve`](crate::reference::serve), is *fouled* from then on:
//! the good guest no longer uses it, and violations about it are ignored. Every other promise to
//! the good guest holds whatever its neighbour does.

use powerfail::base::sectors::SectorSet;
use powerfail::guest::Kind;
use powerfail::guest::memory::Memory;
use powerfail::guest::payload::{self, Author};
use powerfail::guest::{
    Breach, Done, GuestRequest, Layout, Limits, MAX_SECTORS, Malformation, QueueDriver, RangeKind,
    RingPlan, Segments, Shape,
};
use powerfail_model::{Atom, Observed, Oracle, Profile, RequestId, Segment, Terms, Violation};

/// The author of the good guest's sectors.
pub(super) const AUTHOR: Author = Author { run: 0x0f22, disk: 0 };

/// Bytes of the good guest's memory.
const MEMORY: u32 = 16 << 10;

/// The most sectors of one request.
const MOST: u32 = 4;

/// The good guest.
pub(super) struct Good {
    pub(super) memory: Memory,
    driver: QueueDriver,
    oracle: Oracle,
    pub(super) fouled: SectorSet,
    sectors: u32,
    next_id: u32,
    live: bool,
}

fn shape(ring_size: u16) -> Shape {
    Shape {
        kind: Kind::Disk,
        at: 0,
        len: MEMORY,
        ring_size,
        room: MOST * 512,
        table: 16,
        first: 0,
        to_the_end: false,
        checks_length: true,
    }
}

impl Good {
    pub(super) fn new() -> Good {
        let mut memory = Memory::new(MEMORY as usize);
        let driver = QueueDriver::new(shape(8), 0, false, AUTHOR, &mut memory);
        let oracle = Oracle::new(Profile::Strict, 1);
        Good {
            memory,
            driver,
            oracle,
            fouled: SectorSet::EMPTY,
            sectors: 1,
            next_id: 1,
            live: false,
        }
    }

    /// The first power-on.
    pub(super) fn restart(&mut self, sectors: u32, ring_size: u16) {
        self.driver.reshape(shape(ring_size), &mut self.memory);
        self.oracle.restart(Profile::Strict, sectors);
        (self.sectors, self.fouled, self.next_id, self.live) =
            (sectors, SectorSet::EMPTY, 1, false);
    }

    /// Begins a life. Returns the placement of the ring.
    pub(super) fn begin(&mut self, terms: Terms, event_idx: bool) -> RingPlan {
        self.driver.restart(0, event_idx, AUTHOR, Limits::NONE, &mut self.memory);
        self.oracle.begin_life(terms);
        self.live = true;
        self.driver.plan()
    }

    /// Records the start of a reset: no request is sent, and the ring is not read.
    pub(super) fn pause(&mut self) {
        self.live = false;
    }

    /// Records that the reset has completed.
    pub(super) fn reset_shown(&mut self) {
        self.oracle.reset_shown();
        self.driver.abandon(&mut self.memory);
    }

    pub(super) fn power_loss(&mut self) {
        self.live = false;
        self.oracle.power_loss().expect("the last content of an atom may always survive");
        self.driver.abandon(&mut self.memory);
    }

    pub(super) fn set_writeback(&mut self, read_back: bool) {
        self.oracle.set_writeback(read_back);
    }

    pub(super) fn save_begun(&mut self) {
        self.oracle.save_begun();
    }

    pub(super) fn saved(&mut self) {
        self.oracle.saved();
    }

    pub(super) fn host_failure_shown(&mut self) {
        self.oracle.host_failure_shown();
    }

    /// Whether requests are in flight.
    pub(super) fn waits(&self) -> bool {
        self.driver.out() > 0
    }

    pub(super) fn write(&mut self, sector: u8, sectors: u8, layout: u16) {
        if let Some((sector, sectors)) = self.clean(sector, sectors) {
            self.send(&GuestRequest::Out { sector, sectors }, cut(layout));
        }
    }

    pub(super) fn read(&mut self, sector: u8, sectors: u8, layout: u16) {
        if let Some((sector, sectors)) = self.clean(sector, sectors) {
            self.send(&GuestRequest::In { sector, sectors }, cut(layout));
        }
    }

    pub(super) fn flush(&mut self) {
        self.send(&GuestRequest::Flush, Layout::PLAIN);
    }

    /// Sends a WRITE_ZEROES or DISCARD.
    pub(super) fn clear(&mut self, sector: u8, sectors: u8, discards: bool) {
        if let Some((sector, sectors)) = self.clean(sector, sectors) {
            let mut segments = Segments::NONE;
            segments.push(Segment { sector, sectors, flags: 0 });
            let ask = if discards {
                GuestRequest::Ranges(RangeKind::Discard, segments)
            } else {
                GuestRequest::Ranges(RangeKind::WriteZeroes, segments)
            };
            self.send(&ask, Layout::PLAIN);
        }
    }

    /// Reads clean sectors, as many as the ring has room for; `from` is the next sector. Returns
    /// false when all are read.
    pub(super) fn read_all(&mut self, from: &mut u32) -> bool {
        let fouled = self.fouled;
        let clean = |sector| !fouled.contains(sector);
        while *from < self.sectors && self.driver.has_room() {
            let end = self.sectors.min(*from + MOST);
            let sectors = (*from..end).take_while(|&sector| clean(sector)).count() as u32;
            if sectors > 0 {
                self.send(&GuestRequest::In { sector: u64::from(*from), sectors }, Layout::PLAIN);
            }
            *from += sectors.max(1);
        }
        *from < self.sectors
    }

    fn clean(&self, sector: u8, sectors: u8) -> Option<(u64, u32)> {
        let sector = u32::from(sector) % self.sectors;
        let sectors = (1 + u32::from(sectors) % MOST).min(self.sectors - sector);
        let clean = SectorSet::range(sector, sectors).and(self.fouled).is_empty();
        clean.then_some((sector.into(), sectors))
    }

    fn send(&mut self, ask: &GuestRequest, layout: Layout) {
        let Good { live, driver, memory, next_id, oracle, .. } = self;
        if *live
            && driver.has_room()
            && driver.send(memory, *next_id, ask, layout, Malformation::None)
        {
            oracle.submit(RequestId(*next_id), &ask.request(Malformation::None, &mut Vec::new()));
            *next_id += 1;
        }
    }

    /// Whether the guest kicks now.
    pub(super) fn kicks(&mut self) -> bool {
        self.live && self.driver.kick_due() && self.driver.needs_kick(&self.memory)
    }

    pub(super) fn reap(&mut self, arm: bool) {
        self.observe();
        if let Err(breach) = self.driver.reap(&mut self.memory, arm) {
            self.breached(breach);
        }
    }

    pub(super) fn signalled(&mut self) {
        self.observe();
        self.driver.signalled();
    }

    /// Takes the used buffers and passes them to the oracle.
    pub(super) fn observe(&mut self) {
        if !self.live {
            return;
        }
        while let Some(done) = self.driver.next_done(&self.memory) {
            match done {
                Ok(done) => self.judge(&done),
                Err(breach) => self.breached(breach),
            }
        }
    }

    fn judge(&mut self, done: &Done) {
        let mut seen = [Observed::Garbage; MAX_SECTORS as usize];
        let mut found = 0;
        if let GuestRequest::In { sector, sectors } = done.ask
            && done.status.is_ok()
        {
            found = sectors as usize;
            for (nth, slot) in (0..).zip(&mut seen[..found]) {
                let bytes = self.memory.bytes(done.data + nth * 512, 512);
                *slot = payload::read(bytes, AUTHOR, sector as u32 + nth);
            }
        }
        let told = self.oracle.complete(RequestId(done.id), done.status.0, &seen[..found]);
        if let Err(violation) = told {
            self.broken(&violation);
        }
    }

    /// Checks that every request was used, with a signal if the guest enabled it.
    pub(super) fn check_rest(&mut self) {
        if self.live {
            self.observe();
            if let Err(violation) = self.oracle.quiesce() {
                self.broken(&violation);
            }
            assert!(!self.driver.signal_owed(), "the good queue waits for a signal");
        }
        if let Err(breach) = self.driver.check_free(&self.memory) {
            self.breached(breach);
        }
    }

    fn broken(&self, violation: &Violation) {
        let fouled = violation.atom.is_some_and(|Atom(atom)| self.fouled.contains(atom));
        assert!(fouled, "{}: {violation:#?}", violation.rule.name());
    }

    fn breached(&self, breach: Breach) {
        panic!("broken guard in the memory of the good queue: {breach:?}");
    }
}

fn cut(number: u16) -> Layout {
    let digit = |by: u16, below: u16| (number >> by & (below - 1)) as u8;
    Layout {
        header: digit(0, 4),
        data: digit(2, 4),
        glued: digit(4, 2),
        indirect: 0,
        empty: digit(5, 2) & digit(6, 2),
    }
}
