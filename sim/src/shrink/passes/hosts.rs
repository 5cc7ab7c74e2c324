//! Simpler threads, hosts and crashes.

use super::{Mode, Said};
use crate::base::sectors::SectorSet;
use crate::dut::Choices;
use crate::host::disk::{Errno, Outcome};
use crate::shrink::case::Case;
use crate::shrink::timeline::Timeline;
use crate::world::action::{Action, CrashKind, Until};

/// Runs a thread up to an event that the reader can see in the trace.
pub(super) fn cranks(case: &Case, timeline: &Timeline, nth: usize) -> Said {
    const WAYS: usize = 10;
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
            // Merge two consecutive runs of one thread.
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
        _ => None,
    };
    let Some(until) = wanted.filter(|until| until.most() > 0) else { return Said::Nothing };
    let mut actions = case.actions.clone();
    actions[place] = Action::Crank { to, until };
    Said::Try(Case { actions, ..*case }, Mode::Strict)
}

/// Makes choices of the device plainer: those that it took instead of the numbers drawn, later ones
/// without the zeros before them, fewer, and smaller; and runs its background work for fewer steps.
pub(super) fn choices(case: &Case, timeline: &Timeline, nth: usize) -> Said {
    const LATER: usize = 32;
    const WAYS: usize = 1 + LATER + 4 * Choices::MOST;
    let own = |action: &Action| matches!(action, Action::Choose { .. } | Action::Background { .. });
    let (rank, way) = (nth / WAYS, nth % WAYS);
    let mut places = (0..case.actions.len()).filter(|&place| own(&case.actions[place]));
    let Some(place) = places.nth(rank) else { return Said::End };
    let fewer = |number: u16, how: usize| match how % 4 {
        0 => 0,
        1 => number.min(1),
        2 => number / 2,
        _ => number.saturating_sub(1),
    };
    let mut actions = case.actions.clone();
    match actions[place] {
        Action::Choose { device, choices } => {
            let mut numbers = choices.numbers().to_vec();
            let zeros = numbers.iter().take_while(|&&number| number == 0).count();
            let mut target = place;
            match way.checked_sub(1) {
                None => numbers = timeline.chosen(place, &case.actions, device),
                Some(later) if later < LATER => {
                    let sends = (place + 1..actions.len())
                        .filter(|&at| matches!(actions[at], Action::Send { .. }));
                    let Some(before) = sends.skip(later).find(|_| zeros > 0) else {
                        return Said::Nothing;
                    };
                    numbers.drain(..zeros);
                    target = before - 1;
                }
                Some(other) => {
                    let way = other - LATER;
                    let Some(at) = numbers.len().checked_sub(1 + way / 4) else {
                        return Said::Nothing;
                    };
                    numbers[at] = fewer(numbers[at], way);
                }
            }
            actions.remove(place);
            actions.insert(target, Action::Choose { device, choices: Choices::new(numbers) });
        }
        Action::Background { device, steps } if way < 4 => {
            let steps = fewer(u16::from(steps), way).max(1) as u8;
            actions[place] = Action::Background { device, steps };
        }
        _ => return Said::Nothing,
    }
    if actions == case.actions {
        return Said::Nothing;
    }
    Said::Try(Case { actions, ..*case }, Mode::Strict)
}

/// Makes a crash lose everything or nothing, and a failed operation land in no sector, or in one
/// sector less.
pub(super) fn sets(case: &Case, _: &Timeline, nth: usize) -> Said {
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
        Action::Crash(CrashKind::Power { .. }) if way == 1 => {
            let survivors = case.medium();
            Some(Action::Crash(CrashKind::Power { survivors }))
        }
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
            if way == WAYS - 1 && errno != Errno::EIO && case.shape.host_may_fail =>
        {
            let outcome = Outcome::Failed { errno: Errno::EIO, landed, forgot };
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
