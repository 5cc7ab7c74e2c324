//! A steady stream of requests: liveness under load.
//!
//! At rest every request must have been answered, but a device that serves nothing old while
//! something new arrives would pass there. So the guest keeps a queue busy with reads or writes of
//! one sector while host and threads are fair: every thread runs until it is idle, and the oldest
//! operation completes, once for each new request. Of what was outstanding when the stream began,
//! one request at least must be used before so many later ones were sent, until all are (AMB-42):
//! requests that wait for one another take their time one after the other.

use powerfail_model::{RequestId, Rule, Violation};

use super::judge::Failure;
use super::{Outcome, World};
use crate::dut::DeviceUnderTest;
use crate::guest::{GuestRequest, Layout, Malformation};
use crate::world::action::{Action, QueueId, Until};

/// The most idle rounds in a row: a device that is stuck is found at rest.
const MOST_IDLE: u32 = 64;
/// The end of the numbers of requests.
const MOST_ID: u32 = 1 << 20;

impl<D: DeviceUnderTest> World<D> {
    /// Sends requests like `ask`, numbered from `id`, until everything that is outstanding now was
    /// used, or `count` of them in a row without a request of these.
    pub(super) fn stream(
        &mut self,
        to: QueueId,
        id: u32,
        ask: GuestRequest,
        count: u32,
    ) -> Outcome {
        let slot = self.slot(to.device);
        if !slot.is_queue_live(to.queue) || slot.is_paused() || slot.life().avail_jumped {
            return Ok(false);
        }
        // A queue that is being reset may leave its requests unanswered.
        let live = (0..slot.life().active as u8).filter(|queue| slot.is_queue_live(*queue));
        let out = live.flat_map(|queue| slot.queues[usize::from(queue)].outstanding());
        let mut old: Vec<u32> = out.map(|(id, _)| id).collect();
        let (mut next, mut since, mut idle, mut turn) = (id, id, 0, 0);
        while next < since + count && next < MOST_ID && idle < MOST_IDLE {
            let before = old.len();
            old.retain(|&id| self.is_out(to.device, id));
            if old.is_empty() {
                return Ok(true);
            }
            if old.len() < before {
                since = next;
            }
            let (layout, malformation) = (Layout::PLAIN, Malformation::None);
            let sent = self.step(&Action::Send { to, id: next, ask, layout, malformation })?;
            next += u32::from(sent);
            let moved = self.round(to.device, turn)?;
            turn += 1;
            idle = if sent || moved { 0 } else { idle + 1 };
            if self.slots[usize::from(to.device)].device.needs_reset() {
                return Ok(true);
            }
        }
        match old.iter().find(|&&id| self.is_out(to.device, id)) {
            Some(&late) if next == since + count => {
                let note = format!("{count} later requests were sent and served meanwhile.");
                let violation = Violation::new(Rule::NeverUsed).request(RequestId(late));
                Err(Failure::boxed(to.device, violation.note(note)))
            }
            _ => Ok(true),
        }
    }

    /// Every thread of a device runs, the oldest operation completes, and used elements are taken.
    /// The threads take turns in being the first, which finds the most room on the disk. Returns
    /// whether anything moved.
    fn round(&mut self, device: u8, turn: u16) -> Outcome {
        let mut moved = false;
        let active = self.slot(device).life().active;
        for nth in 0..active {
            let queue = ((turn + nth) % active) as u8;
            let to = QueueId { device, queue };
            moved |= self.step(&Action::Kick { to })?;
            moved |= self.step(&Action::Crank { to, until: Until::Steps(64) })?;
            if self.slot(device).queues[usize::from(queue)].back() > 0 {
                moved |= self.step(&Action::Reap { to, arm: true })?;
            }
        }
        if let Some(oldest) = self.oldest() {
            moved |= self.step(&oldest)?;
        }
        Ok(moved)
    }
}
