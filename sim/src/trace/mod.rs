//! Traces: runs as text, keyed by meaning, so that they outlive changes of the code.
//!
//! A change of the generator invalidates every seed, but no list of actions. [`Trace`] is the file;
//! an [`Action`](crate::world::action::Action) is a line of it.

mod features;
mod file;
mod line;
mod read;
mod remarks;
mod shape;

pub(crate) use features::{features, parse as parse_features};

pub use file::{Signature, Trace, TraceError, VERSION};
pub(crate) use line::request_name;
pub(crate) use read::MOST_BYTES;
pub use read::read;
pub(crate) use remarks::with_remarks_of;
pub(crate) use shape::possible;
