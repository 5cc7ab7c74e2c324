//! Thread priorities, for schedules that starve a thread on purpose.

use super::Schedule;
use crate::base::choose::{Choose, Ratio, Site};
use crate::dut::MAX_QUEUES;
use crate::world::action::QueueId;

/// The three threads of a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Party {
    Guest,
    Thread,
    Host,
}

const THREADS: usize = 2 * MAX_QUEUES * 3;

/// The priorities of all threads (PCT).
#[derive(Clone, Debug)]
pub(super) struct Priorities {
    /// The threads, most urgent first: (device * MAX_QUEUES + queue) * 3 + party.
    order: [u8; THREADS],
}

impl Priorities {
    pub(super) fn draw<C: Choose>(schedule: Schedule, choose: &mut C) -> Priorities {
        let mut order = std::array::from_fn(|index| index as u8);
        if schedule == Schedule::Pct {
            for index in (1..THREADS).rev() {
                let other = choose.below(index as u32 + 1, Site::Next) as usize;
                order.swap(index, other);
            }
        }
        Priorities { order }
    }

    /// The most urgent enabled thread. Sometimes it then becomes the least urgent one.
    pub(super) fn pick<C: Choose>(
        &mut self,
        choose: &mut C,
        can: impl Fn(QueueId, Party) -> bool,
    ) -> Option<(QueueId, Party)> {
        let rank = self.order.iter().position(|&thread| {
            let (to, party) = Priorities::thread(thread);
            can(to, party)
        })?;
        let thread = self.order[rank];
        if choose.chance(Ratio::new(1, 24), Site::Next) {
            self.order.copy_within(rank + 1.., rank);
            self.order[THREADS - 1] = thread;
        }
        Some(Priorities::thread(thread))
    }

    fn thread(thread: u8) -> (QueueId, Party) {
        let party = match thread % 3 {
            0 => Party::Guest,
            1 => Party::Thread,
            _ => Party::Host,
        };
        let (queue, queues) = (thread / 3, MAX_QUEUES as u8);
        (QueueId { device: queue / queues, queue: queue % queues }, party)
    }
}
