//! Why the promise held: the sentences for what a sector must hold.
//!
//! Not here: what is owed by the protocol (`owed`).

use powerfail_model::{Content, Observed, Reason, Rule};

use super::lanes::Mark;
use super::owed;
use super::why::{Why, list};
use super::words::{is_loss, status_name};
use crate::guest::Ask;
use crate::guest::Kind;

/// The sentences for a violation.
pub(super) fn sentences(why: &Why<'_>) -> Vec<String> {
    let mut out = match why.violation.rule {
        rule if is_loss(rule) => lost(why),
        Rule::StaleRead | Rule::NotZeroed | Rule::StaleLoad => stale(why),
        Rule::ReadsDisagree => disagree(why),
        Rule::ImageChanged => changed(why),
        Rule::UntouchedChanged => untouched(why),
        Rule::LateEffect => late(why),
        Rule::RefusedEffect => refused(why),
        Rule::TornAtom => torn(why),
        Rule::Misplaced => misplaced(why),
        Rule::ForeignContent => foreign(why),
        Rule::NeverWritten => never_written(why),
        _ => return owed::sentences(why),
    };
    out.extend(also_allowed(why));
    let failed = why.violation.because.iter().any(|r| matches!(r, Reason::HostFailed { .. }));
    if failed && is_loss(why.violation.rule) {
        out.push(
            "That the host has failed before excuses nothing: what came back with ok is promised."
                .to_owned(),
        );
    }
    out
}

/// Which request made the write stable, and when.
fn lost(why: &Why<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let Some(winner) = why.winner() else { return out };
    let write = why.name(winner);
    let back = why.back(winner);
    let by_mode = why.violation.because.iter().find_map(|reason| match *reason {
        Reason::StableAtCompletion { row, .. } => Some(row),
        _ => None,
    });
    let flush = why.violation.because.iter().find_map(|reason| match *reason {
        Reason::FlushSubmitted { id, .. } => Some(id.0),
        _ => None,
    });
    let saved = why.violation.because.iter().any(|r| matches!(r, Reason::Saved { .. }));
    match (by_mode, flush) {
        (Some('B'), _) => out.push(format!(
            "FLUSH was offered and not taken{}, so {write} was stable when it completed{back}.",
            start_before(why, winner)
        )),
        (Some(_), _) => {
            let mode = why.lines.iter().rfind(|line| {
                matches!(line.mark, Mark::Mode(device) if device == why.device)
                    && line.number < why.number(|l| l.mark == Mark::Sent(winner)).unwrap_or(0)
            });
            let since = match mode {
                Some(line) => format!(" ({})", line.number),
                None => format!(" from the start{}", start_before(why, winner)),
            };
            out.push(format!(
                "writeback was 0{since} and as long as {write} was out: it was stable when it completed{back}.",
            ));
        }
        (None, Some(flush)) if why.kind() == Kind::Memory => out.push(format!(
            "{} stored that before the flush {} was sent{}, and the flush returned 0{}: it was persistent.",
            why.named(winner),
            why.name(flush),
            why.sent(flush),
            why.back(flush)
        )),
        (None, Some(flush)) => out.push(format!(
            "{write} completed{back} before the flush {} was sent{}, and the flush completed{}: it was stable.",
            why.name(flush),
            why.sent(flush),
            why.back(flush)
        )),
        (None, None) if saved => out.push(format!(
            "{write} completed{back} before the device was saved, and a save makes stable what completed.",
        )),
        (None, None) => {}
    }
    out.extend(older(why, winner));
    out
}

/// ` (1)`: the start of the life in which a request was sent.
fn start_before(why: &Why<'_>, id: u32) -> String {
    let sent = why.number(|line| line.mark == Mark::Sent(id)).unwrap_or(usize::MAX);
    let start =
        why.lines.iter().rfind(|line| line.mark == Mark::Start(why.device) && line.number < sent);
    start.map_or_else(String::new, |line| format!(" ({})", line.number))
}

/// What was found instead, if that is a request the winner had replaced.
fn older(why: &Why<'_>, winner: u32) -> Option<String> {
    let found = why.finder().filter(|&found| found != winner)?;
    let (old, new) = (why.name(found), why.name(winner));
    if why.precedes(found, winner) {
        let back = why.back(found);
        return Some(format!(
            "{old} is older: it was back{back} before {new} was sent{}.",
            why.sent(winner)
        ));
    }
    match why.role(found)?.status {
        None => Some(format!(
            "{old}{} had no answer when {}: it could not take effect after that.",
            why.sent(found),
            why.end(found)
        )),
        Some(_) => None,
    }
}

/// A read must return the last completed write.
fn stale(why: &Why<'_>) -> Vec<String> {
    let mut out = Vec::new();
    let (Some(winner), Some(read)) = (why.winner(), why.request()) else { return out };
    let (write, read_name) = (why.name(winner), why.name(read));
    let what = match why.role(winner).map(|role| role.ask) {
        Some(Ask::WriteZeroes(_)) => "zeroed",
        Some(Ask::Store { .. }) => return stored(why, winner, read),
        _ => "wrote",
    };
    out.push(format!(
        "{write} {what} {} {} and completed{} before {read_name} was sent{}: {read_name} must see that, or something newer.",
        why.unit(),
        why.atom(),
        why.back(winner),
        why.sent(read)
    ));
    let since = |mark: Mark| {
        let back = why.number(|line| line.mark == Mark::Returned(winner))?;
        why.number(|line| line.mark == mark && line.number > back)
    };
    if let Some(reset) = since(Mark::ResetShown(why.device)) {
        out.push(format!("A reset ({reset}) ends requests; what was written stays."));
    }
    if let Some(kill) = since(Mark::Kill(why.device)) {
        out.push(format!("The death of the backend ({kill}) loses nothing that had completed."));
    }
    out.extend(older(why, winner));
    if why.violation.class == powerfail_model::Class::Resurrected
        && let Some(loss) = why.loss()
    {
        out.push(format!("What it holds is from before {loss}."));
    }
    out
}

/// A load must return the last store.
fn stored(why: &Why<'_>, winner: u32, read: u32) -> Vec<String> {
    let (store, load) = (why.named(winner), why.name(read));
    let sent = why.number(|line| line.mark == Mark::Sent(winner)).unwrap_or(0);
    let since = |mark: Mark| why.number(|line| line.mark == mark && line.number > sent);
    let mut out = vec![format!(
        "{store} stored to word {} before {load} loaded it: {load} must see that, or something newer.",
        why.atom(),
    )];
    if let Some(reset) = since(Mark::ResetShown(why.device)) {
        out.push(format!("A reset ({reset}) ends flushes; what was stored stays."));
    }
    if let Some(kill) = since(Mark::Kill(why.device)) {
        out.push(format!("The death of the backend ({kill}) loses nothing that was stored."));
    }
    out
}

fn disagree(why: &Why<'_>) -> Vec<String> {
    let (Some((first, saw)), Some(read)) = (why.earlier_read(), why.request()) else {
        return stale(why);
    };
    let (first_name, read_name) = (why.name(first), why.name(read));
    let again = why.violation.observed == Some(saw);
    if let Some(winner) =
        why.winner().filter(|&w| again && why.precedes(first, w) && why.precedes(w, read))
    {
        let (newer, old) = (why.name(winner), why.cast.observed(saw));
        return vec![format!(
            "{first_name} had found {old}{} before {newer} was sent{}, so {newer} came later. {newer} completed{} before {read_name} was sent{}: {read_name} cannot find {old} any more.",
            why.back(first),
            why.sent(winner),
            why.back(winner),
            why.sent(read)
        )];
    }
    let saw = why.cast.observed(saw);
    let found = why.violation.observed.map(|found| why.cast.observed(found)).unwrap_or_default();
    vec![format!(
        "{first_name} had come back{} with {saw} when {read_name} was sent{}. No order of the writes lets a later read go back to {found}.",
        why.back(first),
        why.sent(read)
    )]
}

fn changed(why: &Why<'_>) -> Vec<String> {
    let Some((first, saw)) = why.earlier_read() else { return Vec::new() };
    let after = why.loss().map_or_else(String::new, |loss| format!(" after {loss}"));
    vec![format!(
        "{}{after} had found {} in {} {}{}, and nothing was written there since: it must stay.",
        why.name(first),
        why.cast.observed(saw),
        why.unit(),
        why.atom(),
        why.back(first),
    )]
}

fn untouched(why: &Why<'_>) -> Vec<String> {
    let found = why.violation.observed.map(|found| why.cast.observed(found)).unwrap_or_default();
    let (unit, atom) = (why.unit(), why.atom());
    let any =
        why.cast.all().any(|(_, role)| role.to.device == why.device && why.touches(&role.ask));
    if !any {
        return vec![format!("No request was to change {unit} {atom}.")];
    }
    let mut out = vec![format!("Nothing that was sent can have left {found} in {unit} {atom}.")];
    if let Some(id) = why.finder()
        && let Some(role) = why.role(id)
    {
        out.push(match role.status {
            Some(0) => {
                format!("{} completed{}; what followed replaced it.", why.name(id), why.back(id))
            }
            Some(status) => format!(
                "{} was answered with {}{}.",
                why.name(id),
                status_name(status),
                why.back(id)
            ),
            None => format!("{} never came back.", why.named(id)),
        });
    }
    out
}

fn late(why: &Why<'_>) -> Vec<String> {
    let Some(id) = why.finder() else { return Vec::new() };
    let name = why.name(id);
    let end = why.end(id);
    let mut out = vec![format!(
        "{} had no answer when {end}: it may have happened by then or not at all, but not later.",
        why.named(id)
    )];
    if let Some((read, saw)) = why.earlier_read() {
        let saw = why.cast.observed(saw);
        out.push(format!(
            "{} had found {saw} since{}: {name} had not happened.",
            why.name(read),
            why.back(read)
        ));
    } else if let Some(winner) = why.winner() {
        out.push(format!(
            "{} was sent{} and completed{} after that, so {name} came later still.",
            why.name(winner),
            why.sent(winner),
            why.back(winner)
        ));
    }
    out
}

fn refused(why: &Why<'_>) -> Vec<String> {
    let Some(id) = why.finder() else { return Vec::new() };
    let name = why.name(id);
    vec![match why.role(id).and_then(|role| role.status) {
        Some(status) if status != 0 => format!(
            "{name} was refused with {}{}: it must leave no trace.",
            status_name(status),
            why.back(id)
        ),
        _ => format!("{} had to be refused: it must leave no trace.", why.named(id)),
    }]
}

fn torn(why: &Why<'_>) -> Vec<String> {
    let writes: Vec<String> = why
        .cast
        .all()
        .filter(|(_, role)| role.to.device == why.device && why.touches(&role.ask))
        .map(|(id, _)| why.named(id))
        .collect();
    let (unit, atom) = (why.unit(), why.atom());
    vec![match writes.is_empty() {
        true => format!("Nobody wrote {unit} {atom}."),
        false => format!(
            "A {unit} is written whole or not at all, whatever the moment: by {}.",
            list(&writes, "or")
        ),
    }]
}

fn misplaced(why: &Why<'_>) -> Vec<String> {
    let Some(Observed::Misdirected { content, home }) = why.violation.observed else {
        return Vec::new();
    };
    let (unit, atom) = (why.unit(), why.atom());
    vec![match content.writer() {
        Some(id) => format!(
            "{} wrote that for {unit} {home}. It turns up in {unit} {atom}.",
            why.named(id.0)
        ),
        None => format!("That is what {unit} {home} held at first. It turns up in {unit} {atom}."),
    }]
}

fn foreign(why: &Why<'_>) -> Vec<String> {
    let (unit, atom) = (why.unit(), why.atom());
    let whose = match why.options.devices {
        1 => "No guest of this device wrote it: it belongs to another disk or another run",
        _ => "It belongs to the other device, or to another run",
    };
    vec![format!("{whose}, and {unit} {atom} is not theirs.")]
}

fn never_written(why: &Why<'_>) -> Vec<String> {
    let (unit, atom) = (why.unit(), why.atom());
    vec![match why.violation.observed {
        Some(Observed::Content(Content::ZERO)) => {
            format!("No request was to leave zeroes in {unit} {atom}.")
        }
        Some(Observed::Content(content)) if content.writer().is_some() => {
            let id = content.writer().map_or(0, |id| id.0);
            match why.role(id) {
                Some(role) => {
                    format!("{} asked for `{}`, not for {unit} {atom}.", why.named(id), role.ask)
                }
                None => format!("Request {id} was never sent."),
            }
        }
        _ => format!("What is in {unit} {atom} is neither zeroes nor what any request wrote."),
    }]
}

/// Why more than one content is allowed.
fn also_allowed(why: &Why<'_>) -> Option<String> {
    if why.violation.allowed.len() < 2 {
        return None;
    }
    let winner = why.winner();
    let (mut open, mut together, mut during) = (vec![], vec![], vec![]);
    let (mut volatile, mut discards) = (vec![], vec![]);
    for content in &why.violation.allowed {
        let Some(id) = content.writer().map(|id| id.0) else {
            if *content == Content::ZERO {
                let is = |ask: &Ask| matches!(ask, Ask::Discard(_)) && why.touches(ask);
                let mine = why.cast.all().filter(|(_, role)| role.to.device == why.device);
                discards.extend(mine.filter(|(_, r)| is(&r.ask)).map(|(id, _)| why.named(id)));
            }
            continue;
        };
        if Some(id) == winner {
            continue;
        }
        let apart = winner.is_none_or(|w| why.precedes(id, w) || why.precedes(w, id));
        match why.role(id).and_then(|role| role.status) {
            None => open.push(why.named(id)),
            Some(_) if !apart => together.push(why.named(id)),
            Some(_) if why.request().is_some_and(|read| !why.precedes(id, read)) => {
                during.push(why.named(id));
            }
            Some(_) if why.loss().is_some() => volatile.push(why.name(id)),
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
        parts.push(format!("{names} {was} out at the same time as {}", why.name(winner)));
    }
    if let (false, Some(read)) = (during.is_empty(), why.request()) {
        let (names, was) = (list(&during, "and"), was(&during));
        parts.push(format!("{names} {was} out at the same time as {}", why.name(read)));
    }
    if !volatile.is_empty() {
        parts.push(format!("{} {} not stable", list(&volatile, "and"), was(&volatile)));
    }
    if !discards.is_empty() {
        parts.push(format!("{} may leave zeroes or what was there", list(&discards, "and")));
    }
    (!parts.is_empty())
        .then(|| format!("More than one content is allowed: {}.", list(&parts, "and")))
}
