//! The passes: small changes that make a run simpler.
//!
//! A pass enumerates changes of a run by number. The [search](super::search) tries them in order,
//! keeps the first that fails in the same way and is simpler, and continues from there with the
//! same number. A pass does not check whether a change keeps the failure.

mod hosts;
mod lines;
mod requests;
mod worlds;

use super::case::Case;
use super::timeline::Timeline;
use crate::dut::lifecycle::Lifecycle;
use crate::host::disk::Outcome;
use crate::world::action::Action;
use hosts::{choices, cranks, sets};
use lines::{backwards, in_order, lives, orders, ranges, settled};
use requests::requests;
use worlds::{nearer, numbers, world};

/// The replay of a changed run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::shrink) enum Mode {
    /// Drops lines that are no longer possible.
    Strict,
    /// Moves such lines to the place that fits their meaning.
    ByMeaning,
}

/// A changed run and its mode of replay.
pub(in crate::shrink) type Try = (Case, Mode);

/// The answer of a pass to a number.
pub(in crate::shrink) enum Said {
    /// A change to try.
    Try(Case, Mode),
    /// No change with this number.
    Nothing,
    /// No change with this number or a higher one.
    End,
}

/// A pass: a function from a number to a change.
pub(in crate::shrink) type Pass = fn(&Case, &Timeline, usize) -> Said;

/// All passes, those that remove most first.
pub(in crate::shrink) const ALL: [Pass; 13] = [
    in_order, lives, ranges, settled, requests, backwards, orders, cranks, choices, sets, world,
    nearer, numbers,
];

/// Whether an action only selects the thread or operation to run.
fn is_machinery(action: &Action) -> bool {
    match action {
        Action::Kick { .. }
        | Action::Reap { .. }
        | Action::Crank { .. }
        | Action::Background { .. }
        | Action::Choose { .. }
        | Action::Effect { .. }
        | Action::WriteBack { .. }
        | Action::Complete { outcome: Outcome::Ok { .. }, .. }
        | Action::Lifecycle { what: Lifecycle::PollQueue { .. }, .. } => true,
        _ => matches!(action, Action::PollReset { .. }),
    }
}
