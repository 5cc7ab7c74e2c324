//! A guest that changes a request after its publication.
//!
//! No driver may do that. The device carries out the request as it was before the change or as it
//! is after it (AMB-43). At most one request of a device is being changed at a time, and the device
//! is not stopped, moved or left meanwhile: a successor may read the request again.

use super::alteration::{Alteration, State};
use super::device_slot::DeviceSlot;
use super::readings::Readings;
use super::{Contract, Event, World};
use crate::dut::DeviceUnderTest;
use crate::guest::memory::Memory;
use crate::guest::{Change, GuestRequest, Malformation, Moment};
use crate::world::action::QueueId;
use powerfail_model::RequestId;

impl<D> DeviceSlot<D> {
    /// Whether a request is being changed.
    #[inline]
    pub(crate) fn is_altering(&self) -> bool {
        self.alteration.is_some()
    }

    /// The oracles before a request is sent to a queue, if a change of it was ordered.
    #[inline]
    pub(super) fn readings_before(&self, queue: u8) -> Option<Readings> {
        let alteration = self.alteration.as_ref()?;
        alteration.is_ordered(queue).then(|| self.oracle.clone())
    }

    /// Ends the change of a request that is answered before it. The data is an exception: it leaves
    /// two writes to answer.
    #[cold]
    pub(super) fn end_unchanged(&mut self, id: u32, memory: &mut Memory) {
        let alteration = self.alteration.as_ref();
        if alteration.is_some_and(|it| it.id() == Some(id) && it.data().is_none()) {
            self.end_alteration(memory);
        }
    }

    /// Ends the change of a request, with the request.
    #[inline]
    pub(super) fn end_alteration(&mut self, memory: &mut Memory) {
        if let Some(alteration) = self.alteration.take() {
            if alteration.has_trap() {
                memory.drop_trap();
            }
            self.oracle.settle();
        }
    }
}

/// Tells an oracle of a request.
#[inline]
pub(super) fn submit(
    contract: &mut Contract,
    id: u32,
    ask: &GuestRequest,
    malformation: Malformation,
) {
    match contract {
        Contract::Disk(oracle) => {
            oracle.submit(RequestId(id), &ask.request(malformation, &mut Vec::new()));
        }
        Contract::Memory(oracle) => {
            oracle.submit(RequestId(id), ask.request_of_memory(malformation));
        }
    }
}

impl<D: DeviceUnderTest> World<D> {
    /// Has the guest change the next request on a queue.
    pub(super) fn alter(&mut self, to: QueueId, change: Change, moment: Moment) -> bool {
        let slot = &mut self.slots[usize::from(to.device)];
        let nth = match moment {
            Moment::Step(nth) | Moment::Read(nth) => nth,
        };
        let allowed = nth > 0
            && slot.is_queue_live(to.queue)
            && !slot.life().avail_jumped
            && slot.alteration.is_none()
            && slot.oracle.may_fork()
            && !slot.queues[usize::from(to.queue)].is_altering();
        if allowed {
            let state = State::Ordered;
            let alteration = Alteration { queue: to.queue, change, moment, state };
            slot.alteration = Some(Box::new(alteration));
        }
        allowed
    }

    /// Begins the change of the request that was sent last, if one was ordered and applies to it.
    /// `before` are the oracles before the request was sent.
    #[cold]
    pub(super) fn begin_alteration(&mut self, to: QueueId, id: u32, before: Readings) {
        let World { memory, slots, shape, newest, .. } = self;
        let slot = &mut slots[usize::from(to.device)];
        let Some(mut alteration) = slot.alteration.take_if(|it| it.is_ordered(to.queue)) else {
            return;
        };
        let change = alteration.change;
        let taken = alteration
            .data()
            .is_some_and(|second| second == id || slot.oracle.first().knows(RequestId(second)));
        let trapped = matches!(alteration.moment, Moment::Read(_)) && memory.has_trap();
        if taken || trapped {
            return;
        }
        let driver = &mut slot.queues[usize::from(to.queue)];
        let altered = driver.alter(memory, id, change, shape.spec.disk.room());
        let Some((ask, malformation, edit)) = altered else { return };
        match alteration.data() {
            // Either content may be written, and until the answer both may: as of two writes.
            Some(second) => {
                *newest = (*newest).max(second);
                slot.oracle.tell(|contract| submit(contract, second, &ask, malformation));
            }
            None => slot.oracle.fork(before, |contract| submit(contract, id, &ask, malformation)),
        }
        if let Moment::Read(nth) = alteration.moment {
            memory.set_trap(edit.clone(), nth);
        }
        alteration.state = State::Sent { id, edit, steps: 0 };
        slot.alteration = Some(alteration);
    }

    /// Changes the request of a queue, if this is the step before which that was to happen.
    #[cold]
    pub(super) fn before_step(&mut self, to: QueueId) {
        let World { memory, slots, shadow, .. } = self;
        let Some(alteration) = &mut slots[usize::from(to.device)].alteration else { return };
        if let State::Sent { edit, steps, .. } = &mut alteration.state
            && alteration.queue == to.queue
        {
            *steps = steps.saturating_add(1);
            if alteration.moment == Moment::Step(*steps) {
                memory.write(edit.at, &edit.bytes);
                if let Some(shadow) = shadow {
                    shadow.write(edit);
                }
                self.note_altered(to.device);
            }
        }
    }

    /// Notes a change that has happened inside a step.
    #[cold]
    pub(super) fn after_trap(&mut self) {
        if !self.memory.is_sprung() {
            return;
        }
        self.memory.drop_trap();
        let by = |slot: &DeviceSlot<D>| slot.alteration.as_ref().is_some_and(|it| it.has_trap());
        let device = self.slots.iter().position(by).expect("a trap belongs to a change");
        if let (Some(shadow), Some(alteration)) = (&mut self.shadow, &self.slots[device].alteration)
            && let State::Sent { edit, .. } = &alteration.state
        {
            shadow.write(edit);
        }
        self.note_altered(device as u8);
    }

    fn note_altered(&mut self, device: u8) {
        let slot = &mut self.slots[usize::from(device)];
        let Some(alteration) = &mut slot.alteration else { return };
        let Some(id) = alteration.id() else { return };
        alteration.state = State::Done { id };
        let to = QueueId { device, queue: alteration.queue };
        let change = alteration.change;
        slot.queues[usize::from(to.queue)].was_altered();
        slot.oracle.change();
        self.stats.altered += 1;
        self.chain.note(5, u64::from(id), u64::from(device));
        if self.journal.is_some() {
            self.note(Event::Altered { to, id, change });
        }
    }
}
