//! The table of request types: the name, the letter, the number on the wire, the feature and the
//! specification's name of each.
//!
//! A new type of request with segments is one more [`RangeKind`] and one more row here.

use powerfail_model::Kind;

use super::wire::{feature, request};

/// The facts about a type of request. An access to a persistent memory has a row, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// In traces.
    pub(crate) name: &'static str,
    /// In the name of a request, before its number.
    pub(crate) letter: char,
    /// The type in the header of a block request.
    pub(super) wire: u32,
    /// The feature that it needs; 0 if none.
    pub(crate) feature: u64,
    /// The name of the type, and of its feature if it needs one, in the specification.
    pub(crate) spec: &'static str,
    /// The type as the oracle names it.
    pub(super) model: Kind,
}

const fn row(
    name: &'static str,
    letter: char,
    wire: u32,
    feature: u64,
    spec: &'static str,
    model: Kind,
) -> Facts {
    Facts { name, letter, wire, feature, spec, model }
}

pub(super) const IN: Facts = row("in", 'r', request::IN, 0, "IN", Kind::In);
pub(super) const OUT: Facts = row("out", 'w', request::OUT, 0, "OUT", Kind::Out);
pub(super) const FLUSH: Facts =
    row("flush", 'f', request::FLUSH, feature::FLUSH, "FLUSH", Kind::Flush);
pub(super) const GET_ID: Facts = row("get-id", 'i', request::GET_ID, 0, "GET_ID", Kind::GetId);
pub(super) const DISCARD: Facts =
    row("discard", 'd', request::DISCARD, feature::DISCARD, "DISCARD", Kind::Discard);
pub(super) const WRITE_ZEROES: Facts = row(
    "write-zeroes",
    'z',
    request::WRITE_ZEROES,
    feature::WRITE_ZEROES,
    "WRITE_ZEROES",
    Kind::WriteZeroes,
);
pub(super) const STORE: Facts = row("store", 's', request::OUT, 0, "a store", Kind::Out);
pub(super) const LOAD: Facts = row("load", 'l', request::IN, 0, "a load", Kind::In);

/// A type that the specification does not define.
pub(super) const fn other(wire: u32) -> Facts {
    row("type", 'o', wire, 0, "a type", Kind::Other(wire))
}

/// The type of a request for ranges that a list of segments names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RangeKind {
    /// Discard the ranges.
    Discard,
    /// Zero the ranges.
    WriteZeroes,
}

impl RangeKind {
    /// Every type.
    pub const ALL: [RangeKind; 2] = [RangeKind::Discard, RangeKind::WriteZeroes];

    /// The type with this name, as in traces.
    #[must_use]
    pub fn from_name(name: &str) -> Option<RangeKind> {
        RangeKind::ALL.into_iter().find(|kind| kind.facts().name == name)
    }

    pub(super) const fn facts(self) -> Facts {
        match self {
            RangeKind::Discard => DISCARD,
            RangeKind::WriteZeroes => WRITE_ZEROES,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_letters_and_numbers_are_unique() {
        let all = [IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, other(2)];
        for (nth, one) in all.iter().enumerate() {
            for other in &all[..nth] {
                assert!(one.name != other.name && one.letter != other.letter, "{}", one.name);
                assert!(one.wire != other.wire && one.model != other.model, "{}", one.name);
            }
        }
        for kind in RangeKind::ALL {
            assert_eq!(RangeKind::from_name(kind.facts().name), Some(kind));
        }
    }
}
