//! The line that shows the broken promise.
//!
//! Usually it is the last event. A violation that no event shows gets an extra line: an invalid
//! used element, a check of the medium, an idle world in which an answer or a signal is due.

use powerfail_model::Rule;

use super::line::{Line, Mark};
use super::requests::Requests;
use crate::world::action::Action;
use crate::world::{Event, Failure};

/// The mark at the end of the line.
const CROSS: &str = "   ✗";

enum Column {
    Guest,
    Device,
    Host,
}

/// Marks the line, and adds it if no event shows the violation.
pub(super) fn mark(
    lines: &mut Vec<Line>,
    events: &[Event],
    failure: &Failure,
    requests: &Requests,
    step: usize,
) {
    let violation = &failure.violation;
    let shown = violation.request.is_some_and(|id| {
        // The completion line already shows the violation.
        lines.last().is_some_and(|line| line.mark == Mark::Returned(id.0))
            && matches!(events.last(), Some(Event::Completed { .. }))
    });
    if !shown && let Some((column, text)) = words(failure, requests) {
        let mut line = Line { step, ..Line::default() };
        match column {
            Column::Guest => line.guest = text,
            Column::Device => line.device = text,
            Column::Host => line.host = text,
        }
        lines.push(line);
    } else if lines.is_empty() {
        let what = match events.last() {
            Some(Event::Did(Action::Start { .. })) => "start",
            _ => "here",
        };
        lines.push(Line { guest: what.to_owned(), step, ..Line::default() });
    }
    let Some(line) = lines.last_mut() else { return };
    line.broken = true;
    let cells = [&mut line.host, &mut line.device, &mut line.guest];
    let across = line.across;
    if let Some(cell) = cells.into_iter().find(|cell| !cell.is_empty() && !across) {
        cell.push_str(CROSS);
    } else {
        line.host.push_str(CROSS);
    }
}

/// The extra line's text, for the rules that no event shows.
fn words(failure: &Failure, requests: &Requests) -> Option<(Column, String)> {
    let violation = &failure.violation;
    let name = violation.request.map_or_else(|| "a request".to_owned(), |id| requests.name(id.0));
    let sector = violation.atom.map(|atom| atom.0);
    let device = |text: &str| Some((Column::Device, text.to_owned()));
    match violation.rule {
        Rule::NeverUsed if violation.request.is_some() => {
            Some((Column::Guest, format!("{name} is still not used")))
        }
        Rule::NeverUsed => Some((Column::Guest, "DEVICE_NEEDS_RESET is not set".to_owned())),
        Rule::SignalMissing => Some((Column::Guest, "no signal has come".to_owned())),
        Rule::ResetNotShown => Some((Column::Guest, "the status is still not zero".to_owned())),
        Rule::NeedsResetUncalled => device("sets DEVICE_NEEDS_RESET"),
        Rule::NeedsResetSilent => device("sets DEVICE_NEEDS_RESET without a notification"),
        Rule::MediumMisplaced => {
            let sector = sector.unwrap_or_default();
            Some((Column::Host, format!("sector {sector} holds another sector's content")))
        }
        Rule::MediumReadOnlyChanged => {
            let sector = sector.unwrap_or_default();
            Some((Column::Host, format!("sector {sector} has changed")))
        }
        Rule::MediumOutside => {
            Some((Column::Host, "a sector beyond the device has changed".to_owned()))
        }
        Rule::UsedTwice => device("uses a request that is not outstanding"),
        Rule::UsedUnpublished => device("uses a head that was not published"),
        Rule::UsedAfterEnd => device("uses a request after the reset"),
        Rule::UsedRingBroken => device("moves used.idx out of range"),
        Rule::UsedLength => Some((Column::Device, format!("{name}: used with a wrong length"))),
        Rule::UnknownStatus => Some((Column::Device, format!("{name}: used without a status"))),
        Rule::WroteReadable => Some((Column::Device, format!("{name}: wrote its readable part"))),
        Rule::WroteOutside => Some((Column::Device, format!("{name}: wrote outside its buffers"))),
        Rule::WroteAfterEnd => device("wrote outside every outstanding request"),
        Rule::SignalAfterReset => device("signals after the reset"),
        Rule::DevicePanicked => device("panics"),
        _ => None,
    }
}
