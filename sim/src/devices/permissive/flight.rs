//! A request in flight in a permissive device: taken, landed sector by sector, and answered.

use super::refusal::{Task, task};
use super::store::{self, Bytes};
use super::{Liberty, PermissiveDevice};
use crate::dut::Host;
use crate::dut::toolkit::{BlockRequest, Chain, fail};
use crate::guest::memory::Ram;
use crate::guest::wire::{feature, request};

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// A request in flight.
#[derive(Clone, Debug)]
pub(super) struct Flight {
    pub(super) queue: u16,
    /// Its number, over all queues.
    pub(super) number: u64,
    pub(super) request: BlockRequest,
    pub(super) task: Task,
    /// The number of completions at the earliest time at which it can have been published.
    pub(super) since: u64,
    /// True iff the cache has been in write-through mode all the time so far.
    pub(super) through: bool,
    /// The sectors still to land, each with its byte offset in the data.
    pub(super) left: Vec<(u32, u32)>,
    /// Sectors of this request that a failed sync has forgotten.
    pub(super) forgotten: Vec<u32>,
}

impl<const LITERAL: bool> PermissiveDevice<LITERAL> {
    /// Notes the heads published before the next completion.
    fn look_around(&mut self, ram: &Ram<'_>) {
        for (queue, ring) in self.rings.iter().enumerate() {
            let waiting = usize::from(ring.waiting(ram));
            let completions = self.completions;
            let seen = &mut self.seen[queue];
            while seen.len() < waiting {
                seen.push(completions);
            }
        }
    }

    /// Takes a chain from the ring. Returns `false` if the ring is empty.
    pub(super) fn take(&mut self, queue: u16, ram: &Ram<'_>) -> bool {
        let index = usize::from(queue);
        let Some(chain) = self.rings[index].pop(ram) else { return false };
        let seen = &mut self.seen[index];
        let since = if seen.is_empty() { self.completions } else { seen.remove(0) };
        match BlockRequest::parse(ram, chain) {
            Ok(request) => self.begin(queue, request, since, ram),
            Err(chain) => self.malformed(queue, &chain, ram),
        }
        true
    }

    fn begin(&mut self, queue: u16, request: BlockRequest, since: u64, ram: &Ram<'_>) {
        let forgives = self.takes_literal(Liberty::DriverErrorServed);
        let mut task = task(&request, ram, &self.spec, self.negotiated, forgives);
        if task == Task::FreeFlush
            && self.negotiated & feature::FLUSH == 0
            && self.takes_literal(Liberty::FlushHollow)
        {
            task = Task::Pretend;
        }
        if task == Task::FreeFlush {
            let served = self.takes(Liberty::FlushUnnegotiated);
            task = if served { Task::Flush } else { Task::Refuse(vec![2]) };
        }
        let each = |&(sector, sectors): &(u32, u32)| (sector..sector + sectors).map(|s| (s, 0));
        let mut left: Vec<(u32, u32)> = match &task {
            Task::Read((sector, sectors)) | Task::Write((sector, sectors)) => {
                (0..*sectors).map(|nth| (sector + nth, nth * 512)).collect()
            }
            Task::Zero(ranges) | Task::Discard(ranges) => ranges.iter().flat_map(each).collect(),
            _ => Vec::new(),
        };
        if matches!(task, Task::Discard(_)) {
            if self.takes(Liberty::DiscardNothing) {
                left.clear();
            } else if self.takes(Liberty::DiscardSome) {
                left.retain(|_| self.prng.below(2) == 0);
            }
        }
        self.numbers += 1;
        let through = self.write_through();
        let number = self.numbers;
        let forgotten = Vec::new();
        self.flights.push(Flight { queue, number, request, task, since, through, left, forgotten });
    }

    /// Answers an invalid chain, in one of the legal ways.
    fn malformed(&mut self, queue: u16, chain: &Chain, ram: &Ram<'_>) {
        if self.rarely_takes(Liberty::MalformedFatal) {
            self.fatal = true;
            return;
        }
        if !self.takes(Liberty::MalformedIgnored) {
            fail(ram, chain);
        }
        self.push(queue, chain.head, 0, ram);
    }

    fn push(&mut self, queue: u16, head: u16, len: u32, ram: &Ram<'_>) {
        self.look_around(ram);
        self.completions += 1;
        let wanted = self.rings[usize::from(queue)].push(ram, head, len);
        self.signal_due[usize::from(queue)] |= wanted;
    }

    /// Lands one sector of a request.
    pub(super) fn land(&mut self, at: usize, nth: usize, ram: &Ram<'_>) {
        let (sector, offset) = self.flights[at].left.swap_remove(nth);
        if matches!(self.flights[at].task, Task::Read(_)) {
            let bytes = self.found(sector, ram);
            self.flights[at].request.chain.write(ram, offset, &bytes);
            return;
        }
        let mut bytes = [0; 512];
        if matches!(self.flights[at].task, Task::Discard(_))
            && self.takes_literal(Liberty::DiscardAnything)
        {
            bytes = store::anything(&mut self.prng);
        }
        let flight = &mut self.flights[at];
        match flight.task {
            Task::Write(_) => {
                flight.request.chain.read(ram, request::HEADER + offset, &mut bytes);
                self.store.land(sector, bytes, flight.number);
            }
            _ => self.store.land(sector, bytes, flight.number),
        }
    }

    /// The content that a read returns.
    fn found(&mut self, sector: u32, ram: &Ram<'_>) -> Bytes {
        let mut bytes = *self.store.live(sector);
        if self.takes_literal(Liberty::ReadsDisagree) && self.prng.below(2) == 0 {
            let in_flight = |by| self.flights.iter().any(|flight| flight.number == by);
            bytes = *self.store.before(sector, in_flight).unwrap_or(&bytes);
        }
        if self.takes_literal(Liberty::ReadsMix)
            && let Some((writer, first)) = self.writers_of(sector).next()
        {
            let mut written = [0; 512];
            let at = request::HEADER + (sector - first) * 512;
            writer.request.chain.read(ram, at, &mut written);
            bytes = store::mixed(&bytes, &written);
        }
        bytes
    }

    /// The writes in flight that cover a sector, each with its first sector.
    fn writers_of(&self, sector: u32) -> impl Iterator<Item = (&Flight, u32)> {
        self.flights.iter().filter_map(move |flight| match flight.task {
            Task::Write((first, sectors)) if (first..first + sectors).contains(&sector) => {
                Some((flight, first))
            }
            _ => None,
        })
    }

    fn land_all(&mut self, at: usize, ram: &Ram<'_>) {
        while let Some(last) = self.flights[at].left.len().checked_sub(1) {
            self.land(at, last, ram);
        }
    }

    /// The sectors that a write or write-zeroes covers.
    fn covered(task: &Task) -> Vec<u32> {
        match task {
            Task::Write((sector, sectors)) => (*sector..sector + sectors).collect(),
            Task::Zero(ranges) => ranges.iter().flat_map(|r| r.0..r.0 + r.1).collect(),
            _ => Vec::new(),
        }
    }

    /// Completes a request.
    pub(super) fn finish(&mut self, at: usize, host: &mut Host<'_>) {
        let status = self.end(at, host);
        let ram = &host.ram;
        let flight = self.flights.swap_remove(at);
        let identity = flight.task == Task::Identify && status == OK;
        let data: &[u8] = if identity { &self.spec.serial } else { &[] };
        let read = matches!(flight.task, Task::Read(_)) && status == OK;
        flight.request.chain.write(ram, 0, data);
        flight.request.chain.write(ram, flight.request.data_in, &[status]);
        let mut len = if read || identity || flight.request.data_in == 0 {
            flight.request.data_in + 1
        } else {
            0
        };
        if self.takes(Liberty::ShortLength) {
            len = self.prng.below(len + 1);
        }
        self.push(flight.queue, flight.request.chain.head, len, ram);
    }

    /// Decides the status of a request and carries it out.
    fn end(&mut self, at: usize, host: &mut Host<'_>) -> u8 {
        if let Task::Refuse(answers) = &self.flights[at].task {
            let answers = answers.clone();
            let any = self.takes(Liberty::AnyReason);
            let nth = if any { self.prng.below(answers.len() as u32) } else { 0 };
            return answers[nth as usize];
        }
        if self.flights[at].task == Task::Flush {
            return self.end_flush(self.flights[at].since, host);
        }
        let transfers = self.flights[at].task != Task::Identify;
        let writes = !matches!(self.flights[at].task, Task::Read(_) | Task::Identify);
        if host.may_fail && transfers && self.rarely_takes(Liberty::FailsHalfway) {
            host.failed();
            // Only a write that must be stable can have failed in a sync.
            self.told |= writes && self.flights[at].through;
            return IOERR;
        }
        if host.may_fail && writes && self.takes_literal(Liberty::UnsuppHalfway) {
            host.failed();
            return UNSUPP;
        }
        self.land_all(at, &host.ram);
        if matches!(self.flights[at].task, Task::Zero(_))
            && self.flights[at].forgotten.is_empty()
            && self.takes_literal(Liberty::ZeroesUnprotect)
        {
            return OK;
        }
        // A write must be stable now iff the mode was write-through all the time.
        let flight = &self.flights[at];
        let (number, forgotten) = (flight.number, flight.forgotten.clone());
        let covered = Self::covered(&flight.task);
        if flight.through && !forgotten.is_empty() && !covered.is_empty() {
            self.told = true;
            return IOERR;
        }
        let through = flight.through;
        for sector in covered {
            if LITERAL {
                let others = self.writers_of(sector).map(|(other, _)| other.number);
                let others: Vec<u64> = others.filter(|other| *other != number).collect();
                self.store.ran_beside(sector, number, &others);
            }
            let gone = forgotten.contains(&sector);
            self.store.promise(sector, number, self.completions, gone);
            if through {
                self.store.stabilise(sector, number);
            }
        }
        OK
    }

    fn end_flush(&mut self, since: u64, host: &mut Host<'_>) -> u8 {
        // A flush must cover only the completions before its publication.
        let before = if self.takes(Liberty::FlushOvertakes) { since } else { self.completions };
        let fails = host.may_fail
            && (self.rarely_takes(Liberty::FlushForgets)
                || self.rarely_takes(Liberty::FlushFailsOnce));
        if !fails && self.store.can_sync(before) {
            self.store.sync(before);
            return OK;
        }
        assert!(host.may_fail, "nothing is forgotten without a failure");
        host.failed_sync();
        self.told = true;
        if self.takes(Liberty::FlushForgets) {
            for (number, sector) in self.store.forget(&mut self.prng) {
                if let Some(flight) = self.flights.iter_mut().find(|f| f.number == number) {
                    flight.forgotten.push(sector);
                }
            }
        }
        IOERR
    }
}
