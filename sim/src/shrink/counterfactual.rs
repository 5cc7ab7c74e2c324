//! The condition of a failure: one property of the run without which it passes.
//!
//! A shrunk run fails, and it passes without any one of its lines; that alone explains little. So
//! changes that leave every request in place are tried first: no host error, a feature accepted,
//! two lines swapped. The first change after which no promise is broken becomes a sentence. Both
//! halves of the sentence were run.

use super::case::Case;
use super::passes::Mode;
use super::places;
use super::search::{Search, confidence};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::guest::wire::feature;
use crate::guest::{Layout, Malformation};
use crate::host::disk::{OpKey, OpKind, Outcome};
use crate::run::rebase::rebase;
use crate::trace::{features, request_name};
use crate::world::action::{Action, CrashKind, QueueId, Until};

/// A change, and the clause that describes the unchanged run.
struct Change {
    case: Case,
    says: String,
}

/// The condition of the failure of a shrunk run, if some change makes it pass: the run fails if and
/// only if this clause holds.
pub(super) fn find<D: DeviceUnderTest>(search: &Search<'_, D>, case: &Case) -> Option<String> {
    let always = |_| search.attempt(&(case.clone(), Mode::Strict)).is_some();
    if confidence::<D>() > 1 && !(0..confidence::<D>()).all(always) {
        return None;
    }
    let ways = [faults, refusals, modes, ends, orders, survivors, forms, removals];
    ways.into_iter()
        .flat_map(|way| way(case))
        .find(|change| (0..confidence::<D>()).all(|_| passes(search, &change.case)))
        .map(|change| change.says)
}

/// Whether no promise is broken, although every request is sent and every life ends as before.
fn passes<D: DeviceUnderTest>(search: &Search<'_, D>, case: &Case) -> bool {
    let weight = |actions: &[Action]| {
        let counts = |action: &&Action| {
            matches!(action, Action::Send { .. } | Action::Crash(_) | Action::Start { .. })
        };
        actions.iter().filter(counts).count()
    };
    search.with(case, |world| {
        let run = rebase(world, case.shape, case.run, &case.actions);
        world.refresh(run.verdict.failure.as_deref());
        let whole = weight(&run.actions) == weight(&case.actions);
        run.verdict.failure.is_none() && !run.verdict.exhausted && whole
    })
}

fn with(case: &Case, place: usize, action: Action) -> Case {
    let mut actions = case.actions.clone();
    actions[place] = action;
    Case { actions, ..*case }
}

fn without(case: &Case, places: &[usize]) -> Case {
    let mut place = 0;
    let mut actions = case.actions.clone();
    actions.retain(|_| {
        place += 1;
        !places.contains(&(place - 1))
    });
    Case { actions, ..*case }
}

/// Removes the failures of the host.
fn faults(case: &Case) -> Vec<Change> {
    let mut changes = Vec::new();
    for (place, action) in case.actions.iter().enumerate() {
        let Action::Complete { op, outcome } = *action else { continue };
        let how = match outcome {
            Outcome::Ok { .. } => continue,
            Outcome::Short { .. } => "stops short",
            Outcome::Failed { .. } => "fails",
        };
        let landed = if op.kind == OpKind::Discard { op.range() } else { SectorSet::EMPTY };
        let outcome = Outcome::Ok { landed };
        let says = format!("{} {how}", operation(case, &op));
        changes.push(Change { case: with(case, place, Action::Complete { op, outcome }), says });
    }
    changes
}

/// Accepts a feature that the guest refused.
fn refusals(case: &Case) -> Vec<Change> {
    let mut changes = Vec::new();
    for (place, action) in case.actions.iter().enumerate() {
        let Action::Start { device, accept, base } = *action else { continue };
        let refused = case.shape.spec.offer & !accept;
        for bit in (0..64).map(|bit| 1 << bit).filter(|bit| refused & bit != 0) {
            let start = Action::Start { device, accept: accept | bit, base };
            let says = format!("the guest does not accept {}", features(bit));
            changes.push(Change { case: with(case, place, start), says });
        }
    }
    changes
}

/// Removes the guest's writes to the cache mode.
fn modes(case: &Case) -> Vec<Change> {
    let mut changes = Vec::new();
    for (place, action) in case.actions.iter().enumerate() {
        let Action::Writeback { value, .. } = *action else { continue };
        let says = format!("the guest sets writeback to {value}");
        changes.push(Change { case: without(case, &[place]), says });
    }
    changes
}

/// Removes resets of the device and kills of its backend.
fn ends(case: &Case) -> Vec<Change> {
    let mut changes = Vec::new();
    for (place, action) in case.actions.iter().enumerate() {
        let (says, of) = match action {
            Action::Reset { device } => ("the device is reset", *device),
            Action::Crash(CrashKind::Backend { device }) => ("the backend is killed", *device),
            _ => continue,
        };
        let is = |action: &Action| matches!(action, Action::Start { device, .. } if *device == of);
        let mut gone = vec![place];
        if let Some(next) = case.actions[place..].iter().position(is) {
            gone.push(place + next);
        }
        changes.push(Change { case: without(case, &gone), says: says.to_owned() });
    }
    changes
}

/// Swaps two lines: close ones first, those next to a crash last.
fn orders(case: &Case) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut about_crashes = Vec::new();
    for distance in 1..=4 {
        for place in 0..case.actions.len().saturating_sub(distance) {
            let (first, second) = (case.actions[place], case.actions[place + distance]);
            if !may_swap(&first, &second) {
                continue;
            }
            let (Some(one), Some(two)) = (event(case, &first), event(case, &second)) else {
                continue;
            };
            let mut actions = case.actions.clone();
            let moved = actions.remove(place);
            actions.insert(place + distance, moved);
            let change =
                Change { case: Case { actions, ..*case }, says: format!("{one} before {two}") };
            if matches!(first, Action::Crash(_)) || matches!(second, Action::Crash(_)) {
                about_crashes.push(change);
            } else {
                changes.push(change);
            }
        }
    }
    changes.append(&mut about_crashes);
    changes
}

/// Whether swapping two lines is informative. Excluded are a request and its own answer, a request
/// and the end of the run, and a start, on which everything depends.
fn may_swap(first: &Action, second: &Action) -> bool {
    let number = |action: &Action| match action {
        Action::Send { id, .. } | Action::Await { id, .. } => Some(*id),
        Action::Crank { until: Until::Used(id), .. } => Some(*id),
        _ => None,
    };
    let same = number(first).is_some() && number(first) == number(second);
    let starts = |action: &Action| matches!(action, Action::Start { .. });
    let sends = |action: &Action| matches!(action, Action::Send { .. });
    let rests = |action: &Action| matches!(action, Action::Rest);
    let unasked = (sends(first) && rests(second)) || (rests(first) && sends(second));
    !same && !unasked && !starts(first) && !starts(second)
}

/// Swaps survival and loss of a sector.
fn survivors(case: &Case) -> Vec<Change> {
    let mut changes = Vec::new();
    let disk = case.shape.spec.disk;
    for (place, action) in case.actions.iter().enumerate() {
        let Action::Crash(CrashKind::Power { survivors }) = *action else { continue };
        for device in 0..disk.devices {
            for sector in disk.part(device).iter() {
                let mut other = survivors;
                let kept = survivors.contains(sector);
                if kept {
                    other.remove(sector);
                } else {
                    other.insert(sector);
                }
                let crash = Action::Crash(CrashKind::Power { survivors: other });
                let number = sector - disk.base(device);
                let how = if kept { "survives" } else { "does not survive" };
                let says = format!("sector {number} {how} the power loss");
                changes.push(Change { case: with(case, place, crash), says });
            }
        }
    }
    changes
}

/// Makes a request well-formed, simply laid out, or on another queue; or refuses a feature.
fn forms(case: &Case) -> Vec<Change> {
    let mut changes = Vec::new();
    for (place, action) in case.actions.iter().enumerate() {
        let Action::Send { to, id, ask, layout, malformation } = *action else { continue };
        let name = request_name(id, &ask);
        let mut send = |says: String, layout: Layout, malformation: Malformation, to: QueueId| {
            let other = Action::Send { to, id, ask, layout, malformation };
            if other != *action {
                changes.push(Change { case: with(case, place, other), says });
            }
        };
        send(format!("{name} is malformed"), layout, Malformation::None, to);
        let direct = Layout { indirect: 0, ..layout };
        send(format!("{name} lies in an indirect table"), direct, malformation, to);
        send(format!("{name} is cut in pieces as it is"), Layout::PLAIN, malformation, to);
        let first = QueueId { queue: 0, ..to };
        send(format!("{name} is on queue {}", to.queue), layout, malformation, first);
    }
    let accepted = case.actions.iter().fold(0, |bits, action| match action {
        Action::Start { accept, .. } => bits | accept,
        _ => bits,
    });
    for bit in (0..64).map(|bit| 1 << bit).filter(|bit| accepted & bit != 0) {
        if bit != feature::VERSION_1
            && let Some(case) = places::without(case, bit, false)
        {
            changes.push(Change { case, says: format!("the guest accepts {}", features(bit)) });
        }
    }
    changes
}

/// Removes a request, or a line of another kind.
fn removals(case: &Case) -> Vec<Change> {
    let mut changes = Vec::new();
    for (place, action) in case.actions.iter().enumerate().rev() {
        let (says, other) = match action {
            Action::Send { id, ask, .. } => {
                let mut gone = vec![place];
                gone.extend((0..case.actions.len()).filter(|&at| {
                    matches!(case.actions[at], Action::Await { id: waits, .. } if waits == *id)
                }));
                (format!("{} is sent", request_name(*id, ask)), without(case, &gone))
            }
            Action::SendAgain { id, .. } => {
                (format!("the head of {id} is published again"), without(case, &[place]))
            }
            Action::Alter { .. } => {
                ("the guest changes a request in flight".to_owned(), without(case, &[place]))
            }
            Action::Jump { .. } => {
                ("avail.idx moves out of range".to_owned(), without(case, &[place]))
            }
            Action::WriteBack { set } => {
                (format!("the host writes {set} back"), without(case, &[place]))
            }
            Action::Evict { set } => (format!("the host evicts {set}"), without(case, &[place])),
            Action::Choose { choices, .. } => {
                (format!("the device chooses {choices}"), without(case, &[place]))
            }
            Action::Background { .. } => {
                ("the background work of the device runs".to_owned(), without(case, &[place]))
            }
            Action::Kick { .. } => ("the guest kicks".to_owned(), without(case, &[place])),
            Action::Effect { op, set } => {
                (format!("{set} of {} lands", operation(case, op)), without(case, &[place]))
            }
            _ => continue,
        };
        changes.push(Change { case: other, says });
    }
    changes
}

/// A line as an event, if it is worth naming.
fn event(case: &Case, action: &Action) -> Option<String> {
    let name = |id: u32| {
        case.actions.iter().find_map(|action| match action {
            Action::Send { id: sent, ask, .. } if *sent == id => Some(request_name(id, ask)),
            _ => None,
        })
    };
    Some(match action {
        Action::Send { id, ask, .. } => format!("{} is sent", request_name(*id, ask)),
        Action::Await { id, .. } => format!("{} is answered", name(*id)?),
        Action::Stream { id, .. } => format!("the requests from {} on are sent", name(*id)?),
        Action::SendAgain { id, .. } => format!("the head of {id} is published again"),
        Action::Crank { until: Until::Used(id), .. } => format!("{} is answered", name(*id)?),
        Action::Crank { until: Until::Submitted(op), .. } => {
            format!("the device submits {}", operation(case, op))
        }
        Action::Crank { to, .. } => format!("the thread of {to} runs"),
        Action::Background { .. } => "the background work of the device runs".to_owned(),
        Action::Choose { choices, .. } => format!("the device chooses {choices}"),
        Action::Kick { to } => format!("the kick of {to}"),
        Action::Reap { to, .. } => format!("the guest looks at {to}"),
        Action::Writeback { value, .. } => format!("writeback is set to {value}"),
        Action::Reset { .. } => "the device is reset".to_owned(),
        Action::PollReset { .. } => "the reset shows".to_owned(),
        Action::Effect { op, set } => format!("{set} of {} lands", operation(case, op)),
        Action::Complete { op, .. } => format!("{} completes", operation(case, op)),
        Action::WriteBack { set } => format!("the host writes {set} back"),
        Action::Evict { set } => format!("the host evicts {set}"),
        Action::Crash(CrashKind::Power { .. }) => "the power is lost".to_owned(),
        Action::Crash(CrashKind::Backend { .. }) => "the backend is killed".to_owned(),
        Action::Lifecycle { what, .. } => what.happened(),
        Action::Rest => "everything comes to rest".to_owned(),
        Action::Start { .. } | Action::Alter { .. } | Action::Jump { .. } => return None,
    })
}

/// An operation of the host in words, with sectors counted within the device.
fn operation(case: &Case, op: &OpKey) -> String {
    let base = case.shape.spec.disk.base(op.device);
    let kind = op.kind.words();
    let what = match op.kind {
        OpKind::Sync => format!("the host's {kind}"),
        _ => format!("the host's {kind} of {}+{}", op.sector.saturating_sub(base), op.sectors),
    };
    // Operations of two queues may have the same range.
    match case.shape.spec.queues {
        1 => what,
        _ => format!("{what} for q{}", op.lane),
    }
}
