//! Events as lines of three columns.
//!
//! Not here: the selection of events (`about`) and the drawing (`table`).

mod host;

use powerfail_model::Reason;

use super::about::About;
use super::line::{Line, Mark};
use super::requests::{Requests, Work};
use super::verdict;
use super::words::{features, malformed, status_name};
use crate::guest::wire::Status;
use crate::guest::{Change, GuestRequest, Kind};
use crate::trace::features as words_for;
use crate::world::WorldShape;
use crate::world::action::{Action, CrashKind, QueueId, Until};
use crate::world::{Event, Failure};

/// The lines that bear on a failure, or all lines if there was none.
pub(super) fn draw(
    shape: &WorldShape,
    events: &[Event],
    failure: Option<&Failure>,
    about: &About,
    requests: &Requests,
    sees_host: bool,
) -> Vec<Line> {
    let lives = |device: u8| {
        events
            .iter()
            .filter(|e| matches!(e, Event::Did(Action::Start { device: d, .. }) if *d == device))
            .count()
    };
    let is_loss = |e: &&Event| matches!(e, Event::Did(Action::Crash(CrashKind::Power { .. })));
    let losses = events.iter().filter(is_loss).count();
    let mut columns = Columns {
        shape,
        failure,
        about,
        requests,
        lines: Vec::new(),
        work: Work::default(),
        syncs: Vec::new(),
        sees_host,
        lives: [(0, lives(0)), (0, lives(1))],
        losses: (0, losses),
        step: 0,
    };
    for event in events {
        columns.event(event);
    }
    if let Some(failure) = failure {
        verdict::mark(&mut columns.lines, events, failure, requests, columns.step);
    }
    for (index, line) in columns.lines.iter_mut().enumerate() {
        line.number = index + 1;
    }
    columns.lines
}

/// The result of the host's syncs since an outstanding flush was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synced {
    /// No sync has completed since.
    Never,
    /// Every sync that completed failed.
    Failed,
    /// At least one sync succeeded.
    Well,
}

struct Columns<'a> {
    shape: &'a WorldShape,
    failure: Option<&'a Failure>,
    about: &'a About,
    requests: &'a Requests,
    lines: Vec<Line>,
    work: Work,
    /// The outstanding flushes, each with the result of the syncs since it was sent.
    syncs: Vec<(u32, Synced)>,
    /// Whether the journal holds host operations, which is so only for the simulated disk.
    sees_host: bool,
    /// Per device, the numbers of lives begun so far and in the whole story.
    lives: [(usize, usize); 2],
    losses: (usize, usize),
    step: usize,
}

impl Columns<'_> {
    fn line(&mut self, mark: Mark) -> &mut Line {
        self.lines.push(Line { mark, step: self.step, ..Line::default() });
        self.lines.last_mut().expect("just pushed")
    }

    /// ` a` or ` b`, if there are two devices.
    fn device_name(&self, device: u8) -> &'static str {
        match (self.shape.devices, device) {
            (1, _) => "",
            (_, 0) => " a",
            _ => " b",
        }
    }

    /// ` on q1`, if it is not the only queue.
    fn place(&self, to: QueueId) -> String {
        match (self.shape.devices, self.shape.spec.queues) {
            (1, 1) => String::new(),
            (1, _) => format!(" on q{}", to.queue),
            (_, 1) => format!(" on{}", self.device_name(to.device)),
            _ => format!(" on{}.q{}", self.device_name(to.device), to.queue),
        }
    }

    fn event(&mut self, event: &Event) {
        match *event {
            Event::Did(action) => {
                self.step += usize::from(!matches!(
                    action,
                    Action::Await { .. } | Action::Stream { .. } | Action::Rest
                ));
                self.action(&action);
            }
            Event::Submitted(op) => {
                let base = self.shape.spec.disk.base(op.device);
                let capacity = self.shape.spec.disk.room();
                let owner = match self.shape.spec.disk.plain {
                    true => self.work.submitted(op, base, capacity),
                    // Its sectors are not those of a request.
                    false => None,
                };
                if self.about.operation(&op, owner) {
                    let text = format!("{}submit {}", self.owned(&op, owner), self.op(&op));
                    self.line(Mark::Nothing).device = text;
                }
            }
            Event::Completed { to, id, ask, status } => {
                // The end of a store carries no information.
                let is_store = matches!(ask, GuestRequest::Store { .. });
                if self.about.request(to, id, &ask) && !is_store {
                    self.completed(to, id, &ask, status);
                }
                self.syncs.retain(|flush| flush.0 != id);
                self.work.came_back(id);
            }
            Event::Remarked { device, ref text } => {
                if self.about.device(device) {
                    let text = format!("{}{}", text.as_str(), self.device_name(device));
                    self.line(Mark::Nothing).device = text;
                }
            }
            Event::Chose { device, number, of } => {
                if self.about.device(device) {
                    let text = format!("chooses {number} of {of}{}", self.device_name(device));
                    self.line(Mark::Nothing).device = text;
                }
            }
            Event::Altered { to, id, change } => {
                let known = self.requests.request(id);
                if known.is_some_and(|request| self.about.request(to, id, &request.ask)) {
                    let text = change_of(self.requests.name(id), &change);
                    self.line(Mark::Nothing).guest = text;
                }
            }
            Event::Signalled(to) => {
                if self.about.ring(to, self.requests) {
                    let text = format!("signal{}", self.place(to));
                    self.line(Mark::Nothing).device = text;
                }
            }
        }
    }

    fn completed(&mut self, to: QueueId, id: u32, ask: &GuestRequest, status: Status) {
        let name = self.requests.name(id);
        let violation = self.failure.map(|failure| &failure.violation);
        let because = violation.map_or(&[][..], |violation| &violation.because);
        let seen = because.iter().rev().find_map(|reason| match reason {
            Reason::ReadSaw { id: read, content, .. } if read.0 == id => Some(*content),
            _ => None,
        });
        let early = *ask == GuestRequest::Flush && status.is_ok();
        let synced = self.syncs.iter().find(|flush| flush.0 == id).map_or(Synced::Never, |f| f.1);
        let counts = because.iter().any(
            |reason| matches!(reason, Reason::FlushCompleted { id: flush, .. } if flush.0 == id),
        );
        let text = match (seen, violation.and_then(|violation| violation.atom)) {
            (Some(content), Some(atom)) => {
                format!(
                    "{name}: {} {atom} holds {}",
                    self.requests.unit(),
                    self.requests.observed(content)
                )
            }
            _ if self.shape.kind(to.device) == Kind::Memory && !status.is_ok() => {
                format!("{name} failed")
            }
            _ => format!("{name} {}", status_name(status)),
        };
        let sees_host = self.sees_host;
        let line = self.line(Mark::Returned(id));
        line.guest = text;
        if early && counts && sees_host {
            line.device = match synced {
                Synced::Never => "<-- no sync was done for it".to_owned(),
                Synced::Failed => "<-- no sync succeeded for it".to_owned(),
                Synced::Well => String::new(),
            };
        }
    }

    fn action(&mut self, action: &Action) {
        match *action {
            Action::Start { device, accept, .. } => self.start(device, accept),
            Action::Send { to, id, ref ask, malformation, .. } => {
                self.work.sent(to, id, *ask);
                if *ask == GuestRequest::Flush {
                    self.syncs.push((id, Synced::Never));
                }
                if self.about.request(to, id, ask) {
                    let place = self.place(to);
                    let text = format!(
                        "{}: {ask}{place}{}",
                        self.requests.name(id),
                        malformed(malformation)
                    );
                    self.line(Mark::Sent(id)).guest = text;
                }
            }
            Action::SendAgain { to, id }
                if self
                    .requests
                    .request(id)
                    .is_some_and(|r| self.about.request(to, id, &r.ask)) =>
            {
                let text = format!("republishes {}", self.requests.name(id));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Jump { to } if self.about.device(to.device) => {
                let text = format!("moves avail.idx out of range{}", self.place(to));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Kick { to } if self.about.ring(to, self.requests) => {
                let text = format!("kick{} unless suppressed", self.place(to));
                self.line(Mark::Kicked).guest = text;
            }
            Action::Reap { to, arm } if self.about.ring(to, self.requests) => {
                let then = if arm { "enables signals" } else { "disables signals" };
                let text = format!("reaps the used ring{}, {then}", self.place(to));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Crank { to, until } if self.about.is_everything() => {
                let text = match until {
                    Until::Idle => format!("runs{}", self.place(to)),
                    Until::Steps(n) => format!("runs{}, at most {n} steps", self.place(to)),
                    Until::Submitted(op) => format!("runs{} up to {op}", self.place(to)),
                    Until::Used(id) => {
                        format!("runs{} up to {}", self.place(to), self.requests.name(id))
                    }
                };
                self.line(Mark::Nothing).device = text;
            }
            Action::Stream { to, id, ask, count } => {
                let first = self.requests.name(id);
                let text =
                    format!("{first} and up to {count} more like it{}: {ask}", self.place(to));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Background { device, .. } if self.about.is_everything() => {
                let text = format!("runs in the background{}", self.device_name(device));
                self.line(Mark::Nothing).device = text;
            }
            Action::Await { id, .. } if self.about.is_everything() => {
                let text = format!("waits for {}", self.requests.name(id));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Writeback { device, value } if self.about.device(device) => {
                let text = format!("writeback{} = {value}", self.device_name(device));
                self.line(Mark::Mode(device)).guest = text;
            }
            Action::Reset { device } if self.about.device(device) => {
                let text = format!("reset{}", self.device_name(device));
                self.line(Mark::Reset(device)).guest = text;
            }
            Action::PollReset { device } => self.poll(device),
            Action::Lifecycle { device, what } if self.about.device(device) => {
                let text = format!("{}{}", what.happened(), self.device_name(device));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Effect { op, set } => {
                let owner = self.work.owner(&op);
                let set = self.shown(set, op.device);
                if self.about.operation(&op, owner) && !set.is_empty() {
                    let sectors = if set.len() == 1 { "sector" } else { "sectors" };
                    let what = self.op(&op);
                    let text = format!("{}{what}: {sectors} {set} landed", self.owned(&op, owner));
                    self.line(Mark::Nothing).host = text;
                }
            }
            Action::Complete { op, outcome } => self.host_completed(&op, &outcome),
            Action::WriteBack { set } => self.unasked("writes back", set),
            Action::Evict { set } => self.unasked("evicts", set),
            Action::Crash(kind) => self.crash(&kind),
            Action::Rest => {
                self.line(Mark::Nothing).guest = "waits until idle".to_owned();
            }
            _ => {}
        }
    }

    fn start(&mut self, device: u8, accept: u64) {
        let (life, lives) = &mut self.lives[usize::from(device)];
        *life += 1;
        let numbered = (*lives > 1).then_some(*life);
        self.work.ended(device);
        if !self.about.device(device) {
            return;
        }
        let suffix = self.device_name(device);
        let features = match self.about.wants_features() {
            true => format!(" accepts {}", words_for(accept).replace(',', ", ")),
            false => features(accept, &self.shape.spec, self.shape.kind(device)),
        };
        self.line(Mark::Start(device)).guest = match numbered {
            Some(life) => format!("life {life}: start{suffix}{features}"),
            None => format!("start{suffix}{features}"),
        };
    }

    /// A status read that returns zero. One that does not is no event.
    fn poll(&mut self, device: u8) {
        if self.about.device(device) {
            let text = format!("status{}: zero", self.device_name(device));
            self.line(Mark::ResetShown(device)).guest = text;
        }
    }
}

/// A change of a request by the guest.
fn change_of(name: String, change: &Change) -> String {
    match change {
        Change::Type(number) => format!("changes the type of {name} to {number}"),
        Change::Sector(sector) => format!("changes the sector of {name} to {sector}"),
        Change::Segment { nth, segment } => {
            let powerfail_model::Segment { sector, sectors, flags } = segment;
            let flags = if *flags == 0 { String::new() } else { format!(", flags {flags:#x}") };
            format!("changes segment {nth} of {name} to {sector}+{sectors}{flags}")
        }
        Change::Data { .. } => format!("changes the data of {name}"),
        Change::Length { less } => format!("shortens the data of {name} by {less} bytes"),
    }
}
