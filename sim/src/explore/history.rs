//! What makes two states one.
//!
//! A device is anything that implements [`DeviceUnderTest`], so nobody can look into it. But it is
//! a function of what it was given, and so is the oracle. Two states are therefore held to be one
//! iff these are equal:
//!
//! * for the device, everything its threads were given, in order: which one ran, what the guest had
//!   published by then, and which completions waited. With each power loss it begins anew, with
//!   what it [carries](DeviceUnderTest::carries) over;
//! * for the oracle, what was sent and what came back since the life began, up to the order of
//!   neighbours of one sort: of two requests it asks only whether one ended before the other was
//!   submitted;
//! * for the disk, what each sector may hold, what is in flight and how far, and what waits to be
//!   taken;
//! * what the scope has left.
//!
//! After a power loss less is needed: which contents the oracle allows in each sector and which may
//! be there, by their place in the order of the former, and which of them is zeroes. Once all was
//! read back each sector holds one content that both agree on, and its name does not matter any
//! more.

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

/// What was given to whom, as fingerprints.
#[derive(Clone, Debug)]
pub(super) struct History {
    /// What the guest has published, by queue.
    guest: [Fingerprint; 4],
    /// What has been completed and not taken, by lane, in order.
    waiting: [Fingerprint; 4],
    /// What the device was given.
    device: Fingerprint,
    /// What the oracle was told, but for the last neighbours of one sort.
    told: Fingerprint,
    /// Those, in no order.
    neighbours: Fingerprint,
    sort: Sort,
    /// What was sent and what came back in this life, in no order.
    events: Fingerprint,
    /// Nothing has happened since the life began and everything was read back.
    fresh: bool,
    /// Every order of what the oracle was told counts, and so does what was before a power loss.
    exact: bool,
}

/// Of what sort the last thing was that the oracle was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Sent,
    Back,
    /// Has no neighbours.
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

    /// A request was published.
    pub(super) fn sent(&mut self, queue: u8, id: u32, nth: u8) {
        let what = u64::from(id) << 16 | u64::from(nth) << 8 | u64::from(queue);
        self.guest[usize::from(queue)].word(what);
        self.tell(Sort::Sent, Fingerprint::of(&[1, what]));
    }

    /// Words of a memory were stored or loaded.
    pub(super) fn accessed(&mut self, id: u32, nth: u8) {
        let what = u64::from(id) << 16 | u64::from(nth) << 8;
        // A device that is wrong may have noticed.
        self.device.word(what | 1);
        self.tell(Sort::Other, Fingerprint::of(&[2, what]));
    }

    /// Requests came back.
    pub(super) fn heard(&mut self, answers: impl Iterator<Item = Answer>) {
        for Answer { id, status, found } in answers {
            let what = Fingerprint::of(&[3, u64::from(id) << 8 | u64::from(status), found]);
            self.tell(Sort::Back, what);
        }
    }

    /// The guest has written `writeback`.
    pub(super) fn switched(&mut self, value: u8) {
        self.device.word(u64::from(value) << 1 | 1);
        self.tell(Sort::Other, Fingerprint::of(&[4, u64::from(value)]));
    }

    /// The guest has asked for a reset.
    pub(super) fn reset_begun(&mut self) {
        self.device.word(6 << 8);
        self.tell(Sort::Other, Fingerprint::of(&[5]));
    }

    /// The reset has shown, and another life begins.
    pub(super) fn reset_shown(&mut self) {
        self.device.word(7 << 8);
        self.tell(Sort::Other, Fingerprint::of(&[6]));
    }

    /// A thread of the device runs: now it sees what was published and what waits.
    pub(super) fn runs(&mut self, queue: u8) {
        self.device.word(u64::from(queue) << 1);
        self.guest.iter().for_each(|guest| self.device.fingerprint(*guest));
        let waiting = std::mem::replace(&mut self.waiting[usize::from(queue)], Fingerprint::EMPTY);
        self.device.fingerprint(waiting);
        self.fresh = false;
    }

    /// An operation was completed.
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

    /// The power was lost.
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

    /// Everything was read back. The threads have run for that; nothing else will tell them.
    pub(super) fn all_recalled(&mut self) {
        self.fresh = !self.exact;
    }
}

/// An operation, as a number. It has so few sectors that each fits.
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

    /// Adds the images that a power loss now may leave, each with what the guest knows by then.
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

    /// The fingerprint of the state behind a power loss now, in a lazy search, and how many images
    /// it stands for.
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

    /// What is dirty outside the device's part, where nothing has any business to change: the
    /// witness looks there.
    fn outside(&self) -> u64 {
        let disk = self.world.disk();
        disk.dirty().minus(disk.shape().part(0)).words()[0]
    }

    /// The fingerprint of a state in which the sectors from `next` on are not known yet.
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
                // What is not allowed keeps its name.
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

    /// Whether the contents of the disk look alike from both ends.
    pub(super) fn is_mirrored(&self) -> bool {
        let is_zero = |number: u32| self.cells.cached(number) == zero();
        let last = self.cells.len() - 1;
        (0..=last).all(|number| is_zero(number) == is_zero(last - number))
    }
}
