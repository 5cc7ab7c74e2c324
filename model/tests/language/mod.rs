//! The language of histories, and the only code that calls the oracle.

use powerfail_model::{
    Content, Framing, Kind, Observed, Oracle, Profile, Request, RequestId, Segment, Terms,
    Violation,
};

const RO: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const CONFIG_WCE: u64 = 1 << 11;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;
const CAPACITY: u32 = 16;

/// Plays a history in the Strict profile and asserts the rule that its last step breaks; `-` is
/// none.
pub(crate) fn check(history: &str, broken: &str) {
    check_on(Profile::Strict, history, broken);
}

/// [`check`] in a profile.
pub(crate) fn check_on(profile: Profile, history: &str, broken: &str) {
    let script = Script::play(profile, history);
    let rule = script.broken.as_ref().map_or("-", |violation| violation.rule.name());
    assert_eq!(rule, broken, "{history}: {:#?}", script.broken);
}

/// A history being played.
pub(crate) struct Script {
    pub(crate) oracle: Oracle,
    pub(crate) broken: Option<Violation>,
    terms: Terms,
    /// The last name given to a read by `?`.
    spare: u32,
    /// The read beyond the capacity, if any.
    beyond: Option<RequestId>,
}

impl Script {
    pub(crate) fn play(profile: Profile, history: &str) -> Self {
        let terms = terms_of("G");
        let mut oracle = Oracle::new(profile, CAPACITY);
        oracle.begin_life(terms);
        let mut script = Self { oracle, broken: None, terms, spare: 1000, beyond: None };
        for step in history.split(';').map(str::trim) {
            if let Some(violation) = &script.broken {
                // Many histories contain a failed request although they test something else.
                let harmless = violation.rule.name() == "legal-request-failed"
                    || violation.rule.name() == "wrong-refusal";
                assert!(harmless, "{history}: {violation} before {step}");
            }
            script.broken = script.step(step).err();
        }
        script
    }

    fn step(&mut self, step: &str) -> Result<(), Violation> {
        match step {
            "POWER" => {
                self.oracle.power_loss()?;
                self.oracle.begin_life(self.terms);
            }
            "RESET" => {
                self.oracle.reset_shown();
                self.oracle.begin_life(self.terms);
            }
            "KILL" => {
                self.oracle.backend_kill();
                self.oracle.begin_life(self.terms);
            }
            "RECONNECT" => self.oracle.reconnect(),
            "SAVE" => self.oracle.save_begun(),
            "SAVED" => self.oracle.saved(),
            "UNSAVED" => self.oracle.save_given_up(),
            "FAILURE" => self.oracle.host_failure_shown(),
            "QUIET" => return self.oracle.quiesce(),
            "wb=0" | "wb=1" => self.oracle.set_writeback(step == "wb=1"),
            "no limits" => self.renegotiate(Terms {
                max_discard_sectors: 0,
                max_discard_seg: 0,
                max_write_zeroes_sectors: 0,
                max_write_zeroes_seg: 0,
                ..self.terms
            }),
            "fail" => self.renegotiate(Terms { host_may_fail: true, ..self.terms }),
            _ => return self.request(step),
        }
        Ok(())
    }

    fn renegotiate(&mut self, terms: Terms) {
        self.oracle.reset_shown();
        self.terms = terms;
        self.oracle.begin_life(terms);
    }

    fn request(&mut self, step: &str) -> Result<(), Violation> {
        if let Some(row) = step.strip_prefix("row=") {
            self.renegotiate(terms_of(row));
            return Ok(());
        }
        if let Some(capacity) = step.strip_prefix("capacity=") {
            let capacity = capacity.parse().expect("sectors");
            self.renegotiate(Terms { capacity, ..self.terms });
            return Ok(());
        }
        if let Some(capacity) = step.strip_prefix("GROWN ") {
            self.terms.capacity = capacity.parse().expect("sectors");
            self.oracle.grown(self.terms.capacity);
            return Ok(());
        }
        if let Some(ids) = step.strip_prefix("QUEUE RESET ") {
            self.oracle.queue_reset_shown(ids.split(' ').map(request_id));
            return Ok(());
        }
        if let Some(id) = step.strip_prefix("again ") {
            self.oracle.submit_again(request_id(id));
            return Ok(());
        }
        if let Some(rest) = step.strip_prefix('?') {
            let (sector, seen) = rest.split_once('=').expect("?sector=content");
            self.spare += 1;
            self.publish(&format!("r{}<{sector}", self.spare));
            return self.oracle.complete(RequestId(self.spare), 0, &[observed(seen)]);
        }
        if let Some(rest) = step.strip_prefix('W') {
            let id = self.publish(rest);
            return self.oracle.complete(id, 0, &[]);
        }
        if let Some(rest) = step.strip_prefix('F') {
            let id = self.publish(&format!("f{rest}"));
            return self.oracle.complete(id, 0, &[]);
        }
        if let Some((id, answer)) =
            step.split_once(' ').filter(|(id, _)| id.bytes().all(|byte| byte.is_ascii_digit()))
        {
            let status = match answer {
                "ok" => 0,
                "err" => 1,
                "unsupp" => 2,
                other => {
                    other.strip_prefix("status=").expect("a status").parse().expect("a number")
                }
            };
            return self.oracle.complete(request_id(id), status, &[]);
        }
        if let Some((id, seen)) =
            step.split_once('=').filter(|(id, _)| id.bytes().all(|byte| byte.is_ascii_digit()))
        {
            // A read beyond the capacity covers no atom.
            let seen = [observed(seen)];
            let beyond = self.beyond == Some(request_id(id));
            return self.oracle.complete(request_id(id), 0, if beyond { &[] } else { &seen });
        }
        self.publish(step);
        Ok(())
    }

    /// Publishes `7>2..4,6 flags=1`, with `z`, `d`, `r` (and `<`), `f`, `i` or `x` in front.
    fn publish(&mut self, step: &str) -> RequestId {
        let mut words = step.split(' ');
        let head = words.next().expect("a request");
        let kind = match head.as_bytes()[0] {
            b'z' => Kind::WriteZeroes,
            b'd' => Kind::Discard,
            b'r' => Kind::In,
            b'f' => Kind::Flush,
            b'i' => Kind::GetId,
            b'x' => Kind::Other(99),
            _ => Kind::Out,
        };
        let head = head.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let (id, ranges) = head.split_once(['>', '<']).unwrap_or((head, ""));
        let mut segments: Vec<Segment> =
            ranges.split(',').filter(|range| !range.is_empty()).map(segment).collect();
        let (sector, bytes) = match kind {
            Kind::In | Kind::Out => (segments[0].sector, 512 * u64::from(segments[0].sectors)),
            Kind::GetId => (0, 20),
            Kind::Discard | Kind::WriteZeroes => (0, 16 * segments.len() as u64),
            Kind::Flush | Kind::Other(_) => (0, 0),
        };
        let mut request = Request { kind, sector, bytes, segments: &[], framing: Framing::Sound };
        for word in words {
            match word.split_once('=') {
                Some(("flags", flags)) => segments
                    .iter_mut()
                    .for_each(|segment| segment.flags = flags.parse().expect("flags")),
                Some(("bytes", bytes)) => request.bytes = bytes.parse().expect("bytes"),
                _ => {
                    request.framing = match word {
                        "malformed" => Framing::Malformed,
                        "beyond-limits" => Framing::BeyondLimits,
                        _ => panic!("there is no word `{word}`"),
                    };
                }
            }
        }
        if matches!(kind, Kind::Discard | Kind::WriteZeroes) {
            request.segments = &segments;
        }
        let id = request_id(id);
        if kind == Kind::In && sector >= u64::from(CAPACITY) {
            self.beyond = Some(id);
        }
        self.oracle.submit(id, &request);
        id
    }
}

fn request_id(word: &str) -> RequestId {
    RequestId(word.parse().expect("a number"))
}

fn segment(range: &str) -> Segment {
    let (first, end) = match range.split_once("..") {
        Some((first, end)) => (first.parse().expect("a sector"), end.parse().expect("a sector")),
        None => (range.parse().expect("a sector"), range.parse::<u64>().expect("a sector") + 1),
    };
    Segment { sector: first, sectors: u32::try_from(end - first).expect("a short range"), flags: 0 }
}

fn content(word: &str) -> Content {
    match word {
        "0" => Content::ZERO,
        "initial" => Content::INITIAL,
        _ => Content::of(request_id(word.strip_prefix('w').expect("a content"))),
    }
}

fn observed(word: &str) -> Observed {
    match (word, word.split_once('@')) {
        ("torn", _) => Observed::Torn,
        ("foreign", _) => Observed::Foreign,
        ("garbage", _) => Observed::Garbage,
        (_, Some((word, home))) => {
            Observed::Misdirected { content: content(word), home: home.parse().expect("a sector") }
        }
        (_, None) => Observed::Content(content(word)),
    }
}

/// The terms of a row of the stability table. `R` is read-only; a trailing `-` declines DISCARD and
/// WRITE_ZEROES.
fn terms_of(row: &str) -> Terms {
    let everything = FLUSH | CONFIG_WCE;
    let (offered, negotiated, writeback) = match row.as_bytes()[0] {
        b'A' => (0, 0, true),
        b'B' => (everything, 0, true),
        b'C' => (everything, FLUSH, true),
        b'D' => (everything, CONFIG_WCE, false),
        b'E' => (everything, CONFIG_WCE, true),
        b'F' => (everything, everything, false),
        b'G' => (everything, everything, true),
        b'R' => (everything | RO, everything | RO, true),
        other => panic!("no row {other}"),
    };
    let extra = DISCARD | WRITE_ZEROES;
    Terms {
        offered: offered | extra,
        negotiated: if row.ends_with('-') { negotiated } else { negotiated | extra },
        writeback,
        capacity: u64::from(CAPACITY),
        max_discard_sectors: 8,
        max_discard_seg: 2,
        max_write_zeroes_sectors: 8,
        max_write_zeroes_seg: 2,
        host_may_fail: false,
    }
}
