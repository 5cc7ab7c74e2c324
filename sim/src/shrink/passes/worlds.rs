//! Simpler worlds.

use super::requests::placed;
use super::{Mode, Said};
use crate::guest::wire::{feature, memory};
use crate::shrink::case::Case;
use crate::shrink::places;
use crate::shrink::timeline::Timeline;
use crate::world::WorldShape;
use crate::world::action::Action;

/// Simplifies the world: one device, one queue, a small disk with the requests at its beginning,
/// fewer features.
pub(super) fn world(case: &Case, _: &Timeline, nth: usize) -> Said {
    const FEATURES: [u64; 10] = [
        feature::RING_RESET,
        feature::MQ,
        feature::EVENT_IDX,
        feature::INDIRECT_DESC,
        feature::CONFIG_WCE,
        feature::DISCARD,
        feature::WRITE_ZEROES,
        feature::FLUSH,
        feature::RO,
        feature::SIZE_MAX
            | feature::SEG_MAX
            | feature::BLK_SIZE
            | feature::TOPOLOGY
            | memory::SHMEM_REGION,
    ];
    let changed = match nth {
        0 | 1 => places::one_device(case, nth as u8),
        2..=5 => places::one_queue(case, nth as u8 - 2),
        6..=9 => places::earlier(case, [16, 8, 4, 1][nth - 6]),
        10..=14 => places::smaller(case, [1, 2, 4, 8, 16][nth - 10]),
        15..=24 => places::without(case, FEATURES[nth - 15], true),
        25..=34 => places::accepting(case, FEATURES[nth - 25]),
        35..=48 => shaped(case, nth - 35),
        49 => places::at_index_zero(case),
        50..=52 => together(case, nth - 50),
        53 if case.shape.watch => {
            let shape = WorldShape { watch: false, ..case.shape };
            Some(Case { shape, ..case.clone() })
        }
        53 => None,
        54 | 55 if case.shape.region != 0 => {
            // Smaller regions end in more buffers, so that fewer requests reach the end of one.
            let shape = WorldShape { region: [0, 4096][nth - 54], ..case.shape };
            (shape != case.shape).then(|| Case { shape, ..case.clone() })
        }
        54 | 55 => None,
        _ => return Said::End,
    };
    match changed {
        Some(case) => Said::Try(case, Mode::ByMeaning),
        None => Said::Nothing,
    }
}

/// Moves every read and write to the same place.
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

fn shaped(case: &Case, nth: usize) -> Option<Case> {
    let mut shape = case.shape;
    let disk = &mut shape.spec.disk;
    match nth {
        0 => disk.tear = 1,
        12 => disk.spare = 0,
        13 => shape.spec.record = false,
        1 => (disk.granule, disk.tear, disk.discard_granularity) = (512, 1, 512),
        2 => disk.discard_granularity = disk.granule,
        3 => disk.max_transfer = 1 << 20,
        4 => disk.depth = 32,
        5 => disk.read_only = false,
        6 => shape.spec.ring_size = 16,
        7 => shape.spec.writeback = true,
        8 => shape.spec.max_segments = 1,
        9 => shape.spec.max_segment_sectors = 8,
        10 if !case.actions.iter().any(is_failure) => shape.host_may_fail = false,
        10 => {}
        _ => {
            let longest = case.actions.iter().map(|action| match action {
                Action::Send { ask, .. } => ask.data_len().div_ceil(512).max(1),
                _ => 1,
            });
            shape.max_sectors = longest.max().unwrap_or(1);
        }
    }
    (shape != case.shape).then(|| Case { shape, ..case.clone() })
}

/// Whether the host fails permanently, which is allowed only if the shape of the world says so.
fn is_failure(action: &Action) -> bool {
    matches!(action, Action::Complete { outcome, .. } if outcome.is_failure())
}

/// Numbers the requests from one in the order of submission, and the run one.
pub(super) fn numbers(case: &Case, _: &Timeline, nth: usize) -> Said {
    match nth {
        0 => {
            let case = places::renumbered(case);
            Said::Try(case, Mode::Strict)
        }
        1 => Said::Try(Case { run: 1, ..case.clone() }, Mode::Strict),
        _ => Said::End,
    }
}

/// Starts the rings later, nearer to the wrap, so that fewer requests reach it.
pub(super) fn nearer(case: &Case, _: &Timeline, nth: usize) -> Said {
    const MOST: usize = 24;
    let Some(fewer) = MOST.checked_sub(nth).filter(|&fewer| fewer > 0) else { return Said::End };
    let near = |action: &Action| matches!(action, Action::Start { base, .. } if *base >= 0xff00);
    let Some(start) = case.actions.iter().position(near) else { return Said::End };
    let sent = |action: &Action| match action {
        Action::Send { id, .. } => Some(*id),
        _ => None,
    };
    let gone: Vec<u32> = case.actions[start..].iter().filter_map(sent).take(fewer).collect();
    let mut actions = case.actions.clone();
    if let Action::Start { base, .. } = &mut actions[start] {
        *base = base.wrapping_add(gone.len() as u16);
    }
    actions.retain(|action| match action {
        Action::Send { id, .. } | Action::SendAgain { id, .. } | Action::Await { id, .. } => {
            !gone.contains(id)
        }
        _ => true,
    });
    Said::Try(Case { actions, ..*case }, Mode::ByMeaning)
}
