//! The oracle of a device, once for every way in which the device may have read its requests.
//!
//! A guest that changes a published request leaves it open which of the two the device carries out
//! (see [`Change`](crate::guest::Change)). From then on one oracle was told of the one and another
//! oracle of the other. The device has kept its promises iff one of them has no objection; one that
//! has is dropped while others are left.

use super::Contract;
use crate::guest::Kind;
use powerfail_model::{Profile, Violation};

/// The most oracles of a device.
const MOST: usize = 4;

/// An oracle, and what it was told of.
#[derive(Clone, Debug)]
struct Reading {
    contract: Contract,
    /// Of the request that is being changed, it was told as it is after the change.
    second: bool,
}

/// The oracles of a device: one, unless the guest has changed a request.
#[derive(Clone, Debug)]
pub(crate) struct Readings {
    first: Reading,
    others: Vec<Reading>,
    /// The request that is being changed has been changed. Before, the device cannot have carried
    /// out what it is afterwards.
    changed: bool,
}

impl Readings {
    pub(super) fn new(contract: Contract) -> Readings {
        Readings { first: Reading { contract, second: false }, others: Vec::new(), changed: false }
    }

    /// Resets to [`new`](Self::new), but keeps the allocations of the first oracle.
    pub(super) fn restart(&mut self, profile: Profile, kind: Kind, atoms: u32) {
        self.others.clear();
        (self.first.second, self.changed) = (false, false);
        self.first.contract.restart(profile, kind, atoms);
    }

    /// One of the oracles.
    #[inline]
    pub(crate) fn first(&self) -> &Contract {
        &self.first.contract
    }

    /// Whether [`first`](Self::first) was told of the changed request as it is after the change.
    pub(super) fn first_is_second(&self) -> bool {
        self.first.second
    }

    /// Tells every oracle the same.
    #[inline]
    pub(super) fn tell(&mut self, mut told: impl FnMut(&mut Contract)) {
        told(&mut self.first.contract);
        self.others.iter_mut().for_each(|other| told(&mut other.contract));
    }

    /// Asks every oracle. The second argument says whether it was told of the changed request as it
    /// is after the change.
    ///
    /// # Errors
    /// The objection of the first oracle, if no oracle is left without one.
    #[inline]
    pub(super) fn judge(
        &mut self,
        mut told: impl FnMut(&mut Contract, bool) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let result = told(&mut self.first.contract, self.first.second);
        if self.others.is_empty() { result } else { self.judge_others(result, told) }
    }

    #[cold]
    fn judge_others(
        &mut self,
        result: Result<(), Violation>,
        mut told: impl FnMut(&mut Contract, bool) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        self.others.retain_mut(|other| told(&mut other.contract, other.second).is_ok());
        if result.is_ok() {
            return result;
        }
        let possible = self.others.iter().position(|other| self.changed || !other.second);
        let Some(nth) = possible else { return result };
        self.first = self.others.remove(nth);
        Ok(())
    }

    /// Whether another request may be changed.
    pub(super) fn may_fork(&self) -> bool {
        2 * (self.others.len() + 1) <= MOST
    }

    /// Adds the oracles that were told of another request in the place of the one sent last.
    #[cold]
    pub(super) fn fork(&mut self, mut before: Readings, mut second: impl FnMut(&mut Contract)) {
        before.tell(&mut second);
        self.others.extend(std::iter::once(before.first).chain(before.others).map(
            |mut reading| {
                reading.second = true;
                reading
            },
        ));
    }

    /// Notes that the request has been changed.
    pub(super) fn change(&mut self) {
        self.changed = true;
    }

    /// Ends the change of a request, which has been answered or has ended with its life.
    pub(super) fn settle(&mut self) {
        let changed = self.changed;
        self.others.retain(|other| changed || !other.second);
        self.first.second = false;
        self.others.iter_mut().for_each(|other| other.second = false);
        self.changed = false;
    }
}
