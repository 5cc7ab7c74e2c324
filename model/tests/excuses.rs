//! Where the host may fail, a legal request may fail too, unless the caller rules out a host
//! failure.

use powerfail_model::{
    Content, Excuse, Framing, Kind, Observed, Oracle, PmemOracle, PmemRequest, Profile, Request,
    RequestId, Rule, Segment, Terms,
};

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;
const ID: RequestId = RequestId(1);
/// FLUSH, DISCARD, WRITE_ZEROES and VERSION_1.
const FEATURES: u64 = 1 << 9 | 1 << 13 | 1 << 14 | 1 << 32;

fn request(kind: Kind, segments: &[Segment]) -> Request<'_> {
    let bytes = match kind {
        Kind::In | Kind::Out => 512,
        Kind::GetId => 20,
        Kind::Discard | Kind::WriteZeroes => 16 * segments.len() as u64,
        Kind::Flush | Kind::Other(_) => 0,
    };
    Request { kind, sector: 0, bytes, segments, framing: Framing::Sound }
}

/// A life on a host that may fail.
const TERMS: Terms = Terms {
    offered: FEATURES,
    negotiated: FEATURES,
    writeback: true,
    capacity: 8,
    max_discard_sectors: 8,
    max_discard_seg: 1,
    max_write_zeroes_sectors: 8,
    max_write_zeroes_seg: 1,
    host_may_fail: true,
};

/// The rule that an answer breaks in a life with these terms.
fn wrong_in(
    profile: Profile,
    terms: Terms,
    request: &Request<'_>,
    status: u8,
    excuse: Excuse,
) -> Option<Rule> {
    let mut oracle = Oracle::new(profile, 8);
    oracle.begin_life(terms);
    oracle.submit(ID, request);
    let seen = [Observed::Content(Content::INITIAL)];
    let seen = if request.kind == Kind::In && status == OK { &seen[..] } else { &[] };
    let told = oracle.complete_excused(ID, status, seen, excuse);
    told.err().map(|violation| violation.rule)
}

/// The rule that an answer breaks in write-back mode.
fn wrong(request: &Request<'_>, status: u8, excuse: Excuse) -> Option<Rule> {
    wrong_in(Profile::Strict, TERMS, request, status, excuse)
}

/// A segment of two sectors.
const SEGMENT: [Segment; 1] = [Segment { sector: 1, sectors: 2, flags: 0 }];

/// A legal request of every kind.
fn all() -> [Request<'static>; 6] {
    [
        request(Kind::In, &[]),
        request(Kind::Out, &[]),
        request(Kind::Flush, &[]),
        request(Kind::GetId, &[]),
        request(Kind::Discard, &SEGMENT),
        request(Kind::WriteZeroes, &SEGMENT),
    ]
}

#[test]
fn a_legal_request_that_fails_needs_an_excuse() {
    let failed = Some(Rule::LegalRequestFailed);
    for request in all() {
        let kind = request.kind;
        assert_eq!(wrong(&request, IOERR, Excuse::Any), None, "{kind:?}");
        assert_eq!(wrong(&request, IOERR, Excuse::Nothing), failed, "{kind:?}");
        assert_eq!(wrong(&request, OK, Excuse::Nothing), None, "{kind:?}");
    }
}

#[test]
fn a_failed_sync_excuses_only_what_needs_a_sync() {
    let failed = Some(Rule::LegalRequestFailed);
    // Neither FLUSH nor CONFIG_WCE is negotiated: write-through.
    let through = Terms { negotiated: FEATURES & !(1 << 9), ..TERMS };
    for request in all() {
        let kind = request.kind;
        let in_write_back = if kind == Kind::Flush { None } else { failed };
        assert_eq!(wrong(&request, IOERR, Excuse::Sync), in_write_back, "{kind:?}");
        let rule = wrong_in(Profile::Strict, through, &request, IOERR, Excuse::Sync);
        let syncs = kind.mutates() || kind == Kind::Flush;
        assert_eq!(rule, if syncs { None } else { failed }, "{kind:?}");
    }
}

#[test]
fn a_host_failure_is_answered_ioerr() {
    for request in all() {
        let kind = request.kind;
        let rule = wrong(&request, UNSUPP, Excuse::Any);
        assert_eq!(rule, Some(Rule::LegalRequestFailed), "{kind:?}");
        let rule = wrong_in(Profile::Literal, TERMS, &request, UNSUPP, Excuse::Any);
        assert_eq!(rule, None, "{kind:?}");
    }
}

#[test]
fn what_the_rules_refuse_needs_none() {
    let beyond = Request { sector: 8, ..request(Kind::Out, &[]) };
    let malformed = Request { framing: Framing::Malformed, ..request(Kind::Flush, &[]) };
    for excuse in [Excuse::Nothing, Excuse::Sync, Excuse::Any] {
        assert_eq!(wrong(&beyond, IOERR, excuse), None);
        assert_eq!(wrong(&malformed, IOERR, excuse), None);
        assert_eq!(wrong(&request(Kind::Other(77), &[]), UNSUPP, excuse), None);
    }
}

#[test]
fn a_zone_request_is_answered_unsupp_unless_zones_were_negotiated() {
    let zoned = Terms { offered: FEATURES | 1 << 17, negotiated: FEATURES | 1 << 17, ..TERMS };
    for profile in [Profile::Strict, Profile::Literal] {
        for number in [15, 16, 18, 20, 22, 24, 26] {
            let zone = request(Kind::Other(number), &[]);
            let wrong = |terms, status| wrong_in(profile, terms, &zone, status, Excuse::Nothing);
            assert_eq!(wrong(TERMS, UNSUPP), None, "{number}");
            assert_eq!(wrong(TERMS, IOERR), Some(Rule::WrongRefusal), "{number}");
            assert_eq!(wrong(TERMS, OK), Some(Rule::UnknownTypeServed), "{number}");
            assert_eq!(wrong(zoned, OK), None, "{number}");
        }
    }
    // Their neighbours are unknown types.
    for number in [17, 19, 27] {
        assert_eq!(wrong(&request(Kind::Other(number), &[]), IOERR, Excuse::Nothing), None);
    }
}

#[test]
fn a_flush_of_a_memory_that_fails_needs_an_excuse() {
    for (ret, excuse, rule) in [
        (0, Excuse::Nothing, None),
        (u32::MAX, Excuse::Any, None),
        (u32::MAX, Excuse::Sync, None),
        (u32::MAX, Excuse::Nothing, Some(Rule::LegalFlushFailed)),
        (5, Excuse::Nothing, Some(Rule::NoSuchReturn)),
    ] {
        let mut oracle = PmemOracle::new(Profile::Strict, 8);
        oracle.begin_life(true);
        oracle.submit(ID, PmemRequest::Flush);
        let told = oracle.complete_excused(ID, Some(ret), excuse);
        assert_eq!(told.err().map(|violation| violation.rule), rule, "{ret} {excuse:?}");
    }
}

#[test]
fn the_buffer_of_a_failed_read_holds_nothing_of_other_sectors() {
    let home = 3;
    for (seen, rule) in [
        (Observed::Content(Content::ZERO), None),
        (Observed::Content(Content::of(RequestId(9))), None),
        (Observed::Torn, None),
        (Observed::Garbage, Some(Rule::NeverWritten)),
        (Observed::Foreign, Some(Rule::ForeignContent)),
        (Observed::Misdirected { content: Content::INITIAL, home }, Some(Rule::Misplaced)),
    ] {
        // The second read is refused.
        for sector in [0, 8] {
            for profile in [Profile::Strict, Profile::Literal] {
                let mut oracle = Oracle::new(profile, 8);
                oracle.begin_life(TERMS);
                oracle.submit(ID, &Request { sector, ..request(Kind::In, &[]) });
                let told = oracle.complete_excused(ID, IOERR, &[seen], Excuse::Any);
                let told = told.err().map(|violation| violation.rule);
                let rule = rule.filter(|_| profile == Profile::Strict);
                assert_eq!(told, rule, "{seen:?} of sector {sector}, {profile:?}");
            }
        }
    }
}
