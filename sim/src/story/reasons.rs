//! Why the promise held, in sentences that point at the lines.

use std::fmt::Write as _;

use powerfail_model::{Content, Reason, RequestId, Rule, Violation};

use super::lanes::Line;

/// The sentences for a violation.
pub(super) fn sentences(violation: &Violation, lines: &[Line]) -> Vec<String> {
    let sent = |id: RequestId| at(lines, |line| line.sent == Some(id.0));
    let back = |id: RequestId| at(lines, |line| line.returned == Some(id.0));
    let mut flush = None;
    let mut out = Vec::new();
    let written: Vec<RequestId> =
        violation.allowed.iter().filter_map(|c: &Content| c.writer()).collect();
    for reason in &violation.because {
        match *reason {
            Reason::FlushSubmitted { id, .. } => flush = Some(id),
            Reason::StableAtCompletion { id, row, .. } => {
                let why = match row {
                    'B' => "FLUSH was offered and not taken",
                    _ => "writeback was 0 all the while it was in flight",
                };
                out.push(format!("w{id} completed{} and {why}: it was stable.", back(id)));
            }
            Reason::HostFailed { .. } => {
                out.push("The guest has seen the host fail before.".to_owned());
            }
            Reason::NeverAVersion { id, .. } => {
                out.push(format!("Request {id} had to be refused, and must leave no trace."));
            }
            Reason::Abandoned { id, .. } => {
                out.push(format!("Request {id}{} had ended without an answer.", sent(id)));
            }
            _ => {}
        }
    }
    if let Some(flush) = flush {
        let stable = violation.because.iter().find_map(|reason| match *reason {
            Reason::Completed { id, status: 0, .. }
                if written.is_empty() || written.contains(&id) =>
            {
                Some(id)
            }
            _ => None,
        });
        if let Some(write) = stable {
            let mut text = String::new();
            let name = if written.contains(&write) {
                format!("w{write}")
            } else {
                format!("Request {write}")
            };
            let _ = write!(
                text,
                "{name} completed{} before the flush f{flush} was sent{}, and the flush completed{}: it was stable.",
                back(write),
                sent(flush),
                back(flush)
            );
            out.push(text);
        }
    }
    if violation.rule == Rule::NeverUsed
        && let Some(id) = violation.request
    {
        out.push(format!("Request {id} was published{} and never came back.", sent(id)));
    }
    out
}

/// ` (4)` for the line that is meant, or nothing if the story has no such line.
fn at(lines: &[Line], is: impl Fn(&Line) -> bool) -> String {
    lines
        .iter()
        .find(|line| is(line))
        .map_or_else(String::new, |line| format!(" ({})", line.number))
}
