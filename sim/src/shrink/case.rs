//! A run as input of the shrinker, and the order of runs by cost.

use crate::base::sectors::SectorSet;
use crate::dut::lifecycle::Lifecycle;
use crate::guest::{GuestRequest, Layout, Malformation, Moment};
use crate::host::disk::{Errno, Outcome};
use crate::world::WorldShape;
use crate::world::action::{Action, CrashKind, Until};

/// A run: its world and its actions.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) shape: WorldShape,
    pub(super) run: u32,
    pub(super) actions: Vec<Action>,
}

/// The complexity of a run; the first difference decides. Properties that a reader has to follow
/// come first, details of notation last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Cost {
    devices: u32,
    crashes: u32,
    faults: u32,
    requests: u32,
    actions: u32,
    /// Lines that name the thread or operation to run; without them the order is first in, first
    /// out.
    orders: u32,
    spoiled: u32,
    queues: u32,
    sectors: u32,
    /// Distinct ranges.
    ranges: u32,
    layouts: u32,
    features: u32,
    shape: u32,
    survivors: u32,
    places: u32,
    steps: u32,
    numbers: u64,
}

impl Case {
    /// All sectors that may survive a power loss.
    pub(super) fn medium(&self) -> SectorSet {
        let disk = self.shape.spec.disk;
        (0..disk.devices).fold(SectorSet::EMPTY, |all, device| all.or(disk.part(device)))
    }

    pub(super) fn cost(&self) -> Cost {
        let shape = &self.shape;
        let (spec, disk) = (&shape.spec, &shape.spec.disk);
        let mut cost = Cost {
            devices: u32::from(shape.devices),
            actions: self.actions.len() as u32,
            queues: u32::from(spec.queues),
            features: spec.offer.count_ones() + refused(spec.offer, &self.actions),
            shape: disk.capacity
                + shape.max_sectors
                + spec.max_segments
                + spec.max_segment_sectors.min(64)
                + disk.granule / 512
                + disk.discard_granularity / 512
                + u32::from(spec.ring_size != 16) * 4
                + u32::from(disk.tear != 1)
                + u32::from(disk.max_transfer != 1 << 20) * 4
                + u32::from(disk.depth != 32) * 4
                + u32::from(!spec.writeback)
                + u32::from(disk.read_only)
                + u32::from(shape.host_may_fail) * 8
                + u32::from(shape.watch)
                + shape.region / 4096,
            numbers: u64::from(self.run),
            ..Cost::default()
        };
        let medium = self.medium();
        for action in &self.actions {
            cost.add(action, medium);
        }
        cost.ranges = ranges(&self.actions);
        cost
    }
}

impl Cost {
    fn add(&mut self, action: &Action, medium: SectorSet) {
        match action {
            Action::Start { base, .. } => self.places += u32::from(*base != 0),
            Action::Send { to, id, ask, layout, malformation } => {
                self.requests += 1;
                self.spoiled += u32::from(*malformation != Malformation::None);
                self.layouts += complexity(layout);
                self.places += u32::from(to.queue) + u32::from(to.device);
                self.numbers += u64::from(*id);
                self.ask(ask);
            }
            Action::SendAgain { .. } | Action::Jump { .. } => self.requests += 1,
            Action::Alter { moment: Moment::Step(nth) | Moment::Read(nth), .. } => {
                self.spoiled += 1;
                self.steps += u32::from(*nth);
            }
            Action::Kick { .. } | Action::Reap { .. } => self.orders += 1,
            Action::Writeback { .. } | Action::PollReset { .. } => {}
            Action::Reset { .. } => self.crashes += 1,
            Action::Lifecycle { what: Lifecycle::Reconnect { inside }, .. } => {
                self.crashes += 1;
                self.steps += u32::from(inside.is_some());
            }
            Action::Lifecycle { what: Lifecycle::Leave, .. } => self.crashes += 1,
            Action::Lifecycle { what: Lifecycle::PollQueue { .. }, .. } => {}
            Action::Lifecycle { .. } => self.orders += 1,
            Action::Crank { until, .. } => {
                self.orders += 1;
                // A step count tells a reader less than an event does.
                self.steps += match until {
                    Until::Idle => 0,
                    Until::Used(_) => 1,
                    Until::Submitted(_) => 2,
                    Until::Steps(steps) => 4 + u32::from(*steps),
                };
            }
            Action::Background { steps, .. } => {
                self.orders += 1;
                self.steps += 4 + u32::from(*steps);
            }
            Action::Choose { choices, .. } => {
                self.orders += 1;
                self.steps += choices.numbers().len() as u32;
                self.numbers +=
                    choices.numbers().iter().map(|&number| u64::from(number)).sum::<u64>();
            }
            Action::Effect { set, .. } => {
                self.orders += 1;
                self.survivors += set.len();
            }
            Action::Complete { outcome, .. } => {
                self.orders += 1;
                match outcome {
                    Outcome::Ok { landed } => self.survivors += landed.len(),
                    Outcome::Short { .. } => self.faults += 1,
                    Outcome::Failed { errno, landed, forgot } => {
                        self.faults += 1;
                        self.steps += u32::from(*errno != Errno::EIO);
                        self.survivors += landed.len() + forgot.len();
                    }
                }
            }
            Action::WriteBack { set } => {
                self.orders += 1;
                self.survivors += set.len();
            }
            Action::Evict { set } => {
                self.faults += 1;
                self.survivors += set.len();
            }
            Action::Crash(CrashKind::Backend { .. }) => self.crashes += 1,
            Action::Crash(CrashKind::Power { survivors }) => {
                self.crashes += 1;
                // Losing everything and losing nothing are both simple.
                self.survivors += match survivors.len() {
                    0 => 0,
                    _ if *survivors == medium => 1,
                    some => 1 + some,
                };
            }
            // Waiting for one request is more specific than waiting for rest.
            Action::Rest => self.steps += 1,
            Action::Await { .. } => {}
            Action::Stream { ask, count, .. } => {
                self.requests += 1 + count / 64;
                self.ask(ask);
            }
        }
    }

    fn ask(&mut self, ask: &GuestRequest) {
        if let Some((first, count)) = ask.range() {
            self.sectors += count;
            self.places += first.min(1 << 20) as u32;
        }
        match ask {
            GuestRequest::Ranges(_, list) => {
                self.layouts += u32::from(list.more());
                for segment in list.as_slice() {
                    self.sectors += segment.sectors.min(1 << 10);
                    self.layouts += 2 + u32::from(segment.flags != 0);
                    self.places += segment.sector.min(1 << 20) as u32;
                }
            }
            GuestRequest::GetId | GuestRequest::Other(_) => self.sectors += 1,
            _ => {}
        }
    }
}

/// The number of distinct ranges that are read and written.
fn ranges(actions: &[Action]) -> u32 {
    let mut ranges = Vec::new();
    for action in actions {
        if let Action::Send { ask, .. } = action
            && let Some(range) = ask.range()
            && !ranges.contains(&range)
        {
            ranges.push(range);
        }
    }
    ranges.len() as u32
}

/// The number of features that are offered and refused. A refusal costs more than an offer because
/// a reader asks for its reason.
fn refused(offer: u64, actions: &[Action]) -> u32 {
    let refused = |action: &Action| match action {
        Action::Start { accept, .. } => (offer ^ accept).count_ones() * 4,
        _ => 0,
    };
    actions.iter().map(refused).sum()
}

fn complexity(layout: &Layout) -> u32 {
    let Layout { header, data, glued, indirect, empty } = layout;
    [header, data, glued, indirect, empty].into_iter().map(|&part| u32::from(part)).sum()
}
