//! The promises of a persistent memory to its guest: the same graph, with stores, loads and
//! flushes.
//!
//! A store is a write that is published and ends in one moment, because every CPU that shares the
//! memory sees it at once; a load is a read of that kind. The one rule then covers everything. The
//! stores to an atom are in order, a flush that returned 0 makes stable what was visible before it
//! was submitted, and a power loss leaves the last stable content of an atom or a later one: one of
//! its successive whole contents since the submission of the latest-submitted such flush. A load
//! makes nothing stable. An atom is an aligned word of 8 bytes.
//!
//! A reset of the device and a kill of the backend end the flushes in flight and change nothing
//! else; in the Literal profile unflushed stores may be lost there. After a failed flush, data that
//! was not stable may fall back to the candidates of a power loss until it is stored again, as on a
//! disk: the host may have forgotten that it was dirty.
//!
//! Not here: loads and stores that overlap in time (they are reported in the order in which they
//! happened), and the words of a store that tears between atoms, because atoms are independent.

use crate::ledger::Slot;
use crate::names::{Atom, Content, Observed, RequestId};
use crate::oracle::{Excuse, Oracle};
use crate::request::{Framing, Kind, Request};
use crate::rule::Rule;
use crate::ruling::{S_IOERR, S_OK};
use crate::terms::{self, Profile, Terms};
use crate::violation::{Unit, Violation};

/// Length of one atom in the underlying oracle, which counts atoms as sectors.
const SECTOR: u64 = 512;
/// The `ret` of success.
const DONE: u32 = 0;
/// The `ret` of failure: -1.
const FAILED: u32 = u32::MAX;

/// A request of a driver in `req_vq`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PmemRequest {
    /// Make stores persistent.
    Flush,
    /// Any other type, with its number.
    Other(u32),
    /// The framing is broken on purpose: part of a type, part of a response, a buffer of the wrong
    /// direction.
    Malformed,
}

/// The judge of a persistent memory in one run.
///
/// Every method is one event; call them in the order of the events. Stores, loads and requests take
/// their names from one sequence.
///
/// # Spec
/// 5.19.7; PM-D-04 and PM-D-05. Decisions where the text is silent: every later load sees a store
/// (AMB-09), a reset keeps it (AMB-38).
#[derive(Clone, Debug)]
pub struct PmemOracle {
    oracle: Oracle,
}

impl PmemOracle {
    /// An oracle for a memory of `atoms` atoms, each holding [`Content::INITIAL`], stable. No life
    /// has begun.
    #[must_use]
    pub fn new(profile: Profile, atoms: u32) -> Self {
        Self { oracle: Oracle::new(profile, atoms) }
    }

    /// Resets to the state that [`Self::new`] returns; allocations are kept.
    pub fn restart(&mut self, profile: Profile, atoms: u32) {
        self.oracle.restart(profile, atoms);
    }

    /// Begins a life: the driver has set `FEATURES_OK` and read it back. With `host_may_fail`, a
    /// flush may fail.
    ///
    /// # Panics
    /// If a life is in progress.
    pub fn begin_life(&mut self, host_may_fail: bool) {
        self.oracle.begin_life(Terms {
            offered: terms::FLUSH,
            negotiated: terms::FLUSH,
            writeback: true,
            capacity: u64::from(self.oracle.disk.len()),
            max_discard_sectors: 0,
            max_discard_seg: 0,
            max_write_zeroes_sectors: 0,
            max_write_zeroes_seg: 0,
            host_may_fail,
        });
    }

    /// Records that a store to `atoms` atoms from `first` on became visible.
    ///
    /// # Panics
    /// If no life has begun, the name was used before, or the range is empty or exceeds the memory.
    pub fn store(&mut self, id: RequestId, first: Atom, atoms: u32) {
        self.oracle.submit(id, &self.access(Kind::Out, first, atoms));
        let stored = self.oracle.complete(id, S_OK, &[]);
        stored.expect("a store to what is there cannot be wrong");
    }

    /// Records that a load found `seen` in the atoms from `first` on.
    ///
    /// # Errors
    /// The first rule that this breaks. The event counts nevertheless.
    ///
    /// # Panics
    /// As [`Self::store`].
    pub fn load(&mut self, id: RequestId, first: Atom, seen: &[Observed]) -> Result<(), Violation> {
        let atoms = u32::try_from(seen.len()).expect("fewer than there are atoms");
        self.oracle.submit(id, &self.access(Kind::In, first, atoms));
        self.oracle.complete(id, S_OK, seen).map_err(in_words)
    }

    fn access(&self, kind: Kind, first: Atom, atoms: u32) -> Request<'static> {
        let end = first.0.checked_add(atoms);
        let inside = atoms > 0 && end.is_some_and(|end| end <= self.oracle.disk.len());
        assert!(inside, "{atoms} atoms from {first} on are not all there");
        let (sector, bytes) = (u64::from(first.0), SECTOR * u64::from(atoms));
        Request { kind, sector, bytes, segments: &[], framing: Framing::Sound }
    }

    /// Records that a request was published: the driver stored the `avail.idx` that includes it.
    ///
    /// # Panics
    /// If no life has begun, or the name was used before or is zero.
    pub fn submit(&mut self, id: RequestId, request: PmemRequest) {
        let (kind, framing) = match request {
            PmemRequest::Flush => (Kind::Flush, Framing::Sound),
            // Whatever its number: that of a block device could mean something.
            PmemRequest::Other(_) => (Kind::Other(u32::MAX), Framing::Sound),
            PmemRequest::Malformed => (Kind::Other(0), Framing::Malformed),
        };
        self.oracle.submit(id, &Request { kind, sector: 0, bytes: 0, segments: &[], framing });
    }

    /// Records that the driver published the same head again while it is in flight; see
    /// [`Oracle::submit_again`].
    ///
    /// # Panics
    /// If the request is not in flight.
    pub fn submit_again(&mut self, id: RequestId) {
        self.oracle.submit_again(id);
    }

    /// Records that the request was used: `used.idx` passed it. `ret` is `None` iff the device
    /// wrote no whole response.
    ///
    /// # Errors
    /// The first rule that this breaks. The event counts nevertheless.
    ///
    /// # Spec
    /// 5.19.7.3: "0" for success and "-1" for failure (PM-D-05). Any other value promises no more
    /// than a failure does, and is wrong unless the rules accept any answer to the request.
    pub fn complete(&mut self, id: RequestId, ret: Option<u32>) -> Result<(), Violation> {
        self.completed(id, ret, Excuse::Any)
    }

    /// Like [`complete`](Self::complete), where the observer of the host knows what could excuse a
    /// failure; see [`Oracle::complete_excused`].
    ///
    /// # Errors
    /// Also [`Rule::LegalFlushFailed`] if a legal flush failed without an excuse.
    pub fn complete_excused(
        &mut self,
        id: RequestId,
        ret: Option<u32>,
        excuse: Excuse,
    ) -> Result<(), Violation> {
        self.completed(id, ret, excuse)
    }

    fn completed(
        &mut self,
        id: RequestId,
        ret: Option<u32>,
        excuse: Excuse,
    ) -> Result<(), Violation> {
        let entry = self.oracle.ledger.entry(Slot::of(id)).copied();
        let status = if ret == Some(DONE) { S_OK } else { S_IOERR };
        let told = self.oracle.complete_excused(id, status, &[], excuse).map_err(in_words);
        let is_answer = matches!(ret, Some(DONE | FAILED))
            || entry.is_none_or(|entry| entry.ruling.asks_nothing());
        let broken = match told {
            // An invalid answer is the worse violation.
            Ok(()) if is_answer => return Ok(()),
            Err(violation) if is_answer || violation.rule != Rule::LegalFlushFailed => violation,
            _ => in_words(self.oracle.violation(Rule::NoSuchReturn, id)),
        };
        let note = match ret {
            Some(ret) => format!("It returned {}.", ret.cast_signed()),
            None => "It returned nothing.".to_owned(),
        };
        let kind = entry.map(|entry| entry.kind);
        Err(Violation { kind, status: None, ..broken }.note(note))
    }

    /// Ends the life and every request in flight: the guest read that a reset was done.
    pub fn reset_shown(&mut self) {
        match self.oracle.profile() {
            Profile::Strict => self.oracle.reset_shown(),
            // "Preserved across device reset" refers to flushed data only (5.19).
            Profile::Literal => self.oracle.backend_kill(),
        }
    }

    /// Ends the life: the backend process was killed; the host and its page cache survive.
    pub fn backend_kill(&mut self) {
        self.oracle.backend_kill();
    }

    /// Records that the guest or the VMM saw a host failure other than a failed flush; see
    /// [`Oracle::host_failure_shown`].
    pub fn host_failure_shown(&mut self) {
        self.oracle.host_failure_shown();
    }

    /// Ends the powered life. The next one begins with one of the contents that this loss could
    /// leave.
    ///
    /// # Errors
    /// None today: the last content of an atom may always survive. Later loads judge the content
    /// that the loss left.
    pub fn power_loss(&mut self) -> Result<(), Violation> {
        self.oracle.power_loss().map_err(in_words)
    }

    /// Checks that nothing is owed; call it after the host is healed and the device had the steps
    /// it may need.
    ///
    /// # Errors
    /// [`Rule::NeverUsed`] with the oldest request still in flight.
    pub fn quiesce(&self) -> Result<(), Violation> {
        self.oracle.quiesce().map_err(in_words)
    }

    /// The requests in flight, in the order of publication, each once per completion owed.
    pub fn outstanding(&self) -> impl Iterator<Item = RequestId> {
        self.oracle.outstanding()
    }

    /// The reading by which it judges.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.oracle.profile()
    }

    /// Replaces `out` by the contents that a power loss now may leave in `atom`, sorted; see
    /// [`Oracle::candidates`].
    pub fn candidates(&self, atom: Atom, out: &mut Vec<Content>) {
        self.oracle.candidates(atom, out);
    }

    /// Number of contents that are not stable and that a power loss now could leave in `atom`.
    #[must_use]
    pub fn loose_versions(&self, atom: Atom) -> usize {
        self.oracle.loose_versions(atom)
    }

    /// Whether some atom has at least `least` [`loose_versions`](Self::loose_versions).
    #[must_use]
    pub fn some_atom_has_loose_versions(&self, least: usize) -> bool {
        self.oracle.some_atom_has_loose_versions(least)
    }

    /// Whether a request or access of this number was submitted before.
    #[must_use]
    pub fn knows(&self, id: RequestId) -> bool {
        self.oracle.knows(id)
    }

    /// Whether the guest has seen the host fail in this backend life: a flush that failed.
    #[must_use]
    pub fn host_failed(&self) -> bool {
        self.oracle.host_failed()
    }
}

/// Translates a violation of a disk into that of a memory.
#[cold]
fn in_words(violation: Violation) -> Violation {
    let rule = match violation.rule {
        Rule::StableWriteLost | Rule::WriteThroughLost | Rule::FlushlessWriteLost => {
            Rule::FlushedStoreLost
        }
        Rule::StaleRead | Rule::ReadsDisagree | Rule::LateEffect => Rule::StaleLoad,
        Rule::UnknownTypeServed => Rule::UnknownPmemTypeServed,
        Rule::LegalRequestFailed => Rule::LegalFlushFailed,
        rule => rule,
    };
    Violation { rule, row: None, unit: Unit::Word, ..violation }
}
