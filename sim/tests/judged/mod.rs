//! A guest under test: its requests to a real disk and their results are reported to the oracle.
//!
//! A request counts as published before its submission, and as completed when its answer is taken.
//! The events themselves are in between, so the oracle never assumes more than is true. The
//! requests are drawn; the host decides when they are answered, so no two runs are alike.
//!
//! Not here: a read beside a write of the same sector. A page cache may return a part of the write
//! to such a read.

use std::fmt;
use std::io::Write as _;

use powerfail::base::prng::Prng;
use powerfail::base::sectors::SectorSet;
use powerfail::guest::payload::{self, Author, SECTOR};
use powerfail::guest::wire::feature;
use powerfail_model::{
    Framing, Kind, Oracle, Profile, Request, RequestId, Segment, Terms, Violation,
};

/// Sectors of the disk.
pub(crate) const SECTORS: u32 = SectorSet::CAPACITY;
/// Most sectors of one request.
pub(crate) const MOST: u32 = 8;
/// Most requests in flight on a queue.
pub(crate) const SLOTS: usize = 16;

/// A request: `sectors` sectors from `sector` on, or none for a flush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct GuestRequest {
    pub(crate) kind: Kind,
    pub(crate) sector: u32,
    pub(crate) sectors: u32,
}

impl GuestRequest {
    fn range(self) -> SectorSet {
        SectorSet::range(self.sector, self.sectors)
    }

    /// Offset of the first byte on the disk.
    pub(crate) fn offset(self) -> u64 {
        u64::from(self.sector) * SECTOR as u64
    }

    /// The number of bytes.
    pub(crate) fn len(self) -> usize {
        self.sectors as usize * SECTOR
    }
}

/// Access to a disk: queues that take requests and return answers. A slot is the place of a request
/// in its queue, with its buffer.
pub(crate) trait Port {
    /// Number of queues.
    fn queues(&self) -> usize;

    /// Submits a request, with these bytes in its buffer.
    fn submit(&mut self, queue: usize, slot: usize, ask: GuestRequest, bytes: &[u8]);

    /// The contents of a slot's buffer.
    fn buffer(&mut self, queue: usize, slot: usize, ask: GuestRequest) -> Vec<u8>;

    /// Notifies the disk of the submitted requests.
    fn doorbell(&mut self, queue: usize);

    /// Takes the available answers, as slot and status.
    fn take(&mut self, queue: usize) -> Vec<(usize, u8)>;

    /// Takes answers as [`Port::take`] does, after sleeping until there is one.
    fn wait(&mut self, queue: usize) -> Vec<(usize, u8)>;
}

/// `Ok` iff every answer so far is correct.
pub(crate) type Verdict = Result<(), Violation>;

/// A request in flight.
#[derive(Clone, Copy, Debug)]
struct Flying {
    id: RequestId,
    ask: GuestRequest,
}

/// The guest and its oracle, for all lives of one disk.
pub(crate) struct Judge {
    oracle: Oracle,
    author: Author,
    chance: Prng,
    sent: u32,
    /// The negotiated features of this life.
    features: u64,
    /// For each queue, the requests in its slots.
    flying: Vec<[Option<Flying>; SLOTS]>,
    /// Whether the host may fail, so that requests may too.
    pub(crate) host_may_fail: bool,
    /// The number of requests that failed.
    pub(crate) failed: u32,
    /// The number of lives that ended with requests in flight.
    pub(crate) cut_short: u32,
    /// The number of those requests.
    pub(crate) unanswered: u32,
}

impl Judge {
    /// A judge of a disk that holds its [`image`](Self::image).
    pub(crate) fn new(seed: u32) -> Judge {
        Judge {
            oracle: Oracle::new(Profile::Strict, SECTORS),
            author: Author { run: seed, disk: 0 },
            chance: Prng::new(seed.into()),
            sent: 0,
            features: 0,
            flying: Vec::new(),
            host_may_fail: false,
            failed: 0,
            cut_short: 0,
            unanswered: 0,
        }
    }

    /// The initial contents of the disk.
    pub(crate) fn image(&self) -> Vec<u8> {
        let mut image = vec![0; SECTORS as usize * SECTOR];
        for (sector, bytes) in (0..).zip(image.chunks_exact_mut(SECTOR)) {
            payload::fill(bytes, self.author, sector, 0);
        }
        image
    }

    /// A number below `n`.
    pub(crate) fn draw(&mut self, n: u32) -> u32 {
        self.chance.below(n)
    }

    /// Some, all or none of the sectors.
    pub(crate) fn draw_set(&mut self) -> SectorSet {
        match self.draw(4) {
            0 => SectorSet::range(0, SECTORS),
            1 => SectorSet::EMPTY,
            _ => SectorSet::from_words([(); 4].map(|()| self.chance.word())),
        }
    }

    /// Begins a life with these features and this cache mode.
    pub(crate) fn begin(&mut self, queues: usize, negotiated: u64, writeback: bool) {
        self.features = negotiated;
        self.flying = vec![[None; SLOTS]; queues];
        self.oracle.begin_life(Terms {
            offered: negotiated | feature::FLUSH | feature::CONFIG_WCE,
            negotiated,
            writeback,
            capacity: SECTORS.into(),
            max_discard_sectors: 0,
            max_discard_seg: 0,
            max_write_zeroes_sectors: 0,
            max_write_zeroes_seg: 0,
            host_may_fail: self.host_may_fail,
        });
    }

    /// Ends the life; `how` reports the end to the oracle. Requests in flight are never answered.
    pub(crate) fn end(&mut self, how: impl FnOnce(&mut Oracle)) {
        let unanswered = self.requests().count() as u32;
        self.unanswered += unanswered;
        self.cut_short += u32::from(unanswered > 0);
        self.flying.clear();
        how(&mut self.oracle);
    }

    /// Reads the whole disk, with no other request in flight.
    pub(crate) fn read_back(&mut self, port: &mut impl Port) -> Verdict {
        for sector in (0..SECTORS).step_by(MOST as usize) {
            let queue = (sector / MOST) as usize % port.queues();
            let slot = self.slot(port, queue)?;
            self.submit(port, queue, slot, GuestRequest { kind: Kind::In, sector, sectors: MOST });
        }
        self.ring(port);
        self.settle(port)
    }

    /// Sends this many requests and takes answers as they arrive; some requests are still in flight
    /// at the end.
    pub(crate) fn load(&mut self, port: &mut impl Port, requests: u32) -> Verdict {
        for _ in 0..requests {
            let queue = self.draw(port.queues() as u32) as usize;
            let ask = self.draw_ask();
            if self.is_in_the_way(ask) {
                continue;
            }
            let slot = self.slot(port, queue)?;
            self.submit(port, queue, slot, ask);
            match self.draw(4) {
                0 => port.doorbell(queue),
                1 => self.hear(port, queue, Port::take)?,
                _ => {}
            }
        }
        self.ring(port);
        Ok(())
    }

    /// Waits until every request is answered.
    pub(crate) fn settle(&mut self, port: &mut impl Port) -> Verdict {
        for queue in 0..port.queues() {
            while self.flying[queue].iter().any(Option::is_some) {
                self.hear(port, queue, Port::wait)?;
            }
        }
        Ok(())
    }

    fn ring(&self, port: &mut impl Port) {
        (0..port.queues()).for_each(|queue| port.doorbell(queue));
    }

    fn requests(&self) -> impl Iterator<Item = Flying> {
        self.flying.iter().flatten().copied().flatten()
    }

    fn draw_ask(&mut self) -> GuestRequest {
        let has = |bit| self.features & bit != 0;
        let kind = match self.chance.below(16) {
            0..3 => Kind::In,
            3 if has(feature::DISCARD) => Kind::Discard,
            4 if has(feature::WRITE_ZEROES) => Kind::WriteZeroes,
            5..7 if has(feature::FLUSH) => {
                return GuestRequest { kind: Kind::Flush, sector: 0, sectors: 0 };
            }
            _ => Kind::Out,
        };
        let sectors = 1 + self.draw(MOST);
        GuestRequest { kind, sector: self.draw(SECTORS - sectors + 1), sectors }
    }

    /// Whether a read would overlap a write in flight.
    fn is_in_the_way(&self, ask: GuestRequest) -> bool {
        let other = |flying: &Flying| {
            flying.ask.kind.mutates() != ask.kind.mutates()
                && !flying.ask.range().and(ask.range()).is_empty()
        };
        self.requests().any(|flying| other(&flying))
    }

    /// A free slot, after waiting for one if necessary.
    fn slot(&mut self, port: &mut impl Port, queue: usize) -> Result<usize, Violation> {
        loop {
            if let Some(slot) = self.flying[queue].iter().position(Option::is_none) {
                return Ok(slot);
            }
            port.doorbell(queue);
            self.hear(port, queue, Port::wait)?;
        }
    }

    fn submit(&mut self, port: &mut impl Port, queue: usize, slot: usize, ask: GuestRequest) {
        self.sent += 1;
        let id = RequestId(self.sent);
        // The contents of a buffer that is not read have no author.
        let no_disk = Author { disk: Author::NO_DISK, ..self.author };
        let author = if ask.kind == Kind::Out { self.author } else { no_disk };
        let mut bytes = vec![0; ask.len()];
        for (sector, bytes) in (ask.sector..).zip(bytes.chunks_exact_mut(SECTOR)) {
            payload::fill(bytes, author, sector, id.0);
        }
        // The port decides whether zeroes may unmap; the promise is the same.
        let segment = Segment { sector: ask.sector.into(), sectors: ask.sectors, flags: 0 };
        let ranged = matches!(ask.kind, Kind::Discard | Kind::WriteZeroes);
        let transfers = matches!(ask.kind, Kind::In | Kind::Out);
        let request = Request {
            kind: ask.kind,
            sector: if transfers { ask.sector.into() } else { 0 },
            bytes: if transfers { ask.len() as u64 } else { 16 * u64::from(ranged) },
            segments: if ranged { &[segment] } else { &[] },
            framing: Framing::Sound,
        };
        self.oracle.submit(id, &request);
        self.flying[queue][slot] = Some(Flying { id, ask });
        port.submit(queue, slot, ask, &bytes);
    }

    fn hear<P: Port>(
        &mut self,
        port: &mut P,
        queue: usize,
        how: impl Fn(&mut P, usize) -> Vec<(usize, u8)>,
    ) -> Verdict {
        for (slot, status) in how(port, queue) {
            let Flying { id, ask } = self.flying[queue][slot].take().expect("it was asked for");
            self.failed += u32::from(status != 0);
            let mut seen = Vec::new();
            if ask.kind == Kind::In && status == 0 {
                let bytes = port.buffer(queue, slot, ask);
                let found = (ask.sector..).zip(bytes.chunks_exact(SECTOR));
                seen.extend(found.map(|(sector, bytes)| payload::read(bytes, self.author, sector)));
            }
            self.oracle.complete(id, status, &seen)?;
        }
        Ok(())
    }
}

impl fmt::Display for Judge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judge { sent, failed, cut_short, unanswered, .. } = self;
        write!(f, "{sent} requests, {failed} failed, ")?;
        write!(f, "{cut_short} lives cut short with {unanswered} in flight")
    }
}

/// Prints on standard error that nothing was tested.
pub(crate) fn skipped(why: &dyn fmt::Display) {
    // Not by `eprintln!`: the output of a passing test is not shown.
    writeln!(std::io::stderr(), "\n*** SKIPPED, nothing was tested: {why} ***").expect("stderr");
}

/// The number of repetitions: the usual number, or the value of this variable.
pub(crate) fn times(variable: &str, usual: u32) -> u32 {
    let said = std::env::var(variable).ok();
    said.map_or(usual, |text| text.parse().unwrap_or_else(|e| panic!("{variable}={text}: {e}")))
}
