//! A read that no explanation allows, put into words: which rule it breaks, and which events say so.
//!
//! Nothing here decides whether a rule is broken, only how to say it.

use crate::ledger::Slot;
use crate::names::{Atom, Instant, Observed};
use crate::oracle::Oracle;
use crate::rule::Rule;
use crate::violation::Violation;

/// The violation that the read of `slot`, `[sub, at]`, found `seen` in an atom.
pub(crate) fn wrong_read(
    oracle: &Oracle,
    slot: Slot,
    atom: usize,
    seen: Observed,
    sub: Instant,
    at: Instant,
) -> Violation {
    let _ = (sub, at);
    let id = slot.id().expect("a request's slot");
    let atom = Atom(u32::try_from(atom).expect("below the number of atoms"));
    oracle.violation(Rule::StaleRead, id).atom(atom).observed(seen)
}
