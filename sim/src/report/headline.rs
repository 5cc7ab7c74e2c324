//! The sentence under the title: the required state and the observed one.

use powerfail_model::{Observed, Rule, Violation};

use super::evidence::list;
use super::requests::Requests;
use super::words::status_name;
use crate::guest::Kind;
use crate::guest::wire::Status;
use crate::world::Failure;
use crate::world::WorldShape;

/// The sentence, followed by the verdict's note if there is one.
pub(super) fn headline(failure: &Failure, shape: &WorldShape, requests: &Requests) -> String {
    let violation = &failure.violation;
    let device = match (shape.devices, failure.device) {
        (1, _) => "",
        (_, 0) => " of device a",
        _ => " of device b",
    };
    let mut text = match (violation.atom, violation.observed) {
        (Some(atom), Some(observed)) => {
            let allowed: Vec<String> =
                violation.allowed.iter().map(|content| requests.content(*content)).collect();
            let found = match observed {
                Observed::Misdirected { .. } => {
                    format!("{}, which belongs elsewhere", requests.observed(observed))
                }
                _ => requests.observed(observed),
            };
            let unit = match shape.kind(failure.device) {
                Kind::Disk => "Sector",
                Kind::Memory => "Word",
            };
            match allowed.is_empty() {
                true => format!("{unit} {atom}{device} must not hold {found}."),
                false => {
                    let allowed = list(&allowed, "or");
                    format!("{unit} {atom}{device} must hold {allowed}. It holds {found}.")
                }
            }
        }
        _ => {
            let promise = violation.rule.promise();
            let (head, tail) = promise.split_at(1);
            format!("{}{tail}{}.", head.to_uppercase(), happened(violation, requests))
        }
    };
    if violation.observed.is_none() && !device.is_empty() {
        text.push_str(match failure.device {
            0 => " This is device a.",
            _ => " This is device b.",
        });
    }
    if let Some(note) = &violation.note {
        text.push(' ');
        text.push_str(note);
    }
    text
}

/// The part of the request in the violation, as a clause that continues the promise.
fn happened(violation: &Violation, requests: &Requests) -> String {
    let Some(id) = violation.request else { return String::new() };
    let name = requests.name(id.0);
    if let Some(status) = violation.status {
        return format!("; {name} was answered with {}", status_name(Status(status)));
    }
    match violation.rule {
        Rule::NeverUsed => format!("; {name} was not"),
        Rule::UsedTwice => format!("; {name} was used again"),
        Rule::UsedUnpublished => format!("; {name} was not published"),
        Rule::UsedAfterEnd => format!("; {name} was"),
        Rule::UsedLength => format!("; for {name} it wrote less"),
        Rule::UnknownStatus => format!("; that of {name} is none of these"),
        Rule::WrongIdentity => format!("; {name} read another one"),
        _ => format!("; it happened at {name}"),
    }
}
