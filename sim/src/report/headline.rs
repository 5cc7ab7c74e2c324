//! The sentence under the title: what must be, and what is.

use powerfail_model::{Observed, Rule, Violation};

use super::cast::Cast;
use super::why::list;
use super::words::status_name;
use crate::guest::Kind;
use crate::schedule::options::Options;
use crate::world::Failure;

/// The sentence, with a note behind it if the verdict has one.
pub(super) fn headline(failure: &Failure, options: &Options, cast: &Cast) -> String {
    let violation = &failure.violation;
    let device = match (options.devices, failure.device) {
        (1, _) => "",
        (_, 0) => " of device a",
        _ => " of device b",
    };
    let mut text = match (violation.atom, violation.observed) {
        (Some(atom), Some(observed)) => {
            let mut allowed: Vec<String> =
                violation.allowed.iter().map(|content| cast.content(*content)).collect();
            if allowed.is_empty() {
                allowed.push("something else".to_owned());
            }
            let found = match observed {
                Observed::Misdirected { .. } => {
                    format!("{}, which it was not meant for", cast.observed(observed))
                }
                _ => cast.observed(observed),
            };
            let unit = match options.kind(failure.device) {
                Kind::Disk => "Sector",
                Kind::Memory => "Word",
            };
            format!("{unit} {atom}{device} must hold {}. It holds {found}.", list(&allowed, "or"))
        }
        _ => {
            let promise = violation.rule.promise();
            let (head, tail) = promise.split_at(1);
            format!("{}{tail}{}.", head.to_uppercase(), happened(violation, cast))
        }
    };
    if violation.observed.is_none() && !device.is_empty() {
        text.push_str(match failure.device {
            0 => " It is device a.",
            _ => " It is device b.",
        });
    }
    if let Some(note) = &violation.note {
        text.push(' ');
        text.push_str(note);
    }
    text
}

/// What the request has to do with it, as a clause that goes on from the promise.
fn happened(violation: &Violation, cast: &Cast) -> String {
    let Some(id) = violation.request else { return String::new() };
    let name = cast.name(id.0);
    if let Some(status) = violation.status {
        return format!("; {name} was answered with {}", status_name(status));
    }
    match violation.rule {
        Rule::NeverUsed => format!("; {name} was not"),
        Rule::UsedTwice => format!("; {name} was used again"),
        Rule::UsedUnpublished => format!("; {name} never was"),
        Rule::UsedAfterEnd => format!("; {name} was"),
        Rule::UsedLength => format!("; that of {name} was not"),
        Rule::UnknownStatus => format!("; that of {name} is none of them"),
        Rule::WrongIdentity => format!("; {name} read another"),
        _ => format!("; it happened at {name}"),
    }
}
