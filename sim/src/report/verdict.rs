//! The line at which a promise is seen to be broken.
//!
//! Mostly that is the last thing that happened. What no event shows gets a line of its own: a used
//! element that makes no sense, a look at the medium, a world at rest in which something is owed.

use powerfail_model::Rule;

use super::cast::Cast;
use super::lanes::{Line, Mark};
use crate::world::action::Action;
use crate::world::{Event, Failure};

/// What closes the line.
const CROSS: &str = "   ✗";

enum Lane {
    Guest,
    Device,
    Host,
}

/// Marks the line, and adds it where it is missing.
pub(super) fn mark(
    lines: &mut Vec<Line>,
    events: &[Event],
    failure: &Failure,
    cast: &Cast,
    step: usize,
) {
    let violation = &failure.violation;
    let shown = violation.request.is_some_and(|id| {
        // Whatever else the guest had to say about it was said when it came back.
        lines.last().is_some_and(|line| line.mark == Mark::Returned(id.0))
            && matches!(events.last(), Some(Event::Completed { .. }))
    });
    if !shown && let Some((lane, text)) = words(failure, cast) {
        let mut line = Line { step, ..Line::default() };
        match lane {
            Lane::Guest => line.guest = text,
            Lane::Device => line.device = text,
            Lane::Host => line.host = text,
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

/// What is to be seen, for the rules that no event shows.
fn words(failure: &Failure, cast: &Cast) -> Option<(Lane, String)> {
    let violation = &failure.violation;
    let name = violation.request.map_or_else(|| "a request".to_owned(), |id| cast.name(id.0));
    let sector = violation.atom.map(|atom| atom.0);
    let device = |text: &str| Some((Lane::Device, text.to_owned()));
    match violation.rule {
        Rule::NeverUsed if violation.request.is_some() => {
            Some((Lane::Guest, format!("{name} is still out")))
        }
        Rule::NeverUsed => {
            Some((Lane::Guest, "the device has not said that it is lost".to_owned()))
        }
        Rule::SignalMissing => Some((Lane::Guest, "no signal has come".to_owned())),
        Rule::ResetNotShown => Some((Lane::Guest, "the status is still not zero".to_owned())),
        Rule::NeedsResetUncalled => device("asks for a reset"),
        Rule::MediumMisplaced => {
            let sector = sector.unwrap_or_default();
            Some((Lane::Host, format!("what lies in sector {sector} belongs elsewhere")))
        }
        Rule::MediumReadOnlyChanged => {
            let sector = sector.unwrap_or_default();
            Some((Lane::Host, format!("sector {sector} has changed")))
        }
        Rule::MediumOutside => {
            Some((Lane::Host, "a sector beyond the device has changed".to_owned()))
        }
        Rule::UsedTwice => device("uses a request that is not out"),
        Rule::UsedUnpublished => device("uses a head that was not published"),
        Rule::UsedAfterEnd => device("uses a request after the reset"),
        Rule::UsedRingBroken => device("puts used.idx where it cannot be"),
        Rule::UsedLength => Some((Lane::Device, format!("{name}: used with a wrong length"))),
        Rule::UnknownStatus => Some((Lane::Device, format!("{name}: used without a status"))),
        Rule::WroteReadable => Some((Lane::Device, format!("{name}: wrote its readable part"))),
        Rule::WroteOutside => Some((Lane::Device, format!("{name}: wrote outside its buffers"))),
        Rule::WroteAfterEnd => device("wrote where no request is"),
        Rule::SignalAfterReset => device("signals after the reset"),
        Rule::DevicePanicked => device("panics"),
        _ => None,
    }
}
