//! The requests of the guest, and the choice between guest, threads and host.

use super::order::Party;
use super::{STREAM, Schedule, Scheduler};
use crate::base::choose::{Choose, Site};
use crate::dut::DeviceUnderTest;
use crate::guest::Kind;
use crate::guest::wire::{feature, request};
use crate::guest::{GuestRequest, Layout, MAX_SEGMENTS, Malformation, RangeKind, Segments};
use crate::host::disk::{BACKGROUND_LANE, OpKey};
use crate::world::action::{Action, QueueId, Until};
use crate::world::{DeviceSlot, World};
use powerfail_model::Segment;

/// Whether an operation belongs to a queue. Those of background work count as the first queue's.
fn is_of(key: OpKey, to: QueueId) -> bool {
    let lane = if key.lane == BACKGROUND_LANE { 0 } else { key.lane };
    key.device == to.device && lane == to.queue
}

impl Scheduler {
    /// One move while the guest works; `None` if the drawn one is not enabled.
    pub(super) fn work<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        for device in 0..self.options.shape.devices {
            let slot = world.slot(device);
            if slot.life().wants_reset {
                return Some(Action::Reset { device });
            }
            if slot.is_live() {
                continue;
            }
            if !slot.is_resetting() {
                return Some(self.start(world, device, choose));
            }
            if choose.below(4, Site::Next) == 0 {
                return Some(Action::PollReset { device });
            }
        }
        if let Some(action) = self.lifecycle(world, choose) {
            return Some(action);
        }
        if choose.chance(self.options.write_back, Site::Survivor)
            && let Some(action) = self.idle_host(world, choose)
        {
            return Some(action);
        }
        let (to, party) = match self.schedule {
            Schedule::Uniform => self.any_party(world, choose)?,
            Schedule::Pct => self.urgent_party(world, choose)?,
            Schedule::Naive => return self.naive(world, choose),
        };
        match party {
            Party::Guest => self.guest(world, choose, to),
            Party::Thread => self.crank(world, choose, to),
            Party::Host => {
                let busy = world.disk().busy();
                if busy == 0 {
                    return None;
                }
                let nth = match self.schedule {
                    Schedule::Pct => {
                        world.disk().in_flight().position(|(key, ..)| is_of(key, to))?
                    }
                    _ => choose.below(busy as u32, Site::Operation) as usize,
                };
                Some(self.host(world, choose, nth))
            }
        }
    }

    pub(super) fn any_queue<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
    ) -> QueueId {
        let devices = u32::from(self.options.shape.devices);
        let device = if devices == 1 { 0 } else { choose.below(devices, Site::Queue) as u8 };
        let active = u32::from(world.slot(device).life().active.max(1));
        let queue = if active == 1 { 0 } else { choose.below(active, Site::Queue) as u8 };
        QueueId { device, queue }
    }

    /// An enabled party of a drawn queue; the guest usually slightly more often than the others.
    fn any_party<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<(QueueId, Party)> {
        let to = self.any_queue(world, choose);
        let slot = world.slot(to.device);
        let driver = &slot.queues[usize::from(to.queue)];
        let sends = self.budget > 0 && (driver.has_room() || slot.kind == Kind::Memory);
        let guest =
            slot.is_queue_live(to.queue) && (sends || driver.kick_due() || driver.back() > 0);
        let thread = slot.runnable[usize::from(to.queue)];
        let host = world.disk().busy() > 0;
        let weight = |can: bool, weight: u32| if can { weight } else { 0 };
        let haste = self.options.haste;
        let (guest, thread, host) = (weight(guest, haste), weight(thread, 5), weight(host, 5));
        let sum = guest + thread + host;
        if sum == 0 {
            return None;
        }
        let party = match choose.below(sum, Site::Next) {
            draw if draw < guest => Party::Guest,
            draw if draw < guest + thread => Party::Thread,
            _ => Party::Host,
        };
        Some((to, party))
    }

    fn urgent_party<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<(QueueId, Party)> {
        let devices = self.options.shape.devices;
        self.priorities.pick(choose, |to, party| {
            if to.device >= devices {
                return false;
            }
            let slot = world.slot(to.device);
            let queue = usize::from(to.queue);
            if u16::from(to.queue) >= slot.life().active.max(1) {
                return false;
            }
            match party {
                Party::Guest => {
                    let driver = &slot.queues[queue];
                    slot.is_queue_live(to.queue)
                        && (driver.has_room()
                            || slot.kind == Kind::Memory
                            || driver.kick_due()
                            || driver.back() > 0)
                }
                Party::Thread => slot.runnable[queue],
                Party::Host => world.disk().in_flight().any(|(key, ..)| is_of(key, to)),
            }
        })
    }

    /// First in, first out.
    fn naive<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
    ) -> Option<Action> {
        let to = self.any_queue(world, choose);
        world.settle().or_else(|| self.request(world, choose, to))
    }

    fn crank<D: DeviceUnderTest, C: Choose>(
        &self,
        world: &World<D>,
        choose: &mut C,
        to: QueueId,
    ) -> Option<Action> {
        if !world.slot(to.device).runnable[usize::from(to.queue)] {
            return None;
        }
        let burst = self.options.burst;
        let steps = if burst == 1 { 1 } else { 1 + choose.below(burst, Site::Next) };
        Some(Action::Crank { to, until: Until::Steps(steps as u8) })
    }

    fn guest<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
        to: QueueId,
    ) -> Option<Action> {
        let slot = world.slot(to.device);
        if !slot.is_queue_live(to.queue) {
            return None;
        }
        let driver = &slot.queues[usize::from(to.queue)];
        let is_memory = slot.kind == Kind::Memory;
        let room = self.budget > 0 && (driver.has_room() || is_memory);
        if driver.kick_due() && (!room || choose.below(2, Site::Next) == 0) {
            return Some(Action::Kick { to });
        }
        if driver.back() > 0 && (!room || choose.below(3, Site::Next) == 0) {
            let arm = choose.below(4, Site::Next) != 0;
            return Some(Action::Reap { to, arm });
        }
        if !room {
            return None;
        }
        if choose.chance(self.options.again, Site::Request) {
            let mut harmless = driver.outstanding().filter(|(_, ask)| !ask.mutates());
            if let Some((id, _)) = harmless.next() {
                return Some(Action::SendAgain { to, id });
            }
        }
        if choose.chance(self.options.toggle, Site::Request)
            && slot.life().negotiated & feature::CONFIG_WCE != 0
        {
            let value = choose.pick(&[0, 0, 1, 1, 0x80], Site::Request);
            return Some(Action::Writeback { device: to.device, value });
        }
        if choose.chance(self.options.reset, Site::Request) {
            return Some(Action::Reset { device: to.device });
        }
        if self.streams > 0 && !is_memory && choose.below(8, Site::Request) == 0 {
            return Some(self.stream(choose, to));
        }
        // A driver that has seen a failure may try a reset.
        if slot.oracle.first().host_failed() && choose.below(24, Site::Request) == 0 {
            return Some(Action::Reset { device: to.device });
        }
        self.request(world, choose, to)
    }

    /// A stream of reads or writes of one sector.
    fn stream<C: Choose>(&mut self, choose: &mut C, to: QueueId) -> Action {
        let (sector, _) = self.range(choose);
        let ask = match choose.below(2, Site::Request) {
            0 => GuestRequest::In { sector, sectors: 1 },
            _ => GuestRequest::Out { sector, sectors: 1 },
        };
        self.streams -= 1;
        Action::Stream { to, id: self.next_id, ask, count: STREAM }
    }

    fn request<D: DeviceUnderTest, C: Choose>(
        &mut self,
        world: &World<D>,
        choose: &mut C,
        to: QueueId,
    ) -> Option<Action> {
        let slot = world.slot(to.device);
        if !slot.is_queue_live(to.queue) {
            return None;
        }
        if slot.kind == Kind::Memory {
            return Some(self.memory_request(world, choose, to));
        }
        self.capacity = slot.capacity;
        let most = slot.queues[usize::from(to.queue)].most_data() / 512;
        self.most = self.options.shape.max_sectors.min(most.max(1));
        let (mut ask, mut malformation) =
            (self.ask(choose, slot.life().negotiated), Malformation::None);
        if matches!(ask, GuestRequest::In { .. })
            && choose.chance(self.options.chase, Site::Request)
            && let Some(chased) = in_flight_write(slot)
        {
            ask = chased;
        }
        if choose.chance(self.options.malformation, Site::Request) {
            (ask, malformation) = self.spoil(choose, ask);
        }
        let indirect = slot.life().negotiated & feature::INDIRECT_DESC != 0;
        let layout = if self.options.layouts {
            Layout::draw(choose, indirect)
        } else {
            Layout { indirect: u8::from(indirect), ..Layout::PLAIN }
        };
        let id = self.next_id;
        self.next_id += 1;
        self.budget = self.budget.saturating_sub(1);
        let send = Action::Send { to, id, ask, layout, malformation };
        if self.options.alter.possible()
            && malformation == Malformation::None
            && !slot.is_altering()
            && choose.chance(self.options.alter, Site::Request)
        {
            self.held = Some(send);
            return Some(self.alteration(choose, to, &ask));
        }
        Some(send)
    }

    /// A valid request.
    fn ask<C: Choose>(&self, choose: &mut C, negotiated: u64) -> GuestRequest {
        let mix = self.options.mix;
        let can = |bit: u64, weight: u32| if negotiated & bit != 0 { weight } else { 0 };
        let discard = can(feature::DISCARD, mix.discard);
        let zeroes = can(feature::WRITE_ZEROES, mix.zeroes);
        let sum = mix.read + mix.write + mix.flush + discard + zeroes + mix.id;
        let mut draw = choose.below(sum, Site::Request);
        let mut is = |weight: u32| {
            let hit = draw < weight;
            draw = draw.wrapping_sub(weight);
            hit
        };
        if is(mix.write) {
            let (sector, sectors) = self.range(choose);
            return GuestRequest::Out { sector, sectors };
        }
        if is(mix.read) {
            let (sector, sectors) = self.range(choose);
            return GuestRequest::In { sector, sectors };
        }
        if is(mix.flush) {
            return GuestRequest::Flush;
        }
        if is(discard) {
            return GuestRequest::Ranges(RangeKind::Discard, self.segments(choose, false));
        }
        if is(zeroes) {
            return GuestRequest::Ranges(RangeKind::WriteZeroes, self.segments(choose, true));
        }
        GuestRequest::GetId
    }

    pub(super) fn range<C: Choose>(&self, choose: &mut C) -> (u64, u32) {
        let begun = self.options.shape.spec.disk.capacity.min(self.capacity);
        let grown = self.capacity - begun;
        let spread = self.options.spread.min(begun);
        if grown > 0 && choose.below(3, Site::Sector) == 0 {
            // Sectors added by a resize, and the last one before them.
            let start = self.capacity - 1 - choose.below(grown + 1, Site::Sector);
            let sectors = choose.between(1, self.most, Site::Sector);
            return (u64::from(start), sectors.min(self.capacity - start));
        }
        let start = choose.below(spread, Site::Sector);
        let sectors = choose.between(1, self.most, Site::Sector);
        (u64::from(start), sectors.min(spread - start).max(1))
    }

    fn segments<C: Choose>(&self, choose: &mut C, may_unmap: bool) -> Segments {
        let most = self.options.shape.spec.max_segments.min(MAX_SEGMENTS as u32);
        let mut segments = Segments::NONE;
        for _ in 0..choose.between(1, most, Site::Request) {
            let (sector, sectors) = self.range(choose);
            let sectors = sectors.min(self.options.shape.spec.max_segment_sectors);
            let flags = if may_unmap { choose.below(2, Site::Request) } else { 0 };
            segments.push(Segment { sector, sectors, flags });
        }
        let all = self.options.shape.spec.max_segments;
        if all > MAX_SEGMENTS as u32 && choose.below(2, Site::Request) == 0 {
            let more = choose.between(1, all - segments.count(), Site::Request);
            segments = self.long_list(segments, more);
        }
        segments
    }

    /// The list with so many more segments of one sector after its last, or as many as there is
    /// space for on the disk.
    fn long_list(&self, segments: Segments, more: u32) -> Segments {
        let last = segments.as_slice().len().saturating_sub(1);
        let mut list = Segments::NONE;
        for (nth, segment) in segments.as_slice().iter().enumerate() {
            let sectors = if nth == last { 1 } else { segment.sectors };
            list.push(Segment { sectors, ..*segment });
        }
        let end = list.as_slice()[last].sector + 1;
        let space = u64::from(self.capacity).saturating_sub(end);
        list.with_more(space.min(more.into()).min(255) as u8)
    }

    /// An invalid or malformed request.
    fn spoil<C: Choose>(&self, choose: &mut C, ask: GuestRequest) -> (GuestRequest, Malformation) {
        match choose.below(15, Site::Request) {
            0 => (
                GuestRequest::Out { sector: self.far(choose), sectors: self.most },
                Malformation::None,
            ),
            1 => (
                GuestRequest::In { sector: self.far(choose), sectors: self.most },
                Malformation::None,
            ),
            2..=7 => {
                let kind =
                    choose.pick(&[RangeKind::Discard, RangeKind::WriteZeroes], Site::Request);
                (GuestRequest::Ranges(kind, self.spoilt_segments(choose, kind)), Malformation::None)
            }
            8 => {
                let data = [0, 0, 16, 20, 32, 512];
                let malformation = match choose.pick(&data, Site::Request) {
                    0 => Malformation::None,
                    bytes => Malformation::ExtraData(bytes),
                };
                (GuestRequest::Other(unknown_type(choose)), malformation)
            }
            9 => match ask {
                GuestRequest::Flush => {
                    let ways = [Malformation::SectorSet, Malformation::ExtraData(16)];
                    (ask, choose.pick(&ways, Site::Request))
                }
                _ => (ask, Malformation::ShortData(1 + choose.below(15, Site::Request) as u16)),
            },
            10 => (ask, Malformation::ShortHeader),
            11 => match ask {
                GuestRequest::Out { .. } => (ask, Malformation::StatusFirst),
                _ => (ask, Malformation::NoStatus),
            },
            12 => (ask, Malformation::Loop),
            13 => (ask, Malformation::BeyondLimits),
            _ => (ask, Malformation::NextOutOfRange),
        }
    }

    /// The first sector of a range that does not lie on the disk.
    pub(super) fn far<C: Choose>(&self, choose: &mut C) -> u64 {
        let capacity = u64::from(self.capacity);
        let places = [capacity, capacity - 1, 1 << 55, (1 << 55) - 1, 1 << 63, u64::MAX];
        choose.pick(&places, Site::Request)
    }

    /// Segments of which one, or their number, is not allowed.
    pub(super) fn spoilt_segments<C: Choose>(&self, choose: &mut C, kind: RangeKind) -> Segments {
        let spec = &self.options.shape.spec;
        let limit = spec.max_segment_sectors;
        let way = choose.below(8, Site::Request);
        let count = if way == 0 {
            // More than the device allows, if the guest can send so many.
            (spec.max_segments + 1 + choose.below(2, Site::Request)).min(MAX_SEGMENTS as u32)
        } else {
            choose.between(1, spec.max_segments.min(MAX_SEGMENTS as u32), Site::Request)
        };
        let spoilt = choose.below(count, Site::Request);
        let mut segments = Segments::NONE;
        for nth in 0..count {
            let (sector, sectors) = self.range(choose);
            let mut segment = Segment { sector, sectors: sectors.min(limit), flags: 0 };
            if kind == RangeKind::WriteZeroes {
                segment.flags = choose.below(2, Site::Request);
            }
            if nth == spoilt {
                match way {
                    0 => {}
                    1 | 2 => segment.flags |= 1 << choose.between(1, 31, Site::Request),
                    // A WRITE_ZEROES may have this flag.
                    3 if kind == RangeKind::Discard => segment.flags = request::UNMAP,
                    3 | 4 => segment.sector = self.far(choose),
                    5 => {
                        // Its length in bytes, or its end in sectors, overflows.
                        segment.sectors = choose.pick(&[1 << 23, 1 << 31, u32::MAX], Site::Request);
                    }
                    6 => segment.sectors = 0,
                    _ => segment.sectors = limit + 1 + choose.below(2, Site::Request),
                }
            }
            segments.push(segment);
        }
        if way == 0 && spec.max_segments > MAX_SEGMENTS as u32 {
            let more = spec.max_segments + 1 + choose.below(2, Site::Request) - segments.count();
            segments = self.long_list(segments, more);
        }
        segments
    }
}

/// A request type that the guest does not use otherwise.
pub(super) fn unknown_type<C: Choose>(choose: &mut C) -> u32 {
    let number = match choose.below(4, Site::Request) {
        // The defined types, the reserved ones between them, and the zone requests.
        0 | 1 => choose.below(28, Site::Request),
        // One bit, as that of the legacy barrier.
        2 => {
            choose.pick(&[0, 1, 4, 8, 11, 13], Site::Request) | 1 << choose.below(32, Site::Request)
        }
        _ => choose.below(u32::MAX, Site::Request),
    };
    if request::KNOWN_TYPES.contains(&number) { number | 1 << 31 } else { number }
}

/// A read of the range of a write in flight.
fn in_flight_write<D>(slot: &DeviceSlot<D>) -> Option<GuestRequest> {
    slot.queues.iter().flat_map(|queue| queue.outstanding()).find_map(|(_, ask)| match *ask {
        GuestRequest::Out { sector, sectors } if sector < u64::from(u32::MAX) => {
            Some(GuestRequest::In { sector, sectors })
        }
        _ => None,
    })
}
