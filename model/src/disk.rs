//! All atoms of a disk, most of them calm.
//!
//! An atom is *calm* when only one version of it is left and its content is known. Nothing can be
//! held against that version, so its times do not matter and its content is all there is to
//! remember; a power loss passes it by. The first write makes it busy, and then it has a graph of
//! its own ([`crate::atom`]) until a power loss leaves a known content. A run writes few atoms and
//! reads all of them after a power loss, so this is what its cost depends on.

use std::ops::Range;

use crate::atom::{Around, AtomState};
use crate::graph::Node;
use crate::ledger::{Ledger, Slot};
use crate::names::{Content, Instant, Observed};

/// The atoms, by index.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    /// What each atom holds; [`Content::BUSY`] iff its graph says.
    calm: Vec<Content>,
    /// The graphs of busy atoms; empty for a calm one. May be longer than `calm`.
    graphs: Vec<AtomState>,
    /// The busy atoms, each once.
    busy: Vec<u32>,
    /// How many atoms there are: the length of `calm`.
    atoms: u32,
    scratch: Vec<Content>,
}

impl Disk {
    /// A disk of `atoms` that nobody has written; memory is kept.
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

    /// How many atoms there are.
    #[inline]
    pub(crate) fn len(&self) -> u32 {
        self.atoms
    }

    /// A write is published, of `version` to each of `atoms`.
    // Once a request, and a loop in want of registers.
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

    /// The backend that had the write of `slot` in hand died; see [`AtomState::leave_behind`].
    pub(crate) fn leave_behind(&mut self, slot: Slot, dead: Slot) {
        for &atom in &self.busy {
            if self.calm[atom as usize] == Content::BUSY {
                self.graphs[atom as usize].leave_behind(slot, dead);
            }
        }
    }

    /// The same write is carried out once more in each of `atoms`.
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

    /// A read `[from, to]` of the atoms from `first` on returned `seen`. Gives the first place in
    /// `seen` that may not be.
    // Once a request, and a loop in want of registers.
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

    /// The write of `slot` was never a version. Gives the first atom where somebody has seen it.
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

    /// The live content is gone; see [`AtomState::collapse`].
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

    /// What is known of `atom`, for those who have time.
    pub(crate) fn view(&self, atom: usize) -> AtomState {
        match self.calm[atom] {
            Content::BUSY => self.graphs[atom].clone(),
            content => AtomState::calm(content),
        }
    }

    /// What a power loss now may leave in `atom`, sorted.
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

    /// How many versions that are not stable a power loss now could leave in `atom`.
    #[inline]
    pub(crate) fn loose_versions(&self, atom: usize, ledger: &Ledger) -> usize {
        if self.calm[atom] == Content::BUSY { self.graphs[atom].loose_versions(ledger) } else { 0 }
    }

    /// Whether there is an atom with at least `least` of them.
    pub(crate) fn some_atom_has_loose_versions(&self, least: usize, ledger: &Ledger) -> bool {
        let mut busy = self.busy.iter().map(|&atom| &self.graphs[atom as usize]);
        least == 0 && !self.calm.is_empty()
            || busy
                .any(|graph| graph.most_loose() >= least && graph.loose_versions(ledger) >= least)
    }
}
