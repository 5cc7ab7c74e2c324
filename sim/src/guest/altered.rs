//! A request that the guest changes after its publication, and its driver's view of the answer.
//!
//! A driver must not do that. The device may read the request before the change or after it, so
//! that its answer is checked as one to either.

use crate::guest::alter::{Change, descriptor_of};
use crate::guest::form::Sent;
use crate::guest::memory::{Edit, Memory};
use crate::guest::outcome::{Breach, Done};
use crate::guest::payload::{self, Author};
use crate::guest::slots::SlotPlan;

/// A request that the guest changes while it is outstanding.
#[derive(Clone, Debug)]
pub(super) struct Altered {
    /// Its slot.
    slot: usize,
    /// The request after the change.
    second: Sent,
    /// The header after the change, and a request with the data that is there then.
    header: [u64; 2],
    filled: Sent,
    /// Whether it is another request after the change, and not only one with other data.
    is_other: bool,
    /// Whether the guest has changed it.
    done: bool,
    /// Its answer as one to the request after the change.
    answer: Option<Result<Done, Breach>>,
}

impl Altered {
    /// The request `sent` of a slot, which will be changed into `second`.
    pub(super) fn new(slot: usize, change: Change, sent: &Sent, second: Sent) -> Altered {
        let mut header = sent.header();
        let mut filled = *sent;
        match change {
            Change::Type(number) => header[0] = number.into(),
            Change::Sector(_) => header[1] = second.header()[1],
            Change::Segment { .. } => filled = second,
            Change::Data { id } => filled.id = id,
            Change::Length { .. } => {}
        }
        let is_other = !matches!(change, Change::Data { .. });
        Altered { slot, second, header, filled, is_other, done: false, answer: None }
    }

    /// Whether it is the request of a slot.
    pub(super) fn is_in(&self, slot: usize) -> bool {
        self.slot == slot
    }

    /// Notes that the guest has changed it.
    pub(super) fn happened(&mut self) {
        self.done = true;
    }

    /// The header that is in memory now.
    pub(super) fn header(&self, sent: &Sent) -> [u64; 2] {
        if self.done { self.header } else { sent.header() }
    }

    /// A request with the data that is in memory now.
    pub(super) fn filled<'a>(&'a self, sent: &'a Sent) -> &'a Sent {
        if self.done { &self.filled } else { sent }
    }

    /// Notes the answer, read by `answer`, as one to the request after the change.
    pub(super) fn answer_as(&mut self, answer: impl FnOnce(&Sent) -> Result<Done, Breach>) {
        self.answer = (self.done && self.is_other).then(|| answer(&self.second));
    }

    /// Takes the answer as one to the request after the change; `None` if the guest has not changed
    /// it into another one.
    pub(super) fn take_answer(&mut self) -> Option<Result<Done, Breach>> {
        self.answer.take()
    }
}

impl Change {
    /// The write to guest memory that changes the request `sent` into `second`; `None` if there is
    /// no such place. `table` is the address of the descriptor table.
    pub(super) fn edit(
        self,
        memory: &Memory,
        table: u32,
        plan: &SlotPlan,
        sent: &Sent,
        second: &Sent,
        author: Author,
    ) -> Option<Edit> {
        let (at, bytes) = match self {
            Change::Type(number) => (plan.header(), number.to_le_bytes().to_vec()),
            Change::Sector(_) => (plan.header() + 8, second.header()[1].to_le_bytes().to_vec()),
            Change::Segment { nth, segment } => {
                let words = second.wire.words(&segment).map(u64::to_le_bytes);
                (plan.data() + u32::from(nth) * 16, words.concat())
            }
            Change::Data { id } => {
                let mut bytes = vec![0; sent.len as usize];
                for (sector, bytes) in (sent.ask.sector() as u32..).zip(bytes.chunks_mut(512)) {
                    payload::fill(bytes, author, sector, id);
                }
                (plan.data(), bytes)
            }
            Change::Length { less } => {
                let place = descriptor_of(memory, table, sent.head, (plan.data(), sent.len))?;
                (place + 8, (sent.len - u32::from(less)).to_le_bytes().to_vec())
            }
        };
        Some(Edit { at, bytes: bytes.into() })
    }
}
