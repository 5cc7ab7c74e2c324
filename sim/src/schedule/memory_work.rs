//! What the guest of a persistent memory does: it stores, loads, and asks for flushes.

use super::Pilot;
use crate::base::choose::{Choose, Site};
use crate::dut::DeviceUnderTest;
use crate::guest::wire::feature;
use crate::guest::{Ask, Layout, MAX_SECTORS, Mischief};
use crate::world::World;
use crate::world::action::{Action, QueueId};

impl Pilot {
    /// An access or a request. A ring without room leaves the accesses.
    pub(super) fn memory_request<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
        to: QueueId,
    ) -> Action {
        let station = world.station(to.device);
        let mix = self.options.mix;
        let has_room = station.queues[usize::from(to.queue)].has_room();
        let flush = if has_room { mix.flush } else { 0 };
        let draw = choose.below(mix.read + mix.write + flush, Site::Request);
        let (mut ask, mut mischief) = (Ask::Flush, Mischief::None);
        if draw < mix.read + mix.write {
            let word = choose.below(self.options.spread.min(station.capacity), Site::Sector);
            let most = MAX_SECTORS.min(self.options.max_sectors).min(station.capacity - word);
            let words = choose.between(1, most, Site::Sector);
            let stores = draw < mix.write;
            ask = if stores { Ask::Store { word, words } } else { Ask::Load { word, words } };
        } else if choose.chance(self.options.mischief, Site::Request) {
            (ask, mischief) = spoil(choose);
        }
        let indirect = station.negotiated & feature::INDIRECT_DESC != 0;
        let layout = match ask.is_access() {
            true => Layout::PLAIN,
            false if self.options.layouts => Layout::draw(choose, indirect),
            false => Layout { indirect: u8::from(indirect), ..Layout::PLAIN },
        };
        let id = self.next_id;
        self.next_id += 1;
        self.budget = self.budget.saturating_sub(1);
        Action::Send { to, id, ask, layout, mischief }
    }
}

/// A request that asks for nothing that makes sense.
fn spoil<C: Choose>(choose: &mut C) -> (Ask, Mischief) {
    match choose.below(8, Site::Request) {
        0 | 1 => {
            let number = choose.pick(&[1, 2, 4, 27, 1 << 8, 1 << 24, u32::MAX], Site::Request);
            (Ask::Other(number), Mischief::None)
        }
        2 => (Ask::Flush, Mischief::Ragged(1 + choose.below(4, Site::Request) as u16)),
        3 => (Ask::Flush, Mischief::ShortHeader),
        4 => (Ask::Flush, Mischief::NoStatus),
        5 => (Ask::Flush, Mischief::StatusFirst),
        6 => (Ask::Flush, Mischief::Loop),
        _ => (Ask::Flush, Mischief::Dangling),
    }
}
