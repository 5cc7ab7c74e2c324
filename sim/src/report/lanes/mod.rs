//! Events as lines in three lanes.
//!
//! Not here: which of them matter (`about`), and how they are drawn (`table`).

mod host;

use powerfail_model::Reason;

use super::about::About;
use super::cast::{Cast, Work};
use super::verdict;
use super::words::{features, spoiled, status_name};
use crate::guest::Ask;
use crate::guest::Kind;
use crate::schedule::options::Options;
use crate::trace::features as words_for;
use crate::world::action::{Action, CrashKind, QueueId, Until};
use crate::world::{Event, Failure};

/// What a line stands for, for sentences that point at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Mark {
    #[default]
    Nothing,
    Sent(u32),
    Returned(u32),
    Start(u8),
    Mode(u8),
    Reset(u8),
    ResetShown(u8),
    PowerLoss,
    Kill(u8),
    SyncFailed,
    Kicked,
}

/// One line of a story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) guest: String,
    pub(super) device: String,
    pub(super) host: String,
    /// Drawn across the lanes: something is lost.
    pub(super) across: bool,
    pub(super) crashes: bool,
    /// Here the promise is seen to be broken.
    pub(super) broken: bool,
    pub(super) mark: Mark,
    /// So many steps were done when it could be told.
    pub(super) step: usize,
}

impl Line {
    pub(super) fn cells(&self) -> [&str; 3] {
        [&self.guest, &self.device, &self.host]
    }
}

/// Draws the lines that matter for a failure; all of them if there was none.
pub(super) fn draw(
    options: &Options,
    events: &[Event],
    failure: Option<&Failure>,
    about: &About,
    cast: &Cast,
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
    let mut teller = Teller {
        options,
        failure,
        about,
        cast,
        lines: Vec::new(),
        work: Work::default(),
        syncs: Vec::new(),
        sees_host,
        lives: [(0, lives(0)), (0, lives(1))],
        losses: (0, losses),
        step: 0,
    };
    for event in events {
        teller.event(event);
    }
    if let Some(failure) = failure {
        verdict::mark(&mut teller.lines, events, failure, cast, teller.step);
    }
    for (index, line) in teller.lines.iter_mut().enumerate() {
        line.number = index + 1;
    }
    teller.lines
}

/// What the host did for a flush that is out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Synced {
    /// No sync has ended since it was sent.
    Never,
    /// Those that have ended failed.
    Failed,
    /// One succeeded.
    Well,
}

struct Teller<'a> {
    options: &'a Options,
    failure: Option<&'a Failure>,
    about: &'a About,
    cast: &'a Cast,
    lines: Vec<Line>,
    work: Work,
    /// Syncs that have completed since each flush that is out was sent.
    syncs: Vec<(u32, Synced)>,
    /// Whether what the host does is in the journal: it is not of a disk that is not simulated.
    sees_host: bool,
    /// Lives begun so far, and in the whole story, per device.
    lives: [(usize, usize); 2],
    losses: (usize, usize),
    step: usize,
}

impl Teller<'_> {
    fn line(&mut self, mark: Mark) -> &mut Line {
        self.lines.push(Line { mark, step: self.step, ..Line::default() });
        self.lines.last_mut().expect("just pushed")
    }

    /// ` a`, where there are two devices.
    fn device_name(&self, device: u8) -> &'static str {
        match (self.options.devices, device) {
            (1, _) => "",
            (_, 0) => " a",
            _ => " b",
        }
    }

    /// ` on q1`, where it is not the only queue.
    fn place(&self, to: QueueId) -> String {
        match (self.options.devices, self.options.spec.queues) {
            (1, 1) => String::new(),
            (1, _) => format!(" on q{}", to.queue),
            (_, 1) => format!(" on{}", self.device_name(to.device)),
            _ => format!(" on{}.q{}", self.device_name(to.device), to.queue),
        }
    }

    fn event(&mut self, event: &Event) {
        match *event {
            Event::Did(action) => {
                self.step += usize::from(!matches!(action, Action::Await { .. } | Action::Rest));
                self.action(&action);
            }
            Event::Submitted(op) => {
                let base = self.options.spec.disk.base(op.device);
                let capacity = self.options.spec.disk.room();
                let owner = self.work.submitted(op, base, capacity);
                if self.about.operation(&op, owner) {
                    let text = format!("{}submit {}", self.owned(&op, owner), self.op(&op));
                    self.line(Mark::Nothing).device = text;
                }
            }
            Event::Completed { to, id, ask, status } => {
                // That a store is over says nothing.
                let is_store = matches!(ask, Ask::Store { .. });
                if self.about.request(to, id, &ask) && !is_store {
                    self.completed(to, id, &ask, status);
                }
                self.syncs.retain(|flush| flush.0 != id);
                self.work.came_back(id);
            }
            Event::Signalled(to) => {
                if self.about.ring(to, self.cast) {
                    let text = format!("signal{}", self.place(to));
                    self.line(Mark::Nothing).device = text;
                }
            }
        }
    }

    fn completed(&mut self, to: QueueId, id: u32, ask: &Ask, status: u8) {
        let name = self.cast.name(id);
        let violation = self.failure.map(|failure| &failure.violation);
        let because = violation.map_or(&[][..], |violation| &violation.because);
        let seen = because.iter().rev().find_map(|reason| match reason {
            Reason::ReadSaw { id: read, content, .. } if read.0 == id => Some(*content),
            _ => None,
        });
        let early = *ask == Ask::Flush && status == 0;
        let synced = self.syncs.iter().find(|flush| flush.0 == id).map_or(Synced::Never, |f| f.1);
        let counts = because.iter().any(
            |reason| matches!(reason, Reason::FlushCompleted { id: flush, .. } if flush.0 == id),
        );
        let text = match (seen, violation.and_then(|violation| violation.atom)) {
            (Some(content), Some(atom)) => {
                format!("{name}: {} {atom} holds {}", self.cast.unit(), self.cast.observed(content))
            }
            _ if self.options.kind(to.device) == Kind::Memory && status != 0 => {
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
            Action::Send { to, id, ref ask, mischief, .. } => {
                self.work.sent(to, id, *ask);
                if *ask == Ask::Flush {
                    self.syncs.push((id, Synced::Never));
                }
                if self.about.request(to, id, ask) {
                    let place = self.place(to);
                    let text = format!("{}: {ask}{place}{}", self.cast.name(id), spoiled(mischief));
                    self.line(Mark::Sent(id)).guest = text;
                }
            }
            Action::SendAgain { to, id }
                if self.cast.role(id).is_some_and(|r| self.about.request(to, id, &r.ask)) =>
            {
                let text = format!("publishes {} again", self.cast.name(id));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Jump { to } if self.about.device(to.device) => {
                let text = format!("moves avail.idx out of range{}", self.place(to));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Kick { to } if self.about.ring(to, self.cast) => {
                let text = format!("kick{} if it is wanted", self.place(to));
                self.line(Mark::Kicked).guest = text;
            }
            Action::Reap { to, arm } if self.about.ring(to, self.cast) => {
                let then = if arm { "wants a signal" } else { "wants no signal" };
                let text = format!("takes back what is used{}, {then}", self.place(to));
                self.line(Mark::Nothing).guest = text;
            }
            Action::Crank { to, until } if self.about.is_everything() => {
                let text = match until {
                    Until::Idle => format!("runs{}", self.place(to)),
                    Until::Steps(n) => format!("runs{}, {n} steps at most", self.place(to)),
                    Until::Submitted(op) => format!("runs{} up to {op}", self.place(to)),
                    Until::Used(id) => {
                        format!("runs{} up to {}", self.place(to), self.cast.name(id))
                    }
                };
                self.line(Mark::Nothing).device = text;
            }
            Action::Await { id, .. } if self.about.is_everything() => {
                let text = format!("waits for {}", self.cast.name(id));
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
            Action::Life { device, what } if self.about.device(device) => {
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
                self.line(Mark::Nothing).guest = "waits until nothing moves".to_owned();
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
            false => features(accept, &self.options.spec, self.options.kind(device)),
        };
        self.line(Mark::Start(device)).guest = match numbered {
            Some(life) => format!("life {life}: start{suffix}{features}"),
            None => format!("start{suffix}{features}"),
        };
    }

    /// A look at the status that shows no end of the reset is no event.
    fn poll(&mut self, device: u8) {
        if self.about.device(device) {
            let text = format!("status{}: zero", self.device_name(device));
            self.line(Mark::ResetShown(device)).guest = text;
        }
    }
}
