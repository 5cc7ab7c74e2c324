//! The key of a state: two states with equal keys are considered equal.
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
use super::history::name;
use super::node::{Node, Phase};
use super::scope::Budget;
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::guest::payload;
use crate::host::disk::SimDisk;
use crate::world::World;

/// The key of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StateKey(Fingerprint);

impl StateKey {
    /// The key of the state of a node.
    pub(super) fn of<D: DeviceUnderTest>(node: &Node<D>) -> StateKey {
        StateKey(match node.phase {
            Phase::Recalling { next } => {
                undecided(&node.world, node.left, next, node.history.device(), &node.left_behind)
            }
            Phase::Living if node.history.is_fresh() => fresh(node),
            Phase::Living | Phase::Resetting => living(node),
        })
    }

    /// The key of the state after a power loss now, in a lazy search, and the number of images it
    /// stands for.
    pub(super) fn after_loss<D: DeviceUnderTest>(node: &Node<D>) -> (StateKey, u64) {
        let device = node.history.device_after_loss(node.world.slot(0).device.carries());
        let may = node.may_survive();
        let images = may.iter().map(|may| may.len() as u64).product();
        let left = Budget { crashes: node.left.crashes - 1, ..node.left };
        (StateKey(undecided(&node.world, left, 0, device, &may)), images)
    }

    /// The key of this state together with a number.
    pub(super) fn with(self, number: u8) -> StateKey {
        let mut fingerprint = self.0;
        fingerprint.word(u64::from(number));
        StateKey(fingerprint)
    }

    /// The key as a number that is not zero.
    #[inline]
    pub(super) fn value(self) -> u128 {
        self.0.value()
    }
}

/// Adds the images that a power loss may leave now, each with the guest's knowledge at that time.
/// With `survivors`, only the image in which exactly those dirty sectors survive.
pub(super) fn add_images<D: DeviceUnderTest>(
    node: &Node<D>,
    survivors: Option<SectorSet>,
    out: &mut BTreeSet<u128>,
) {
    let mut images = vec![Fingerprint::EMPTY];
    for (number, may) in node.may_survive().into_iter().enumerate() {
        let at = node.cells.sector(number as u32);
        let contents: Vec<Code> = match survivors {
            None => may.into_iter().map(|(content, _)| content).collect(),
            Some(set) if set.contains(at) => vec![node.cells.cached(number as u32)],
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
        image.fingerprint(node.history.events());
        out.insert(image.value());
    }
}

/// A fingerprint of the budget. Its lowest byte is `tag`, which tells the three sorts of states
/// apart.
fn budget(tag: u64, left: Budget) -> Fingerprint {
    let Budget { requests, crashes, faults, resets } = left;
    let (requests, crashes) = (u64::from(requests) << 8, u64::from(crashes) << 16);
    Fingerprint::of(&[tag | requests | crashes | u64::from(faults) << 24 | u64::from(resets) << 40])
}

/// A state in the middle of a life.
fn living<D: DeviceUnderTest>(node: &Node<D>) -> Fingerprint {
    let flags = u64::from(node.lopsided) << 4
        | u64::from(node.phase == Phase::Resetting) << 5
        | u64::from(node.writes_back) << 6;
    let mut fingerprint = budget(1 | flags, node.left);
    node.history.add_to(&mut fingerprint);
    let runnable = node.world.slot(0).runnable.iter();
    fingerprint.word(runnable.fold(0, |all, &one| all << 1 | u64::from(one)));
    node.cells.add_to(&mut fingerprint);
    let disk = node.world.disk();
    fingerprint.word(disk.forgotten().words()[0]);
    fingerprint.word(outside(disk));
    let mut flying = Fingerprint::EMPTY;
    for (nth, (op, _, landed)) in disk.in_flight().enumerate() {
        let owed = disk.owed(nth).words()[0];
        flying.blend(Fingerprint::of(&[name(op), landed.words()[0], owed]));
    }
    fingerprint.fingerprint(flying);
    fingerprint
}

/// Dirty sectors outside the device's part, which no operation should change; the witness checks
/// them.
fn outside(disk: &SimDisk) -> u64 {
    disk.dirty().minus(disk.shape().part(0)).words()[0]
}

/// A state after a power loss in which the sectors from `next` on are not read back yet. `device`
/// is the device's inputs, `may` the possible contents of each sector.
fn undecided<D: DeviceUnderTest>(
    world: &World<D>,
    left: Budget,
    next: u32,
    device: Fingerprint,
    may: &[Vec<(Code, How)>],
) -> Fingerprint {
    let mut fingerprint = budget(2 | u64::from(next) << 48, left);
    fingerprint.fingerprint(device);
    fingerprint.word(outside(world.disk()));
    let oracle = world.oracle(0);
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

/// A life that begins with everything read back. The power losses left are no part of the key: the
/// search of such a life is a task of its own, for the largest number of them.
fn fresh<D: DeviceUnderTest>(node: &Node<D>) -> Fingerprint {
    let left = Budget { crashes: 0, ..node.left };
    let mut fingerprint = budget(3 | u64::from(node.writes_back) << 4, left);
    fingerprint.fingerprint(node.history.device());
    for number in 0..node.cells.len() {
        fingerprint.word(u64::from(node.cells.cached(number) == zero()));
    }
    fingerprint
}
