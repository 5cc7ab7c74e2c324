//! What the oracle can tell those who steer a run or tell its story. Nothing here changes anything.

use crate::names::{Atom, Content};
use crate::oracle::{CompletionFacts, Oracle};

impl Oracle {
    /// How many versions a power loss now could leave in `atom` that are not stable; more than none
    /// means something is volatile there.
    #[must_use]
    pub fn loose_versions(&self, atom: Atom) -> usize {
        self.disk.loose_versions(atom.0 as usize, &self.ledger)
    }

    /// Whether there is an atom in which a power loss now could leave at least `least` versions
    /// that are not stable.
    ///
    /// The same as asking each atom for its [`loose_versions`](Self::loose_versions), at a fraction
    /// of the cost.
    #[must_use]
    pub fn some_atom_has_loose_versions(&self, least: usize) -> bool {
        self.disk.some_atom_has_loose_versions(least, &self.ledger)
    }

    /// Replaces `out` by what a power loss now may leave in `atom`, sorted.
    ///
    /// In the Literal profile an atom may also hold what has no name; such contents are left out.
    pub fn candidates(&self, atom: Atom, out: &mut Vec<Content>) {
        self.disk.survivors(atom.0 as usize, out, &self.ledger);
        out.retain(|content| content.is_named());
    }

    /// The row of the stability table for a write submitted and completed now: `A` to `G`.
    ///
    /// # Panics
    /// If no life has begun.
    #[must_use]
    pub fn stability_row(&self) -> char {
        self.terms.as_ref().expect("a row belongs to a life").row()
    }

    /// What there is to know about the last completion. Before the first, its `id` is zero.
    #[must_use]
    pub fn last_completion(&self) -> CompletionFacts {
        self.last
    }
}
