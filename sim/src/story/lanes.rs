//! Events as lines in three lanes.

use powerfail_model::Reason;

use crate::action::{Action, CrashKind};
use crate::disk::{OpKey, OpKind, Outcome};
use crate::guest::Ask;
use crate::sectors::SectorSet;
use crate::spec::Options;
use crate::trace::request_name;
use crate::world::{Event, Failure};

/// One line of a story.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) number: usize,
    pub(super) guest: String,
    pub(super) device: String,
    pub(super) host: String,
    /// Drawn across the lanes: something is lost.
    pub(super) across: bool,
    pub(super) sends: bool,
    pub(super) crashes: bool,
    /// The request that is sent or comes back here.
    pub(super) sent: Option<u32>,
    pub(super) returned: Option<u32>,
}

/// Draws the lines that matter for a failure.
pub(super) fn draw(options: &Options, events: &[Event], failure: &Failure) -> Vec<Line> {
    let mut teller = Teller::new(options, failure);
    for event in events {
        teller.event(event);
    }
    if let Some(last) = teller.lines.last_mut() {
        last.guest.push_str("   ✗");
    }
    for (index, line) in teller.lines.iter_mut().enumerate() {
        line.number = index + 1;
    }
    teller.lines
}

struct Teller<'a> {
    options: &'a Options,
    failure: &'a Failure,
    /// The sectors of the failing device that the story is about; empty means all of them.
    about: SectorSet,
    lines: Vec<Line>,
    /// Syncs that have completed since each flush that is out was sent.
    flushes: Vec<(u32, u32)>,
}

impl<'a> Teller<'a> {
    fn new(options: &'a Options, failure: &'a Failure) -> Teller<'a> {
        let mut about = SectorSet::EMPTY;
        if let Some(atom) = failure.violation.atom
            && atom.0 < options.spec.disk.capacity
        {
            about.insert(atom.0);
        }
        if let Some(powerfail_model::Observed::Misdirected { home, .. }) =
            failure.violation.observed
            && let Ok(home) = u32::try_from(home)
            && home < options.spec.disk.capacity
        {
            about.insert(home);
        }
        Teller { options, failure, about, lines: Vec::new(), flushes: Vec::new() }
    }

    fn line(&mut self) -> &mut Line {
        self.lines.push(Line::default());
        self.lines.last_mut().expect("just pushed")
    }

    fn device_name(&self, device: u8) -> &'static str {
        match (self.options.devices, device) {
            (1, _) => "",
            (_, 0) => " a",
            _ => " b",
        }
    }

    /// Whether a request has to do with the sectors the story is about.
    fn matters(&self, device: u8, ask: &Ask) -> bool {
        if device != self.failure.device {
            return self.options.devices == 2 && self.about.is_empty();
        }
        let range = crate::world::covered(ask, self.options.spec.disk.capacity);
        self.about.is_empty() || range.is_empty() || !range.and(self.about).is_empty()
    }

    fn op_matters(&self, op: &OpKey) -> bool {
        if op.device != self.failure.device && !self.about.is_empty() {
            return false;
        }
        let base = self.options.spec.disk.base(op.device);
        op.kind == OpKind::Sync
            || self.about.is_empty()
            || self.about.iter().any(|s| op.range().contains(base + s))
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Did(action) => self.action(action),
            Event::Submitted(op) if self.op_matters(op) => {
                let what = self.op(op);
                self.line().device = format!("submit {what}");
            }
            Event::Completed { to, id, ask, status } if self.matters(to.device, ask) => {
                self.completed(to.device, *id, ask, *status);
            }
            _ => {}
        }
    }

    fn completed(&mut self, device: u8, id: u32, ask: &Ask, status: u8) {
        let name = request_name(id, ask);
        let status = match status {
            0 => "ok".to_owned(),
            1 => "IOERR".to_owned(),
            2 => "UNSUPP".to_owned(),
            other => format!("status {other:#x}"),
        };
        let seen = self.failure.violation.because.iter().rev().find_map(|reason| match reason {
            Reason::ReadSaw { id: read, content, .. } if read.0 == id => Some(content.to_string()),
            _ => None,
        });
        let early = matches!(ask, Ask::Flush) && status == "ok" && self.flushes.contains(&(id, 0));
        self.flushes.retain(|flush| flush.0 != id);
        let suffix = self.device_name(device);
        let atom = self.failure.violation.atom;
        let line = self.line();
        line.returned = Some(id);
        line.guest = match (seen, atom) {
            (Some(content), Some(atom)) => format!("{name}{suffix}: sector {atom} holds {content}"),
            _ => format!("{name}{suffix} {status}"),
        };
        if early {
            line.device = "<-- no sync was done for it".to_owned();
        }
    }

    fn action(&mut self, action: &Action) {
        match action {
            Action::Start { device, accept, .. } => {
                let suffix = self.device_name(*device);
                let features = features(*accept, self.options.spec.offer);
                self.line().guest = format!("start{suffix} {features}");
            }
            Action::Send { to, id, ask, mischief, .. } if self.matters(to.device, ask) => {
                let suffix = self.device_name(to.device);
                let spoiled = match mischief {
                    crate::guest::Mischief::None => "",
                    _ => " (malformed)",
                };
                if matches!(ask, Ask::Flush) {
                    self.flushes.push((*id, 0));
                }
                let queue = match self.options.spec.queues {
                    1 => String::new(),
                    _ => format!(" on q{}", to.queue),
                };
                let text = format!("{}{suffix}: {ask}{queue}{spoiled}", request_name(*id, ask));
                let line = self.line();
                line.guest = text;
                (line.sends, line.sent) = (true, Some(*id));
            }
            Action::SendAgain { id, .. } => {
                self.line().guest = format!("publishes the head of {id} again");
            }
            Action::Jump { .. } => {
                self.line().guest = "moves avail.idx out of range".to_owned();
            }
            Action::Writeback { device, value } => {
                let suffix = self.device_name(*device);
                self.line().guest = format!("writeback{suffix} = {value}");
            }
            Action::Reset { device } => {
                let suffix = self.device_name(*device);
                self.line().guest = format!("reset{suffix}");
            }
            Action::PollReset { device } => {
                let suffix = self.device_name(*device);
                self.line().guest = format!("status{suffix}?");
            }
            Action::Effect { op, set } if self.op_matters(op) => {
                let text = format!("{}: {set} lands", self.op(op));
                self.line().host = text;
            }
            Action::Complete { op, outcome } => self.host_completed(op, outcome),
            Action::WriteBack { set } => {
                self.line().host = format!("writes back {set}");
            }
            Action::Evict { set } => {
                self.line().host = format!("evicts {set}");
            }
            Action::Crash(kind) => self.crash(kind),
            Action::Rest => {
                self.line().guest = "waits until nothing moves".to_owned();
            }
            _ => {}
        }
    }

    fn host_completed(&mut self, op: &OpKey, outcome: &Outcome) {
        if op.kind == OpKind::Sync && matches!(outcome, Outcome::Ok { .. }) {
            self.flushes.iter_mut().for_each(|flush| flush.1 += 1);
        }
        if !self.op_matters(op) {
            return;
        }
        let what = self.op(op);
        let text = match outcome {
            Outcome::Ok { .. } if op.kind == OpKind::Write => format!("{what} in cache"),
            Outcome::Ok { landed } if op.kind == OpKind::Discard && landed.is_empty() => {
                format!("{what} ignored")
            }
            Outcome::Ok { .. } => format!("{what} done"),
            Outcome::Short { bytes } => format!("{what} stops after {bytes} bytes"),
            Outcome::Failed { errno, forgot, .. } => {
                let forgot = match forgot.is_empty() {
                    true => String::new(),
                    false => format!(", forgets {forgot}"),
                };
                format!("{what} fails (errno {errno}){forgot}")
            }
        };
        self.line().host = text;
    }

    fn crash(&mut self, kind: &CrashKind) {
        let text = match kind {
            CrashKind::Backend { device } => {
                format!("backend{} killed", self.device_name(*device))
            }
            CrashKind::Power { .. } => "power loss".to_owned(),
        };
        let host = match kind {
            CrashKind::Power { survivors } => match self.surviving(*survivors) {
                kept if kept.is_empty() => " cache lost".to_owned(),
                kept => format!(" cache lost but {kept}"),
            },
            CrashKind::Backend { .. } => " page cache stays".to_owned(),
        };
        self.flushes.clear();
        let line = self.line();
        (line.guest, line.host, line.across, line.crashes) = (text, host, true, true);
    }

    /// The survivors the story is about, counted as the guest does.
    fn surviving(&self, survivors: SectorSet) -> SectorSet {
        let base = self.options.spec.disk.base(self.failure.device);
        let capacity = self.options.spec.disk.capacity;
        let mut kept = SectorSet::EMPTY;
        for sector in survivors.iter().filter(|s| (base..base + capacity).contains(s)) {
            if self.about.is_empty() || self.about.contains(sector - base) {
                kept.insert(sector - base);
            }
        }
        kept
    }

    /// An operation in words, its sectors counted as the guest does.
    fn op(&self, op: &OpKey) -> String {
        let base = self.options.spec.disk.base(op.device);
        let kind = match op.kind {
            OpKind::Read => "read",
            OpKind::Write => "write",
            OpKind::StableWrite => "stable write",
            OpKind::Sync => return "sync".to_owned(),
            OpKind::Discard => "discard",
            OpKind::WriteZeroes => "write-zeroes",
        };
        match op.sectors {
            1 => format!("{kind} {}", op.sector - base),
            n => format!("{kind} {}+{n}", op.sector - base),
        }
    }
}

/// The features that decide what a completion promises, as far as they are accepted.
fn features(accept: u64, offer: u64) -> String {
    use crate::wire::feature::{CONFIG_WCE, FLUSH};
    let mut words = Vec::new();
    for (bit, name) in [(FLUSH, "FLUSH"), (CONFIG_WCE, "CONFIG_WCE")] {
        if accept & bit != 0 {
            words.push(name.to_owned());
        } else if offer & bit != 0 {
            words.push(format!("no {name}"));
        }
    }
    if words.is_empty() { "(FLUSH not offered)".to_owned() } else { words.join(", ") }
}
