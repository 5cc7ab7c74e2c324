//! The steps that are possible in a state.

use super::node::{Node, Phase};
use super::plan::Plan;
use super::step::Step;
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::host::disk::{OpKey, OpKind, SimDisk};

/// Lists every step that is possible now, in a fixed order.
pub(super) fn enabled<D: DeviceUnderTest>(node: &Node<D>, plan: &Plan, out: &mut Vec<Step>) {
    out.clear();
    if let Phase::Recalling { next } = node.phase {
        let contents = node.left_behind[next as usize].iter();
        out.extend(contents.map(|&(content, _)| Step::Recall { content }));
    } else {
        host_steps(node, plan, out);
        let slot = node.world.slot(0);
        let queues = slot.life().active.min(4) as u8;
        let runnable = (0..queues).filter(|&queue| slot.runnable[usize::from(queue)]);
        out.extend(runnable.map(|queue| Step::Run { queue }));
        if node.phase == Phase::Living {
            sends(node, plan, out);
            out.extend((node.left.resets > 0).then_some(Step::Reset));
        }
    }
    cuts(node, plan, out);
}

fn sends<D: DeviceUnderTest>(node: &Node<D>, plan: &Plan, out: &mut Vec<Step>) {
    if node.left.requests == 0 {
        return;
    }
    if plan.row.switches() {
        let value = u8::from(!node.writes_back);
        out.push(Step::Switch { value });
    }
    if node.out() >= u32::from(plan.scope.in_flight) {
        return;
    }
    let mirror = plan.scope.reduction.mirror;
    // Queues that were not used yet are interchangeable.
    let queues = node.world.slot(0).life().active as u8;
    let queues = if mirror { queues.min(node.used + 1) } else { queues };
    for queue in 0..queues {
        for (nth, &image) in plan.mirrors.iter().enumerate() {
            // Of two mirror images the later one is left out until an earlier request
            // distinguishes the ends.
            if node.lopsided || !mirror || nth <= usize::from(image) {
                out.push(Step::Send { queue, nth: nth as u8 });
            }
        }
    }
}

fn host_steps<D: DeviceUnderTest>(node: &Node<D>, plan: &Plan, out: &mut Vec<Step>) {
    let disk = node.world.disk();
    let lazy = plan.scope.reduction.lazy;
    for (nth, (op, _, landed)) in disk.in_flight().enumerate() {
        let left = op.range().minus(landed);
        let disputed = if op.kind == OpKind::Sync {
            SectorSet::EMPTY
        } else if lazy {
            left.and(disputed(disk, nth))
        } else {
            left
        };
        out.extend(disputed.iter().map(|sector| Step::Land { op, sector }));
        let discards = op.kind == OpKind::Discard;
        if discards && lazy {
            out.extend(subsets(left).map(|landed| Step::Finish { op, landed }));
        } else if lazy || discards || left.is_empty() {
            out.push(Step::Finish { op, landed: SectorSet::EMPTY });
        }
        if node.left.faults > 0 {
            failures(plan, op, left, out);
        }
    }
    if !lazy {
        let dirty = (0..node.cells.len()).filter(|&number| node.cells.differs(number));
        out.extend(dirty.map(|number| Step::WriteBack { sector: node.cells.sector(number) }));
    }
}

fn failures(plan: &Plan, op: OpKey, left: SectorSet, out: &mut Vec<Step>) {
    match op.kind {
        OpKind::Read => out.push(Step::Fail { op, landed: SectorSet::EMPTY, forgets: false }),
        OpKind::Sync => {
            for forgets in [false, true] {
                out.push(Step::Fail { op, landed: SectorSet::EMPTY, forgets });
            }
        }
        _ => {
            let landed = if plan.scope.reduction.lazy { left } else { SectorSet::EMPTY };
            out.extend(subsets(landed).map(|landed| Step::Fail { op, landed, forgets: false }));
        }
    }
}

/// The sectors in which another operation in flight has yet to land, if one of the two changes
/// data.
fn disputed(disk: &SimDisk, nth: usize) -> SectorSet {
    let (mine, _) = disk.nth(nth);
    let mut disputed = SectorSet::EMPTY;
    for (other, (op, _, landed)) in disk.in_flight().enumerate() {
        let changes = mine.kind.mutates() || op.kind.mutates();
        if other != nth && changes {
            disputed = disputed.or(op.range().minus(landed));
        }
    }
    disputed
}

fn cuts<D: DeviceUnderTest>(node: &Node<D>, plan: &Plan, out: &mut Vec<Step>) {
    if node.left.crashes == 0 {
        return;
    }
    if plan.scope.reduction.lazy {
        out.push(Step::Cut { survivors: SectorSet::EMPTY });
    } else {
        let dirty = (0..node.cells.len()).filter(|&number| node.cells.differs(number));
        let dirty = dirty.map(|number| SectorSet::range(node.cells.sector(number), 1));
        let dirty = dirty.fold(SectorSet::EMPTY, SectorSet::or);
        out.extend(subsets(dirty).map(|survivors| Step::Cut { survivors }));
    }
}

/// All subsets of a small set.
fn subsets(set: SectorSet) -> impl Iterator<Item = SectorSet> {
    let members: Vec<u32> = set.iter().collect();
    (0..1u32 << members.len()).map(move |mask| {
        let chosen = members.iter().enumerate().filter(|(nth, _)| mask >> nth & 1 == 1);
        chosen.fold(SectorSet::EMPTY, |set, (_, &sector)| set.or(SectorSet::range(sector, 1)))
    })
}
