//! What a persistent memory owes its guest: the same graph, told of stores, loads and flushes.
//!
//! A store is a write that is published and over in one moment, for whoever shares the memory sees
//! it at once; a load is such a read. Then the one rule says all there is to say. The stores to an
//! atom are in order, a flush that returned 0 makes stable what was visible before it was
//! submitted, and a power loss leaves the last stable content of an atom or a later one: one of its
//! successive whole contents from the submission of the latest-submitted such flush on. A load
//! makes nothing stable. An atom is an aligned word of 8 bytes.
//!
//! A reset of the device and a kill of the backend end the flushes in flight and change nothing
//! else; by the letter unflushed stores may be lost there. After a failed flush, what was not
//! stable may fall back to what a power loss could leave, until it is stored again, as on a disk:
//! the host may have forgotten that it was dirty.
//!
//! What is *not* here: loads and stores that overlap in time (they are told in the order in which
//! they happened), and the words of a store that tears between atoms, for atoms are independent.

use crate::ledger::Slot;
use crate::names::{Atom, Content, Observed, RequestId};
use crate::oracle::Oracle;
use crate::request::{Kind, Request};
use crate::rule::Rule;
use crate::ruling::{S_IOERR, S_OK};
use crate::terms::{self, Profile, Terms};
use crate::violation::{Unit, Violation};

/// The length of one atom in the terms of the oracle underneath, which counts atoms and calls each
/// a sector.
const SECTOR: u64 = 512;
/// The `ret` of success.
const DONE: u32 = 0;
/// The `ret` of failure: -1.
const FAILED: u32 = u32::MAX;

/// What a driver put into `req_vq`.
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

/// What a persistent memory owes its guest, at every moment of one run.
///
/// Every method is one event, and they are told in the order in which they happened. Stores, loads
/// and requests take their names from one sequence.
///
/// # Spec
/// 5.19.7; PM-D-04 and PM-D-05. House rules where the text is silent: a store is seen by every
/// later load (AMB-09), a reset keeps it (AMB-38).
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

    /// Becomes what [`Self::new`] returns, and keeps its room.
    pub fn restart(&mut self, profile: Profile, atoms: u32) {
        self.oracle.restart(profile, atoms);
    }

    /// A life begins: the driver has set `FEATURES_OK` and read it back. A host that may fail may
    /// fail a flush.
    ///
    /// # Panics
    /// If a life is under way.
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

    /// A store to `atoms` atoms from `first` on became visible.
    ///
    /// # Panics
    /// If no life has begun, the name was used before, or there are no such atoms.
    pub fn store(&mut self, id: RequestId, first: Atom, atoms: u32) {
        self.oracle.submit(id, &self.access(Kind::Out, first, atoms));
        let stored = self.oracle.complete(id, S_OK, &[]);
        stored.expect("a store to what is there cannot be wrong");
    }

    /// A load found `seen` in the atoms from `first` on.
    ///
    /// # Errors
    /// The first rule that this breaks. The event counts all the same.
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
        Request { kind, sector, bytes, segments: &[], malformed: false }
    }

    /// A request was published: the driver stored the `avail.idx` that includes it.
    ///
    /// # Panics
    /// If no life has begun, or the name was used before or is zero.
    pub fn submit(&mut self, id: RequestId, request: PmemRequest) {
        let (kind, malformed) = match request {
            PmemRequest::Flush => (Kind::Flush, false),
            PmemRequest::Other(kind) => (Kind::Other(kind), false),
            PmemRequest::Malformed => (Kind::Other(0), true),
        };
        self.oracle.submit(id, &Request { kind, sector: 0, bytes: 0, segments: &[], malformed });
    }

    /// The driver published the same head once more while it is in flight; see
    /// [`Oracle::submit_again`].
    ///
    /// # Panics
    /// If the request is not in flight.
    pub fn submit_again(&mut self, id: RequestId) {
        self.oracle.submit_again(id);
    }

    /// The request was used: `used.idx` passed it. `ret` is `None` iff no whole response was
    /// written.
    ///
    /// # Errors
    /// The first rule that this breaks. The event counts all the same.
    ///
    /// # Spec
    /// 5.19.7.3: "0" for success and "-1" for failure (PM-D-05). What is neither promises no more
    /// than a failure does, and is wrong unless the request asked for nothing that makes sense.
    pub fn complete(&mut self, id: RequestId, ret: Option<u32>) -> Result<(), Violation> {
        self.completed(id, ret, Oracle::complete)
    }

    /// As [`complete`](Self::complete), where the host gave no reason to fail; see
    /// [`Oracle::complete_without_excuse`].
    ///
    /// # Errors
    /// Besides, [`Rule::LegalFlushFailed`] if a legal flush failed all the same.
    pub fn complete_without_excuse(
        &mut self,
        id: RequestId,
        ret: Option<u32>,
    ) -> Result<(), Violation> {
        self.completed(id, ret, Oracle::complete_without_excuse)
    }

    fn completed(
        &mut self,
        id: RequestId,
        ret: Option<u32>,
        complete: impl FnOnce(&mut Oracle, RequestId, u8, &[Observed]) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let entry = self.oracle.ledger.entry(Slot::of(id)).copied();
        let status = if ret == Some(DONE) { S_OK } else { S_IOERR };
        let told = complete(&mut self.oracle, id, status, &[]).map_err(in_words);
        let is_answer = matches!(ret, Some(DONE | FAILED))
            || entry.is_none_or(|entry| entry.ruling.asks_nothing());
        let broken = match told {
            // That it is no answer at all is the worse.
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

    /// The guest read that a reset was done: the life ends, and with it every request in flight.
    pub fn reset_shown(&mut self) {
        match self.oracle.profile() {
            Profile::Strict => self.oracle.reset_shown(),
            // "Preserved across device reset" is said of what was flushed only (5.19).
            Profile::Literal => self.oracle.backend_kill(),
        }
    }

    /// The backend process was killed; the host and its page cache live on.
    pub fn backend_kill(&mut self) {
        self.oracle.backend_kill();
    }

    /// The guest, or who runs it, learned that the host failed in another way than by a flush; see
    /// [`Oracle::host_failure_shown`].
    pub fn host_failure_shown(&mut self) {
        self.oracle.host_failure_shown();
    }

    /// The power was lost. The next powered life begins with one of the contents this could leave.
    ///
    /// # Errors
    /// None today: the last content of an atom may always survive. What the loss really left is
    /// judged when it is loaded.
    pub fn power_loss(&mut self) -> Result<(), Violation> {
        self.oracle.power_loss().map_err(in_words)
    }

    /// Everything owed must have come: the host has been healed, and the device had the steps it
    /// may need.
    ///
    /// # Errors
    /// [`Rule::NeverUsed`] with the oldest request that is still in flight.
    pub fn quiesce(&self) -> Result<(), Violation> {
        self.oracle.quiesce().map_err(in_words)
    }

    /// The requests in flight, in the order of publication, each as often as it is owed.
    pub fn outstanding(&self) -> impl Iterator<Item = RequestId> {
        self.oracle.outstanding()
    }

    /// By which reading it judges.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.oracle.profile()
    }

    /// Replaces `out` by what a power loss now may leave in `atom`, sorted; see
    /// [`Oracle::candidates`].
    pub fn candidates(&self, atom: Atom, out: &mut Vec<Content>) {
        self.oracle.candidates(atom, out);
    }

    /// How many contents a power loss now could leave in `atom` that are not stable.
    #[must_use]
    pub fn loose_versions(&self, atom: Atom) -> usize {
        self.oracle.loose_versions(atom)
    }

    /// Whether there is an atom with at least `least` [`loose_versions`](Self::loose_versions).
    #[must_use]
    pub fn some_atom_has_loose_versions(&self, least: usize) -> bool {
        self.oracle.some_atom_has_loose_versions(least)
    }

    /// Whether the guest has seen the host fail in this backend life: a flush that failed.
    #[must_use]
    pub fn host_failed(&self) -> bool {
        self.oracle.host_failed()
    }
}

/// The violation of a disk's rule, as that of a memory's.
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
