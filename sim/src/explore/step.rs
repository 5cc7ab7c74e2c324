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
use crate::base::sectors::SectorSet;
use crate::host::disk::{OpKey, OpKind, SimDisk};
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

/// Whether two steps that are both possible now are independent. `disk` is the disk now.
pub(super) fn independent(disk: &SimDisk, one: &Step, two: &Step) -> bool {
    use Step::{Run, Send, Switch};
    match (one, two) {
        (Send { .. } | Switch { .. }, host) | (host, Send { .. } | Switch { .. }) => {
            host.touched().is_some()
        }
        (Run { queue }, host) | (host, Run { queue }) => apart(disk, *queue, host),
        (one, two) => {
            let (Some(mine), Some(theirs)) = (one.touched(), two.touched()) else {
                return false;
            };
            let lanes = (one.completes(), two.completes());
            let one_lane = lanes.0.is_some() && lanes.0 == lanes.1;
            mine.and(theirs).is_empty() && !one_lane && !one.settles() && !two.settles()
        }
    }
}

/// Whether a run of a thread and a step of the host are independent.
fn apart(disk: &SimDisk, queue: u8, host: &Step) -> bool {
    let Some(touched) = host.touched() else { return false };
    let untaken = disk.untaken(0, queue);
    host.completes() != Some(queue) && !host.settles() && touched.and(untaken).is_empty()
}

impl Step {
    /// The sectors that a step of the host may change or read. `None` if it is not a step of the
    /// host.
    fn touched(&self) -> Option<SectorSet> {
        match self {
            Step::Land { sector, .. } | Step::WriteBack { sector } => {
                Some(SectorSet::range(*sector, 1))
            }
            Step::Finish { op, .. } | Step::Fail { op, .. } => Some(op.range()),
            _ => None,
        }
    }

    /// The lane in which a step completes an operation, if it does.
    fn completes(&self) -> Option<u8> {
        match self {
            Step::Finish { op, .. } | Step::Fail { op, .. } => Some(op.lane),
            _ => None,
        }
    }

    /// Whether a step of the host makes data stable, or forgets that it is dirty.
    fn settles(&self) -> bool {
        match self {
            Step::Finish { op, .. } => op.kind == OpKind::Sync,
            Step::Fail { .. } | Step::WriteBack { .. } => true,
            _ => false,
        }
    }
}

/// A queue of device 0.
pub(super) fn queue(queue: u8) -> QueueId {
    QueueId { device: 0, queue }
}
