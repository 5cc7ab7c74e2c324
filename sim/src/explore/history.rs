//! The past of a state, as far as the device and the oracle can still tell it: the inputs of each,
//! as fingerprints. [`state_key`](super::state_key) says why these are enough.

use super::fingerprint::Fingerprint;
use crate::base::sectors::SectorSet;
use crate::host::disk::{OpKey, Outcome};
use crate::world::Answer;

/// Inputs of the device and of the oracle, as fingerprints.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// Requests that the guest has published, by queue.
    guest: [Fingerprint; 4],
    /// Operations that were completed and not taken, by lane, in order.
    waiting: [Fingerprint; 4],
    /// Inputs of the device.
    device: Fingerprint,
    /// Inputs of the oracle, except the last neighbours of one sort.
    told: Fingerprint,
    /// Those neighbours, in no order.
    neighbours: Fingerprint,
    sort: Sort,
    /// Requests that were sent and returned in this life, in no order.
    events: Fingerprint,
    /// Whether everything was read back at the beginning of this life and nothing has happened
    /// since.
    fresh: bool,
    /// Whether every order of the inputs of the oracle counts, and the inputs before a power loss
    /// too.
    exact: bool,
}

/// The sort of the last input of the oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Sent,
    Back,
    /// An input without neighbours.
    Other,
}

impl History {
    pub(super) fn new(exact: bool) -> History {
        History {
            exact,
            guest: [Fingerprint::EMPTY; 4],
            waiting: [Fingerprint::EMPTY; 4],
            device: Fingerprint::EMPTY,
            told: Fingerprint::EMPTY,
            neighbours: Fingerprint::EMPTY,
            sort: Sort::Other,
            events: Fingerprint::EMPTY,
            fresh: false,
        }
    }

    fn tell(&mut self, sort: Sort, what: Fingerprint) {
        if self.sort != sort || sort == Sort::Other || self.exact {
            let neighbours = std::mem::replace(&mut self.neighbours, Fingerprint::EMPTY);
            self.told.word(self.sort as u64);
            self.told.fingerprint(neighbours);
            self.sort = sort;
        }
        self.neighbours.blend(what);
        self.events.blend(what);
        self.fresh = false;
    }

    /// Records that a request was published.
    pub(super) fn sent(&mut self, queue: u8, id: u32, nth: u8) {
        let what = u64::from(id) << 16 | u64::from(nth) << 8 | u64::from(queue);
        self.guest[usize::from(queue)].word(what);
        self.tell(Sort::Sent, Fingerprint::of(&[1, what]));
    }

    /// Records that words of a memory were stored or loaded.
    pub(super) fn accessed(&mut self, id: u32, nth: u8) {
        let what = u64::from(id) << 16 | u64::from(nth) << 8;
        // A mutant may depend on the access.
        self.device.word(what | 1);
        self.tell(Sort::Other, Fingerprint::of(&[2, what]));
    }

    /// Records that requests were returned.
    pub(super) fn heard(&mut self, answers: impl Iterator<Item = Answer>) {
        for Answer { id, status, found } in answers {
            let what = Fingerprint::of(&[3, u64::from(id) << 8 | u64::from(status.0), found]);
            self.tell(Sort::Back, what);
        }
    }

    /// Records that the guest wrote `writeback`.
    pub(super) fn switched(&mut self, value: u8) {
        self.device.word(u64::from(value) << 1 | 1);
        self.tell(Sort::Other, Fingerprint::of(&[4, u64::from(value)]));
    }

    /// Records that the guest started a reset.
    pub(super) fn reset_begun(&mut self) {
        self.device.word(6 << 8);
        self.tell(Sort::Other, Fingerprint::of(&[5]));
    }

    /// Records that the reset has completed: another life begins.
    pub(super) fn reset_shown(&mut self) {
        self.device.word(7 << 8);
        self.tell(Sort::Other, Fingerprint::of(&[6]));
    }

    /// Records that a thread of the device runs; its inputs are the requests published and the
    /// completions that wait.
    pub(super) fn runs(&mut self, queue: u8) {
        self.device.word(u64::from(queue) << 1);
        self.guest.iter().for_each(|guest| self.device.fingerprint(*guest));
        let waiting = std::mem::replace(&mut self.waiting[usize::from(queue)], Fingerprint::EMPTY);
        self.device.fingerprint(waiting);
        self.fresh = false;
    }

    /// Records that an operation was completed.
    pub(super) fn waits(&mut self, op: OpKey, outcome: Outcome) {
        let none = SectorSet::EMPTY;
        let (how, landed, forgot) = match outcome {
            Outcome::Ok { landed } => (0, landed, none),
            Outcome::Short { bytes } => (u64::from(bytes) << 2 | 1, op.range(), none),
            Outcome::Failed { errno, landed, forgot } => {
                ((errno.0 as u64) << 2 | 2, landed, forgot)
            }
        };
        let waiting = &mut self.waiting[usize::from(op.lane)];
        waiting.word(name(op));
        waiting.word(how);
        waiting.word(landed.words()[0]);
        waiting.word(forgot.words()[0]);
        self.fresh = false;
    }

    /// Whether everything was read back and nothing has happened since.
    pub(super) fn is_fresh(&self) -> bool {
        self.fresh
    }

    /// The requests that were sent and returned in this life, in no order.
    pub(super) fn events(&self) -> Fingerprint {
        self.events
    }

    /// The inputs of the device.
    pub(super) fn device(&self) -> Fingerprint {
        self.device
    }

    /// Adds everything that the device and the oracle may have learnt in this life.
    pub(super) fn add_to(&self, fingerprint: &mut Fingerprint) {
        fingerprint.fingerprint(self.device);
        let inputs = self.guest.iter().chain(&self.waiting);
        inputs.for_each(|each| fingerprint.fingerprint(*each));
        fingerprint.fingerprint(self.told);
        fingerprint.word(self.sort as u64);
        fingerprint.fingerprint(self.neighbours);
    }

    /// Records a power loss.
    pub(super) fn power_lost(&mut self, carries: Option<u64>) {
        let device = self.device_after_loss(carries);
        *self = History { device, ..History::new(self.exact) };
    }

    /// The inputs of the device after a power loss now, with the state that it carries over.
    pub(super) fn device_after_loss(&self, carries: Option<u64>) -> Fingerprint {
        let mut device = Fingerprint::EMPTY;
        match carries {
            Some(number) => device.word(number),
            None => device.fingerprint(self.device),
        }
        if self.exact {
            device.fingerprint(self.device);
            device.fingerprint(self.told);
            device.fingerprint(self.neighbours);
        }
        device
    }

    /// Records that everything was read back. The threads have run for that, so no later step tells
    /// such states apart.
    pub(super) fn all_recalled(&mut self) {
        self.fresh = !self.exact;
    }
}

/// An operation as a number. Sector and length are small enough for one word.
pub(super) fn name(op: OpKey) -> u64 {
    let place = u64::from(op.sector) << 20 | u64::from(op.sectors);
    u64::from(op.twin) << 56 | u64::from(op.lane) << 48 | (op.kind as u64) << 40 | place
}
