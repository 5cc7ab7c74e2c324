//! The ways to make a run simpler, one small change at a time.
//!
//! A pass enumerates changes of a run by number. The [search](super::search) tries them in order,
//! keeps the first that fails in the same way and is simpler, and goes on from there with the same
//! number. Nothing here knows whether a change will do.

use super::case::Case;
use super::places;
use super::timeline::Timeline;
use crate::action::{Action, CrashKind, QueueId, Until};
use crate::disk::Outcome;
use crate::guest::{Ask, Layout, Mischief, Segments};
use crate::sectors::SectorSet;
use crate::spec::Options;
use crate::wire::feature;

/// The plainest error of a host.
const EIO: i32 = 5;

/// How a changed run is replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Lines that are no longer possible are dropped.
    Strict,
    /// They are moved to where they belong now.
    ByMeaning,
}

/// One try: a changed run.
pub(super) type Try = (Case, Mode);

/// What a pass says to a number.
#[expect(clippy::large_enum_variant, reason = "it is made and taken apart at once")]
pub(super) enum Said {
    /// Try this.
    Try(Case, Mode),
    /// Nothing to change here.
    Nothing,
    /// There is no change with this number, nor with a higher one.
    End,
}

/// A way to make runs simpler: what it says to a number.
pub(super) type Pass = fn(&Case, &Timeline, usize) -> Said;

/// All of them, those that take away most first.
pub(super) const ALL: [Pass; 11] =
    [in_order, lives, ranges, settled, requests, backwards, orders, cranks, sets, world, numbers];

/// Whether an action says only which thread or operation moves.
fn is_machinery(action: &Action) -> bool {
    match action {
        Action::Kick { .. }
        | Action::Reap { .. }
        | Action::Crank { .. }
        | Action::Effect { .. }
        | Action::WriteBack { .. }
        | Action::Complete { outcome: Outcome::Ok { .. }, .. } => true,
        _ => matches!(action, Action::PollReset { .. }),
    }
}

/// The whole run without machinery: the guest waits for its requests, at once, or where they came
/// back, or at the end of each life.
fn in_order(case: &Case, timeline: &Timeline, nth: usize) -> Said {
    if nth > 4 {
        return Said::End;
    }
    let mut actions = Vec::new();
    for (place, action) in case.actions.iter().enumerate() {
        let ends = matches!(action, Action::Crash(_) | Action::Reset { .. });
        if nth == 3 && ends {
            actions.push(Action::Rest);
        }
        if !is_machinery(action) && !matches!(action, Action::Await { .. }) {
            actions.push(*action);
        }
        if let Action::Send { to, id, .. } = action
            && (nth == 0 || (nth == 2 && timeline.back(to.device, *id).is_some()))
        {
            actions.push(Action::Await { device: to.device, id: *id });
        }
        if nth == 1 || nth == 4 {
            let back = timeline.at(place).back;
            actions.extend(back.into_iter().map(|(device, id)| Action::Await { device, id }));
        }
    }
    if nth == 4 {
        actions.push(Action::Rest);
    }
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// Without one life, from a start to the next, or without what ends it.
fn lives(case: &Case, _: &Timeline, nth: usize) -> Said {
    let starts: Vec<usize> = (0..case.actions.len())
        .filter(|&at| matches!(case.actions[at], Action::Start { .. }))
        .collect();
    let which = nth / 2;
    let Some(&start) = starts.get(which) else { return Said::End };
    let mut actions = case.actions.clone();
    if nth.is_multiple_of(2) {
        let next = starts.get(which + 1).copied().unwrap_or(actions.len());
        actions.drain(start..next);
    } else {
        // The life before goes on: neither its end nor this start.
        let ends = |action: &Action| matches!(action, Action::Crash(_) | Action::Reset { .. });
        let Some(end) = actions[..start].iter().rposition(ends) else { return Said::Nothing };
        actions.remove(start);
        actions.remove(end);
    }
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// Without a range of lines: halves first, single lines last.
fn ranges(case: &Case, timeline: &Timeline, nth: usize) -> Said {
    let len = case.actions.len();
    let mut nth = nth;
    let mut size = (len / 2).max(1);
    loop {
        let places = len.div_ceil(size);
        if nth < places {
            let at = nth * size;
            let mut actions = case.actions.clone();
            actions.drain(at..(at + size).min(len));
            return Said::Try(Case { actions, ..*case }, Mode::Strict);
        }
        nth -= places;
        if size == 1 {
            break;
        }
        size /= 2;
    }
    match nth.checked_sub(2 * len) {
        None => without_request(case, timeline, nth),
        Some(nth) => window(case, nth),
    }
}

/// Without a few lines in a row, if there are not many: what only goes together.
fn window(case: &Case, nth: usize) -> Said {
    const FEW: usize = 48;
    let len = case.actions.len();
    let (size, at) = (2 + nth / len.max(1), nth % len.max(1));
    if len > FEW || size > 6 {
        return Said::End;
    }
    if at + size > len {
        return Said::Nothing;
    }
    let mut actions = case.actions.clone();
    actions.drain(at..at + size);
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// As [`ranges`], from the end.
fn backwards(case: &Case, _: &Timeline, nth: usize) -> Said {
    let len = case.actions.len();
    let mut nth = nth;
    let mut size = (len / 2).max(1);
    while nth >= len.div_ceil(size) {
        nth -= len.div_ceil(size);
        if size == 1 {
            return Said::End;
        }
        size /= 2;
    }
    let end = len - nth * size;
    let mut actions = case.actions.clone();
    actions.drain(end.saturating_sub(size)..end);
    Said::Try(Case { actions, ..*case }, Mode::Strict)
}

/// Without a request and whatever waits for it. Where the wait was, nothing is, or a wait for the
/// others that came back in it.
fn without_request(case: &Case, timeline: &Timeline, nth: usize) -> Said {
    let Some(action) = case.actions.get(nth / 2) else { return Said::End };
    let Action::Send { id, .. } = *action else { return Said::Nothing };
    let mut actions = Vec::new();
    for (place, action) in case.actions.iter().enumerate() {
        match action {
            Action::Send { id: other, .. } | Action::SendAgain { id: other, .. }
                if *other == id => {}
            Action::Await { id: other, .. } if *other == id => {
                if !nth.is_multiple_of(2) {
                    let back = timeline.at(place).back.into_iter().filter(|back| back.1 != id);
                    actions.extend(back.map(|(device, id)| Action::Await { device, id }));
                }
            }
            _ => actions.push(*action),
        }
    }
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// A stretch of machinery replaced by waiting for what came back in it, or by coming to rest.
fn settled(case: &Case, timeline: &Timeline, nth: usize) -> Said {
    let (place, how) = (nth / 3, nth % 3);
    if place >= case.actions.len() {
        return Said::End;
    }
    let is_start = is_machinery(&case.actions[place])
        && (place == 0 || how == 1 || !is_machinery(&case.actions[place - 1]));
    if !is_start {
        return if matches!(case.actions[place], Action::Rest) && how < 2 {
            unrested(case, timeline, place, how)
        } else {
            Said::Nothing
        };
    }
    let end = (place..case.actions.len())
        .find(|&at| {
            !is_machinery(&case.actions[at]) && !matches!(case.actions[at], Action::Await { .. })
        })
        .unwrap_or(case.actions.len());
    let mut actions = case.actions[..place].to_vec();
    if how == 2 {
        actions.push(Action::Rest);
    } else {
        for at in place..end {
            let back = timeline.at(at).back;
            actions.extend(back.into_iter().map(|(device, id)| Action::Await { device, id }));
        }
    }
    actions.extend_from_slice(&case.actions[end..]);
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// A rest replaced by waiting for one request after the other.
fn unrested(case: &Case, timeline: &Timeline, place: usize, how: usize) -> Said {
    let mut back = timeline.at(place).back;
    if how == 1 {
        back.truncate(1);
    }
    let waits = back.into_iter().map(|(device, id)| Action::Await { device, id });
    let mut actions = case.actions[..place].to_vec();
    actions.extend(waits);
    actions.extend_from_slice(&case.actions[place + 1..]);
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// One request made plainer.
fn requests(case: &Case, _: &Timeline, nth: usize) -> Said {
    const WAYS: usize = 17;
    let (place, way) = (nth / WAYS, nth % WAYS);
    let Some(action) = case.actions.get(place) else { return Said::End };
    let Action::Send { to, id, ask, layout, mischief } = *action else { return Said::Nothing };
    let mut changed = (to, ask, layout, mischief);
    match way {
        0 => changed.3 = Mischief::None,
        1 => changed.2 = Layout::PLAIN,
        2 => changed.2 = Layout { indirect: 0, ..layout },
        3 => changed.2 = Layout { indirect: layout.indirect, ..Layout::PLAIN },
        4 => changed.0 = QueueId { queue: 0, ..to },
        5..=7 => match placed(case, &ask, way - 5) {
            Some(ask) => changed.1 = ask,
            None => return Said::Nothing,
        },
        _ => match narrowed(&ask, way - 8) {
            Some(ask) => changed.1 = ask,
            None => return Said::Nothing,
        },
    }
    let (to, ask, layout, mischief) = changed;
    let mut actions = case.actions.clone();
    actions[place] = Action::Send { to, id, ask, layout, mischief };
    if actions[place] == *action {
        return Said::Nothing;
    }
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// The same request where another one is.
fn placed(case: &Case, ask: &Ask, which: usize) -> Option<Ask> {
    let mut others = Vec::new();
    for action in &case.actions {
        if let Action::Send {
            ask: Ask::In { sector, sectors } | Ask::Out { sector, sectors }, ..
        } = action
            && !others.contains(&(*sector, *sectors))
        {
            others.push((*sector, *sectors));
        }
    }
    let &(sector, sectors) = others.get(which)?;
    match ask {
        Ask::In { .. } => Some(Ask::In { sector, sectors }),
        Ask::Out { .. } => Some(Ask::Out { sector, sectors }),
        _ => None,
    }
}

/// The same request over less.
fn narrowed(ask: &Ask, way: usize) -> Option<Ask> {
    let part = |sector: u64, sectors: u32| {
        let (sector, sectors) = match way {
            0 => (sector, 1),
            1 => (sector.checked_add(u64::from(sectors.saturating_sub(1)))?, 1),
            2 => (sector, sectors / 2),
            3 => (sector.checked_add(u64::from(sectors / 2))?, sectors - sectors / 2),
            4 => (sector, sectors.checked_sub(1)?),
            5 => (sector.checked_add(1)?, sectors.checked_sub(1)?),
            _ => return None,
        };
        (sectors > 0).then_some((sector, sectors))
    };
    let list = |segments: &Segments| {
        let slice = segments.as_slice();
        let mut fewer = Segments::NONE;
        match (way, slice) {
            (0..=5, [only]) => {
                let (sector, sectors) = part(only.sector, only.sectors)?;
                fewer.push(powerfail_model::Segment { sector, sectors, ..*only });
            }
            (0..=2, [_, _, ..]) => fewer.push(*slice.get(way)?),
            (3..=5, [_, _, _]) => {
                for (nth, segment) in slice.iter().enumerate() {
                    if nth != way - 3 {
                        fewer.push(*segment);
                    }
                }
            }
            (6, _) => {
                for segment in slice {
                    fewer.push(powerfail_model::Segment { flags: 0, ..*segment });
                }
            }
            (7, [_, _, ..]) => {
                for segment in slice {
                    fewer.push(powerfail_model::Segment { sectors: 1, ..*segment });
                }
            }
            _ => return None,
        }
        Some(fewer)
    };
    match ask {
        Ask::In { sector, sectors } => {
            part(*sector, *sectors).map(|(sector, sectors)| Ask::In { sector, sectors })
        }
        Ask::Out { sector, sectors } => {
            part(*sector, *sectors).map(|(sector, sectors)| Ask::Out { sector, sectors })
        }
        Ask::Discard(segments) => list(segments).map(Ask::Discard),
        Ask::WriteZeroes(segments) => list(segments).map(Ask::WriteZeroes),
        Ask::Flush | Ask::GetId | Ask::Other(_) => None,
    }
}

/// A request and its answer closer together, and other lines where they matter least.
fn orders(case: &Case, _: &Timeline, nth: usize) -> Said {
    const WAYS: usize = 3;
    let (place, way) = (nth / WAYS, nth % WAYS);
    let Some(action) = case.actions.get(place).copied() else { return Said::End };
    let mut actions = case.actions.clone();
    match (action, way) {
        (Action::Send { to, id, .. }, 0) => {
            // The wait right behind it.
            let wait = Action::Await { device: to.device, id };
            actions.retain(|other| *other != wait);
            let at = actions.iter().position(|other| *other == action).unwrap_or(place);
            actions.insert(at + 1, wait);
        }
        (Action::Await { id, .. }, 0) => {
            // The request right before it.
            let is = |other: &Action| matches!(other, Action::Send { id: sent, .. } if *sent == id);
            let Some(from) = actions[..place].iter().position(is) else { return Said::Nothing };
            let send = actions.remove(from);
            actions.insert(place - 1, send);
        }
        (Action::Complete { op, outcome }, 1)
            if !matches!(outcome, Outcome::Ok { .. } | Outcome::Failed { .. }) =>
        {
            let landed = SectorSet::EMPTY;
            actions[place] = Action::Complete { op, outcome: Outcome::Ok { landed } };
        }
        (Action::Await { .. } | Action::Rest | Action::Crank { .. } | Action::Kick { .. }, 2)
            if place + 1 < actions.len() =>
        {
            actions.remove(place);
        }
        _ => return Said::Nothing,
    }
    if actions == case.actions {
        return Said::Nothing;
    }
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// A thread that runs until something that a reader knows has happened.
fn cranks(case: &Case, timeline: &Timeline, nth: usize) -> Said {
    const WAYS: usize = 12;
    let (place, way) = (nth / WAYS, nth % WAYS);
    let Some(action) = case.actions.get(place) else { return Said::End };
    let Action::Crank { to, until } = *action else { return Said::Nothing };
    let moment = timeline.at(place);
    let wanted = match (way, until) {
        (0, _) => Some(Until::Idle),
        (1..=3, _) => moment.back.get(way - 1).map(|&(_, id)| Until::Used(id)),
        (4..=6, _) => moment.submitted.get(way - 4).map(|&op| Until::Submitted(op)),
        (7, Until::Steps(steps)) => Some(Until::Steps(steps / 2)),
        (8, Until::Steps(steps)) => Some(Until::Steps(steps - 1)),
        (9, Until::Steps(steps)) => {
            // Two runs of one thread in a row are one.
            let next = case.actions.get(place + 1);
            if let Some(Action::Crank { to: other, until: Until::Steps(more) }) = next
                && *other == to
            {
                let mut actions = case.actions.clone();
                let until = Until::Steps(steps.saturating_add(*more));
                actions[place] = Action::Crank { to, until };
                actions.remove(place + 1);
                return Said::Try(Case { actions, ..*case }, Mode::Strict);
            }
            None
        }
        (10, Until::Idle | Until::Submitted(_) | Until::Used(_)) => None,
        _ => None,
    };
    let Some(until) = wanted.filter(|until| until.most() > 0) else { return Said::Nothing };
    let mut actions = case.actions.clone();
    actions[place] = Action::Crank { to, until };
    Said::Try(Case { actions, ..*case }, Mode::Strict)
}

/// A crash that loses everything, or nothing; a failure that leaves nothing behind, or one sector less.
fn sets(case: &Case, _: &Timeline, nth: usize) -> Said {
    const WAYS: usize = 20;
    let (place, way) = (nth / WAYS, nth % WAYS);
    let Some(action) = case.actions.get(place) else { return Said::End };
    let smaller = |set: SectorSet| {
        let mut set = set;
        match way / 2 {
            0 => set = SectorSet::EMPTY,
            nth => {
                let sector = set.nth(nth as u32 - 1)?;
                set.remove(sector);
            }
        }
        Some(set)
    };
    let first = way.is_multiple_of(2);
    let changed = match *action {
        Action::Crash(CrashKind::Power { survivors }) if first => {
            smaller(survivors).map(|survivors| Action::Crash(CrashKind::Power { survivors }))
        }
        Action::Effect { op, set } if first => smaller(set).map(|set| Action::Effect { op, set }),
        Action::WriteBack { set } if first => smaller(set).map(|set| Action::WriteBack { set }),
        Action::Evict { set } if first => smaller(set).map(|set| Action::Evict { set }),
        Action::Complete { op, outcome: Outcome::Ok { landed } } if first => {
            smaller(landed).map(|landed| Action::Complete { op, outcome: Outcome::Ok { landed } })
        }
        Action::Complete { op, outcome: Outcome::Failed { errno, landed, forgot } }
            if way == WAYS - 1 && errno != EIO =>
        {
            let outcome = Outcome::Failed { errno: EIO, landed, forgot };
            Some(Action::Complete { op, outcome })
        }
        Action::Complete { op, outcome: Outcome::Failed { errno, landed, forgot } } => {
            let (landed, forgot) = match first {
                true => (smaller(landed), Some(forgot)),
                false => (Some(landed), smaller(forgot)),
            };
            landed.zip(forgot).map(|(landed, forgot)| {
                let outcome = Outcome::Failed { errno, landed, forgot };
                Action::Complete { op, outcome }
            })
        }
        _ => return Said::Nothing,
    };
    let Some(changed) = changed.filter(|changed| changed != action) else { return Said::Nothing };
    let mut actions = case.actions.clone();
    actions[place] = changed;
    Said::Try(Case { actions, ..*case }, Mode::Strict)
}

/// A plainer world: one device, one queue, a small disk with the requests at its beginning, fewer
/// features.
fn world(case: &Case, _: &Timeline, nth: usize) -> Said {
    const FEATURES: [u64; 9] = [
        feature::MQ,
        feature::EVENT_IDX,
        feature::INDIRECT_DESC,
        feature::CONFIG_WCE,
        feature::DISCARD,
        feature::WRITE_ZEROES,
        feature::FLUSH,
        feature::RO,
        feature::SIZE_MAX | feature::SEG_MAX | feature::BLK_SIZE | feature::TOPOLOGY,
    ];
    let changed = match nth {
        0 | 1 => places::one_device(case, nth as u8),
        2..=5 => places::one_queue(case, nth as u8 - 2),
        6..=9 => places::earlier(case, [16, 8, 4, 1][nth - 6]),
        10..=14 => places::smaller(case, [1, 2, 4, 8, 16][nth - 10]),
        15..=23 => places::without(case, FEATURES[nth - 15], true),
        24..=32 => places::accepting(case, FEATURES[nth - 24]),
        33..=44 => options(case, nth - 33),
        45 => places::at_index_zero(case),
        46..=48 => together(case, nth - 46),
        _ => return Said::End,
    };
    match changed {
        Some(case) => Said::Try(case, Mode::ByMeaning),
        None => Said::Nothing,
    }
}

/// Every read and write in the same place.
fn together(case: &Case, which: usize) -> Option<Case> {
    let mut actions = case.actions.clone();
    for action in &mut actions {
        if let Action::Send { ask, .. } = action
            && let Some(other) = placed(case, ask, which)
        {
            *ask = other;
        }
    }
    (actions != case.actions).then_some(Case { actions, ..*case })
}

fn options(case: &Case, nth: usize) -> Option<Case> {
    let mut options: Options = case.options;
    let disk = &mut options.spec.disk;
    match nth {
        0 => disk.tear = 1,
        1 => (disk.granule, disk.tear, disk.discard_granularity) = (512, 1, 512),
        2 => disk.discard_granularity = disk.granule,
        3 => disk.max_transfer = 1 << 20,
        4 => disk.depth = 32,
        5 => disk.read_only = false,
        6 => options.spec.ring_size = 16,
        7 => options.spec.writeback = true,
        8 => options.spec.max_segments = 1,
        9 => options.spec.max_segment_sectors = 8,
        10 => {
            options.fail = crate::choose::Ratio::NEVER;
            options.fail_sync = crate::choose::Ratio::NEVER;
        }
        _ => {
            let longest = case.actions.iter().map(|action| match action {
                Action::Send { ask, .. } => ask.data_len().div_ceil(512).max(1),
                _ => 1,
            });
            options.max_sectors = longest.max().unwrap_or(1);
        }
    }
    (options != case.options).then(|| Case { options, ..case.clone() })
}

/// Requests counted from one in the order in which they are sent, and a run with the number one.
fn numbers(case: &Case, _: &Timeline, nth: usize) -> Said {
    match nth {
        0 => {
            let case = places::renumbered(case);
            Said::Try(case, Mode::Strict)
        }
        1 => Said::Try(Case { run: 1, ..case.clone() }, Mode::Strict),
        _ => Said::End,
    }
}
