//! The steps of a search, and the independence of two of them.
//!
//! # Independence
//!
//! Two steps are independent in a state iff each leaves the other possible and the state after both
//! does not depend on their order. The search claims independence only of:
//!
//! * A step of the guest (a request or a switch of the mode) and a step of the host: neither
//!   affects the other before a thread of the device runs.
//! * Two steps of the host, if they touch no common sector, neither makes data stable, and they do
//!   not both complete in one lane, whose completions are taken in order.
//! * A run of a thread and a landing or completion of the host for another lane, if the latter
//!   makes no data stable and lands in no sector of which the thread is about to take a completion:
//!   a sync covers the operations whose completions were taken before its submission.
//!
//! A power loss is independent of no step.

use super::cells::Code;
use super::node::{Node, Phase};
use super::plan::Plan;
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::host::disk::{OpKey, OpKind};
use crate::world::action::QueueId;

/// One step of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The guest publishes the request with this index, and kicks.
    Send { queue: u8, nth: u8 },
    /// The guest writes `writeback`.
    Switch { value: u8 },
    /// The thread of a queue runs until it is idle, and the guest takes the used buffers.
    Run { queue: u8 },
    /// The host lands one sector of an operation before it completes.
    Land { op: OpKey, sector: u32 },
    /// The host completes an operation; of a discard, these remaining sectors become zero.
    Finish { op: OpKey, landed: SectorSet },
    /// The host fails an operation after it has landed in these sectors too; a failed sync may also
    /// forget that sectors were dirty.
    Fail { op: OpKey, landed: SectorSet, forgets: bool },
    /// The host writes a sector back on its own.
    WriteBack { sector: u32 },
    /// The guest resets the device.
    Reset,
    /// The power goes, and the next life begins. These dirty sectors survive; a lazy search decides
    /// none.
    Cut { survivors: SectorSet },
    /// The guest reads the next sector, in which this content has survived.
    Recall { content: Code },
}

impl<D: DeviceUnderTest> Node<D> {
    /// Lists every step that is possible now, in a fixed order.
    pub(super) fn enabled(&self, plan: &Plan, out: &mut Vec<Step>) {
        out.clear();
        if let Phase::Recalling { next } = self.phase {
            let contents = self.left_behind[next as usize].iter();
            out.extend(contents.map(|&(content, _)| Step::Recall { content }));
        } else {
            self.host_steps(plan, out);
            let slot = self.world.slot(0);
            let queues = slot.active.min(4) as u8;
            let runnable = (0..queues).filter(|&queue| slot.runnable[usize::from(queue)]);
            out.extend(runnable.map(|queue| Step::Run { queue }));
            if self.phase == Phase::Living {
                self.sends(plan, out);
                out.extend((self.resets > 0).then_some(Step::Reset));
            }
        }
        self.cuts(plan, out);
    }

    fn sends(&self, plan: &Plan, out: &mut Vec<Step>) {
        if self.left == 0 {
            return;
        }
        if plan.row.switches() {
            let value = u8::from(!self.writes_back);
            out.push(Step::Switch { value });
        }
        if self.out() >= u32::from(plan.scope.in_flight) {
            return;
        }
        let mirror = plan.scope.reduction.mirror;
        // Queues that were not used yet are interchangeable.
        let queues = self.world.slot(0).active as u8;
        let queues = if mirror { queues.min(self.used + 1) } else { queues };
        for queue in 0..queues {
            for (nth, &image) in plan.mirrors.iter().enumerate() {
                // Of two mirror images the later one is left out until an earlier request
                // distinguishes the ends.
                if self.lopsided || !mirror || nth <= usize::from(image) {
                    out.push(Step::Send { queue, nth: nth as u8 });
                }
            }
        }
    }

    fn host_steps(&self, plan: &Plan, out: &mut Vec<Step>) {
        let disk = self.world.disk();
        let lazy = plan.scope.reduction.lazy;
        for (nth, (op, _, landed)) in disk.in_flight().enumerate() {
            let left = op.range().minus(landed);
            let disputed = if op.kind == OpKind::Sync {
                SectorSet::EMPTY
            } else if lazy {
                left.and(self.disputed(nth))
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
            if self.faults > 0 {
                self.failures(plan, op, left, out);
            }
        }
        if !lazy {
            let dirty = (0..self.cells.len()).filter(|&number| self.cells.differs(number));
            out.extend(dirty.map(|number| Step::WriteBack { sector: self.cells.sector(number) }));
        }
    }

    fn failures(&self, plan: &Plan, op: OpKey, left: SectorSet, out: &mut Vec<Step>) {
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
    fn disputed(&self, nth: usize) -> SectorSet {
        let disk = self.world.disk();
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

    fn cuts(&self, plan: &Plan, out: &mut Vec<Step>) {
        if self.crashes == 0 {
            return;
        }
        if plan.scope.reduction.lazy {
            out.push(Step::Cut { survivors: SectorSet::EMPTY });
        } else {
            let dirty = (0..self.cells.len()).filter(|&number| self.cells.differs(number));
            let dirty = dirty.map(|number| SectorSet::range(self.cells.sector(number), 1));
            let dirty = dirty.fold(SectorSet::EMPTY, SectorSet::or);
            out.extend(subsets(dirty).map(|survivors| Step::Cut { survivors }));
        }
    }

    /// Whether two steps that are both possible now are independent.
    pub(super) fn independent(&self, one: &Step, two: &Step) -> bool {
        use Step::{Run, Send, Switch};
        match (one, two) {
            (Send { .. } | Switch { .. }, host) | (host, Send { .. } | Switch { .. }) => {
                self.touched(host).is_some()
            }
            (Run { queue }, host) | (host, Run { queue }) => self.apart(*queue, host),
            (one, two) => {
                let (Some(mine), Some(theirs)) = (self.touched(one), self.touched(two)) else {
                    return false;
                };
                let lanes = (completes(one), completes(two));
                let one_lane = lanes.0.is_some() && lanes.0 == lanes.1;
                mine.and(theirs).is_empty() && !one_lane && !settles(one) && !settles(two)
            }
        }
    }

    /// Whether a run of a thread and a step of the host are independent.
    fn apart(&self, queue: u8, host: &Step) -> bool {
        let Some(touched) = self.touched(host) else { return false };
        let untaken = self.world.disk().untaken(0, queue);
        completes(host) != Some(queue) && !settles(host) && touched.and(untaken).is_empty()
    }

    /// The sectors that a step of the host may change or read. `None` if it is not a step of the
    /// host.
    fn touched(&self, step: &Step) -> Option<SectorSet> {
        match step {
            Step::Land { sector, .. } | Step::WriteBack { sector } => {
                Some(SectorSet::range(*sector, 1))
            }
            Step::Finish { op, .. } | Step::Fail { op, .. } => Some(op.range()),
            _ => None,
        }
    }
}

/// The lane in which a step completes an operation, if it does.
fn completes(step: &Step) -> Option<u8> {
    match step {
        Step::Finish { op, .. } | Step::Fail { op, .. } => Some(op.lane),
        _ => None,
    }
}

/// Whether a step of the host makes data stable, or forgets that it is dirty.
fn settles(step: &Step) -> bool {
    match step {
        Step::Finish { op, .. } => op.kind == OpKind::Sync,
        Step::Fail { .. } | Step::WriteBack { .. } => true,
        _ => false,
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

/// A queue of device 0.
pub(super) fn queue(queue: u8) -> QueueId {
    QueueId { device: 0, queue }
}
