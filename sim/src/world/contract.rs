//! The obligations of a device to its guest: the oracle of a disk or of a persistent memory.
//!
//! The methods here are those that both oracles have. For the others the world calls the oracle of
//! the kind directly.

use powerfail_model::{Atom, Content, Oracle, PmemOracle, Profile, RequestId, Row, Violation};

use crate::guest::Kind;

/// An oracle.
#[derive(Clone, Debug)]
pub enum Contract {
    /// The oracle of a disk.
    Disk(Oracle),
    /// The oracle of a persistent memory.
    Memory(PmemOracle),
}

/// Evaluates the same expression for either oracle.
macro_rules! either {
    ($self:expr, $oracle:ident => $what:expr) => {
        match $self {
            Contract::Disk($oracle) => $what,
            Contract::Memory($oracle) => $what,
        }
    };
}

impl Contract {
    /// The contract of a device of this kind, by this profile, with so many atoms, none of which
    /// was ever written.
    pub(super) fn new(profile: Profile, kind: Kind, atoms: u32) -> Contract {
        match kind {
            Kind::Disk => Contract::Disk(Oracle::new(profile, atoms)),
            Kind::Memory => Contract::Memory(PmemOracle::new(profile, atoms)),
        }
    }

    /// Resets the oracle to [`new`](Self::new), but keeps its allocations if the kind is the same.
    pub(super) fn restart(&mut self, profile: Profile, kind: Kind, atoms: u32) {
        match (self, kind) {
            (Contract::Disk(oracle), Kind::Disk) => oracle.restart(profile, atoms),
            (Contract::Memory(oracle), Kind::Memory) => oracle.restart(profile, atoms),
            (this, _) => *this = Contract::new(profile, kind, atoms),
        }
    }

    /// The oracle of a disk.
    ///
    /// # Panics
    /// If the device is of the other kind.
    #[inline]
    pub(super) fn disk(&mut self) -> &mut Oracle {
        match self {
            Contract::Disk(oracle) => oracle,
            Contract::Memory(_) => unreachable!("only a disk does that"),
        }
    }

    /// The oracle of a persistent memory.
    ///
    /// # Panics
    /// If the device is of the other kind.
    #[inline]
    pub(super) fn memory(&mut self) -> &mut PmemOracle {
        match self {
            Contract::Memory(oracle) => oracle,
            Contract::Disk(_) => unreachable!("only a memory does that"),
        }
    }

    pub(super) fn submit_again(&mut self, id: RequestId) {
        either!(self, oracle => oracle.submit_again(id));
    }

    pub(super) fn reset_shown(&mut self) {
        either!(self, oracle => oracle.reset_shown());
    }

    pub(super) fn backend_kill(&mut self) {
        either!(self, oracle => oracle.backend_kill());
    }

    pub(super) fn power_loss(&mut self) -> Result<(), Violation> {
        either!(self, oracle => oracle.power_loss())
    }

    pub(super) fn quiesce(&self) -> Result<(), Violation> {
        either!(self, oracle => oracle.quiesce())
    }

    /// Whether a request of this number was submitted before.
    #[inline]
    pub(super) fn knows(&self, id: RequestId) -> bool {
        either!(self, oracle => oracle.knows(id))
    }

    /// Whether the guest has seen the host fail in this backend life.
    #[inline]
    #[must_use]
    pub(crate) fn host_failed(&self) -> bool {
        either!(self, oracle => oracle.host_failed())
    }

    /// Whether some atom has at least `least` loose versions that a power loss now could leave.
    #[must_use]
    pub(crate) fn some_atom_has_loose_versions(&self, least: usize) -> bool {
        either!(self, oracle => oracle.some_atom_has_loose_versions(least))
    }

    /// The row (A to H) that the last completed request of a disk was judged by.
    ///
    /// # Panics
    /// If the device is a memory, or no request with a row has completed.
    #[inline]
    pub(super) fn last_row(&self) -> Row {
        match self {
            Contract::Disk(oracle) => oracle.last_completion().row.expect("a write has a row"),
            Contract::Memory(_) => unreachable!("only a disk has rows"),
        }
    }

    /// Replaces `out` with the contents that a power loss now may leave in `atom`, sorted.
    pub fn candidates(&self, atom: Atom, out: &mut Vec<Content>) {
        either!(self, oracle => oracle.candidates(atom, out));
    }

    /// The row (A to H) of the stability table that is in force; `None` for a memory.
    #[must_use]
    pub(crate) fn stability_row(&self) -> Option<Row> {
        match self {
            Contract::Disk(oracle) => Some(oracle.stability_row()),
            Contract::Memory(_) => None,
        }
    }
}
