//! The workload of a persistent memory: stores, loads and flushes.

use super::Scheduler;
use crate::base::choose::{Choose, Site};
use crate::dut::DeviceUnderTest;
use crate::guest::wire::feature;
use crate::guest::{GuestRequest, Layout, MAX_WORDS, Malformation};
use crate::world::World;
use crate::world::action::{Action, QueueId};

impl Scheduler {
    /// A store, a load, or a request if the ring has room.
    pub(super) fn memory_request<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
        to: QueueId,
    ) -> Action {
        let slot = world.slot(to.device);
        let mix = self.options.mix;
        let has_room = slot.queues[usize::from(to.queue)].has_room();
        let flush = if has_room { mix.flush } else { 0 };
        let draw = choose.below(mix.read + mix.write + flush, Site::Request);
        let (mut ask, mut malformation) = (GuestRequest::Flush, Malformation::None);
        if draw < mix.read + mix.write {
            let word = choose.below(self.options.spread.min(slot.capacity), Site::Sector);
            let most = MAX_WORDS.min(self.options.shape.max_sectors).min(slot.capacity - word);
            let words = choose.between(1, most, Site::Sector);
            let stores = draw < mix.write;
            ask = if stores {
                GuestRequest::Store { word, words }
            } else {
                GuestRequest::Load { word, words }
            };
        } else if choose.chance(self.options.malformation, Site::Request) {
            (ask, malformation) = spoil(choose);
        }
        let indirect = slot.life().negotiated & feature::INDIRECT_DESC != 0;
        let layout = match ask.is_access() {
            true => Layout::PLAIN,
            false if self.options.layouts => Layout::draw(choose, indirect),
            false => Layout { indirect: u8::from(indirect), ..Layout::PLAIN },
        };
        let id = self.next_id;
        self.next_id += 1;
        self.budget = self.budget.saturating_sub(1);
        Action::Send { to, id, ask, layout, malformation }
    }
}

/// An unsupported or malformed request.
fn spoil<C: Choose>(choose: &mut C) -> (GuestRequest, Malformation) {
    match choose.below(8, Site::Request) {
        0 | 1 => {
            let number = choose.pick(&[1, 2, 4, 27, 1 << 8, 1 << 24, u32::MAX], Site::Request);
            (GuestRequest::Other(number), Malformation::None)
        }
        2 => (
            GuestRequest::Flush,
            Malformation::ShortData(1 + choose.below(4, Site::Request) as u16),
        ),
        3 => (GuestRequest::Flush, Malformation::ShortHeader),
        4 => (GuestRequest::Flush, Malformation::NoStatus),
        5 => (GuestRequest::Flush, Malformation::StatusFirst),
        6 => (GuestRequest::Flush, Malformation::Loop),
        _ => (GuestRequest::Flush, Malformation::NextOutOfRange),
    }
}
