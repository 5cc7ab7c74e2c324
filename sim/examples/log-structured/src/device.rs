//! The device: an image in memory, and a log of the writes on the medium.
//!
//! A write is answered when its record is written, a flush when a sync has ended that began after
//! the flush came. When an area is full, or a sync has failed, the image is written to the other
//! area: first its records, then a sync, then a superblock that names it, then a sync. A device
//! that opens reads the whole part, and makes the superblock that it found stable before it serves.
//!
//! A record whose write fails is written again, because any part of it may have landed.

use std::collections::VecDeque;
use std::mem::take;

use powerfail::dut::toolkit::{BlockRequest, DeviceRing, fail};
use powerfail::dut::transfers::{Transferred, Transfers};
use powerfail::dut::{DeviceUnderTest, Host, Medium, Profile, Progress, Spec};
use powerfail::guest::RingPlan;
use powerfail::guest::wire::feature::{EVENT_IDX, FLUSH, INDIRECT_DESC, RO, VERSION_1};
use powerfail::host::disk::SimDisk;

use crate::record::{CHUNK, Geometry, Record, SECTOR};

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// The device, or one with a mistake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Twin {
    /// The device.
    #[default]
    Correct,
    /// Writes the superblock of a new area before its records.
    SuperblockFirst,
    /// Takes a torn record for a whole one.
    NoChecksum,
    /// Replays the newest record first.
    WrongOrder,
    /// Answers a flush with success although the sync failed.
    SyncErrorIgnored,
}

/// A log-structured disk.
#[derive(Clone, Debug)]
pub struct LogDisk {
    twin: Twin,
    serial: [u8; 20],
    offered: u64,
    geometry: Geometry,
    /// The content of the disk, and for each sector the number of the record that wrote it.
    image: Vec<u8>,
    written: Vec<u64>,
    /// The epoch of the log, the sector behind its last record, and that record's number.
    epoch: u64,
    tail: u32,
    seq: u64,
    transfers: Transfers,
    state: State,
    /// The records on their way to the medium.
    appends: Vec<Append>,
    /// The sync in flight, and what it is for.
    sync: Option<(u32, Vec<BlockRequest>)>,
    /// What waits for the next sync.
    unsynced: Vec<BlockRequest>,
    /// The writes that have not begun, or only in part.
    writes: VecDeque<BlockRequest>,
    /// The sectors of the first of them that have records. A log has room for a record of `CHUNK`
    /// sectors once it was written anew, so a longer write is cut.
    begun: u32,
    /// A sync has failed since the log was written anew: records may be lost without notice.
    suspect: bool,
    through: bool,
    ring: Option<DeviceRing>,
    signal: bool,
}

#[derive(Clone, Debug)]
enum State {
    /// The part is being read; a failed read begins again.
    Reading(Option<u32>),
    Serving,
    Rewriting(Rewrite),
}

/// A record on its way to sector `at`, and the request that it is for.
#[derive(Clone, Debug)]
struct Append {
    number: u32,
    at: u32,
    record: Record,
    request: Option<BlockRequest>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Records,
    Superblock,
    Sync,
}

/// A rewrite of the log, or of the superblock alone. Repeated from the start if a sync fails; it
/// writes the same bytes again, because the superblock may be stable by then.
#[derive(Clone, Debug)]
struct Rewrite {
    phases: &'static [Phase],
    at: usize,
    records: Vec<(u32, Vec<u8>)>,
    superblock: (u32, Vec<u8>),
    /// The transfers of this phase, each with what it writes.
    pending: Vec<(u32, Option<(u32, Vec<u8>)>)>,
    epoch: u64,
    tail: u32,
}

/// What the end of a transfer of a rewrite means.
enum Ended {
    NotLast,
    Last,
    SyncFailed,
}

const ANEW: &[Phase] = &[Phase::Records, Phase::Sync, Phase::Superblock, Phase::Sync];
const MISTAKEN: &[Phase] = &[Phase::Superblock, Phase::Sync, Phase::Records, Phase::Sync];
const SETTLE: &[Phase] = &[Phase::Superblock, Phase::Sync];

impl LogDisk {
    fn answer(&mut self, host: &Host<'_>, request: &BlockRequest, status: u8, data: &[u8]) {
        let len = request.answer(&host.ram, status, data);
        if let Some(ring) = &mut self.ring {
            self.signal |= ring.push(&host.ram, request.chain.head, len);
        }
    }

    /// Takes a request from the ring. Reads are answered from the image at once.
    fn take_request(&mut self, host: &Host<'_>) -> bool {
        let Some(chain) = self.ring.as_mut().and_then(|ring| ring.pop(&host.ram)) else {
            return false;
        };
        let head = chain.head;
        let request = match BlockRequest::parse(&host.ram, chain) {
            Ok(request) => request,
            Err(chain) => {
                let len = fail(&host.ram, &chain);
                self.signal |= self.ring.as_mut().is_some_and(|r| r.push(&host.ram, head, len));
                return true;
            }
        };
        let len = if request.kind == 0 { request.data_in } else { request.data_out } as usize;
        let start = request.sector.saturating_mul(SECTOR as u64) as usize;
        let inside = start.checked_add(len).is_some_and(|end| end <= self.image.len());
        let fits = inside && len.is_multiple_of(SECTOR);
        match request.kind {
            0 if fits => {
                let data = self.image[start..start + len].to_vec();
                self.answer(host, &request, OK, &data);
            }
            1 if fits && self.offered & RO == 0 => self.writes.push_back(request),
            0 | 1 => self.answer(host, &request, IOERR, &[]),
            4 if self.offered & FLUSH != 0 && !self.through => self.unsynced.push(request),
            8 if request.data_in == 20 => {
                let serial = self.serial;
                self.answer(host, &request, OK, &serial);
            }
            _ => self.answer(host, &request, UNSUPP, &[]),
        }
        true
    }

    /// Begins the next piece of work, if there is one.
    fn begin(&mut self, host: &mut Host<'_>) -> bool {
        let idle = self.appends.is_empty() && self.sync.is_none();
        if self.suspect {
            // Nothing new begins before the log is written anew.
            if idle {
                self.write_anew(host);
            }
            return idle;
        }
        if self.sync.is_none() && !self.unsynced.is_empty() {
            if self.offered & RO != 0 {
                // There is nothing to make stable.
                for request in take(&mut self.unsynced) {
                    self.answer(host, &request, OK, &[]);
                }
                return true;
            }
            self.sync = Some((self.transfers.sync(), take(&mut self.unsynced)));
            return true;
        }
        let Some(request) = self.writes.front() else { return false };
        if self.begun > 0 && !self.appends.is_empty() {
            // A part follows when those before it have landed, so that the last one ends the write.
            return false;
        }
        let left = request.data_out / SECTOR as u32 - self.begun;
        let sectors = left.min(CHUNK);
        let end = self.tail + self.geometry.record(sectors);
        if end > self.geometry.area(self.epoch).end {
            if idle {
                self.write_anew(host);
            }
            return idle;
        }
        self.seq += 1;
        let (epoch, seq, first) = (self.epoch, self.seq, request.sector as u32 + self.begun);
        let from = self.begun as usize * SECTOR;
        let data = request.data(&host.ram)[from..from + sectors as usize * SECTOR].to_vec();
        let record = Record { epoch, seq, first, data };
        self.begun += sectors;
        let ends = sectors == left;
        let request = if ends { self.writes.pop_front() } else { None };
        if ends {
            self.begun = 0;
        }
        let at = self.tail;
        let number = self.transfers.write(at, self.geometry.encode(&record));
        self.appends.push(Append { number, at, record, request });
        self.tail = end;
        true
    }

    /// Begins to write the image to the other area.
    fn write_anew(&mut self, host: &mut Host<'_>) {
        let epoch = self.epoch + 1;
        host.note(format_args!("writes the log anew, epoch {epoch}"));
        let mut tail = self.geometry.area(epoch).start;
        let mut records = Vec::new();
        for (nth, data) in self.image.chunks(CHUNK as usize * SECTOR).enumerate() {
            self.seq += 1;
            let first = nth as u32 * CHUNK;
            let record = Record { epoch, seq: self.seq, first, data: data.to_vec() };
            records.push((tail, self.geometry.encode(&record)));
            tail += self.geometry.record((data.len() / SECTOR) as u32);
        }
        let phases = if self.twin == Twin::SuperblockFirst { MISTAKEN } else { ANEW };
        self.rewrite(phases, records, epoch, tail);
    }

    fn rewrite(
        &mut self,
        phases: &'static [Phase],
        records: Vec<(u32, Vec<u8>)>,
        epoch: u64,
        tail: u32,
    ) {
        let superblock = (self.geometry.superblock(epoch), self.geometry.encode_superblock(epoch));
        let pending = Vec::new();
        let mut rewrite = Rewrite { phases, at: 0, records, superblock, pending, epoch, tail };
        rewrite.enter(&mut self.transfers);
        self.state = State::Rewriting(rewrite);
    }

    /// A transfer has ended.
    fn ended(&mut self, number: u32, result: Result<Vec<u8>, i32>, host: &mut Host<'_>) {
        if let Some(at) = self.appends.iter().position(|append| append.number == number) {
            return self.appended(at, result.is_ok(), host);
        }
        if let Some((_, requests)) = self.sync.take_if(|sync| sync.0 == number) {
            let ignores = self.twin == Twin::SyncErrorIgnored;
            self.suspect |= result.is_err() && !ignores;
            let status = if result.is_ok() || ignores { OK } else { IOERR };
            for request in requests {
                self.answer(host, &request, status, &[]);
            }
            return;
        }
        match (&mut self.state, result) {
            (State::Reading(_), Ok(part)) => self.recover(&part, host),
            (State::Reading(read), Err(_)) => *read = None,
            (State::Rewriting(rewrite), result) => {
                match rewrite.ended(number, result.is_ok(), &mut self.transfers) {
                    Ended::Last => self.rewritten(host),
                    // The records that were found may be lost without notice.
                    Ended::SyncFailed => self.suspect = true,
                    Ended::NotLast => {}
                }
            }
            (State::Serving, _) => {}
        }
    }

    fn appended(&mut self, at: usize, done: bool, host: &Host<'_>) {
        if !done {
            let append = &mut self.appends[at];
            append.number = self.transfers.write(append.at, self.geometry.encode(&append.record));
            return;
        }
        let Append { record, request, .. } = self.appends.swap_remove(at);
        self.apply(&record);
        match request {
            Some(request) if self.through => self.unsynced.push(request),
            Some(request) => self.answer(host, &request, OK, &[]),
            None => {}
        }
    }

    /// Takes the sectors of a record, unless a newer one has written them.
    fn apply(&mut self, record: &Record) {
        for (nth, bytes) in record.data.chunks(SECTOR).enumerate() {
            let sector = record.first as usize + nth;
            let Some(written) = self.written.get_mut(sector) else { return };
            if *written <= record.seq {
                *written = record.seq;
                self.image[sector * SECTOR..(sector + 1) * SECTOR].copy_from_slice(bytes);
            }
        }
    }

    /// Finds the log in the bytes of the part.
    fn recover(&mut self, part: &[u8], host: &mut Host<'_>) {
        let epoch = self.geometry.newest(part).expect("one superblock is always valid");
        let checks = self.twin != Twin::NoChecksum;
        let records = self.geometry.records(part, epoch, checks);
        host.note(format_args!("opens epoch {epoch}: {} records", records.len()));
        self.epoch = epoch;
        self.tail = records.last().map_or(self.geometry.area(epoch).start, |last| last.1);
        self.seq = records.iter().map(|(record, _)| record.seq).max().unwrap_or(0);
        for (record, _) in &records {
            if self.twin == Twin::WrongOrder {
                let seq = self.seq - record.seq;
                self.apply(&Record { seq, ..record.clone() });
            } else {
                self.apply(record);
            }
        }
        if self.offered & RO != 0 {
            self.state = State::Serving;
            return;
        }
        self.rewrite(SETTLE, Vec::new(), epoch, self.tail);
    }

    fn rewritten(&mut self, host: &Host<'_>) {
        let State::Rewriting(rewrite) = std::mem::replace(&mut self.state, State::Serving) else {
            unreachable!("a rewrite has ended");
        };
        if rewrite.records.is_empty() {
            return;
        }
        (self.epoch, self.tail, self.suspect) = (rewrite.epoch, rewrite.tail, false);
        self.written.fill(self.seq);
        // Everything is stable.
        for request in take(&mut self.unsynced) {
            self.answer(host, &request, OK, &[]);
        }
    }
}

impl Rewrite {
    fn enter(&mut self, transfers: &mut Transfers) {
        let write = |transfers: &mut Transfers, (at, bytes): &(u32, Vec<u8>)| {
            (transfers.write(*at, bytes.clone()), Some((*at, bytes.clone())))
        };
        self.pending = match self.phases[self.at] {
            Phase::Records => self.records.iter().map(|record| write(transfers, record)).collect(),
            Phase::Superblock => vec![write(transfers, &self.superblock)],
            Phase::Sync => vec![(transfers.sync(), None)],
        };
    }

    /// A transfer has ended.
    fn ended(&mut self, number: u32, done: bool, transfers: &mut Transfers) -> Ended {
        let Some(at) = self.pending.iter().position(|pending| pending.0 == number) else {
            return Ended::NotLast;
        };
        let (_, what) = self.pending.swap_remove(at);
        match what {
            Some((at, bytes)) if !done => {
                self.pending.push((transfers.write(at, bytes.clone()), Some((at, bytes))));
                return Ended::NotLast;
            }
            None if !done => {
                self.at = 0;
                self.enter(transfers);
                return Ended::SyncFailed;
            }
            _ if !self.pending.is_empty() => return Ended::NotLast,
            _ => self.at += 1,
        }
        if self.at == self.phases.len() {
            return Ended::Last;
        }
        self.enter(transfers);
        Ended::NotLast
    }
}

impl DeviceUnderTest for LogDisk {
    type Setup = Twin;
    const MEDIUM: Medium = Medium::Simulated;
    const PLAIN_MEDIUM: bool = false;
    /// A power loss leaves each sector as one write left it, which is more than the specification
    /// demands; the checksum is for that.
    const PROFILE: Profile = Profile::Strict;

    fn spare(_: &Twin, spec: &Spec) -> u32 {
        Geometry::of(spec).sectors() - spec.disk.capacity
    }

    fn format(_: &Twin, spec: &Spec, image: &[u8], part: &mut [u8]) {
        let geometry = Geometry::of(spec);
        let mut put = |at: u32, bytes: &[u8]| {
            let at = at as usize * SECTOR;
            part[at..at + bytes.len()].copy_from_slice(bytes);
        };
        put(geometry.superblock(1), &geometry.encode_superblock(1));
        let mut at = geometry.area(1).start;
        for (nth, data) in image.chunks(CHUNK as usize * SECTOR).enumerate() {
            let (seq, first) = (1 + nth as u64, nth as u32 * CHUNK);
            let record = Record { epoch: 1, seq, first, data: data.to_vec() };
            put(at, &geometry.encode(&record));
            at += geometry.record((data.len() / SECTOR) as u32);
        }
    }

    fn open(twin: &Twin, spec: &Spec, _: &SimDisk, _: u8) -> LogDisk {
        let read_only = if spec.disk.read_only { RO } else { 0 };
        LogDisk {
            twin: *twin,
            serial: spec.serial,
            offered: spec.offer & (VERSION_1 | FLUSH | EVENT_IDX | INDIRECT_DESC) | read_only,
            geometry: Geometry::of(spec),
            image: vec![0; spec.disk.capacity as usize * SECTOR],
            written: vec![0; spec.disk.capacity as usize],
            epoch: 0,
            tail: 0,
            seq: 0,
            transfers: Transfers::default(),
            state: State::Reading(None),
            appends: Vec::new(),
            sync: None,
            unsynced: Vec::new(),
            writes: VecDeque::new(),
            begun: 0,
            suspect: false,
            through: false,
            ring: None,
            signal: false,
        }
    }

    fn offered(&self) -> u64 {
        self.offered
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        self.through = self.offered & FLUSH != 0 && accept & FLUSH == 0;
        accept & !self.offered == 0 && accept & VERSION_1 != 0
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        // The capacity is all that there is; a driver may read any range.
        let capacity = ((self.image.len() / SECTOR) as u64).to_le_bytes();
        for (at, byte) in (offset as usize..).zip(out) {
            *byte = capacity.get(at).copied().unwrap_or(0);
        }
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.ring = rings.first().map(|plan| DeviceRing::new(*plan));
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        if queue != 0 {
            return Progress::Idle;
        }
        if take(&mut self.signal) {
            return Progress::Signal;
        }
        match self.transfers.step(0, host) {
            Transferred::Ended { number, result } => {
                self.ended(number, result, host);
                return Progress::Busy;
            }
            Transferred::Some => return Progress::Busy,
            Transferred::Nothing => {}
        }
        if let State::Reading(read @ None) = &mut self.state {
            *read = Some(self.transfers.read(0, self.geometry.sectors()));
            return Progress::Busy;
        }
        if !matches!(self.state, State::Reading(_)) && self.take_request(host) {
            return Progress::Busy;
        }
        if matches!(self.state, State::Serving) && self.begin(host) {
            return Progress::Busy;
        }
        Progress::Idle
    }

    fn begin_reset(&mut self, _: &mut Host<'_>) {
        self.ring = None;
        self.signal = false;
        self.writes.clear();
        self.begun = 0;
        self.unsynced.clear();
        if let Some((_, requests)) = &mut self.sync {
            requests.clear();
        }
        // Records on their way end before the reset does, so that none lands after it.
        self.appends.iter_mut().for_each(|append| append.request = None);
    }

    fn reset_done(&mut self) -> bool {
        self.appends.is_empty()
    }

    fn needs_reset(&mut self) -> bool {
        self.ring.as_ref().is_some_and(DeviceRing::is_broken)
    }
}
