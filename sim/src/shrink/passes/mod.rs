//! The ways to make a run simpler, one small change at a time.
//!
//! A pass enumerates changes of a run by number. The [search](super::search) tries them in order,
//! keeps the first that fails in the same way and is simpler, and goes on from there with the same
//! number. Nothing here knows whether a change will do.

mod hosts;
mod lines;
mod requests;
mod worlds;

use super::case::Case;
use super::timeline::Timeline;
use crate::dut::lifecycle::Life;
use crate::host::disk::Outcome;
use crate::world::action::Action;
use hosts::{cranks, sets};
use lines::{backwards, in_order, lives, orders, ranges, settled};
use requests::requests;
use worlds::{nearer, numbers, world};

/// How a changed run is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shrink) enum Mode {
    /// Lines that are no longer possible are dropped.
    Strict,
    /// They are moved to where they belong now.
    ByMeaning,
}

/// One try: a changed run.
pub(in crate::shrink) type Try = (Case, Mode);

/// What a pass says to a number.
#[expect(clippy::large_enum_variant, reason = "it is made and taken apart at once")]
pub(in crate::shrink) enum Said {
    /// Try this.
    Try(Case, Mode),
    /// Nothing to change here.
    Nothing,
    /// There is no change with this number, nor with a higher one.
    End,
}

/// A way to make runs simpler: what it says to a number.
pub(in crate::shrink) type Pass = fn(&Case, &Timeline, usize) -> Said;

/// All of them, those that take away most first.
pub(in crate::shrink) const ALL: [Pass; 12] = [
    in_order, lives, ranges, settled, requests, backwards, orders, cranks, sets, world, nearer,
    numbers,
];

/// Whether an action says only which thread or operation moves.
fn is_machinery(action: &Action) -> bool {
    match action {
        Action::Kick { .. }
        | Action::Reap { .. }
        | Action::Crank { .. }
        | Action::Effect { .. }
        | Action::WriteBack { .. }
        | Action::Complete { outcome: Outcome::Ok { .. }, .. }
        | Action::Life { what: Life::PollQueue { .. }, .. } => true,
        _ => matches!(action, Action::PollReset { .. }),
    }
}
