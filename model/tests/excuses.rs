//! Where the host may fail, a legal request may fail too, unless the caller rules out a host
//! failure.

use powerfail_model::{
    Kind, Oracle, PmemOracle, PmemRequest, Profile, Request, RequestId, Rule, Segment, Terms,
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
    Request { kind, sector: 0, bytes, segments, malformed: false }
}

/// The rule that an answer breaks on a host that may fail, with or without an excuse.
fn wrong(request: &Request<'_>, status: u8, excused: bool) -> Option<Rule> {
    let mut oracle = Oracle::new(Profile::Strict, 8);
    oracle.begin_life(Terms {
        offered: FEATURES,
        negotiated: FEATURES,
        writeback: true,
        capacity: 8,
        max_discard_sectors: 8,
        max_discard_seg: 1,
        max_write_zeroes_sectors: 8,
        max_write_zeroes_seg: 1,
        host_may_fail: true,
    });
    oracle.submit(ID, request);
    let told = match excused {
        true => oracle.complete(ID, status, &[]),
        false => oracle.complete_without_excuse(ID, status, &[]),
    };
    told.err().map(|violation| violation.rule)
}

#[test]
fn a_legal_request_that_fails_needs_an_excuse() {
    let segment = [Segment { sector: 1, sectors: 2, flags: 0 }];
    for (kind, segments) in [
        (Kind::In, &[][..]),
        (Kind::Out, &[]),
        (Kind::Flush, &[]),
        (Kind::GetId, &[]),
        (Kind::Discard, &segment),
        (Kind::WriteZeroes, &segment),
    ] {
        let request = request(kind, segments);
        for status in [IOERR, UNSUPP] {
            assert_eq!(wrong(&request, status, true), None, "{kind:?}");
            let rule = Some(Rule::LegalRequestFailed);
            assert_eq!(wrong(&request, status, false), rule, "{kind:?}");
        }
        if kind != Kind::In {
            assert_eq!(wrong(&request, OK, false), None, "{kind:?}");
        }
    }
}

#[test]
fn what_the_rules_refuse_needs_none() {
    let beyond = Request { sector: 8, ..request(Kind::Out, &[]) };
    let malformed = Request { malformed: true, ..request(Kind::Flush, &[]) };
    for excused in [false, true] {
        assert_eq!(wrong(&beyond, IOERR, excused), None);
        assert_eq!(wrong(&malformed, IOERR, excused), None);
        assert_eq!(wrong(&request(Kind::Other(77), &[]), UNSUPP, excused), None);
    }
}

#[test]
fn a_flush_of_a_memory_that_fails_needs_an_excuse() {
    for (ret, excused, rule) in [
        (0, false, None),
        (u32::MAX, true, None),
        (u32::MAX, false, Some(Rule::LegalFlushFailed)),
        (5, false, Some(Rule::NoSuchReturn)),
    ] {
        let mut oracle = PmemOracle::new(Profile::Strict, 8);
        oracle.begin_life(true);
        oracle.submit(ID, PmemRequest::Flush);
        let told = match excused {
            true => oracle.complete(ID, Some(ret)),
            false => oracle.complete_without_excuse(ID, Some(ret)),
        };
        assert_eq!(told.err().map(|violation| violation.rule), rule, "{ret} {excused}");
    }
}
