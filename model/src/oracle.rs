//! The oracle: it takes the guest's actions and observations as events and reports the impossible
//! ones.
//!
//! Its only input is the guest's view, and its only clock the order of the calls. The state of each
//! request is in the [`ledger`](crate::ledger), the possible contents of each atom in
//! [`atom`](crate::atom), the rules on a request in [`ruling`](crate::ruling), and the crash ladder
//! in [`crate::lives`].

use std::ops::Range;

use crate::atom::Around;
use crate::disk::Disk;
use crate::graph::Node;
use crate::ledger::{Entry, Ledger, Slot, State};
use crate::names::{Content, Instant, Observed, RequestId};
use crate::reason::Reason;
use crate::request::{Demand, Kind, Request};
use crate::rule::Rule;
use crate::ruling::{Effect, Ruling, S_OK};
use crate::terms::{self, Profile, Row, Terms};
use crate::violation::Violation;

/// Facts about one completion, for coverage counters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompletionFacts {
    /// The request.
    pub id: RequestId,
    /// Its kind.
    pub kind: Kind,
    /// Its status.
    pub status: u8,
    /// Row of the stability table, for any status; `None` unless the request is an `OUT` or
    /// `WRITE_ZEROES`.
    pub row: Option<Row>,
    /// Whether its own completion made it stable.
    pub stable: bool,
    /// Whether it is a flush that overtook a write: a write published earlier is still in flight.
    pub overtook_write: bool,
}

/// What the observer of the host knows that could excuse the failure of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excuse {
    /// No operation of the request failed, and no sync has failed since the disk was opened.
    Nothing,
    /// No operation of the request failed, but a sync has failed since the disk was opened. That
    /// excuses only a request that needs a sync: a flush, or a write that must be stable when it
    /// completes.
    Sync,
    /// An operation of the request failed, or the host cannot be observed.
    Any,
}

/// The judge of a disk in one run.
///
/// One atom is one 512-byte sector. Every method is one event; call them in the order of the
/// events.
///
/// # Spec
/// 5.2.6.2, and the decisions where the text is silent: AMB in [`law`](crate::law).
#[derive(Clone, Debug)]
pub struct Oracle {
    pub(crate) profile: Profile,
    pub(crate) disk: Disk,
    pub(crate) ledger: Ledger,
    pub(crate) now: Instant,
    /// `None` iff no life has begun, so that no request may be sent.
    pub(crate) terms: Option<Terms>,
    /// Moment of the last change of `writeback`, or of the start of the life.
    pub(crate) mode_since: Instant,
    /// The requests in flight, in the order of publication.
    pub(crate) flying: Vec<Slot>,
    pub(crate) oldest_read: Instant,
    /// Latest moment at which the guest saw, or the oracle had to assume, a failure of the host.
    pub(crate) failed: Option<Instant>,
    /// Whether the guest has seen the host fail in this backend life.
    pub(crate) failure_seen: bool,
    /// Number of requests in flight whose sync may fail unseen.
    pub(crate) unsettled: u32,
    /// Begin of the last save, and whether its sync may still fail unseen.
    pub(crate) save_begun: Instant,
    pub(crate) saving: bool,
    /// Begin and end of each successful save.
    pub(crate) saves: Vec<(Instant, Instant)>,
    pub(crate) powered_lives: Vec<Instant>,
    /// Ranges of the requests with segments that may be in flight. If their backend dies, these are
    /// carried out again.
    pub(crate) segments: Vec<(Node, Range<u32>)>,
    pub(crate) last: CompletionFacts,
}

const NOTHING_COMPLETED: CompletionFacts = CompletionFacts {
    id: RequestId(0),
    kind: Kind::Other(u32::MAX),
    status: S_OK,
    row: None,
    stable: false,
    overtook_write: false,
};

impl Oracle {
    /// An oracle for a disk of `atoms` atoms, each holding [`Content::INITIAL`], stable. No life
    /// has begun.
    #[must_use]
    pub fn new(profile: Profile, atoms: u32) -> Self {
        let mut oracle = Self {
            profile,
            disk: Disk::default(),
            ledger: Ledger::new(),
            now: Instant(0),
            terms: None,
            mode_since: Instant(0),
            flying: Vec::new(),
            oldest_read: Instant::NEVER,
            failed: None,
            failure_seen: false,
            unsettled: 0,
            save_begun: Instant(0),
            saving: false,
            saves: Vec::new(),
            powered_lives: Vec::new(),
            segments: Vec::new(),
            last: NOTHING_COMPLETED,
        };
        oracle.restart(profile, atoms);
        oracle
    }

    /// Resets to the state that [`Self::new`] returns; allocations are kept.
    pub fn restart(&mut self, profile: Profile, atoms: u32) {
        self.profile = profile;
        self.disk.restart(atoms);
        self.ledger.restart();
        self.now = Instant(0);
        self.terms = None;
        self.mode_since = Instant(0);
        self.flying.clear();
        self.oldest_read = Instant::NEVER;
        self.failed = None;
        self.failure_seen = false;
        self.unsettled = 0;
        self.save_begun = Instant(0);
        self.saving = false;
        self.saves.clear();
        self.powered_lives.clear();
        self.segments.clear();
        self.last = NOTHING_COMPLETED;
    }

    /// The reading by which it judges.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// The number of the last event.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    #[inline]
    pub(crate) fn tick(&mut self) -> Instant {
        self.now.0 += 1;
        self.now
    }

    /// Latest moment at which the host may have failed.
    #[inline]
    pub(crate) fn suspected(&self) -> Option<Instant> {
        if self.unsettled > 0 { Some(self.now) } else { self.failed }
    }

    /// The demand of the rules on `request` in this life.
    ///
    /// # Panics
    /// If no life has begun.
    #[must_use]
    pub fn demand(&self, request: &Request<'_>) -> Demand {
        Ruling::on(request, self.life(), self.profile).demand()
    }

    pub(crate) fn life(&self) -> &Terms {
        self.terms.as_ref().expect("a request needs a life")
    }

    /// Records that the request was published: the driver stored the `avail.idx` that includes it.
    ///
    /// An `IN` or `OUT` covers `bytes / 512` sectors from `sector`.
    ///
    /// # Panics
    /// If no life has begun, or the identifier was used before or is zero.
    pub fn submit(&mut self, id: RequestId, request: &Request<'_>) {
        let slot = Slot::of(id);
        assert!(id.0 > 0 && self.ledger.entry(slot).is_none(), "request {id} was submitted before");
        let terms = self.life();
        let ruling = Ruling::on(request, terms, self.profile);
        let flush = request.kind == Kind::Flush;
        let void = ruling.effect == Effect::Never;
        let syncs_itself = || !matches!(terms.row(), Row::C | Row::G);
        let may_sync = terms.host_may_fail
            && !ruling.is_refusal()
            && (flush || (request.kind.mutates() && syncs_itself()));
        let counts = flush
            && ruling.effect == Effect::Asked
            && (self.profile == Profile::Strict || terms.negotiated(terms::FLUSH));
        let atoms = match request.kind {
            Kind::In | Kind::Out if !void => self.clip(request.sector, request.bytes / 512),
            _ => 0..0,
        };
        let at = self.tick();
        self.unsettled += u32::from(may_sync);
        self.flying.push(slot);
        if request.kind == Kind::In {
            self.oldest_read = self.oldest_read.min(at);
        }
        let entry = Entry {
            state: State::Owed(1),
            kind: request.kind,
            ruling,
            first: atoms.start,
            atoms: atoms.end - atoms.start,
            row: None,
            powered_life: self.powered_life(),
            status: S_OK,
            flushed: self.ledger.last_flushed(),
            void,
            counts,
            may_sync,
        };
        self.ledger.publish(slot, at, entry);
        match request.kind {
            _ if void => {}
            Kind::Out => self.submit_version(atoms, Node::new(slot, Content::of(id), at)),
            Kind::Discard | Kind::WriteZeroes => self.submit_segments(slot, request, at),
            _ => {}
        }
    }

    /// The part of a range that exists, in atoms.
    #[inline]
    fn clip(&self, sector: u64, sectors: u64) -> Range<u32> {
        let end = self.disk.len();
        let clip = |sector: u64| u32::try_from(sector).map_or(end, |sector| sector.min(end));
        clip(sector)..clip(sector.saturating_add(sectors))
    }

    /// Publishes a version in every atom of a range.
    fn submit_version(&mut self, atoms: Range<u32>, version: Node) {
        let around = Around {
            ledger: &self.ledger,
            profile: self.profile,
            moment: self.ledger.present(),
            oldest_read: self.oldest_read,
            failed: self.suspected(),
        };
        self.disk.submit(atoms, version, &around);
    }

    /// Publishes a version in every atom of every segment. An atom in two segments gets two
    /// versions, because each segment may take effect by itself.
    fn submit_segments(&mut self, slot: Slot, request: &Request<'_>, at: Instant) {
        let content = match request.kind {
            Kind::Discard if self.profile == Profile::Literal => Content::ANYTHING,
            _ => Content::ZERO,
        };
        for segment in request.segments {
            let atoms = self.clip(segment.sector, u64::from(segment.sectors));
            let version = Node::new(slot, content, at);
            self.segments.push((version, atoms.clone()));
            self.submit_version(atoms, version);
        }
        if self.segments.len() > 64 {
            self.forget_segments();
        }
    }

    /// Forgets the ranges of requests that are no longer in flight.
    pub(crate) fn forget_segments(&mut self) {
        let flying = &self.flying;
        self.segments.retain(|(version, _)| flying.contains(&version.slot));
    }

    /// Records that the driver published the same head again while it is in flight: one more
    /// completion is owed.
    ///
    /// The request counts from its first publication.
    ///
    /// # Panics
    /// If the request is not in flight, or is a write.
    pub fn submit_again(&mut self, id: RequestId) {
        self.tick();
        let slot = Slot::of(id);
        assert!(self.ledger.entry(slot).is_some(), "request {id} was never submitted");
        let entry = self.ledger.entry_mut(slot);
        assert!(!entry.kind.mutates(), "request {id} writes, and what it writes twice has no name");
        match &mut entry.state {
            State::Owed(times) => *times += 1,
            state => panic!("request {id} is {state:?}, not in flight"),
        }
    }

    /// Records that the request was used: `used.idx` passed it.
    ///
    /// `seen` has one entry per atom of an `IN` that returned `OK`, in order. For an `IN` that
    /// failed it may have one entry per sector of the buffer, zeroes for what the buffer held
    /// before. Otherwise it is empty.
    ///
    /// # Errors
    /// The first rule that this breaks. The event counts nevertheless.
    ///
    /// # Panics
    /// If `seen` has another length.
    #[inline]
    pub fn complete(
        &mut self,
        id: RequestId,
        status: u8,
        seen: &[Observed],
    ) -> Result<(), Violation> {
        self.completed(id, status, seen, Excuse::Any)
    }

    /// Like [`complete`](Self::complete), where the observer of the host knows what could excuse a
    /// failure of this request.
    ///
    /// # Errors
    /// Also [`Rule::LegalRequestFailed`] if a legal request failed without an excuse.
    ///
    /// # Panics
    /// If `seen` has another length.
    pub fn complete_excused(
        &mut self,
        id: RequestId,
        status: u8,
        seen: &[Observed],
        excuse: Excuse,
    ) -> Result<(), Violation> {
        self.completed(id, status, seen, excuse)
    }

    #[inline]
    fn completed(
        &mut self,
        id: RequestId,
        status: u8,
        seen: &[Observed],
        excuse: Excuse,
    ) -> Result<(), Violation> {
        let at = self.tick();
        let slot = Slot::of(id);
        let Some(entry) = self.ledger.entry(slot).copied() else {
            return Err(self.violation(Rule::UsedUnpublished, id));
        };
        match entry.state {
            State::Owed(_) => {}
            State::Abandoned => {
                return Err(self.violation(Rule::UsedAfterEnd, id).kind(entry.kind));
            }
            State::Used | State::Unknown => {
                return Err(self.violation(Rule::UsedTwice, id).kind(entry.kind));
            }
        }
        let sub = self.ledger.fate(slot).sub;
        self.last = CompletionFacts { id, kind: entry.kind, status, ..NOTHING_COMPLETED };
        self.land(slot, &entry, status, sub, at);
        let effect = self.take_effect(slot, &entry, status, sub, at, seen);
        let excused = excuse == Excuse::Any || (excuse == Excuse::Sync && entry.may_sync);
        let unexcused = || entry.ruling.broken_without_excuse(status).filter(|_| !excused);
        match entry.ruling.broken_by(status).or_else(unexcused) {
            None => effect.map_err(|violation| *violation),
            // The effect counts although a worse violation is reported.
            Some(rule) => {
                let violation = self.violation(rule, id).kind(entry.kind).status(status);
                Err(violation.because(Reason::Submitted { id, at: sub }))
            }
        }
    }

    /// Removes one completion from those owed.
    #[inline]
    fn land(&mut self, slot: Slot, entry: &Entry, status: u8, sub: Instant, at: Instant) {
        let line = self.ledger.entry_mut(slot);
        line.status = status;
        match line.state {
            State::Owed(times) if times > 1 => {
                line.state = State::Owed(times - 1);
                return;
            }
            _ => line.state = State::Used,
        }
        self.ledger.fate_mut(slot).end = at;
        self.put_down(slot);
        self.unsettled -= u32::from(entry.may_sync);
        if self.oldest_read == sub {
            self.find_oldest_read();
        }
    }

    /// Removes a request from those in flight.
    #[inline]
    pub(crate) fn put_down(&mut self, slot: Slot) {
        let flying = &mut self.flying;
        let mut place =
            flying.iter().position(|&other| other == slot).expect("what is owed is in flight");
        // Few are in flight: moving them one by one is faster than a bulk move.
        while let Some(&next) = flying.get(place + 1) {
            flying[place] = next;
            place += 1;
        }
        flying.pop();
    }

    /// Finds the oldest read in flight again.
    pub(crate) fn find_oldest_read(&mut self) {
        let ledger = &self.ledger;
        let mut flying = self.flying.iter();
        let oldest = flying.find(|&&slot| ledger.kind(slot) == Kind::In);
        self.oldest_read = oldest.map_or(Instant::NEVER, |&slot| ledger.fate(slot).sub);
    }

    #[cold]
    pub(crate) fn violation(&self, rule: Rule, id: RequestId) -> Violation {
        Violation::new(rule).profile(self.profile).request(id)
    }

    /// The requests in flight, in the order of publication, each once per completion owed.
    pub fn outstanding(&self) -> impl Iterator<Item = RequestId> {
        self.flying.iter().flat_map(|&slot| {
            let times = match self.ledger.entry(slot).map(|entry| entry.state) {
                Some(State::Owed(times)) => times as usize,
                _ => 0,
            };
            slot.id().into_iter().flat_map(move |id| std::iter::repeat_n(id, times))
        })
    }

    /// Checks that nothing is owed; call it after the host is healed and the device had the steps
    /// it may need.
    ///
    /// # Errors
    /// [`Rule::NeverUsed`] with the oldest request still in flight.
    ///
    /// # Spec
    /// AMB-42.
    pub fn quiesce(&self) -> Result<(), Violation> {
        let Some(&slot) = self.flying.first() else { return Ok(()) };
        let id = slot.id().expect("a request's slot");
        let mut violation = self
            .violation(Rule::NeverUsed, id)
            .because(Reason::Submitted { id, at: self.ledger.fate(slot).sub });
        violation.kind = self.ledger.entry(slot).map(|entry| entry.kind);
        Err(violation)
    }

    /// Whether a request of this number was submitted before, so that the number names it for good.
    #[must_use]
    pub fn knows(&self, id: RequestId) -> bool {
        self.ledger.entry(Slot::of(id)).is_some()
    }

    /// Whether the guest has seen a sync of the host fail in this backend life: an `IOERR` of a
    /// request that may sync, required by no rule.
    #[must_use]
    pub fn host_failed(&self) -> bool {
        self.failure_seen
    }
}
