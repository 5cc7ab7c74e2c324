//! The failure report, or story: the screen that is the product of this project.
//!
//! A story is drawn from a world's journal: a table of three columns (guest, device, host disk)
//! with one line per event that bears on the broken promise, then the sentences that say why the
//! promise applied. The text is a function of the journal, the [`Provenance`] and the [`Style`];
//! nothing here reads the environment.
//!
//! Not here: shortening the run, which is the shrinker's work.

mod about;
mod columns;
mod evidence;
mod headline;
mod line;
mod protocol_reasons;
mod reasons;
mod requests;
mod snapshot;
mod style;
mod table;
mod verdict;
mod words;

use std::fmt::Write as _;

use crate::world::action::Action;
use powerfail_model::Rule;

use crate::dut::DeviceUnderTest;
use crate::guest::Kind;
use crate::run::certainty::Certainty;
use crate::world::{Event, Failure, World};
use about::About;
use evidence::Evidence;
use line::Line;
use requests::Requests;
pub(crate) use style::broken;
use style::{Painter, Tone, columns};
use words::unit_of;

pub(crate) use snapshot::snapshot;
pub use style::Style;

/// The origin of a failure, the place it is saved, and results of analyses beyond its own run.
#[derive(Clone, Debug, Default)]
pub struct Provenance {
    /// `seed 5`, or the trace's file name.
    pub from: String,
    /// The numbers of actions before and after shrinking.
    pub shrunk: Option<(usize, usize)>,
    /// A command that shows the failure again.
    pub replay: Option<String>,
    /// The necessary and sufficient condition of the failure, as a clause.
    pub only_if: Option<String>,
    /// The point of no return.
    pub certainty: Option<Certainty>,
}

/// Tells the story of a failure. `world` has just replayed the failing run and kept its journal.
/// Each line ends in a line break and is at most [`Style::columns`] wide.
#[must_use]
pub fn tell<D: DeviceUnderTest>(
    world: &World<D>,
    failure: &Failure,
    provenance: &Provenance,
    style: Style,
) -> String {
    let violation = &failure.violation;
    let shape = world.shape();
    let events = world.journal().map(|journal| journal.events()).unwrap_or_default();
    let rule = violation.rule;
    let waited_for = violation.request.filter(|_| rule == Rule::NeverUsed);
    let requests =
        Requests::new(events, waited_for.map(|id| id.0), unit_of(shape.kind(failure.device)));
    let queues = &world.slot(failure.device).queues;
    let silent = (rule == Rule::SignalMissing)
        .then(|| queues.iter().position(|queue| queue.signal_owed()))
        .flatten()
        .map(|queue| queue as u8);
    let mut also =
        provenance.only_if.as_deref().map_or_else(Vec::new, |text| requests.named_in(text));
    if matches!(rule, Rule::WroteReadable | Rule::WroteOutside | Rule::WroteAfterEnd) {
        // A stray write often belongs to a request that was never answered.
        also.extend(
            requests.all().filter(|(_, request)| request.status.is_none()).map(|(id, _)| id),
        );
    }
    if matches!(rule, Rule::LegalRequestFailed | Rule::LegalFlushFailed) {
        // An earlier failure that had a cause is often the origin of one that has none.
        let failed =
            |request: &requests::Request| request.status.is_some_and(|status| !status.is_ok());
        also.extend(requests.all().filter(|(_, request)| failed(request)).map(|(id, _)| id));
    }
    let about = About::new(shape, failure, style.all, silent, &also);
    let lines =
        columns::draw(shape, events, Some(failure), &about, &requests, D::MEDIUM.is_simulated());
    let offered = world.slot(failure.device).device.offered();
    let device = failure.device;
    let evidence =
        Evidence { shape, violation, device, offered, requests: &requests, lines: &lines };
    let names: Vec<String> = about.named().iter().map(|id| requests.name(*id)).collect();
    let painter = Painter { colour: style.colour, names: &names };
    let mut page = Page { out: String::new(), width: style.columns(), painter };

    let from = &provenance.from;
    let profile = violation.profile.name();
    let title = format!("{from}   VIOLATED   {}", rule.promise());
    let atom = match shape.kind(failure.device) {
        Kind::Disk => 512,
        Kind::Memory => 8,
    };
    page.title(&title, &format!("({profile}, {atom}-byte atoms)"));
    page.gap();
    page.paragraph(&headline::headline(failure, shape, &requests), 2, Tone::Plain);
    page.gap();
    page.out.push_str(&table::draw(&lines, page.width, &page.painter));
    page.gap();
    for sentence in reasons::sentences(&evidence) {
        page.paragraph(&sentence, 2, Tone::Plain);
    }
    if let Some(clause) = &provenance.only_if {
        page.paragraph(&format!("It fails if and only if {clause}."), 2, Tone::Plain);
    }
    if let Some(sentence) = provenance.certainty.and_then(|certainty| certain(certainty, &lines)) {
        page.paragraph(&sentence, 2, Tone::Plain);
    }
    if shape.region != 0 {
        let regions = format!(
            "Guest memory has regions of {} bytes, and is moved at every kick.",
            shape.region
        );
        page.paragraph(&regions, 2, Tone::Plain);
    }
    let (clause, requirement) = (rule.clause(), rule.requirement());
    let clause =
        format!("virtio 1.4, {clause}: {} ({requirement}, {})", rule.promise(), rule.name());
    page.paragraph(&clause, 2, Tone::Plain);
    page.gap();
    page.closing(&counts(events, provenance), provenance.replay.as_deref());
    page.out
}

/// Lists every event of a run that broke no promise. `world` has just done the run and kept its
/// journal; `from` is the seed or the trace. Lines are as in [`tell`].
#[must_use]
pub(crate) fn recount<D: DeviceUnderTest>(world: &World<D>, from: &str, style: Style) -> String {
    let shape = world.shape();
    let events = world.journal().map(|journal| journal.events()).unwrap_or_default();
    let requests = Requests::new(events, None, unit_of(shape.kind(0)));
    let about = About::everything(shape);
    let lines = columns::draw(shape, events, None, &about, &requests, D::MEDIUM.is_simulated());
    let painter = Painter { colour: style.colour, names: &[] };
    let mut page = Page { out: String::new(), width: style.columns(), painter };
    page.paragraph(&format!("{from}   no promise is broken"), 0, Tone::Plain);
    page.gap();
    page.out.push_str(&table::draw(&lines, page.width, &page.painter));
    page.gap();
    page.paragraph(&counts(events, &Provenance::default()), 2, Tone::Plain);
    page.out
}

/// The text so far, with its width and colours.
struct Page<'a> {
    out: String,
    width: usize,
    painter: Painter<'a>,
}

impl Page<'_> {
    fn gap(&mut self) {
        self.out.push('\n');
    }

    /// The first line, with the contract at its end or, if that does not fit, below it.
    fn title(&mut self, title: &str, by: &str) {
        let whole = format!("{title}   {by}");
        if columns(&whole) <= self.width {
            return self.paragraph(&whole, 0, Tone::Broken);
        }
        self.paragraph(title, 0, Tone::Broken);
        self.paragraph(by, 2, Tone::Plain);
    }

    /// A paragraph whose lines all begin with `indent` spaces.
    fn paragraph(&mut self, text: &str, indent: usize, tone: Tone) {
        for line in broken(text, self.width - indent, 0) {
            let _ = writeln!(self.out, "{:indent$}{}", "", self.painter.paint(&line, tone));
        }
    }

    /// The last line. A command that does not fit on it gets its own line, so that it can be
    /// copied.
    fn closing(&mut self, counts: &str, replay: Option<&str>) {
        let Some(replay) = replay else { return self.paragraph(counts, 2, Tone::Plain) };
        let whole = format!("{counts} · {replay}");
        if columns(&whole) + 2 <= self.width {
            return self.paragraph(&whole, 2, Tone::Plain);
        }
        self.paragraph(counts, 2, Tone::Plain);
        self.paragraph(replay, 2, Tone::Plain);
    }
}

/// The point of no return as a sentence that points at a line.
fn certain(certainty: Certainty, lines: &[Line]) -> Option<String> {
    let Certainty { from, before, futures } = certainty;
    let last = lines.last()?;
    let Some(from) = from else {
        // No sampled continuation fails, so there is nothing to report.
        return (before > 0).then(|| {
            format!(
                "Not inevitable: one step before line {}, {before} of {futures} sampled continuations fail.",
                last.number
            )
        });
    };
    if from == 0 {
        return Some(format!(
            "From the start, every sampled continuation fails: {futures} of {futures}."
        ));
    }
    let exact = lines.iter().find(|line| line.step == from);
    let line = exact.or_else(|| lines.iter().rfind(|line| line.step <= from))?;
    let since = if line.step == from { "From" } else { "Soon after" };
    let on = if line.step == from { " on" } else { "" };
    Some(format!(
        "{since} line {}{on}, every sampled continuation fails: {futures} of {futures}; one step before, {before} of {futures}.",
        line.number
    ))
}

fn counts(events: &[Event], provenance: &Provenance) -> String {
    let count = |is: fn(&Action) -> bool| {
        events.iter().filter(|event| matches!(event, Event::Did(action) if is(action))).count()
    };
    let plural =
        |n: usize, one: &str, many: &str| format!("{n} {}", if n == 1 { one } else { many });
    let mut parts = format!(
        "{}, {}",
        plural(count(|action| matches!(action, Action::Send { .. })), "request", "requests"),
        plural(count(|action| matches!(action, Action::Crash(_))), "crash", "crashes"),
    );
    if let Some((from, to)) = provenance.shrunk.filter(|(from, to)| from != to) {
        let _ = write!(parts, "; shrunk from {from} actions to {to}");
    }
    parts
}
