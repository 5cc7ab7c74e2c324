//! Changes of every line: the ranges, devices and queues that the lines name.

use super::case::Case;
use crate::base::sectors::SectorSet;
use crate::dut::lifecycle::Lifecycle;
use crate::guest::wire::feature;
use crate::guest::{Change, GuestRequest};
use crate::host::disk::{DiskShape, OpKey, Outcome};
use crate::world::action::{Action, CrashKind, QueueId, Until};

/// A map of every place that a line can name.
struct Map<Q, S, P> {
    queue: Q,
    /// A sector, counted within its device.
    sector: S,
    /// A sector, counted on the medium.
    place: P,
}

impl<Q, S, P> Map<Q, S, P>
where
    Q: Fn(QueueId) -> QueueId,
    S: Fn(u64) -> u64,
    P: Fn(u32) -> Option<u32>,
{
    fn op(&self, op: OpKey) -> OpKey {
        let to = (self.queue)(QueueId { device: op.device, queue: op.lane });
        let sector = match op.sectors {
            0 => 0,
            _ => (self.place)(op.sector).unwrap_or(op.sector),
        };
        OpKey { device: to.device, lane: to.queue, sector, ..op }
    }

    fn set(&self, set: SectorSet) -> SectorSet {
        let mut mapped = SectorSet::EMPTY;
        for sector in set.iter().filter_map(&self.place) {
            if sector < SectorSet::CAPACITY {
                mapped.insert(sector);
            }
        }
        mapped
    }

    fn ask(&self, ask: GuestRequest) -> GuestRequest {
        match ask.range() {
            Some((at, count)) => ask.at((self.sector)(at), count).unwrap_or(ask),
            None => ask.with_segments(|segment| powerfail_model::Segment {
                sector: (self.sector)(segment.sector),
                ..segment
            }),
        }
    }

    fn device(&self, device: u8) -> u8 {
        (self.queue)(QueueId { device, queue: 0 }).device
    }

    fn action(&self, action: Action) -> Action {
        match action {
            Action::Start { device, accept, base } => {
                Action::Start { device: self.device(device), accept, base }
            }
            Action::Send { to, id, ask, layout, malformation } => {
                Action::Send { to: (self.queue)(to), id, ask: self.ask(ask), layout, malformation }
            }
            Action::SendAgain { to, id } => Action::SendAgain { to: (self.queue)(to), id },
            Action::Alter { to, change, moment } => {
                Action::Alter { to: (self.queue)(to), change: self.change(change), moment }
            }
            Action::Jump { to } => Action::Jump { to: (self.queue)(to) },
            Action::Kick { to } => Action::Kick { to: (self.queue)(to) },
            Action::Reap { to, arm } => Action::Reap { to: (self.queue)(to), arm },
            Action::Writeback { device, value } => {
                Action::Writeback { device: self.device(device), value }
            }
            Action::Reset { device } => Action::Reset { device: self.device(device) },
            Action::PollReset { device } => Action::PollReset { device: self.device(device) },
            Action::Crank { to, until } => {
                let until = match until {
                    Until::Submitted(op) => Until::Submitted(self.op(op)),
                    other => other,
                };
                Action::Crank { to: (self.queue)(to), until }
            }
            Action::Background { device, steps } => {
                Action::Background { device: self.device(device), steps }
            }
            Action::Choose { device, choices } => {
                Action::Choose { device: self.device(device), choices }
            }
            Action::Effect { op, set } => Action::Effect { op: self.op(op), set: self.set(set) },
            Action::Complete { op, outcome } => {
                let outcome = match outcome {
                    Outcome::Ok { landed } => Outcome::Ok { landed: self.set(landed) },
                    Outcome::Short { bytes } => Outcome::Short { bytes },
                    Outcome::Failed { errno, landed, forgot } => {
                        let (landed, forgot) = (self.set(landed), self.set(forgot));
                        Outcome::Failed { errno, landed, forgot }
                    }
                };
                Action::Complete { op: self.op(op), outcome }
            }
            Action::Lifecycle { device, what } => self.life(device, what),
            Action::WriteBack { set } => Action::WriteBack { set: self.set(set) },
            Action::Evict { set } => Action::Evict { set: self.set(set) },
            Action::Crash(CrashKind::Backend { device }) => {
                Action::Crash(CrashKind::Backend { device: self.device(device) })
            }
            Action::Crash(CrashKind::Power { survivors }) => {
                Action::Crash(CrashKind::Power { survivors: self.set(survivors) })
            }
            Action::Await { device, id } => Action::Await { device: self.device(device), id },
            Action::Stream { to, id, ask, count } => {
                Action::Stream { to: (self.queue)(to), id, ask: self.ask(ask), count }
            }
            Action::Rest => Action::Rest,
        }
    }

    /// A change of a request; its sectors are those of a request.
    fn change(&self, change: Change) -> Change {
        match change {
            Change::Sector(sector) => Change::Sector((self.sector)(sector)),
            Change::Segment { nth, segment } => {
                let sector = (self.sector)(segment.sector);
                Change::Segment { nth, segment: powerfail_model::Segment { sector, ..segment } }
            }
            other => other,
        }
    }

    fn life(&self, device: u8, what: Lifecycle) -> Action {
        let to = |queue: u8| (self.queue)(QueueId { device, queue });
        let what = match what {
            Lifecycle::ResetQueue { queue } => Lifecycle::ResetQueue { queue: to(queue).queue },
            Lifecycle::PollQueue { queue } => Lifecycle::PollQueue { queue: to(queue).queue },
            Lifecycle::PlaceQueue { queue, size } => {
                Lifecycle::PlaceQueue { queue: to(queue).queue, size }
            }
            Lifecycle::Reconnect { inside: Some((queue, cut)) } => {
                Lifecycle::Reconnect { inside: Some((to(queue).queue, cut)) }
            }
            other => other,
        };
        Action::Lifecycle { device: self.device(device), what }
    }

    fn all(&self, actions: &[Action]) -> Vec<Action> {
        actions.iter().map(|action| self.action(*action)).collect()
    }
}

/// The device of an action, if it has one.
fn device_of(action: &Action) -> Option<u8> {
    match action {
        Action::Start { device, .. }
        | Action::Writeback { device, .. }
        | Action::Reset { device }
        | Action::PollReset { device }
        | Action::Lifecycle { device, .. }
        | Action::Background { device, .. }
        | Action::Choose { device, .. }
        | Action::Crash(CrashKind::Backend { device })
        | Action::Await { device, .. } => Some(*device),
        Action::Send { to, .. }
        | Action::SendAgain { to, .. }
        | Action::Alter { to, .. }
        | Action::Jump { to }
        | Action::Kick { to }
        | Action::Reap { to, .. }
        | Action::Stream { to, .. }
        | Action::Crank { to, .. } => Some(to.device),
        Action::Effect { op, .. } | Action::Complete { op, .. } => Some(op.device),
        Action::WriteBack { .. }
        | Action::Evict { .. }
        | Action::Crash(CrashKind::Power { .. })
        | Action::Rest => None,
    }
}

/// Keeps one device.
pub(super) fn one_device(case: &Case, kept: u8) -> Option<Case> {
    let mut shape = case.shape;
    if shape.devices == 1 {
        return None;
    }
    shape.devices = 1;
    shape.spec.disk.devices = 1;
    let (base, part) = (case.shape.spec.disk.base(kept), case.shape.spec.disk.part(kept));
    let map = Map {
        queue: |to: QueueId| QueueId { device: 0, ..to },
        sector: |sector| sector,
        place: |place: u32| part.contains(place).then(|| place - base),
    };
    let mut actions = case.actions.clone();
    actions.retain(|action| device_of(action).is_none_or(|device| device == kept));
    Some(Case { shape, actions: map.all(&actions), ..*case })
}

/// Moves every request to the first of fewer queues, or the requests of one queue to another.
pub(super) fn one_queue(case: &Case, way: u8) -> Option<Case> {
    let mut shape = case.shape;
    if shape.spec.queues == 1 {
        return None;
    }
    let all = way == 0;
    let queue = |to: QueueId| match way {
        0 => QueueId { queue: 0, ..to },
        // The higher queues move to queue 1.
        1 => QueueId { queue: to.queue.min(1), ..to },
        2 => QueueId { queue: to.queue.saturating_sub(1), ..to },
        _ => to,
    };
    let used = |action: &Action| match action {
        Action::Send { to, .. } => queue(*to).queue,
        _ => 0,
    };
    let most = case.actions.iter().map(used).max().unwrap_or(0);
    shape.spec.queues = if all { 1 } else { u16::from(most) + 1 };
    let map = Map { queue, sector: |sector| sector, place: Some };
    Some(Case { shape, actions: map.all(&case.actions), ..*case })
}

/// Moves everything so many sectors closer to the start of the disk.
pub(super) fn earlier(case: &Case, by: u32) -> Option<Case> {
    let disk = case.shape.spec.disk;
    let first = |action: &Action| match action {
        Action::Send { ask, .. } | Action::Stream { ask, .. } => {
            let segments = ask.segments().map(|segment| segment.sector).min();
            ask.range().map(|range| range.0).or(segments)
        }
        _ => None,
    };
    let least = case.actions.iter().filter_map(first).min()?;
    if least < u64::from(by) || disk.devices > 1 {
        return None;
    }
    let map = Map {
        queue: |to| to,
        // The sector that an altered request gets may be lower than that of every request.
        sector: |sector: u64| sector.saturating_sub(by.into()),
        place: |place: u32| place.checked_sub(by),
    };
    Some(Case { actions: map.all(&case.actions), ..*case })
}

/// Shrinks the disk to this number of sectors.
pub(super) fn smaller(case: &Case, capacity: u32) -> Option<Case> {
    let mut shape = case.shape;
    let disk = shape.spec.disk;
    let capacity = capacity.max(disk.granule / 512);
    if capacity >= disk.capacity || !capacity.is_multiple_of(disk.granule / 512) {
        return None;
    }
    shape.spec.disk.capacity = capacity;
    let before: DiskShape = disk;
    let after = shape.spec.disk;
    let map = Map {
        queue: |to| to,
        sector: |sector| sector,
        place: |place: u32| {
            let device = (0..before.devices).find(|&d| before.part(d).contains(place))?;
            Some(place - before.base(device) + after.base(device))
        },
    };
    Some(Case { shape, actions: map.all(&case.actions), ..*case })
}

/// The features without which the guest's requests are invalid.
fn needed(case: &Case) -> u64 {
    let mut needed = feature::VERSION_1;
    if case.shape.spec.queues > 1 {
        needed |= feature::MQ;
    }
    for action in &case.actions {
        needed |= match action {
            Action::Writeback { .. } => feature::CONFIG_WCE | feature::FLUSH,
            Action::Send { ask, .. } if ask.facts().feature != 0 => ask.facts().feature,
            Action::Send { layout, .. } if layout.indirect != 0 => feature::INDIRECT_DESC,
            _ => 0,
        };
    }
    needed
}

/// Accepts all of these features that are offered.
pub(super) fn accepting(case: &Case, bits: u64) -> Option<Case> {
    let mut actions = case.actions.clone();
    for action in &mut actions {
        if let Action::Start { accept, .. } = action {
            *accept |= case.shape.spec.offer & bits;
        }
    }
    (actions != case.actions).then_some(Case { actions, ..*case })
}

/// Removes a feature that no request needs: from the offer, or only from the accepted ones.
pub(super) fn without(case: &Case, bits: u64, offered: bool) -> Option<Case> {
    let mut shape = case.shape;
    if offered {
        if needed(case) & bits != 0 {
            return None;
        }
        shape.spec.offer &= !bits;
    }
    let mut actions = case.actions.clone();
    let mut changed = shape.spec.offer != case.shape.spec.offer;
    for action in &mut actions {
        if let Action::Start { accept, .. } = action {
            changed |= *accept & bits != 0;
            *accept &= !bits;
        }
    }
    changed.then_some(Case { shape, actions, ..*case })
}

/// Starts the rings at index zero.
pub(super) fn at_index_zero(case: &Case) -> Option<Case> {
    let mut actions = case.actions.clone();
    for action in &mut actions {
        if let Action::Start { base, .. } = action {
            *base = 0;
        }
    }
    (actions != case.actions).then_some(Case { actions, ..*case })
}

/// Numbers the requests from one.
pub(super) fn renumbered(case: &Case) -> Case {
    // The old number of each request, or of the first of a stream, and the new one.
    let (mut order, mut next) = (Vec::new(), 1);
    for action in &case.actions {
        match action {
            Action::Send { id, .. } => {
                order.push((*id, next));
                next += 1;
            }
            Action::Stream { id, count, .. } => {
                order.push((*id, next));
                next += count;
            }
            Action::Alter { change: Change::Data { id }, .. } => {
                order.push((*id, next));
                next += 1;
            }
            _ => {}
        }
    }
    let number = |id: u32| {
        let entry = order.iter().find(|entry| entry.0 == id);
        entry.map_or(id, |entry| entry.1)
    };
    let mut actions = case.actions.clone();
    for action in &mut actions {
        match action {
            Action::Send { id, .. }
            | Action::SendAgain { id, .. }
            | Action::Stream { id, .. }
            | Action::Await { id, .. }
            | Action::Alter { change: Change::Data { id }, .. }
            | Action::Crank { until: Until::Used(id), .. } => *id = number(*id),
            _ => {}
        }
    }
    Case { actions, ..*case }
}
