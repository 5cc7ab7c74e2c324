//! The sentences that say why a sector or word must hold certain content.
//!
//! Not here: the rules of the protocol (`protocol_reasons`).

use powerfail_model::{Content, Observed, Reason, Row, Rule};

use super::evidence::{Evidence, list};
use super::line::Mark;
use super::protocol_reasons;
use super::words::{is_loss, status_name};
use crate::guest::Kind;
use crate::guest::wire::Status;
use crate::guest::{GuestRequest, RangeKind};

/// The sentences for a violation.
pub(super) fn sentences(evidence: &Evidence<'_>) -> Vec<String> {
    let mut out = match evidence.violation.rule {
        rule if is_loss(rule) => lost(evidence),
        Rule::StaleRead | Rule::NotZeroed | Rule::StaleLoad => stale(evidence),
        Rule::ReadsDisagree => disagree(evidence),
        Rule::ImageChanged => changed(evidence),
        Rule::UntouchedChanged => untouched(evidence),
        Rule::LateEffect => late(evidence),
        Rule::RefusedEffect => refused(evidence),
        Rule::TornAtom => torn(evidence),
        Rule::Misplaced => misplaced(evidence),
        Rule::ForeignContent => foreign(evidence),
        Rule::NeverWritten => never_written(evidence),
        _ => return protocol_reasons::sentences(evidence),
    };
    out.extend(also_allowed(evidence));
    let failed = evidence.violation.because.iter().any(|r| matches!(r, Reason::HostFailed { .. }));
    if failed && is_loss(evidence.violation.rule) {
        out.push(
            "An earlier host failure is no excuse: a request that completed with ok is covered by the promise."
                .to_owned(),
        );
    }
    out
}

/// The event that made the lost write stable.
fn lost(evidence: &Evidence<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let Some(winner) = evidence.winner() else { return out };
    let write = evidence.name(winner);
    let back = evidence.back(winner);
    let by_mode = evidence.violation.because.iter().find_map(|reason| match *reason {
        Reason::StableAtCompletion { row, .. } => Some(row),
        _ => None,
    });
    let flush = evidence.violation.because.iter().find_map(|reason| match *reason {
        Reason::FlushSubmitted { id, .. } => Some(id.0),
        _ => None,
    });
    let saved = evidence.violation.because.iter().any(|r| matches!(r, Reason::Saved { .. }));
    match (by_mode, flush) {
        (Some(Row::B), _) => out.push(format!(
            "FLUSH was offered and not accepted{}, so {write} was stable when it completed{back}.",
            start_before(evidence, winner)
        )),
        (Some(_), _) => {
            let mode = evidence.lines.iter().rfind(|line| {
                matches!(line.mark, Mark::Mode(device) if device == evidence.device)
                    && line.number < evidence.number(|l| l.mark == Mark::Sent(winner)).unwrap_or(0)
            });
            let since = match mode {
                Some(line) => format!(" ({})", line.number),
                None => format!(" from the start{}", start_before(evidence, winner)),
            };
            out.push(format!(
                "writeback was 0{since} and while {write} was outstanding: it was stable when it completed{back}.",
            ));
        }
        (None, Some(flush)) if evidence.kind() == Kind::Memory => out.push(format!(
            "{} was stored before the flush {} was sent{}, and the flush returned 0{}: it was persistent.",
            evidence.named(winner),
            evidence.name(flush),
            evidence.sent(flush),
            evidence.back(flush)
        )),
        (None, Some(flush)) => out.push(format!(
            "{write} completed{back} before the flush {} was sent{}, and the flush completed{}: it was stable.",
            evidence.name(flush),
            evidence.sent(flush),
            evidence.back(flush)
        )),
        (None, None) if saved => out.push(format!(
            "{write} completed{back} before the device was saved, and a save makes every completed write stable.",
        )),
        (None, None) => {}
    }
    out.extend(older(evidence, winner));
    out
}

/// ` (1)`: the start of the life in which a request was sent.
fn start_before(evidence: &Evidence<'_>, id: u32) -> String {
    let sent = evidence.number(|line| line.mark == Mark::Sent(id)).unwrap_or(usize::MAX);
    let start = evidence
        .lines
        .iter()
        .rfind(|line| line.mark == Mark::Start(evidence.device) && line.number < sent);
    start.map_or_else(String::new, |line| format!(" ({})", line.number))
}

/// Why the content found is not allowed, if it is a request that the winner had replaced.
fn older(evidence: &Evidence<'_>, winner: u32) -> Option<String> {
    let found = evidence.finder().filter(|&found| found != winner)?;
    let (old, new) = (evidence.name(found), evidence.name(winner));
    if evidence.precedes(found, winner) {
        let back = evidence.back(found);
        return Some(format!(
            "{old} is older: it completed{back} before {new} was sent{}.",
            evidence.sent(winner)
        ));
    }
    match evidence.request(found)?.status {
        None => Some(format!(
            "{old}{} was unanswered when {}: it must not take effect after that.",
            evidence.sent(found),
            evidence.end(found)
        )),
        Some(_) => None,
    }
}

/// A read must return the last completed write.
fn stale(evidence: &Evidence<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let (Some(winner), Some(read)) = (evidence.winner(), evidence.request_id()) else { return out };
    let (write, read_name) = (evidence.name(winner), evidence.name(read));
    let what = match evidence.request(winner).map(|request| request.ask) {
        Some(GuestRequest::Ranges(RangeKind::WriteZeroes, _)) => "zeroed",
        Some(GuestRequest::Store { .. }) => return stored(evidence, winner, read),
        _ => "wrote",
    };
    out.push(format!(
        "{write} {what} {} {} and completed{} before {read_name} was sent{}: {read_name} must return that or newer content.",
        evidence.unit(),
        evidence.atom(),
        evidence.back(winner),
        evidence.sent(read)
    ));
    let since = |mark: Mark| {
        let back = evidence.number(|line| line.mark == Mark::Returned(winner))?;
        evidence.number(|line| line.mark == mark && line.number > back)
    };
    if let Some(reset) = since(Mark::ResetShown(evidence.device)) {
        out.push(format!("A reset ({reset}) ends requests; it does not undo writes."));
    }
    if let Some(kill) = since(Mark::Kill(evidence.device)) {
        out.push(format!("A killed backend ({kill}) loses no completed write."));
    }
    out.extend(older(evidence, winner));
    if evidence.violation.class == powerfail_model::Class::Resurrected
        && let Some(loss) = evidence.loss()
    {
        out.push(format!("The content found is from before {loss}."));
    }
    out
}

/// A load must return the last store.
fn stored(evidence: &Evidence<'_>, winner: u32, read: u32) -> Vec<String> {
    let (store, load) = (evidence.named(winner), evidence.name(read));
    let sent = evidence.number(|line| line.mark == Mark::Sent(winner)).unwrap_or(0);
    let since = |mark: Mark| evidence.number(|line| line.mark == mark && line.number > sent);
    let mut out = vec![format!(
        "{store} stored to word {} before {load} loaded it: {load} must return that or newer content.",
        evidence.atom(),
    )];
    if let Some(reset) = since(Mark::ResetShown(evidence.device)) {
        out.push(format!("A reset ({reset}) ends flushes; it does not undo stores."));
    }
    if let Some(kill) = since(Mark::Kill(evidence.device)) {
        out.push(format!("A killed backend ({kill}) loses no store."));
    }
    out
}

fn disagree(evidence: &Evidence<'_>) -> Vec<String> {
    let (Some((first, saw)), Some(read)) = (evidence.earlier_read(), evidence.request_id()) else {
        return stale(evidence);
    };
    let (first_name, read_name) = (evidence.name(first), evidence.name(read));
    let again = evidence.violation.observed == Some(saw);
    if let Some(winner) = evidence
        .winner()
        .filter(|&w| again && evidence.precedes(first, w) && evidence.precedes(w, read))
    {
        let (newer, old) = (evidence.name(winner), evidence.requests.observed(saw));
        return vec![format!(
            "{first_name} returned {old}{} before {newer} was sent{}, so {newer} is later. {newer} completed{} before {read_name} was sent{}: {read_name} must not return {old}.",
            evidence.back(first),
            evidence.sent(winner),
            evidence.back(winner),
            evidence.sent(read)
        )];
    }
    let saw = evidence.requests.observed(saw);
    let found = evidence
        .violation
        .observed
        .map(|found| evidence.requests.observed(found))
        .unwrap_or_default();
    vec![format!(
        "{first_name} completed{} with {saw} before {read_name} was sent{}. No order of the writes allows a later read to return {found}.",
        evidence.back(first),
        evidence.sent(read)
    )]
}

fn changed(evidence: &Evidence<'_>) -> Vec<String> {
    let Some((first, saw)) = evidence.earlier_read() else { return Vec::new() };
    let after = evidence.loss().map_or_else(String::new, |loss| format!(" after {loss}"));
    vec![format!(
        "{}{after} returned {} for {} {}{}, and nothing has been written there since: it must not change.",
        evidence.name(first),
        evidence.requests.observed(saw),
        evidence.unit(),
        evidence.atom(),
        evidence.back(first),
    )]
}

fn untouched(evidence: &Evidence<'_>) -> Vec<String> {
    let found = evidence
        .violation
        .observed
        .map(|found| evidence.requests.observed(found))
        .unwrap_or_default();
    let (unit, atom) = (evidence.unit(), evidence.atom());
    let any = evidence
        .requests
        .all()
        .any(|(_, request)| request.to.device == evidence.device && evidence.touches(&request.ask));
    if !any {
        return vec![format!("No request was to change {unit} {atom}.")];
    }
    let mut out = vec![format!("No request that was sent can leave {found} in {unit} {atom}.")];
    if let Some(id) = evidence.finder()
        && let Some(request) = evidence.request(id)
    {
        out.push(match request.status {
            Some(Status::OK) => {
                format!(
                    "{} completed{}, and its content was replaced later.",
                    evidence.name(id),
                    evidence.back(id)
                )
            }
            Some(status) => format!(
                "{} was answered with {}{}.",
                evidence.name(id),
                status_name(status),
                evidence.back(id)
            ),
            None => format!("{} was never answered.", evidence.named(id)),
        });
    }
    out
}

fn late(evidence: &Evidence<'_>) -> Vec<String> {
    let Some(id) = evidence.finder() else { return Vec::new() };
    let name = evidence.name(id);
    let end = evidence.end(id);
    let mut out = vec![format!(
        "{} was unanswered when {end}: it may have taken effect by then or not at all, but not later.",
        evidence.named(id)
    )];
    if let Some((read, saw)) = evidence.earlier_read() {
        let saw = evidence.requests.observed(saw);
        out.push(format!(
            "{} then returned {saw}{}: {name} had not taken effect.",
            evidence.name(read),
            evidence.back(read)
        ));
    } else if let Some(winner) = evidence.winner() {
        out.push(format!(
            "{} was sent{} and completed{} after that, so {name} took effect even later.",
            evidence.name(winner),
            evidence.sent(winner),
            evidence.back(winner)
        ));
    }
    out
}

fn refused(evidence: &Evidence<'_>) -> Vec<String> {
    let Some(id) = evidence.finder() else { return Vec::new() };
    let name = evidence.name(id);
    vec![match evidence.request(id).and_then(|request| request.status) {
        Some(status) if !status.is_ok() => format!(
            "{name} was refused with {}{}: it must have no effect.",
            status_name(status),
            evidence.back(id)
        ),
        _ => format!("{} had to be refused: it must have no effect.", evidence.named(id)),
    }]
}

fn torn(evidence: &Evidence<'_>) -> Vec<String> {
    let writes: Vec<String> = evidence
        .requests
        .all()
        .filter(|(_, request)| {
            request.to.device == evidence.device && evidence.touches(&request.ask)
        })
        .map(|(id, _)| evidence.named(id))
        .collect();
    let (unit, atom) = (evidence.unit(), evidence.atom());
    vec![match writes.is_empty() {
        true => format!("No request wrote {unit} {atom}."),
        false => {
            format!("A {unit} is written as a whole or not at all: by {}.", list(&writes, "or"))
        }
    }]
}

fn misplaced(evidence: &Evidence<'_>) -> Vec<String> {
    let Some(Observed::Misdirected { content, home }) = evidence.violation.observed else {
        return Vec::new();
    };
    let (unit, atom) = (evidence.unit(), evidence.atom());
    vec![match content.writer() {
        Some(id) => format!(
            "{} wrote that to {unit} {home}. It appears in {unit} {atom}.",
            evidence.named(id.0)
        ),
        None => {
            format!("That is the initial content of {unit} {home}. It appears in {unit} {atom}.")
        }
    }]
}

fn foreign(evidence: &Evidence<'_>) -> Vec<String> {
    let (unit, atom) = (evidence.unit(), evidence.atom());
    let whose = match evidence.shape.devices {
        1 => "No guest of this device wrote it: it is content of another disk or another run",
        _ => "It is content of the other device or of another run",
    };
    vec![format!("{whose}, and {unit} {atom} belongs to this device.")]
}

fn never_written(evidence: &Evidence<'_>) -> Vec<String> {
    let (unit, atom) = (evidence.unit(), evidence.atom());
    vec![match evidence.violation.observed {
        Some(Observed::Content(Content::ZERO)) => {
            format!("No request was to leave zeroes in {unit} {atom}.")
        }
        Some(Observed::Content(content)) if content.writer().is_some() => {
            let id = content.writer().map_or(0, |id| id.0);
            match evidence.request(id) {
                Some(request) => {
                    format!(
                        "{} is `{}`, which does not write {unit} {atom}.",
                        evidence.named(id),
                        request.ask
                    )
                }
                None => format!("Request {id} was never sent."),
            }
        }
        _ => format!(
            "The content of {unit} {atom} is neither zeroes nor the payload of any request."
        ),
    }]
}

/// The reasons why more than one content is allowed.
fn also_allowed(evidence: &Evidence<'_>) -> Option<String> {
    if evidence.violation.allowed.len() < 2 {
        return None;
    }
    let winner = evidence.winner();
    let (mut open, mut together, mut during) = (vec![], vec![], vec![]);
    let (mut volatile, mut discards) = (vec![], vec![]);
    for content in &evidence.violation.allowed {
        let Some(id) = content.writer().map(|id| id.0) else {
            if *content == Content::ZERO {
                let is = |ask: &GuestRequest| {
                    matches!(ask, GuestRequest::Ranges(RangeKind::Discard, _))
                        && evidence.touches(ask)
                };
                let mine = evidence
                    .requests
                    .all()
                    .filter(|(_, request)| request.to.device == evidence.device);
                discards.extend(mine.filter(|(_, r)| is(&r.ask)).map(|(id, _)| evidence.named(id)));
            }
            continue;
        };
        if Some(id) == winner {
            continue;
        }
        let apart = winner.is_none_or(|w| evidence.precedes(id, w) || evidence.precedes(w, id));
        match evidence.request(id).and_then(|request| request.status) {
            None => open.push(evidence.named(id)),
            Some(_) if !apart => together.push(evidence.named(id)),
            Some(_) if evidence.request_id().is_some_and(|read| !evidence.precedes(id, read)) => {
                during.push(evidence.named(id));
            }
            Some(_) if evidence.loss().is_some() => volatile.push(evidence.name(id)),
            Some(_) => {}
        }
    }
    let mut parts = Vec::new();
    let was = |words: &[String]| if words.len() == 1 { "was" } else { "were" };
    if !open.is_empty() {
        parts.push(format!("{} {} never answered", list(&open, "and"), was(&open)));
    }
    if let (false, Some(winner)) = (together.is_empty(), winner) {
        let (names, was) = (list(&together, "and"), was(&together));
        parts.push(format!("{names} {was} outstanding together with {}", evidence.name(winner)));
    }
    if let (false, Some(read)) = (during.is_empty(), evidence.request_id()) {
        let (names, was) = (list(&during, "and"), was(&during));
        parts.push(format!("{names} {was} outstanding together with {}", evidence.name(read)));
    }
    if !volatile.is_empty() {
        parts.push(format!("{} {} not stable", list(&volatile, "and"), was(&volatile)));
    }
    if !discards.is_empty() {
        parts.push(format!("{} may leave zeroes or the content before it", list(&discards, "and")));
    }
    (!parts.is_empty())
        .then(|| format!("More than one content is allowed: {}.", list(&parts, "and")))
}
