//! All atoms of a disk, most of them calm.
//!
//! An atom is *calm* when a single version of it is left and its content is known. No later
//! observation can contradict that version, so its times do not matter and its content is the whole
//! state; a power loss leaves it unchanged. The first write makes the atom busy: it then has a
//! graph ([`crate::atom`]) until a power loss leaves a known content. A run writes few atoms and
//! reads all of them after a power loss, so the calm case dominates its cost.

use std::ops::Range;

use crate::atom::{Around, AtomState};
use crate::graph::Node;
use crate::ledger::{Ledger, Slot};
use crate::names::{Content, Instant, Observed};

/// The atoms, by index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// Content of each atom; [`Content::BUSY`] iff the atom has a graph.
    calm: Vec<Content>,
    /// Graphs of busy atoms; empty for a calm one. May be longer than `calm`.
    graphs: Vec<AtomState>,
    /// The busy atoms, each once.
    busy: Vec<u32>,
    /// Number of atoms: the length of `calm`.
    atoms: u32,
    scratch: Vec<Content>,
}

impl Disk {
    /// Resets to a disk of `atoms` unwritten atoms; allocations are kept.
    pub(crate) fn restart(&mut self, atoms: u32) {
        self.atoms = atoms;
        let atoms = atoms as usize;
        self.calm.clear();
        self.calm.resize(atoms, Content::INITIAL);
        if self.graphs.len() < atoms {
            self.graphs.resize_with(atoms, AtomState::default);
        }
        for atom in self.busy.drain(..) {
            self.graphs[atom as usize].forget();
        }
    }

    /// Number of atoms.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.atoms
    }

    /// Publishes a write of `version` to each of `atoms`.
    // Called once per request; inlined, its loop runs short of registers.
    #[inline(never)]
    pub(crate) fn submit(&mut self, atoms: Range<u32>, version: Node, around: &Around<'_>) {
        for atom in atoms {
            let calm = &mut self.calm[atom as usize];
            let graph = &mut self.graphs[atom as usize];
            if *calm == Content::BUSY {
                graph.submit(version, around);
            } else {
                graph.begin(*calm, version);
                *calm = Content::BUSY;
                self.busy.push(atom);
            }
        }
    }

    /// Handles the death of the backend that was carrying out the write of `slot` to `atoms`; see
    /// [`AtomState::leave_behind`].
    pub(crate) fn leave_behind(&mut self, atoms: Range<u32>, slot: Slot, dead: Slot) {
        for atom in atoms {
            if self.calm[atom as usize] == Content::BUSY {
                self.graphs[atom as usize].leave_behind(slot, dead);
            }
        }
    }

    /// Publishes a second execution of the same write, in each of `atoms`.
    pub(crate) fn submit_again(&mut self, atoms: Range<u32>, version: Node, around: &Around<'_>) {
        for atom in atoms {
            if self.calm[atom as usize] != Content::BUSY {
                let calm = std::mem::replace(&mut self.calm[atom as usize], Content::BUSY);
                self.graphs[atom as usize] = AtomState::calm(calm);
                self.busy.push(atom);
            }
            self.graphs[atom as usize].submit_again(version, around);
        }
    }

    /// Records that a read `[from, to]` of the atoms from `first` on returned `seen`. Returns the
    /// index in `seen` of the first illegal observation.
    // Called once per request; inlined, its loop runs short of registers.
    #[inline(never)]
    pub(crate) fn read(
        &mut self,
        first: usize,
        seen: &[Observed],
        from: Instant,
        to: Instant,
        around: &Around<'_>,
    ) -> Option<usize> {
        let mut wrong = None;
        for (index, &seen) in seen.iter().enumerate() {
            let atom = first + index;
            let calm = self.calm[atom];
            let right = seen == Observed::Content(calm)
                || (calm == Content::BUSY && self.graphs[atom].read(seen, from, to, around));
            if !right && wrong.is_none() {
                wrong = Some(index);
            }
        }
        wrong
    }

    /// Removes the write of `slot`, which was never a version. Returns the first atom in which a
    /// read has returned it.
    pub(crate) fn retract(&mut self, slot: Slot) -> Option<usize> {
        let mut seen_in = None;
        for &atom in &self.busy {
            let atom = atom as usize;
            if self.calm[atom] == Content::BUSY
                && !self.graphs[atom].retract(slot)
                && seen_in.is_none()
            {
                seen_in = Some(atom);
            }
        }
        seen_in
    }

    /// Collapses every busy atom; see [`AtomState::collapse`].
    pub(crate) fn collapse(&mut self, image: Instant, found: Option<Instant>, around: &Around<'_>) {
        let Self { calm, graphs, busy, scratch, .. } = self;
        busy.retain(|&atom| {
            let graph = &mut graphs[atom as usize];
            let settled = graph.collapse(image, found, scratch, around);
            if let Some(content) = settled {
                calm[atom as usize] = content;
                graph.forget();
            }
            settled.is_none()
        });
    }

    /// State of `atom`, as a copy; not for hot paths.
    pub(crate) fn view(&self, atom: usize) -> AtomState {
        match self.calm[atom] {
            Content::BUSY => self.graphs[atom].clone(),
            content => AtomState::calm(content),
        }
    }

    /// Collects the contents that a power loss now may leave in `atom`, sorted.
    pub(crate) fn survivors(&self, atom: usize, out: &mut Vec<Content>, ledger: &Ledger) {
        match self.calm[atom] {
            Content::BUSY => {
                self.graphs[atom].survivors(out, ledger);
            }
            content => {
                out.clear();
                out.push(content);
            }
        }
    }

    /// Number of versions that are not stable and that a power loss now could leave in `atom`.
    #[inline]
    pub(crate) fn loose_versions(&self, atom: usize, ledger: &Ledger) -> usize {
        if self.calm[atom] == Content::BUSY { self.graphs[atom].loose_versions(ledger) } else { 0 }
    }

    /// Whether some atom has at least `least` loose versions.
    pub(crate) fn some_atom_has_loose_versions(&self, least: usize, ledger: &Ledger) -> bool {
        let mut busy = self.busy.iter().map(|&atom| &self.graphs[atom as usize]);
        least == 0 && !self.calm.is_empty()
            || busy
                .any(|graph| graph.most_loose() >= least && graph.loose_versions(ledger) >= least)
    }
}
