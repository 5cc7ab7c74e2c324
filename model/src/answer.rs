//! What an answer means for the data: which writes have happened, what is stable now, and whether a
//! read may have returned what it did.

use crate::atom::Around;
use crate::blame;
use crate::ledger::{Entry, Slot};
use crate::names::{Atom, Instant, Observed};
use crate::oracle::Oracle;
use crate::request::Kind;
use crate::rule::Rule;
use crate::ruling::{Effect, S_IOERR, S_OK, S_UNSUPP};
use crate::terms::{self, Profile};
use crate::violation::Violation;

impl Oracle {
    /// What an answer means for the data.
    pub(crate) fn take_effect(
        &mut self,
        slot: Slot,
        entry: &Entry,
        status: u8,
        sub: Instant,
        at: Instant,
        seen: &[Observed],
    ) -> Result<(), Box<Violation>> {
        // Where the host cannot have failed, the device answered wrongly, and the data is where it
        // was.
        if status == S_IOERR && !entry.ruling.is_refusal() && self.life().host_may_fail {
            self.failed = Some(at);
            self.failure_seen = true;
        }
        match entry.kind {
            // What a read returned that should have been refused says nothing about the disk.
            Kind::In if status == S_OK && entry.ruling.effect == Effect::Asked && !entry.void => {
                self.read(slot, entry, sub, at, seen)
            }
            Kind::Out | Kind::WriteZeroes | Kind::Discard => {
                assert!(seen.is_empty(), "only a read sees anything");
                self.wrote(slot, entry, status, sub)
            }
            Kind::Flush if status == S_OK && entry.counts => {
                self.ledger.flushed(sub);
                let ledger = &self.ledger;
                self.last.overtook_write = self.flying.iter().any(|&other| {
                    ledger.fate(other).sub < sub
                        && ledger.entry(other).is_some_and(|entry| entry.kind.mutates())
                });
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A write ended with `status`.
    fn wrote(
        &mut self,
        slot: Slot,
        entry: &Entry,
        status: u8,
        sub: Instant,
    ) -> Result<(), Box<Violation>> {
        let terms = *self.life();
        let steady = self.mode_since < sub;
        if entry.kind != Kind::Discard {
            let row =
                if terms.negotiated(terms::CONFIG_WCE) && !steady { 'H' } else { terms.row() };
            self.last.row = row;
            self.ledger.entry_mut(slot).row = row;
        }
        if status == S_UNSUPP && self.profile == Profile::Strict {
            return self.retract(slot, entry);
        }
        let asked =
            status == S_OK && entry.ruling.effect == Effect::Asked && entry.kind != Kind::Discard;
        if !asked {
            return Ok(());
        }
        // A write of zeroes is a write by house rule only.
        let promotable = entry.kind == Kind::Out || self.profile == Profile::Strict;
        let write_through = terms.negotiated(terms::CONFIG_WCE) && !terms.writeback && steady;
        let stable = promotable && (terms.flushless() || write_through);
        let fate = self.ledger.fate_mut(slot);
        fate.done = true;
        fate.stable_after = match (promotable, stable) {
            (true, true) => Instant(0),
            (true, false) => fate.end,
            (false, _) => Instant::NEVER,
        };
        self.last.stable = stable;
        Ok(())
    }

    /// A write was refused, so it never was a version: whoever saw it saw an effect that must not
    /// be.
    #[inline(never)]
    fn retract(&mut self, slot: Slot, entry: &Entry) -> Result<(), Box<Violation>> {
        self.ledger.entry_mut(slot).void = true;
        let seen_in = self.disk.retract(slot);
        let id = slot.id().expect("a request's slot");
        match seen_in {
            None => Ok(()),
            Some(index) => {
                let atom = Atom(u32::try_from(index).expect("below the number of atoms"));
                let violation = self.violation(Rule::RefusedEffect, id).kind(entry.kind);
                Err(Box::new(violation.status(S_UNSUPP).atom(atom)))
            }
        }
    }

    /// A read returned.
    fn read(
        &mut self,
        slot: Slot,
        entry: &Entry,
        sub: Instant,
        at: Instant,
        seen: &[Observed],
    ) -> Result<(), Box<Violation>> {
        assert_eq!(seen.len(), entry.atoms as usize, "one observation per atom");
        let around = Around {
            ledger: &self.ledger,
            profile: self.profile,
            moment: self.ledger.when_published(slot),
            // The read itself has landed, but not yet spoken.
            oldest_read: self.oldest_read.min(sub),
            failed: self.suspected(),
        };
        let first = entry.first as usize;
        let wrong = self.disk.read(first, seen, sub, at, &around);
        match wrong {
            None => Ok(()),
            Some(index) => {
                let violation = blame::wrong_read(self, slot, first + index, seen[index], sub, at);
                Err(Box::new(violation))
            }
        }
    }
}
