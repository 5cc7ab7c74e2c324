//! Equality of states.
//!
//! A device is anything that implements [`DeviceUnderTest`], so its state cannot be inspected. But
//! the device is a function of its inputs, and so is the oracle. Two states are therefore
//! considered equal iff all of these are equal:
//!
//! * for the device, the inputs of its threads, in order: which thread ran, which requests the
//!   guest had published by then, and which completions waited. Each power loss starts a new
//!   sequence, with the state that the device [carries](DeviceUnderTest::carries) over;
//! * for the oracle, the requests sent and returned since the life began, up to the order of
//!   neighbours of one sort: the only order of two requests that the oracle uses is whether one
//!   ended before the other was submitted;
//! * for the disk, the possible contents of each sector, the operations in flight and the progress
//!   of each, and the completions that wait to be taken;
//! * the requests, power losses, host failures and resets that the scope has left.
//!
//! After a power loss less is needed: for each sector the contents that the oracle allows, the
//! contents that may be there, as indices into the allowed ones, and which of the allowed ones is
//! zeroes. Once everything was read back, each sector holds one content on which disk and oracle
//! agree, and its name no longer matters.

use std::collections::BTreeSet;

use powerfail_model::{Atom, Content, Observed};

use super::cells::{Code, How, zero};
use super::fingerprint::Fingerprint;
use super::node::{Node, Phase};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::guest::payload;
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
            let what = Fingerprint::of(&[3, u64::from(id) << 8 | u64::from(status), found]);
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
            Outcome::Failed { errno, landed, forgot } => ((errno as u64) << 2 | 2, landed, forgot),
        };
        let waiting = &mut self.waiting[usize::from(op.lane)];
        waiting.word(name(op));
        waiting.word(how);
        waiting.word(landed.words()[0]);
        waiting.word(forgot.words()[0]);
        self.fresh = false;
    }

    /// Records a power loss.
    pub(super) fn power_lost(&mut self, carries: Option<u64>) {
        let device = self.device_after_loss(carries);
        *self = History { device, ..History::new(self.exact) };
    }

    fn device_after_loss(&self, carries: Option<u64>) -> Fingerprint {
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
fn name(op: OpKey) -> u64 {
    let place = u64::from(op.sector) << 20 | u64::from(op.sectors);
    u64::from(op.twin) << 56 | u64::from(op.lane) << 48 | (op.kind as u64) << 40 | place
}

impl<D: DeviceUnderTest> Node<D> {
    /// The fingerprint of the state.
    pub(super) fn fingerprint(&self) -> Fingerprint {
        match self.phase {
            Phase::Recalling { next } => self.undecided_fingerprint(
                next,
                self.crashes,
                self.history.device,
                &self.left_behind,
            ),
            Phase::Living if self.history.fresh => self.fresh_fingerprint(),
            Phase::Living | Phase::Resetting => self.living_fingerprint(),
        }
    }

    /// Whether everything was read back and nothing has happened since.
    pub(super) fn is_fresh(&self) -> bool {
        self.history.fresh
    }

    /// Adds the images that a power loss may leave now, each with the guest's knowledge at that
    /// time.
    pub(super) fn add_images(&self, survivors: Option<SectorSet>, out: &mut BTreeSet<u128>) {
        let mut images = vec![Fingerprint::EMPTY];
        for (number, may) in self.may_survive().into_iter().enumerate() {
            let at = self.cells.sector(number as u32);
            let contents: Vec<Code> = match survivors {
                None => may.into_iter().map(|(content, _)| content).collect(),
                Some(set) if set.contains(at) => vec![self.cells.cached(number as u32)],
                Some(_) => vec![may[0].0],
            };
            let more = images.iter().flat_map(|image| {
                contents.iter().map(|&content| {
                    let mut image = *image;
                    image.word(content);
                    image
                })
            });
            images = more.collect();
        }
        for mut image in images {
            image.fingerprint(self.history.events);
            out.insert(image.value());
        }
    }

    /// The fingerprint of the state after a power loss now, in a lazy search, and the number of
    /// images it stands for.
    pub(super) fn print_after_loss(&self) -> (Fingerprint, u64) {
        let device = self.history.device_after_loss(self.world.slot(0).device.carries());
        let may = self.may_survive();
        let images = may.iter().map(|may| may.len() as u64).product();
        (self.undecided_fingerprint(0, self.crashes - 1, device, &may), images)
    }

    fn budget(&self, tag: u64, crashes: u8) -> Fingerprint {
        let mut fingerprint = Fingerprint::EMPTY;
        let (left, faults) = (u64::from(self.left), u64::from(self.faults));
        let resets = u64::from(self.resets);
        fingerprint.word(tag | left << 8 | u64::from(crashes) << 16 | faults << 24 | resets << 40);
        fingerprint
    }

    fn living_fingerprint(&self) -> Fingerprint {
        let flags = u64::from(self.lopsided) << 4 | u64::from(self.phase == Phase::Resetting) << 5;
        let mut fingerprint = self.budget(1 | flags, self.crashes);
        let History { guest, waiting, device, told, neighbours, sort, .. } = &self.history;
        fingerprint.fingerprint(*device);
        guest.iter().chain(waiting).for_each(|each| fingerprint.fingerprint(*each));
        fingerprint.fingerprint(*told);
        fingerprint.word(*sort as u64 | u64::from(self.writes_back) << 8);
        fingerprint.fingerprint(*neighbours);
        let slot = self.world.slot(0);
        let runnable = slot.runnable.iter().fold(0, |all, &one| all << 1 | u64::from(one));
        fingerprint.word(runnable);
        self.cells.add_to(&mut fingerprint);
        let disk = self.world.disk();
        fingerprint.word(disk.forgotten().words()[0]);
        fingerprint.word(self.outside());
        let mut flying = Fingerprint::EMPTY;
        for (nth, (op, _, landed)) in disk.in_flight().enumerate() {
            let owed = disk.owed(nth).words()[0];
            flying.blend(Fingerprint::of(&[name(op), landed.words()[0], owed]));
        }
        fingerprint.fingerprint(flying);
        fingerprint
    }

    /// Dirty sectors outside the device's part, which no operation should change; the witness
    /// checks them.
    fn outside(&self) -> u64 {
        let disk = self.world.disk();
        disk.dirty().minus(disk.shape().part(0)).words()[0]
    }

    /// The fingerprint of a state in which the sectors from `next` on are not read back yet.
    fn undecided_fingerprint(
        &self,
        next: u32,
        crashes: u8,
        device: Fingerprint,
        may: &[Vec<(Code, How)>],
    ) -> Fingerprint {
        let mut fingerprint = self.budget(2 | u64::from(next) << 32, crashes);
        fingerprint.fingerprint(device);
        fingerprint.word(self.outside());
        let oracle = self.world.oracle(0);
        let mut allowed = Vec::new();
        for (number, may) in may.iter().enumerate() {
            oracle.candidates(Atom(number as u32), &mut allowed);
            let code = |content: Content| payload::code(Observed::Content(content));
            let zeroes = allowed.iter().position(|&content| content == Content::ZERO);
            fingerprint.word(allowed.len() as u64 | (zeroes.map_or(0, |at| at as u64 + 1)) << 8);
            let mut places = Fingerprint::EMPTY;
            for &(found, _) in may {
                let place = allowed.iter().position(|&content| code(content) == found);
                // A content that is not allowed is identified by its code.
                places.blend(Fingerprint::of(&[place.map_or(found | 1 << 63, |at| at as u64)]));
            }
            fingerprint.fingerprint(places);
        }
        fingerprint
    }

    fn fresh_fingerprint(&self) -> Fingerprint {
        let mut fingerprint = self.budget(3 | u64::from(self.writes_back) << 4, 0);
        fingerprint.fingerprint(self.history.device);
        for number in 0..self.cells.len() {
            fingerprint.word(u64::from(self.cells.cached(number) == zero()));
        }
        fingerprint
    }

    /// Whether the contents of the disk are the same from both ends.
    pub(super) fn is_mirrored(&self) -> bool {
        let is_zero = |number: u32| self.cells.cached(number) == zero();
        let last = self.cells.len() - 1;
        (0..=last).all(|number| is_zero(number) == is_zero(last - number))
    }
}
