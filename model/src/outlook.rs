//! Queries for schedulers and reports. Nothing here changes anything.

use crate::names::{Atom, Content};
use crate::oracle::{CompletionFacts, Oracle};
use crate::terms::Row;

impl Oracle {
    /// Number of versions that are not stable and that a power loss now could leave in `atom`;
    /// non-zero iff the atom holds volatile data.
    #[must_use]
    pub fn loose_versions(&self, atom: Atom) -> usize {
        self.disk.loose_versions(atom.0 as usize, &self.ledger)
    }

    /// Whether there is an atom in which a power loss now could leave at least `least` versions
    /// that are not stable.
    ///
    /// Equivalent to a query of [`loose_versions`](Self::loose_versions) for each atom, at a
    /// fraction of the cost.
    #[must_use]
    pub fn some_atom_has_loose_versions(&self, least: usize) -> bool {
        self.disk.some_atom_has_loose_versions(least, &self.ledger)
    }

    /// Replaces `out` by the contents that a power loss now may leave in `atom`, sorted.
    ///
    /// In the Literal profile an atom may also hold unnamed contents; these are left out.
    pub fn candidates(&self, atom: Atom, out: &mut Vec<Content>) {
        self.disk.survivors(atom.0 as usize, out, &self.ledger);
        out.retain(|content| content.is_named());
    }

    /// The row of the stability table for a write that is submitted and completed now: `A` to `G`.
    ///
    /// # Panics
    /// If no life has begun.
    #[must_use]
    pub fn stability_row(&self) -> Row {
        self.terms.as_ref().expect("a row belongs to a life").row()
    }

    /// The facts of the last completion. Before the first, its `id` is zero.
    #[must_use]
    pub fn last_completion(&self) -> CompletionFacts {
        self.last
    }
}
