//! The feature negotiations of a guest's life, as rows of the stability table.

use std::fmt;
use std::str::FromStr;

use crate::guest::wire::feature;

/// A row of the stability table of writes, which determines the writes that are stable when they
/// complete.
///
/// # Spec
/// VIRTIO 1.4, 5.2.6.2; the table is in [`powerfail_model::law::contract`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// FLUSH is not offered: no write need survive (BLK-D-34).
    A,
    /// FLUSH is offered and not accepted: every completed write is stable (BLK-D-29).
    B,
    /// FLUSH alone.
    C,
    /// CONFIG_WCE without FLUSH, write-through.
    D,
    /// CONFIG_WCE without FLUSH, write-back.
    E,
    /// Both, write-through.
    F,
    /// Both, write-back.
    G,
    /// Both, and the guest switches the mode while writes are in flight. Each switch counts as a
    /// request.
    H,
}

impl Row {
    /// All rows.
    pub const ALL: [Row; 8] = [Row::A, Row::B, Row::C, Row::D, Row::E, Row::F, Row::G, Row::H];

    /// The features of these two that the device offers.
    pub(super) fn offer(self) -> u64 {
        match self {
            Row::A => 0,
            Row::B | Row::C => feature::FLUSH,
            _ => feature::FLUSH | feature::CONFIG_WCE,
        }
    }

    /// The features of these two that the driver accepts.
    pub(super) fn accept(self) -> u64 {
        match self {
            Row::A | Row::B => 0,
            Row::C => feature::FLUSH,
            Row::D | Row::E => feature::CONFIG_WCE,
            Row::F | Row::G | Row::H => feature::FLUSH | feature::CONFIG_WCE,
        }
    }

    /// The value that the driver writes to `writeback` first, if any.
    pub(super) fn mode(self) -> Option<u8> {
        matches!(self, Row::D | Row::F).then_some(0)
    }

    /// Whether the guest switches the mode while writes are in flight.
    pub(super) fn switches(self) -> bool {
        self == Row::H
    }

    /// Whether the guest may send a flush.
    pub(super) fn flushes(self) -> bool {
        self.accept() & feature::FLUSH != 0
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Row, String> {
        let found = Row::ALL.into_iter().find(|row| row.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            format!("there is no row `{text}` of the stability table; there are A to H")
        })
    }
}
