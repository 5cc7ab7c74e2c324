//! The host disk's column, and crashes.

use super::{Columns, Mark, Synced};
use crate::base::sectors::SectorSet;
use crate::host::disk::{OpKey, OpKind, Outcome};
use crate::world::action::CrashKind;

impl Columns<'_> {
    pub(super) fn unasked(&mut self, what: &str, set: SectorSet) {
        for device in self.devices_told() {
            let set = self.shown(set, device);
            if !set.is_empty() {
                let text = format!("{what}{} {set}", self.device_name(device));
                self.line(Mark::Nothing).host = text;
            }
        }
    }

    /// The devices whose sectors are shown: the one that failed, or all.
    fn devices_told(&self) -> std::ops::Range<u8> {
        match self.failure {
            Some(failure) => failure.device..failure.device + 1,
            None => 0..self.shape.devices,
        }
    }

    /// The sectors of `set` (medium numbering) that matter of a device, in guest numbering.
    pub(super) fn shown(&self, set: SectorSet, device: u8) -> SectorSet {
        let disk = &self.shape.spec.disk;
        match self.failure {
            Some(_) => self.about.shown(set),
            None => set.and(disk.part(device)).lowered(disk.base(device)),
        }
    }

    pub(super) fn host_completed(&mut self, op: &OpKey, outcome: &Outcome) {
        let owner = self.work.owner(op);
        self.work.completed(op);
        let failed = matches!(outcome, Outcome::Failed { .. });
        if op.kind == OpKind::Sync {
            for (_, synced) in &mut self.syncs {
                *synced = match (failed, *synced) {
                    (false, _) | (true, Synced::Well) => Synced::Well,
                    (true, Synced::Never | Synced::Failed) => Synced::Failed,
                };
            }
        }
        if !self.about.operation(op, owner) {
            return;
        }
        let what = format!("{}{}", self.owned(op, owner), self.op(op));
        let text = match *outcome {
            Outcome::Ok { .. } if op.kind == OpKind::Write => format!("{what} in cache"),
            Outcome::Ok { landed } if op.kind == OpKind::Discard && landed.is_empty() => {
                format!("{what} ignored")
            }
            Outcome::Ok { .. } => format!("{what} done"),
            Outcome::Short { bytes } => format!("{what} stops after {bytes} bytes"),
            Outcome::Failed { errno, forgot, .. } => {
                let forgot = match self.shown(forgot, op.device) {
                    set if set.is_empty() => String::new(),
                    set => format!(", forgets {set}"),
                };
                format!("{what} fails (errno {}){forgot}", errno.0)
            }
        };
        let sync_failed = failed && op.kind == OpKind::Sync;
        self.line(if sync_failed { Mark::SyncFailed } else { Mark::Nothing }).host = text;
    }

    pub(super) fn crash(&mut self, kind: &CrashKind) {
        let (mark, text, host) = match *kind {
            CrashKind::Backend { device } => {
                self.work.ended(device);
                if !self.about.device(device) {
                    return;
                }
                let text = format!("backend{} killed", self.device_name(device));
                (Mark::Kill(device), text, "page cache survives".to_owned())
            }
            CrashKind::Power { survivors } => {
                self.work.all_ended();
                self.losses.0 += 1;
                let text = match self.losses {
                    (_, 1) => "power loss".to_owned(),
                    (nth, _) => format!("power loss {nth}"),
                };
                let told = self.devices_told();
                let all = told.len() > 1;
                let kept: Vec<String> = told
                    .map(|device| (device, self.shown(survivors, device)))
                    .filter(|(_, kept)| !kept.is_empty())
                    .map(|(device, kept)| match all {
                        true => format!("{kept} of{}", self.device_name(device)),
                        false => kept.to_string(),
                    })
                    .collect();
                let host = match kept.is_empty() {
                    true => "cache lost".to_owned(),
                    false => format!("cache lost except {}", kept.join(" and ")),
                };
                (Mark::PowerLoss, text, host)
            }
        };
        self.syncs.clear();
        let line = self.line(mark);
        (line.guest, line.host, line.across, line.crashes) = (text, host, true, true);
    }

    /// The owner as a prefix: `w26: `, or `b: ` if the request is unknown and there are two
    /// devices.
    pub(super) fn owned(&self, op: &OpKey, owner: Option<u32>) -> String {
        match owner {
            Some(id) => format!("{}: ", self.requests.name(id)),
            None if self.shape.devices > 1 => {
                format!("{}: ", self.device_name(op.device).trim_start())
            }
            None => String::new(),
        }
    }

    /// An operation in words, its sectors in guest numbering.
    pub(super) fn op(&self, op: &OpKey) -> String {
        let base = self.shape.spec.disk.base(op.device);
        let kind = op.kind.words();
        if op.kind == OpKind::Sync {
            return kind.to_owned();
        }
        // A mutant may access sectors before its own part of the disk.
        let sector = i64::from(op.sector) - i64::from(base);
        format!("{kind} {sector}+{}", op.sectors)
    }
}
