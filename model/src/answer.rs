//! The effect of an answer on the data: the writes that have happened, the data that is stable now,
//! and the check of a read.

use crate::atom::Around;
use crate::blame;
use crate::ledger::{Entry, Slot};
use crate::names::{Atom, Instant, Observed};
use crate::oracle::Oracle;
use crate::request::Kind;
use crate::rule::Rule;
use crate::ruling::{Effect, S_IOERR, S_OK, S_UNSUPP};
use crate::terms::{self, Profile, Row};
use crate::violation::Violation;

/// Says that the read has failed.
const LEFT: &str = "The read failed, and its buffer holds bytes that its sectors never held.";

impl Oracle {
    /// Applies an answer to the data.
    pub(crate) fn take_effect(
        &mut self,
        slot: Slot,
        entry: &Entry,
        status: u8,
        sub: Instant,
        at: Instant,
        seen: &[Observed],
    ) -> Result<(), Box<Violation>> {
        // Only a sync forgets data that completed before it: a failed read has read nothing, and a
        // failed write has changed its own range at most. If the host cannot have failed, the
        // device answered wrongly and the data is unaffected.
        if status == S_IOERR && !entry.ruling.is_refusal() && entry.may_sync {
            self.failed = Some(at);
            self.failure_seen = true;
        }
        match entry.kind {
            // The result of a read that should have been refused carries no information about the
            // disk.
            Kind::In if status == S_OK && entry.ruling.effect == Effect::Asked && !entry.void => {
                self.read(slot, entry, sub, at, seen)
            }
            Kind::In if status != S_OK && self.profile == Profile::Strict => {
                self.check_left(slot, entry, status, seen)
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

    /// Records that a write ended with `status`.
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
                if terms.negotiated(terms::CONFIG_WCE) && !steady { Row::H } else { terms.row() };
            self.last.row = Some(row);
            self.ledger.entry_mut(slot).row = Some(row);
        }
        if status == S_UNSUPP && self.profile == Profile::Strict {
            return self.retract(slot, entry);
        }
        let asked =
            status == S_OK && entry.ruling.effect == Effect::Asked && entry.kind != Kind::Discard;
        if !asked {
            return Ok(());
        }
        // A write of zeroes counts as a write by AMB-10, which only the Strict profile assumes.
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

    /// Removes a refused write, which was never a version: a read that returned it saw a forbidden
    /// effect.
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

    /// Checks what a read that failed has left in its buffer: only content of its own sectors, or
    /// zeroes (AMB-44). A sector may show any version of itself, and a part of one.
    #[inline]
    fn check_left(
        &self,
        slot: Slot,
        entry: &Entry,
        status: u8,
        seen: &[Observed],
    ) -> Result<(), Box<Violation>> {
        let rule = |seen: &Observed| match seen {
            Observed::Content(_) | Observed::Torn => None,
            Observed::Misdirected { .. } => Some(Rule::Misplaced),
            Observed::Foreign => Some(Rule::ForeignContent),
            Observed::Garbage => Some(Rule::NeverWritten),
        };
        let Some((nth, rule)) = (0..).zip(seen).find_map(|(nth, seen)| Some((nth, rule(seen)?)))
        else {
            return Ok(());
        };
        let id = slot.id().expect("a request's slot");
        let violation = self.violation(rule, id).kind(entry.kind).status(status);
        let violation = violation.observed(seen[nth as usize]).note(LEFT);
        let is_there = nth < entry.atoms;
        Err(Box::new(if is_there { violation.atom(Atom(entry.first + nth)) } else { violation }))
    }

    /// Checks the result of a read.
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
            // The read itself has ended, but its observations are not recorded yet.
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
