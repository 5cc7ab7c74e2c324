//! Judgement of completions and used rings by the oracle.

use powerfail_model::{Atom, Excuse, Observed, Profile, RequestId, Rule, Violation};

use super::{Contract, Event, World};
use crate::base::prng::mix;
use crate::base::sectors::SectorSet;
use crate::dut::{DeviceUnderTest, Waived};
use crate::guest::Kind;
use crate::guest::payload::{self, Author};
use crate::guest::wire::Status;
use crate::guest::{Breach, Done, GuestRequest, Malformation, RangeKind};
use crate::host::disk::Witness;
use crate::world::action::QueueId;
use crate::world::coverage::Situation;

/// The note on a failed request that no host failure excuses.
const NO_CAUSE: &str = "No operation of this request had failed, and no sync that it needs.";

/// The same of a device that reports the failures of its medium itself.
const NO_CAUSE_REPORTED: &str = "The device had reported no failed sync since it was opened, and no other failure since this request was sent.";

/// A broken promise and the device that broke it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The device, counted from zero.
    pub device: u8,
    /// The violation.
    pub violation: Violation,
}

/// A completed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Its number.
    pub(crate) id: u32,
    /// Its status byte.
    pub(crate) status: Status,
    /// A hash over the contents that a read returned.
    pub(crate) found: u64,
}

impl Answer {
    #[cold]
    pub(super) fn new(id: u32, status: Status, seen: &[Observed]) -> Answer {
        let found = seen.iter().fold(0, |hash, &seen| mix(hash ^ payload::code(seen)));
        Answer { id, status, found }
    }
}

impl Failure {
    pub(crate) fn boxed(device: u8, violation: Violation) -> Box<Failure> {
        Box::new(Failure { device, violation })
    }
}

/// Tells an oracle of a completion, and what a read has seen.
#[inline]
fn complete(
    contract: &mut Contract,
    done: &Done,
    seen: &[Observed],
    excuse: Excuse,
) -> Result<(), Violation> {
    let id = RequestId(done.id);
    match contract {
        Contract::Disk(oracle) => {
            // An unknown status of a malformed request is a failure like any other.
            let known = done.status.is_known() || !done.is_malformed(Kind::Disk);
            let status = if known { done.status } else { Status::IOERR };
            oracle.complete_excused(id, status.0, seen, excuse)
        }
        Contract::Memory(oracle) => oracle.complete_excused(id, done.ret, excuse),
    }
}

impl<D: DeviceUnderTest> World<D> {
    /// Judges the request of a used element.
    pub(super) fn completed(
        &mut self,
        to: QueueId,
        done: Result<Done, Breach>,
    ) -> Result<(), Box<Failure>> {
        let slot = &mut self.slots[usize::from(to.device)];
        if slot.is_altering()
            && let Some(second) = slot.queues[usize::from(to.queue)].second_answer()
        {
            return self.completed_altered(to, done, second);
        }
        let done = match done {
            Ok(done) => done,
            // Once the guest has broken the ring, its bookkeeping is void.
            Err(_) if self.slot(to.device).life().avail_jumped => return Ok(()),
            Err(breach) => return Err(self.breached(to, breach)),
        };
        self.note_done(to, &done);
        let excuse = self.excuse(to.device, &done);
        let mut seen = std::mem::take(&mut self.seen);
        self.look_at_data(to.device, &done, &mut seen);
        if self.listening {
            self.answers.push(Answer::new(done.id, done.status, &seen));
        }
        let slot = &mut self.slots[usize::from(to.device)];
        if slot.is_altering() {
            slot.end_unchanged(done.id, &mut self.memory);
        }
        let mut told = slot.oracle.judge(|contract, _| complete(contract, &done, &seen, excuse));
        if slot.is_altering() && told.is_ok() {
            told = self.completed_data(to.device, &done, excuse);
        }
        self.seen = seen;
        told.map_err(|violation| self.failed(to.device, violation))?;
        self.after_completion(to, &done)
    }

    /// Judges a request that the guest has changed: `first` is its answer as one to what was there
    /// before, `second` as one to what was there afterwards.
    #[cold]
    fn completed_altered(
        &mut self,
        to: QueueId,
        first: Result<Done, Breach>,
        second: Result<Done, Breach>,
    ) -> Result<(), Box<Failure>> {
        let mut answers = Vec::new();
        for answer in [first, second] {
            answers.push(match answer {
                Ok(done) => {
                    let mut seen = Vec::new();
                    self.look_at_data(to.device, &done, &mut seen);
                    Ok((done, seen, self.excuse(to.device, &done)))
                }
                Err(breach) => Err(self.breached(to, breach).violation),
            });
        }
        let slot = &mut self.slots[usize::from(to.device)];
        let told = slot.oracle.judge(|contract, second| match &answers[usize::from(second)] {
            Ok((done, seen, excuse)) => complete(contract, done, seen, *excuse),
            Err(violation) => Err(violation.clone()),
        });
        let taken = usize::from(slot.oracle.first_is_second());
        slot.end_alteration(&mut self.memory);
        // If no reading is left, the answer still belongs into the report.
        let done = [taken, 1 - taken].into_iter().find_map(|nth| answers[nth].as_ref().ok());
        if let Some((done, seen, _)) = done {
            self.note_done(to, done);
            if self.listening {
                self.answers.push(Answer::new(done.id, done.status, seen));
            }
        }
        told.map_err(|violation| self.failed(to.device, violation))?;
        match done {
            Some((done, ..)) => self.after_completion(to, done),
            None => Ok(()),
        }
    }

    /// Judges the second write that a change of the data has made of this request.
    #[cold]
    fn completed_data(&mut self, device: u8, done: &Done, excuse: Excuse) -> Result<(), Violation> {
        let slot = &mut self.slots[usize::from(device)];
        let Some(alteration) = &slot.alteration else { return Ok(()) };
        if alteration.id() != Some(done.id) {
            return Ok(());
        }
        let told = match alteration.data() {
            None => Ok(()),
            Some(id) => {
                let other = Done { id, ..*done };
                slot.oracle.judge(|contract, _| complete(contract, &other, &[], excuse))
            }
        };
        slot.end_alteration(&mut self.memory);
        told
    }

    /// Counts a completion and keeps it for the report.
    #[inline]
    fn note_done(&mut self, to: QueueId, done: &Done) {
        self.stats.completions += 1;
        self.stats.failures += u64::from(!done.status.is_ok());
        self.chain.note(
            1,
            u64::from(done.id),
            u64::from(done.status.0) << 20 | u64::from(done.len),
        );
        if self.journal.is_some() {
            let Done { id, ask, status, .. } = *done;
            self.note(Event::Completed { to, id, ask, status });
        }
        let coverage = &mut self.coverage;
        coverage.hit_if(!done.wants_signal, Situation::SignalSuppressed);
        let slot = &mut self.slots[usize::from(to.device)];
        let driver = &slot.queues[usize::from(to.queue)];
        coverage.hit_if(driver.used_at_wrap(), Situation::UsedWrapped);
        coverage.hit_if(done.is_malformed(slot.kind), Situation::MalformedAnswered);
    }

    /// The excuse of a request for a failure.
    #[inline]
    fn excuse(&self, device: u8, done: &Done) -> Excuse {
        let slot = self.slot(device);
        let any = done.status.is_ok() || slot.life().excused.contains(&done.id);
        match slot.host_failures.sync_failed {
            _ if any => Excuse::Any,
            true => Excuse::Sync,
            false => Excuse::Nothing,
        }
    }

    /// Puts what a read has returned into `seen`; of one that failed, only if it is odd.
    #[inline]
    fn look_at_data(&self, device: u8, done: &Done, seen: &mut Vec<Observed>) {
        seen.clear();
        if let GuestRequest::In { sector, sectors } = done.ask
            && matches!(done.malformation, Malformation::None | Malformation::BeyondLimits)
        {
            let author = Author { run: self.run, disk: device };
            let bytes = |nth: u32| self.memory.bytes(done.data + nth * 512, 512);
            let number = |nth: u32| (sector as u32).wrapping_add(nth);
            if done.status.is_ok() {
                seen.extend((0..sectors).map(|nth| payload::read(bytes(nth), author, number(nth))));
            } else {
                let left = |nth: u32| payload::left(bytes(nth), author, number(nth));
                let odd = |seen: Observed| !matches!(seen, Observed::Content(_));
                if (0..sectors).any(|nth| odd(left(nth))) {
                    seen.extend((0..sectors).map(left));
                }
            }
        }
    }

    #[cold]
    fn failed(&self, device: u8, violation: Violation) -> Box<Failure> {
        let may_fail = D::MEDIUM.may_fail() && self.shape.host_may_fail;
        let violation = match violation.rule {
            Rule::LegalRequestFailed | Rule::LegalFlushFailed if may_fail => {
                let simulated = D::MEDIUM.is_simulated();
                violation.note(if simulated { NO_CAUSE } else { NO_CAUSE_REPORTED })
            }
            _ => violation,
        };
        Failure::boxed(device, violation)
    }

    /// What follows from the answer of a request to which no oracle objects.
    #[inline]
    fn after_completion(&mut self, to: QueueId, done: &Done) -> Result<(), Box<Failure>> {
        let slot = &mut self.slots[usize::from(to.device)];
        slot.life_mut().excused.retain(|other| *other != done.id);
        if matches!(done.ask, GuestRequest::GetId)
            && done.status.is_ok()
            && done.malformation == Malformation::None
        {
            let answer = self.memory.bytes(done.data, 20);
            if !self.is_serial(answer) {
                let note = format!("It reads \"{}\".", answer.escape_ascii());
                let violation = Violation::new(Rule::WrongIdentity).request(RequestId(done.id));
                return Err(Failure::boxed(to.device, violation.note(note)));
            }
        }
        self.note_completion(to, done);
        Ok(())
    }

    /// Whether these bytes are the serial number: a "NUL-padded ASCII string" (5.2.6). Literal does
    /// not look behind its end.
    fn is_serial(&self, answer: &[u8]) -> bool {
        if self.shape.waives(Waived::IDENTITY) {
            return true;
        }
        let expected = &self.shape.spec.serial;
        let end = expected.iter().position(|byte| *byte == 0).map_or(expected.len(), |at| at + 1);
        let end = if self.shape.contract == Profile::Strict { expected.len() } else { end };
        answer[..end] == expected[..end]
    }

    /// Counts the situations that a completion shows.
    fn note_completion(&mut self, to: QueueId, done: &Done) {
        let coverage = &mut self.coverage;
        let slot = &mut self.slots[usize::from(to.device)];
        if !done.status.is_ok() {
            if done.status == Status::UNSUPP || !self.shape.host_may_fail {
                coverage.hit(Situation::Refused);
            }
            if self.shape.spec.disk.read_only && done.ask.mutates() {
                coverage.hit(Situation::ReadOnlyRefused);
            }
            return;
        }
        match done.ask {
            GuestRequest::Out { sector, sectors } => {
                let end = sector.saturating_add(u64::from(sectors));
                let grown = end > u64::from(self.shape.spec.disk.capacity);
                coverage.hit_if(grown, Situation::GrownSectorWritten);
                let row = slot.oracle.first().last_row();
                coverage.hit(Situation::of_row(row));
                let range = done.ask.covered(self.shape.spec.disk.room());
                slot.discarded = slot.discarded.minus(range);
                slot.discarded_before_loss = slot.discarded_before_loss.minus(range);
            }
            GuestRequest::Flush => {
                coverage.hit_if(slot.host_failures.write_failed, Situation::FailedWriteThenFlush);
                let overtaken = slot.queues.iter().any(|queue| {
                    queue.outstanding().any(|(id, ask)| id < done.id && ask.mutates())
                });
                coverage.hit_if(overtaken, Situation::FlushOvertakesWrite);
            }
            GuestRequest::Ranges(RangeKind::Discard, _) => {
                let range = done.ask.covered(self.shape.spec.disk.room());
                slot.discarded = slot.discarded.or(range);
            }
            GuestRequest::Ranges(RangeKind::WriteZeroes, _) => {
                let range = done.ask.covered(self.shape.spec.disk.room());
                let hit = |set: SectorSet| !set.and(range).is_empty();
                coverage.hit_if(hit(slot.discarded), Situation::ZeroesOverDiscard);
                coverage
                    .hit_if(hit(slot.discarded_before_loss), Situation::ZeroesOverDiscardAfterLoss);
                slot.discarded = slot.discarded.minus(range);
                slot.discarded_before_loss = slot.discarded_before_loss.minus(range);
            }
            _ => {}
        }
    }

    pub(super) fn breached(&self, to: QueueId, breach: Breach) -> Box<Failure> {
        let queue = to.queue;
        let violation = match breach {
            Breach::NotPublished { head } => Violation::new(Rule::UsedUnpublished)
                .note(format!("Head {head} was never published on queue {queue}.")),
            Breach::NotOutstanding { head } => Violation::new(Rule::UsedTwice)
                .note(format!("Head {head} on queue {queue} is not outstanding.")),
            Breach::NoStatus { id } => Violation::new(Rule::UnknownStatus)
                .request(RequestId(id))
                .note("Its status byte was never written."),
            Breach::Length { id, claimed, written } => Violation::new(Rule::UsedLength)
                .request(RequestId(id))
                .note(format!("{claimed} bytes are claimed; at most {written} were written.")),
            Breach::Outside { id: 0, at } => Violation::new(Rule::WroteAfterEnd)
                .note(format!("Guest address {at:#x}, in a buffer of no request.")),
            Breach::Outside { id, at } => Violation::new(Rule::WroteOutside)
                .request(RequestId(id))
                .note(format!("Guest address {at:#x}.")),
            Breach::Driver { at, area } => Violation::new(Rule::WroteOutside)
                .note(format!("Guest address {at:#x}, in {area} of queue {queue}.")),
            Breach::UsedFlags { flags } => Violation::new(Rule::UsedRingBroken)
                .note(format!("The flags of the used ring of queue {queue} are {flags:#x}.")),
            Breach::UsedElement { at } => Violation::new(Rule::UsedRingBroken).note(format!(
                "Guest address {at:#x}, where no outstanding request of queue {queue} is used next."
            )),
            Breach::Readable { id } => Violation::new(Rule::WroteReadable).request(RequestId(id)),
            Breach::UsedIndex { index } => Violation::new(Rule::UsedRingBroken)
                .note(format!("The used index of queue {queue} stands at {index}.")),
        };
        Failure::boxed(to.device, violation)
    }

    pub(super) fn signal_after_reset(&self, to: QueueId) -> Box<Failure> {
        Failure::boxed(to.device, Violation::new(Rule::SignalAfterReset))
    }

    pub(super) fn witnessed(&self, seen: Witness) -> Box<Failure> {
        let (device, violation) = match seen {
            Witness::Misplaced { device, sector, home } => (
                device,
                Violation::new(Rule::MediumMisplaced)
                    .atom(Atom(sector))
                    .note(format!("What belongs in sector {home} lies in sector {sector}.")),
            ),
            Witness::Outside { sector } => {
                (0, Violation::new(Rule::MediumOutside).note(format!("At sector {sector}.")))
            }
            Witness::ReadOnly { sector } => (
                0,
                Violation::new(Rule::MediumReadOnlyChanged)
                    .atom(Atom(sector))
                    .note(format!("Sector {sector} has changed.")),
            ),
        };
        Failure::boxed(device, violation)
    }
}
