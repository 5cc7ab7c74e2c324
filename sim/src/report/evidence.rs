//! The inputs of a story's sentences: the verdict, the requests, and the lines they point at.

use powerfail_model::{Content, Observed, Reason, RequestId, Violation};

use super::line::{Line, Mark};
use super::requests::{Request, Requests};
use super::words::unit_of;
use crate::guest::Kind;
use crate::guest::{GuestRequest, RangeKind};
use crate::world::WorldShape;

/// See the [module](self).
pub(super) struct Evidence<'a> {
    pub(super) shape: &'a WorldShape,
    pub(super) violation: &'a Violation,
    pub(super) device: u8,
    /// The features the device offers.
    pub(super) offered: u64,
    pub(super) requests: &'a Requests,
    pub(super) lines: &'a [Line],
}

impl Evidence<'_> {
    /// The number of the first line for which `is` holds.
    pub(super) fn number(&self, is: impl Fn(&Line) -> bool) -> Option<usize> {
        self.lines.iter().find(|line| is(line)).map(|line| line.number)
    }

    /// ` (4)` for the first line with this mark, or nothing if the story has none.
    pub(super) fn at(&self, mark: Mark) -> String {
        pointer(self.number(|line| line.mark == mark))
    }

    /// As [`at`](Self::at), for the last line with this mark.
    pub(super) fn last(&self, mark: Mark) -> String {
        pointer(self.lines.iter().rfind(|line| line.mark == mark).map(|line| line.number))
    }

    pub(super) fn name(&self, id: u32) -> String {
        self.requests.name(id)
    }

    pub(super) fn sent(&self, id: u32) -> String {
        self.at(Mark::Sent(id))
    }

    pub(super) fn kind(&self) -> Kind {
        self.shape.kind(self.device)
    }

    /// The name of the device's atoms: `sector` or `word`.
    pub(super) fn unit(&self) -> &'static str {
        unit_of(self.kind())
    }

    pub(super) fn back(&self, id: u32) -> String {
        self.at(Mark::Returned(id))
    }

    /// `w26 (2)`: the request and where it was sent.
    pub(super) fn named(&self, id: u32) -> String {
        format!("{}{}", self.name(id), self.sent(id))
    }

    pub(super) fn request(&self, id: u32) -> Option<&Request> {
        self.requests.request(id)
    }

    pub(super) fn atom(&self) -> u32 {
        self.violation.atom.map_or(0, |atom| atom.0)
    }

    /// The request that exposed the violation.
    pub(super) fn request_id(&self) -> Option<u32> {
        self.violation.request.map(|id| id.0)
    }

    /// Whether the lines show that one request completed before another was sent.
    pub(super) fn precedes(&self, first: u32, second: u32) -> bool {
        let back = self.number(|line| line.mark == Mark::Returned(first));
        let sent = self.number(|line| line.mark == Mark::Sent(second));
        matches!((back, sent), (Some(back), Some(sent)) if back < sent)
    }

    /// Whether a request may change the sector in question.
    pub(super) fn touches(&self, ask: &GuestRequest) -> bool {
        let range = ask.covered(self.shape.spec.disk.room());
        ask.mutates() && self.violation.atom.is_some_and(|atom| range.contains(atom.0))
    }

    /// The request whose content was found.
    pub(super) fn finder(&self) -> Option<u32> {
        match self.violation.observed? {
            Observed::Content(content) => content.writer().map(|id| id.0),
            _ => None,
        }
    }

    /// The requests in the verdict other than reads and flushes, in order.
    fn writers(&self) -> impl Iterator<Item = u32> + '_ {
        self.violation.because.iter().filter_map(|reason| match *reason {
            Reason::Submitted { id, .. } => {
                let mutates = self.request(id.0).is_some_and(|request| request.ask.mutates());
                mutates.then_some(id.0)
            }
            _ => None,
        })
    }

    /// The write whose promise was broken.
    pub(super) fn winner(&self) -> Option<u32> {
        let stable = self.violation.because.iter().find_map(|reason| match *reason {
            Reason::StableAtCompletion { id, .. } => Some(id.0),
            _ => None,
        });
        let allowed = |id: u32| {
            self.violation.allowed.contains(&Content::of(RequestId(id)))
                || self.request(id).is_some_and(|request| {
                    matches!(request.ask, GuestRequest::Ranges(RangeKind::WriteZeroes, _))
                })
        };
        let found = self.finder();
        stable
            .or_else(|| self.writers().find(|&id| allowed(id) && found != Some(id)))
            .or_else(|| self.writers().find(|&id| found != Some(id)))
    }

    /// An earlier read and what it found.
    pub(super) fn earlier_read(&self) -> Option<(u32, Observed)> {
        self.violation.because.iter().rev().find_map(|reason| match *reason {
            Reason::ReadSaw { id, content, .. } if Some(id.0) != self.request_id() => {
                Some((id.0, content))
            }
            _ => None,
        })
    }

    /// The end of a request that was never answered, as a clause: `the reset was complete (5)`.
    pub(super) fn end(&self, id: u32) -> String {
        let sent = self.number(|line| line.mark == Mark::Sent(id)).unwrap_or(0);
        let end = self.lines.iter().find(|line| {
            let ends = match line.mark {
                Mark::ResetShown(device) | Mark::Kill(device) => device == self.device,
                Mark::PowerLoss => true,
                _ => false,
            };
            ends && line.number > sent
        });
        match end.map(|line| (line.mark, line.number)) {
            Some((Mark::ResetShown(_), n)) => format!("the reset was complete ({n})"),
            Some((Mark::Kill(_), n)) => format!("the backend was killed ({n})"),
            Some((_, n)) => format!("the power was lost ({n})"),
            None => "its life ended".to_owned(),
        }
    }

    /// The last power loss, if there was one: `the power loss (8)`.
    pub(super) fn loss(&self) -> Option<String> {
        let is = |line: &&Line| line.mark == Mark::PowerLoss;
        let line = self.lines.iter().rfind(is)?;
        Some(format!("the power loss ({})", line.number))
    }
}

fn pointer(number: Option<usize>) -> String {
    number.map_or_else(String::new, |number| format!(" ({number})"))
}

/// `a`, `a and b`, `a, b and c`.
pub(super) fn list(words: &[String], last: &str) -> String {
    match words {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}
