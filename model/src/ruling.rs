//! The rules on a request: its legal answers, and whether it may have an effect.
//!
//! A request can be wrong for several reasons at once, and the rules do not define which one a
//! device must check first: every answer that one of the reasons requires is legal. A refusal is
//! whole: no segment of the request takes effect.

use crate::request::{Demand, Framing, Kind, Request};
use crate::rule::Rule;
use crate::terms::{self, Profile, Terms};

/// The status of success.
pub(crate) const S_OK: u8 = 0;
/// The status of a device or driver error.
pub(crate) const S_IOERR: u8 = 1;
/// The status of an unsupported request.
pub(crate) const S_UNSUPP: u8 = 2;

/// A set of statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Answers(u8);

impl Answers {
    const NONE: Self = Self(0);
    const OK: Self = Self(1 << S_OK);
    const IOERR: Self = Self(1 << S_IOERR);
    const UNSUPP: Self = Self(1 << S_UNSUPP);
    const FAILED: Self = Self(Self::IOERR.0 | Self::UNSUPP.0);
    const ALL: Self = Self(Self::OK.0 | Self::FAILED.0);

    const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    const fn contains(self, status: u8) -> bool {
        status <= S_UNSUPP && self.0 & (1 << status) != 0
    }
}

/// The possible effect of a request on the atoms it covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// None, for any answer.
    Never,
    /// Possible for any answer, and an `OK` does not prove one; only the Literal profile allows
    /// this.
    Perhaps,
    /// The requested effect, if the answer is `OK`.
    Asked,
}

/// The rules on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ruling {
    answers: Answers,
    /// Its possible effect.
    pub(crate) effect: Effect,
    /// The first reason to refuse it.
    reason: Option<Rule>,
    /// Only a host failure excuses an answer other than OK.
    only_host: bool,
}

impl Ruling {
    const SERVE: Self =
        Self { answers: Answers::OK, effect: Effect::Asked, reason: None, only_host: false };
    /// The ruling of a line without a request.
    pub(crate) const NONE: Self =
        Self { answers: Answers::NONE, effect: Effect::Never, reason: None, only_host: false };
    const FREE: Self = Self { answers: Answers::ALL, ..Self::NONE };

    /// The rules on `request` under `terms`.
    #[inline]
    pub(crate) fn on(request: &Request<'_>, terms: &Terms, profile: Profile) -> Self {
        let plain = request.framing == Framing::Sound
            && match request.kind {
                Kind::In => covers_sectors(request, terms),
                Kind::Out => covers_sectors(request, terms) && !terms.offered(terms::RO),
                Kind::Flush => is_plain_flush(request, terms),
                _ => false,
            };
        if plain && !terms.host_may_fail {
            Self::SERVE
        } else {
            Self::in_full(request, terms, profile)
        }
    }

    /// The general case of [`on`](Self::on).
    #[inline(never)]
    fn in_full(request: &Request<'_>, terms: &Terms, profile: Profile) -> Self {
        if request.framing == Framing::Malformed {
            return Self { effect: forgiven(profile), ..Self::FREE };
        }
        let plain = match request.kind {
            Kind::In | Kind::Out => on_sectors(request, terms),
            Kind::Discard | Kind::WriteZeroes => on_segments(request, terms),
            Kind::Flush if is_plain_flush(request, terms) => Self::SERVE,
            // AMB-17: an unnegotiated flush, and one with a sector or data (BLK-R-12), may be
            // served or refused; if it is served, it counts.
            Kind::Flush => Self { answers: Answers::ALL, ..Self::SERVE },
            // BLK-R-15: the data part is exactly 20 bytes.
            Kind::GetId if request.bytes == 20 => Self::SERVE,
            Kind::GetId => Self::FREE,
            Kind::Other(10) if terms.negotiated(terms::LIFETIME) => Self::FREE,
            Kind::Other(14) if terms.negotiated(terms::SECURE_ERASE) => Self::FREE,
            Kind::Other(15 | 16 | 18 | 20 | 22 | 24 | 26) if terms.negotiated(terms::ZONED) => {
                Self::FREE
            }
            // 5.2.6.2, BLK-D-37: zone requests "MUST be completed with VIRTIO_BLK_S_UNSUPP" without
            // ZONED, in either profile.
            Kind::Other(15 | 16 | 18 | 20 | 22 | 24 | 26) => {
                return refuse([(true, Rule::UnknownTypeServed, Answers::UNSUPP)]);
            }
            Kind::Other(_) => refuse([(true, Rule::UnknownTypeServed, Answers::FAILED)]),
        };
        let plain = if profile == Profile::Literal { plain.by_the_letter() } else { plain };
        // AMB-27: beyond the limits that it shows, a device may serve a request or fail it.
        if request.framing == Framing::BeyondLimits && plain.answers.contains(S_OK) {
            return Self { answers: Answers::ALL, ..plain };
        }
        if terms.host_may_fail && plain.answers.contains(S_OK) {
            // BLK-D-41: IOERR is the status of a device error. UNSUPP says that the device does not
            // support the request, which a host failure does not change; but the text does not say
            // so as a MUST.
            let failed = if profile == Profile::Strict { Answers::IOERR } else { Answers::FAILED };
            let answers = plain.answers.with(failed);
            Self { answers, only_host: plain.answers == Answers::OK, ..plain }
        } else {
            plain
        }
    }

    /// The demand of the text alone: none on a request of a broken driver, except where the text
    /// says that the device MUST refuse it.
    fn by_the_letter(self) -> Self {
        match self.reason {
            None
            | Some(Rule::ReadOnlyServed | Rule::UnknownFlagServed | Rule::DiscardUnmapServed) => {
                self
            }
            Some(_) => Self { answers: Answers::ALL, effect: Effect::Perhaps, ..Self::NONE },
        }
    }

    /// The ruling as a [`Demand`].
    pub(crate) fn demand(self) -> Demand {
        if !self.answers.contains(S_OK) {
            Demand::Refuse
        } else if self.effect == Effect::Asked && self.answers == Answers::OK {
            Demand::Serve
        } else {
            Demand::Free
        }
    }

    /// Whether a failure is an answer that the rules accept, so that it does not indicate a host
    /// failure.
    #[inline]
    pub(crate) fn is_refusal(self) -> bool {
        self.reason.is_some() || self.effect != Effect::Asked
    }

    /// Whether the rules accept any answer.
    pub(crate) fn asks_nothing(self) -> bool {
        self.reason.is_none() && self.effect != Effect::Asked
    }

    /// The rule that `status` breaks if the host gave no reason for it, in addition to
    /// [`broken_by`](Self::broken_by).
    pub(crate) fn broken_without_excuse(self, status: u8) -> Option<Rule> {
        (self.only_host && status != S_OK).then_some(Rule::LegalRequestFailed)
    }

    /// The rule that `status` breaks, if any.
    #[inline]
    pub(crate) fn broken_by(self, status: u8) -> Option<Rule> {
        if self.answers.contains(status) {
            return None;
        }
        Some(match (status, self.reason) {
            (S_OK, Some(reason)) => reason,
            (S_IOERR | S_UNSUPP, Some(_)) => Rule::WrongRefusal,
            (S_IOERR | S_UNSUPP, None) => Rule::LegalRequestFailed,
            _ => Rule::UnknownStatus,
        })
    }
}

/// The possible effect of a malformed request.
fn forgiven(profile: Profile) -> Effect {
    match profile {
        Profile::Strict => Effect::Never,
        Profile::Literal => Effect::Perhaps,
    }
}

/// A refusal for those of `reasons` that hold; service if none does.
///
/// Each reason consists of whether it holds, the rule that success would break, and the answers
/// that it requires.
fn refuse<const N: usize>(reasons: [(bool, Rule, Answers); N]) -> Ruling {
    let mut ruling = Ruling::NONE;
    for (holds, rule, answers) in reasons {
        if holds {
            ruling.answers = ruling.answers.with(answers);
            ruling.reason = ruling.reason.or(Some(rule));
        }
    }
    if ruling.reason.is_some() { ruling } else { Ruling::SERVE }
}

/// Whether `[sector, sector + sectors)` ends at or before the capacity, without wrapping.
#[inline]
fn fits(sector: u64, sectors: u64, terms: &Terms) -> bool {
    sector.checked_add(sectors).is_some_and(|end| end <= terms.capacity)
}

/// Whether a `FLUSH` was negotiated and names neither a sector nor data.
#[inline]
fn is_plain_flush(request: &Request<'_>, terms: &Terms) -> bool {
    terms.negotiated(terms::FLUSH) && request.bytes == 0 && request.sector == 0
}

/// Whether an `IN` or `OUT` covers at least one sector, only whole sectors, and none beyond the
/// capacity.
#[inline]
fn covers_sectors(request: &Request<'_>, terms: &Terms) -> bool {
    request.bytes > 0
        && request.bytes.is_multiple_of(512)
        && fits(request.sector, request.bytes / 512, terms)
}

/// The rules on an `IN` or `OUT`.
fn on_sectors(request: &Request<'_>, terms: &Terms) -> Ruling {
    let sectors = request.bytes.div_ceil(512);
    let ruling = refuse([
        // 5.2.6.2, BLK-D-21: where RO is *offered*, "fail with VIRTIO_BLK_S_IOERR and MUST NOT
        // write any data".
        (
            request.kind == Kind::Out && terms.offered(terms::RO),
            Rule::ReadOnlyServed,
            Answers::IOERR,
        ),
        (
            sectors > 0 && !fits(request.sector, sectors, terms),
            Rule::BeyondCapacityServed,
            Answers::FAILED,
        ),
        (!request.bytes.is_multiple_of(512), Rule::PartialSectorServed, Answers::FAILED),
    ]);
    if ruling.reason.is_none() && sectors == 0 { Ruling::FREE } else { ruling }
}

/// The rules on a `DISCARD` or `WRITE_ZEROES`.
fn on_segments(request: &Request<'_>, terms: &Terms) -> Ruling {
    let discard = request.kind == Kind::Discard;
    let (feature, max_sectors, max_seg) = if discard {
        (terms::DISCARD, terms.max_discard_sectors, terms.max_discard_seg)
    } else {
        (terms::WRITE_ZEROES, terms.max_write_zeroes_sectors, terms.max_write_zeroes_seg)
    };
    let any = |bad: &dyn Fn(&crate::request::Segment) -> bool| request.segments.iter().any(bad);
    let outside = |segment: &crate::request::Segment| {
        !fits(segment.sector, u64::from(segment.sectors), terms)
    };
    let ruling = refuse([
        (terms.offered(terms::RO), Rule::ReadOnlyServed, Answers::IOERR),
        (!terms.negotiated(feature), Rule::UnnegotiatedServed, Answers::FAILED),
        // 5.2.6.2, BLK-D-22: "any unknown flag is set ... VIRTIO_BLK_S_UNSUPP", in every segment.
        (any(&|segment| segment.flags & !1 != 0), Rule::UnknownFlagServed, Answers::UNSUPP),
        // 5.2.6.2, BLK-D-23: "VIRTIO_BLK_S_UNSUPP for discard commands if the unmap flag is set".
        (
            discard && any(&|segment| segment.flags & 1 != 0),
            Rule::DiscardUnmapServed,
            Answers::UNSUPP,
        ),
        (
            any(&|segment| segment.sectors > 0 && outside(segment)),
            Rule::BeyondCapacityServed,
            Answers::FAILED,
        ),
        (
            max_seg > 0 && request.segments.len() as u64 > u64::from(max_seg),
            Rule::TooManySegmentsServed,
            Answers::FAILED,
        ),
        (
            max_sectors > 0 && any(&|segment| segment.sectors > max_sectors),
            Rule::OverLimitServed,
            Answers::FAILED,
        ),
        (!request.bytes.is_multiple_of(16), Rule::PartialSegmentServed, Answers::FAILED),
    ]);
    // AMB-15: an empty range may lie anywhere, and an empty list may be served or refused.
    let odd =
        request.segments.is_empty() || any(&|segment| segment.sectors == 0 && outside(segment));
    if ruling.reason.is_none() && odd {
        Ruling { answers: Answers::ALL, ..Ruling::SERVE }
    } else {
        ruling
    }
}
