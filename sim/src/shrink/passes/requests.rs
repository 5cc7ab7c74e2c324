//! Simpler requests.

use powerfail_model::Segment;

use super::{Mode, Said};
use crate::guest::{GuestRequest, Layout, Malformation, Segments};
use crate::shrink::case::Case;
use crate::shrink::timeline::Timeline;
use crate::world::action::{Action, QueueId};

/// Simplifies one request.
pub(super) fn requests(case: &Case, _: &Timeline, nth: usize) -> Said {
    const WAYS: usize = 17;
    let (place, way) = (nth / WAYS, nth % WAYS);
    let Some(action) = case.actions.get(place) else { return Said::End };
    let Action::Send { to, id, ask, layout, malformation } = *action else { return Said::Nothing };
    let mut changed = (to, ask, layout, malformation);
    match way {
        0 => changed.3 = Malformation::None,
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
    let (to, ask, layout, malformation) = changed;
    let mut actions = case.actions.clone();
    actions[place] = Action::Send { to, id, ask, layout, malformation };
    if actions[place] == *action {
        return Said::Nothing;
    }
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}

/// Moves a request to the range of another one.
pub(super) fn placed(case: &Case, ask: &GuestRequest, which: usize) -> Option<GuestRequest> {
    let mut others = Vec::new();
    for action in &case.actions {
        if let Action::Send { ask, .. } = action
            && let Some(range) = ask.range()
            && !others.contains(&range)
        {
            others.push(range);
        }
    }
    let &(first, count) = others.get(which)?;
    ask.at(first, count)
}

/// Narrows the range of a request.
fn narrowed(ask: &GuestRequest, way: usize) -> Option<GuestRequest> {
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
        let more = segments.more();
        match (way, slice) {
            (0..=2, _) if more > 0 => {
                return Some(segments.with_more([0, more / 2, more - 1][way]));
            }
            (0..=5, [only]) => {
                let (sector, sectors) = part(only.sector, only.sectors)?;
                fewer.push(Segment { sector, sectors, ..*only });
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
                    fewer.push(Segment { flags: 0, ..*segment });
                }
            }
            (7, [_, _, ..]) => {
                for segment in slice {
                    fewer.push(Segment { sectors: 1, ..*segment });
                }
            }
            _ => return None,
        }
        Some(fewer.with_more(more))
    };
    match ask {
        GuestRequest::Ranges(kind, segments) => {
            list(segments).map(|segments| GuestRequest::Ranges(*kind, segments))
        }
        _ => {
            let (first, count) = ask.range()?;
            let (first, count) = part(first, count)?;
            ask.at(first, count)
        }
    }
}
