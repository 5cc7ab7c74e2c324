//! Fewer lines, and a simpler order of lines.

use super::{Mode, Said, is_machinery};
use crate::base::sectors::SectorSet;
use crate::host::disk::Outcome;
use crate::shrink::case::Case;
use crate::shrink::timeline::Timeline;
use crate::world::action::Action;

/// Replaces all machinery of the run: the guest waits for each request at once, or where it came
/// back, or at the end of each life.
pub(super) fn in_order(case: &Case, timeline: &Timeline, nth: usize) -> Said {
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
        if let Action::Send { to, id, ask, .. } = action
            && !ask.is_access()
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

/// Removes one life, from a start to the next, or only its end.
pub(super) fn lives(case: &Case, _: &Timeline, nth: usize) -> Said {
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
        // The life before continues: remove its end and this start.
        let ends = |action: &Action| matches!(action, Action::Crash(_) | Action::Reset { .. });
        let Some(end) = actions[..start].iter().rposition(ends) else { return Said::Nothing };
        actions.remove(start);
        actions.remove(end);
    }
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// Removes a range of lines: halves first, single lines last.
pub(super) fn ranges(case: &Case, timeline: &Timeline, nth: usize) -> Said {
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

/// As [`ranges`], from the last line.
pub(super) fn backwards(case: &Case, _: &Timeline, nth: usize) -> Said {
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

/// Removes a request and every wait for it. A wait for several requests becomes a wait for the
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

/// Removes a few consecutive lines, if the run is short: lines that can only be removed together.
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

/// Replaces a stretch of machinery by waits for the requests that came back in it, or by a rest.
pub(super) fn settled(case: &Case, timeline: &Timeline, nth: usize) -> Said {
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

/// Replaces a rest by a wait for each request.
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

/// Moves a request closer to its answer, and other lines to where they matter least.
pub(super) fn orders(case: &Case, _: &Timeline, nth: usize) -> Said {
    const WAYS: usize = 3;
    let (place, way) = (nth / WAYS, nth % WAYS);
    let Some(action) = case.actions.get(place).copied() else { return Said::End };
    let mut actions = case.actions.clone();
    match (action, way) {
        (Action::Send { to, id, ask, .. }, 0) if !ask.is_access() => {
            // Move the wait directly behind the request.
            let wait = Action::Await { device: to.device, id };
            actions.retain(|other| *other != wait);
            let at = actions.iter().position(|other| *other == action).unwrap_or(place);
            actions.insert(at + 1, wait);
        }
        (Action::Await { id, .. }, 0) => {
            // Move the request directly before the wait.
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
