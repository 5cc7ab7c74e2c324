//! The rows of the stability table, one by one: a driver that accepts these features writes two
//! sectors, waits until they are stable by the table, loses power, and reads them back.
//!
//! This is the least that a device has to do. It takes one run a row, so that the most common
//! defects are seen at once, by the row that they are in.

use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::guest::wire::feature;
use crate::guest::{GuestRequest, Layout, Malformation};
use crate::run::{Verdict, replay};
use crate::world::action::{Action, CrashKind, QueueId};
use crate::world::{World, WorldShape};

/// A row of the stability table (5.2.6.2) under which something is owed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RowCase {
    /// Its letter.
    pub letter: char,
    /// What the driver accepts, in words.
    pub driver: &'static str,
    /// When a completed write is stable, in words.
    pub stable: &'static str,
    accepts: u64,
    /// The cache mode that the driver sets.
    writeback: Option<u8>,
    /// Whether the device has to begin in write-through mode.
    begins_through: bool,
    flushes: bool,
}

const BOTH: u64 = feature::FLUSH | feature::CONFIG_WCE;

/// A row of a driver that accepts both.
const FULL: RowCase = RowCase {
    letter: 'F',
    driver: "both",
    stable: "when it completes",
    accepts: BOTH,
    writeback: None,
    begins_through: false,
    flushes: false,
};

/// The rows, in their order. Row A owes nothing, row E nothing until the mode is changed, and row H
/// is a change of the mode in flight.
pub const ROWS: [RowCase; 6] = [
    RowCase { letter: 'B', driver: "neither FLUSH nor CONFIG_WCE", accepts: 0, ..FULL },
    RowCase {
        letter: 'C',
        driver: "FLUSH",
        stable: "after a flush",
        accepts: feature::FLUSH,
        flushes: true,
        ..FULL
    },
    RowCase {
        letter: 'D',
        driver: "CONFIG_WCE; writeback reads 0",
        accepts: feature::CONFIG_WCE,
        begins_through: true,
        ..FULL
    },
    RowCase { letter: 'F', driver: "both; writeback reads 0", begins_through: true, ..FULL },
    RowCase { letter: 'F', driver: "both; it sets writeback to 0", writeback: Some(0), ..FULL },
    RowCase {
        letter: 'G',
        driver: "both; it sets writeback to 1",
        stable: "after a flush",
        writeback: Some(1),
        flushes: true,
        ..FULL
    },
];

impl RowCase {
    /// Whether a device can be in this row that offers these features, and begins in this cache
    /// mode where the driver accepts both.
    #[must_use]
    pub fn is_possible(&self, offered: u64, writeback: bool) -> bool {
        let begins = !(self.begins_through && writeback && self.accepts == BOTH);
        offered & feature::FLUSH != 0 && self.accepts & !offered == 0 && begins
    }

    /// Whether it sets the cache mode of the device itself.
    #[must_use]
    pub fn sets_mode(&self) -> bool {
        self.writeback.is_some()
    }

    /// The actions: at most three requests and one power loss.
    #[must_use]
    pub fn actions(&self) -> Vec<Action> {
        let device = 0;
        let to = QueueId { device, queue: 0 };
        let start = Action::Start { device, accept: self.accepts | feature::VERSION_1, base: 0 };
        let mut actions = vec![start];
        actions.extend(self.writeback.map(|value| Action::Writeback { device, value }));
        let mut id = 0;
        let mut ask = |actions: &mut Vec<Action>, ask: GuestRequest| {
            id += 1;
            let (layout, malformation) = (Layout::PLAIN, Malformation::None);
            actions.push(Action::Send { to, id, ask, layout, malformation });
            actions.push(Action::Await { device, id });
        };
        ask(&mut actions, GuestRequest::Out { sector: 0, sectors: 2 });
        if self.flushes {
            ask(&mut actions, GuestRequest::Flush);
        }
        actions.push(Action::Crash(CrashKind::Power { survivors: SectorSet::EMPTY }));
        actions.push(start);
        ask(&mut actions, GuestRequest::In { sector: 0, sectors: 2 });
        actions
    }

    /// Does the run of the row.
    pub fn run<D: DeviceUnderTest>(&self, world: &mut World<D>, shape: WorldShape) -> Verdict {
        replay(world, shape, 1, &self.actions(), |_| {})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::devices::blk::Blk;
    use crate::devices::faulty::{Wrong, WrongDisk};

    fn broken<D: DeviceUnderTest>(setup: &D::Setup) -> String {
        let shape = WorldShape::default();
        let letters = ROWS.iter().filter(|row| {
            let mut world = World::<D>::new(setup.clone(), shape, 1);
            row.run(&mut world, shape).failure.is_some()
        });
        letters.map(|row| row.letter).collect()
    }

    #[test]
    fn our_device_keeps_every_row_and_a_disk_without_syncs_none() {
        assert_eq!(broken::<Blk>(&()), "");
        let Some(Wrong::Disk(fault)) = Wrong::from_name("early-flush") else { panic!("a disk") };
        assert_eq!(broken::<WrongDisk>(&fault), "BCDFG", "the first F begins in write-back mode");
    }

    #[test]
    fn a_row_needs_what_it_accepts() {
        let possible = |offered: u64, writeback: bool| -> String {
            let rows = ROWS.iter().filter(|row| row.is_possible(offered, writeback));
            rows.map(|row| row.letter).collect()
        };
        assert_eq!(possible(BOTH, false), "BCDFFG");
        assert_eq!(possible(BOTH, true), "BCDFG");
        assert_eq!(possible(feature::FLUSH, false), "BC");
        assert_eq!(possible(0, false), "");
    }
}
