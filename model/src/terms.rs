//! The terms of one life: the offered and the negotiated features, and the row of the stability
//! table that follows.
//!
//! Negotiation is per life, so nothing here outlives a reset. The feature bits are the model's own
//! reading of the specification.

use std::fmt;

/// `RO`: the device is read-only. The *offer* decides, not the negotiation.
pub(crate) const RO: u64 = 1 << 5;
/// `FLUSH`: the device understands the flush command.
pub(crate) const FLUSH: u64 = 1 << 9;
/// `CONFIG_WCE`: the driver may switch the cache mode through `writeback`.
pub(crate) const CONFIG_WCE: u64 = 1 << 11;
/// `DISCARD`: the device understands discards.
pub(crate) const DISCARD: u64 = 1 << 13;
/// `WRITE_ZEROES`: the device understands write-zeroes.
pub(crate) const WRITE_ZEROES: u64 = 1 << 14;
/// `LIFETIME`: the device reports wear.
pub(crate) const LIFETIME: u64 = 1 << 15;
/// `SECURE_ERASE`: the device understands secure erase.
pub(crate) const SECURE_ERASE: u64 = 1 << 16;
/// `ZONED`: the device may have zones.
pub(crate) const ZONED: u64 = 1 << 17;

/// The reading of the specification by which a device is judged; every violation names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// The text of the specification and every decision under AMB in [`law`](crate::law); the
    /// reading for the device of this repository.
    Strict,
    /// The text alone; the reading for other devices.
    Literal,
}

impl Profile {
    /// `Strict` or `Literal`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Strict => "Strict",
            Self::Literal => "Literal",
        }
    }

    /// The profile of this [name](Self::name).
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Strict, Self::Literal].into_iter().find(|profile| profile.name() == name)
    }

    /// The demands of the profile that the specification's text does not force; to be printed with
    /// a verdict.
    ///
    /// # Spec
    /// Strict: every decision under AMB in [`law`](crate::law). Literal: AMB-09 and AMB-21 alone.
    #[must_use]
    pub fn assumptions(self) -> &'static [&'static str] {
        match self {
            Self::Strict => &["decisions AMB-00 to AMB-44 of REQUIREMENTS.md"],
            Self::Literal => {
                &["read-your-writes (AMB-09)", "a reset keeps completed data (AMB-21)"]
            }
        }
    }
}

/// A row of the stability table of writes: the negotiation and cache mode under which a write was
/// sent and completed. The table is in [`contract`](crate::law::contract).
///
/// # Spec
/// 5.2.6.2, BLK-D-29 to BLK-D-34.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// FLUSH is not offered: no write need survive.
    A,
    /// FLUSH is offered and not accepted, nor is CONFIG_WCE: every completed write is stable.
    B,
    /// FLUSH without CONFIG_WCE.
    C,
    /// CONFIG_WCE without FLUSH, write-through.
    D,
    /// CONFIG_WCE without FLUSH, write-back.
    E,
    /// Both, write-through.
    F,
    /// Both, write-back.
    G,
    /// CONFIG_WCE, and the mode changed while the write was in flight.
    H,
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The terms of one life, as the guest sees them after `FEATURES_OK`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The feature bits that the device offered.
    pub offered: u64,
    /// The feature bits that the driver accepted and the device confirmed.
    pub negotiated: u64,
    /// `writeback` as read back after `FEATURES_OK`, never assumed (BLK-D-42). Without meaning
    /// unless `CONFIG_WCE` is negotiated.
    pub writeback: bool,
    /// Capacity in sectors of 512 bytes.
    pub capacity: u64,
    /// Maximum number of sectors in one discard segment; zero states no limit.
    pub max_discard_sectors: u32,
    /// Maximum number of segments in one discard; zero states no limit.
    pub max_discard_seg: u32,
    /// Maximum number of sectors in one write-zeroes segment; zero states no limit.
    pub max_write_zeroes_sectors: u32,
    /// Maximum number of segments in one write-zeroes; zero states no limit.
    pub max_write_zeroes_seg: u32,
    /// Whether the host under the device may fail in this life, so that legal requests may fail
    /// too.
    pub host_may_fail: bool,
}

impl Terms {
    /// Whether every one of `bits` was negotiated.
    #[inline]
    #[must_use]
    pub fn negotiated(&self, bits: u64) -> bool {
        self.negotiated & bits == bits
    }

    /// Whether every one of `bits` was offered.
    #[inline]
    #[must_use]
    pub fn offered(&self, bits: u64) -> bool {
        self.offered & bits == bits
    }

    /// Whether a completed write is stable because the device offered flushes and the driver
    /// negotiated no way to request one.
    ///
    /// # Spec
    /// 5.2.6.2 (1), BLK-D-29; not owed if FLUSH is not offered (BLK-D-34).
    #[inline]
    #[must_use]
    pub fn flushless(&self) -> bool {
        self.offered(FLUSH) && !self.negotiated(FLUSH) && !self.negotiated(CONFIG_WCE)
    }

    /// The row of the stability table for a write during which `writeback` keeps its present value:
    /// `A` to `G`.
    ///
    /// # Spec
    /// 5.2.6.2. `A` is a device that owes nothing (BLK-D-34). `H` is a write whose mode changed in
    /// flight (BLK-D-33), so it is never returned here.
    #[inline]
    #[must_use]
    pub fn row(&self) -> Row {
        match (self.negotiated(CONFIG_WCE), self.negotiated(FLUSH), self.writeback) {
            (true, true, true) => Row::G,
            (true, true, false) => Row::F,
            (true, false, true) => Row::E,
            (true, false, false) => Row::D,
            (false, true, _) => Row::C,
            (false, false, _) if self.offered(FLUSH) => Row::B,
            (false, false, _) => Row::A,
        }
    }
}
