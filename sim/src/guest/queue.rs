//! The driver of one queue: its requests from publication to completion.

use std::ops::Range;

use crate::guest::Kind;
use crate::guest::alter::Change;
use crate::guest::altered::Altered;
use crate::guest::form::{
    Sent, Wire, check, check_answer, check_around, cut, fill, is_filled, response,
};
use crate::guest::layout::{Cut, Layout, Piece};
use crate::guest::memory::{Edit, Memory};
use crate::guest::outcome::{Breach, Done};
use crate::guest::payload::Author;
use crate::guest::request::{GuestRequest, Malformation};
use crate::guest::ring::{MOST_PIECES, Ring, RingPlan};
use crate::guest::slots::SlotPlan;
use crate::guest::wire::Status;

/// The size and place of one queue's share of guest memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// The type of the device.
    pub kind: Kind,
    /// The first guest address of the share.
    pub at: u32,
    /// Its length in bytes.
    pub len: u32,
    /// Descriptors in the ring.
    pub ring_size: u16,
    /// The most data bytes of one request.
    pub room: u32,
    /// The most descriptors of an indirect table.
    pub table: u16,
    /// The sector, as the device counts, that the guest calls its first.
    pub first: u64,
    /// Whether a status byte is the last byte of the share.
    pub to_the_end: bool,
    /// Whether used lengths are compared with what was written.
    pub checks_length: bool,
}

/// The limits on the data of a request that a device has shown to its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `seg_max`: the most data segments.
    pub segments: u32,
    /// `size_max`: the most bytes of one data segment.
    pub segment_bytes: u32,
}

impl Limits {
    /// No limits.
    pub const NONE: Limits = Limits { segments: u32::MAX, segment_bytes: u32::MAX };

    /// The most bytes of data of a request with `size` descriptors.
    fn most(self, size: u16) -> u32 {
        // Header and status take a descriptor each. On a ring of two one of them has the data, too.
        let descriptors = u32::from(size).saturating_sub(2).max(1);
        self.segments.min(descriptors).saturating_mul(self.segment_bytes)
    }
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    plan: SlotPlan,
    /// The request published last; valid iff the slot is not free.
    sent: Sent,
    /// How often its head is published and not yet seen used.
    owed: u8,
}

/// A mask of slots.
type Mask = u128;
/// The most slots of a queue: the bits of a mask.
const MOST: usize = Mask::BITS as usize;
/// The entry in `by_head` of a head that was never published.
const NO_SLOT: u8 = u8::MAX;

/// The driver of one queue.
#[derive(Clone, Debug)]
pub struct QueueDriver {
    shape: Shape,
    ring: Ring,
    slots: Vec<Slot>,
    /// Masks of the slots in each state: free, out (outstanding), or back (seen used, but not
    /// reaped). Every slot is in exactly one of them.
    free: Mask,
    out: Mask,
    back: Mask,
    /// The slot that used a head last in this life; `u8::MAX` if none did.
    by_head: Vec<u8>,
    signal_owed: bool,
    armed: bool,
    author: Author,
    limits: Limits,
    /// The pieces of the request sent last; kept for the allocation.
    cut: Cut,
    /// At most one request is changed at a time.
    altered: Option<Box<Altered>>,
}

impl QueueDriver {
    /// Lays out an empty ring and free buffers.
    ///
    /// # Panics
    /// If no request fits the share.
    pub fn new(
        shape: Shape,
        base: u16,
        event_idx: bool,
        author: Author,
        memory: &mut Memory,
    ) -> QueueDriver {
        let plan = RingPlan::at(shape.at, shape.ring_size, base, event_idx);
        let ring = Ring::new(plan, memory);
        let mut driver = QueueDriver {
            shape,
            ring,
            slots: Vec::new(),
            free: 0,
            out: 0,
            back: 0,
            by_head: Vec::new(),
            signal_owed: false,
            armed: true,
            author,
            limits: Limits::NONE,
            cut: Cut::default(),
            altered: None,
        };
        driver.lay_out(memory);
        driver
    }

    fn lay_out(&mut self, memory: &mut Memory) {
        self.slots.clear();
        let size = SlotPlan::size(self.shape.room, self.shape.table);
        let mut at = self.ring.plan().end().next_multiple_of(64);
        // A slot that is out or back holds a descriptor, so more slots would never be used.
        let most = MOST.min(usize::from(self.shape.ring_size));
        while at + size <= self.shape.at + self.shape.len && self.slots.len() < most {
            let plan = SlotPlan::at(at, self.shape.room, self.shape.table);
            self.slots.push(Slot { plan, sent: Sent::NOTHING, owed: 0 });
            at += size;
        }
        let end = self.shape.at + self.shape.len;
        if let Some(first) = self.slots.first_mut()
            && self.shape.to_the_end
            && at + 16 <= end
        {
            first.plan = first.plan.with_last_status(end);
        }
        self.retire_all(memory);
        assert!(!self.slots.is_empty(), "no request fits {:?}", self.shape);
    }

    fn retire_all(&mut self, memory: &mut Memory) {
        for slot in &self.slots {
            slot.plan.retire(memory);
        }
        self.free = Mask::MAX >> (MOST - self.slots.len());
        (self.out, self.back) = (0, 0);
        self.altered = None;
        self.by_head.clear();
        self.by_head.resize(usize::from(self.ring.plan().size), NO_SLOT);
    }

    /// Starts again with an empty ring and free slots, as after a reset.
    pub fn restart(
        &mut self,
        base: u16,
        event_idx: bool,
        author: Author,
        limits: Limits,
        memory: &mut Memory,
    ) {
        self.limits = limits;
        let plan = RingPlan::at(self.shape.at, self.shape.ring_size, base, event_idx);
        self.ring = Ring::new(plan, memory);
        (self.signal_owed, self.armed, self.author) = (false, true, author);
        self.retire_all(memory);
    }

    /// Starts again with an empty ring of `size` descriptors in the place of the old one, after the
    /// queue was reset.
    ///
    /// # Panics
    /// If `size` is larger than the ring size of the share.
    pub fn place(&mut self, size: u16, memory: &mut Memory) {
        assert!(size <= self.shape.ring_size, "a ring larger than its share");
        let event_idx = self.ring.plan().event_idx;
        self.ring = Ring::new(RingPlan::at(self.shape.at, size, 0, event_idx), memory);
        (self.signal_owed, self.armed) = (false, true);
        self.retire_all(memory);
    }

    /// Gives the driver another share of memory and lays it out.
    pub fn reshape(&mut self, shape: Shape, memory: &mut Memory) {
        self.shape = shape;
        (self.back, self.signal_owed, self.armed) = (0, false, true);
        let plan = RingPlan::at(shape.at, shape.ring_size, 0, false);
        self.ring = Ring::new(plan, memory);
        self.lay_out(memory);
    }

    /// The end of the guest memory that it uses, as a guest address.
    pub(crate) fn end(&self) -> u32 {
        if self.shape.to_the_end {
            return self.shape.at + self.shape.len;
        }
        let size = SlotPlan::size(self.shape.room, self.shape.table);
        self.ring.plan().end().next_multiple_of(64) + self.slots.len() as u32 * size
    }

    /// Whether an address lies in the queue's share of guest memory.
    pub(crate) fn contains(&self, at: u32) -> bool {
        self.share().contains(&at)
    }

    /// The queue's share of guest memory: the addresses that its driver writes.
    pub(crate) fn share(&self) -> Range<u32> {
        self.shape.at..self.shape.at + self.shape.len
    }

    /// The place of the ring.
    #[must_use]
    pub fn plan(&self) -> RingPlan {
        self.ring.plan()
    }

    /// The most bytes of data of one request, by the limits that the device has shown.
    #[inline]
    #[must_use]
    pub fn most_data(&self) -> u32 {
        self.limits.most(self.ring.plan().size.min(self.shape.table))
    }

    /// The most descriptors of a chain.
    #[inline]
    fn longest(&self, indirect: u8) -> usize {
        let ring = self.ring.plan().size;
        usize::from(if indirect == 0 { ring } else { ring.min(self.shape.table) })
    }

    /// Whether the data segments of a request are within the limits.
    #[inline]
    fn allows(&self, plan: &SlotPlan, cut: &Cut, len: u32) -> bool {
        if len + 16 <= self.limits.segment_bytes
            && cut.pieces().len() as u32 <= self.limits.segments
        {
            return true;
        }
        let data = plan.data()..plan.data() + len;
        let is_data = |piece: &&Piece| piece.at < data.end && piece.at + piece.len > data.start;
        let pieces = cut.pieces().iter().filter(is_data);
        let (count, longest) =
            pieces.fold((0, 0), |(count, longest), piece| (count + 1, longest.max(piece.len)));
        count <= self.limits.segments && longest <= self.limits.segment_bytes
    }

    /// Whether a request of up to three descriptors fits now.
    #[inline]
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.free != 0 && self.ring.has_room(self.ring.plan().size.min(3))
    }

    /// The number of outstanding heads.
    #[inline]
    #[must_use]
    pub fn out(&self) -> u16 {
        self.ring.pending()
    }

    /// The number of requests seen used and not reaped.
    #[inline]
    #[must_use]
    pub fn back(&self) -> u32 {
        self.back.count_ones()
    }

    /// Whether requests were published since the last call of [`needs_kick`](Self::needs_kick).
    #[inline]
    #[must_use]
    pub fn kick_due(&self) -> bool {
        self.ring.kick_due()
    }

    /// Whether the available index has just wrapped.
    #[inline]
    #[must_use]
    pub(crate) fn avail_at_wrap(&self) -> bool {
        self.ring.avail() == 0
    }

    /// Whether the used index has just wrapped.
    #[inline]
    #[must_use]
    pub(crate) fn used_at_wrap(&self) -> bool {
        self.ring.seen() == 0
    }

    /// Whether a signal of the device is due.
    #[inline]
    #[must_use]
    pub fn signal_owed(&self) -> bool {
        self.signal_owed
    }

    /// The outstanding requests, in an unspecified but reproducible order.
    #[inline]
    pub(crate) fn outstanding(&self) -> impl Iterator<Item = (u32, &GuestRequest)> + '_ {
        bits(self.out).map(|index| {
            let sent = &self.slots[index].sent;
            (sent.id, &sent.ask)
        })
    }

    /// Lays a request out and publishes it. Returns `false`, and changes nothing, if no slot or too
    /// few descriptors are free.
    ///
    /// # Panics
    /// If the request has more data than `room` bytes.
    pub fn send(
        &mut self,
        memory: &mut Memory,
        id: u32,
        ask: &GuestRequest,
        layout: Layout,
        malformation: Malformation,
    ) -> bool {
        let Some(index) = bits(self.free).next() else { return false };
        let plan = self.slots[index].plan;
        let wire = Wire::of(self.shape.kind, self.shape.first, ask);
        let len = malformation.len(wire.data);
        let whole = len.max(wire.data);
        assert!(whole <= self.shape.room, "a request larger than its buffer");
        if whole > self.most_data() {
            return false;
        }
        let (writes, has_status) = (wire.writes, self.shape.kind == Kind::Disk);
        let mut pieces = std::mem::take(&mut self.cut);
        let cut_as = |pieces: &mut Cut, layout: Layout| {
            let glued = layout.glued == 1 && (writes || len == 0) && has_status;
            let status = plan.status(if glued { Some(len) } else { None });
            cut(pieces, &plan, &wire, len, status, layout, malformation);
            status
        };
        let (mut layout, mut status) = (layout, cut_as(&mut pieces, layout));
        // A driver must not build a chain longer than the queue, in a table or not (2.7.5.3.1), nor
        // more or larger data segments than the device allows (5.2.3).
        let most = self.longest(layout.indirect);
        let fits = |cut: &Cut| cut.pieces().len() <= most && self.allows(&plan, cut, len);
        if malformation == Malformation::BeyondLimits {
            layout = Layout { indirect: layout.indirect, ..Layout::PLAIN };
            status = cut_as(&mut pieces, layout);
            if self.allows(&plan, &pieces, len) {
                let segments = self.limits.segments.min(most as u32);
                pieces.split_data(plan.data(), len, (len / (segments + 1)).max(1));
            }
            // A chain without data cannot be beyond the limits, and one that is must fit somewhere.
            let room = if layout.indirect == 0 { most } else { self.shape.table.into() };
            if fits(&pieces) || pieces.pieces().len() > room.min(MOST_PIECES) {
                self.cut = pieces;
                return false;
            }
        } else if !fits(&pieces) {
            layout = Layout { indirect: layout.indirect, ..Layout::PLAIN };
            status = cut_as(&mut pieces, layout);
            if pieces.pieces().len() > most {
                layout.glued = 1;
                status = cut_as(&mut pieces, layout);
            } else if !self.allows(&plan, &pieces, len) {
                pieces.split_data(plan.data(), len, self.limits.segment_bytes);
            }
        }
        self.cut = pieces;
        let broken_end = match malformation {
            Malformation::Loop => Some(u16::MAX),
            Malformation::NextOutOfRange => Some(self.shape.ring_size + 7),
            _ => None,
        };
        let published =
            self.ring.publish(memory, self.cut.pieces(), layout, plan.table(), broken_end);
        let Some((head, held)) = published else { return false };
        fill(memory, &plan, &wire, ask, malformation, id, self.author);
        plan.arm(memory, len, status);
        if writes {
            plan.poison(memory, len);
        }
        let slot = &mut self.slots[index];
        slot.sent = Sent { id, ask: *ask, malformation, head, held, len, status, wire };
        slot.owed = 1;
        self.by_head[usize::from(head)] = index as u8;
        self.free &= !(1 << index);
        self.out |= 1 << index;
        true
    }

    /// Prepares a change of the request that was sent last: returns the request after it, and the
    /// write that changes it. `None` if the change does not apply, or another request of the queue
    /// is being changed.
    #[cold]
    pub(crate) fn alter(
        &mut self,
        memory: &Memory,
        id: u32,
        change: Change,
        room: u32,
    ) -> Option<(GuestRequest, Malformation, Edit)> {
        let index = bits(self.out).find(|&index| self.slots[index].sent.id == id)?;
        let Slot { plan, sent, .. } = &self.slots[index];
        if self.altered.is_some() || sent.malformation != Malformation::None {
            return None;
        }
        let (ask, malformation) = change.of(&sent.ask, room)?;
        let second = sent.altered(ask, malformation, self.shape.first);
        let table = self.ring.plan().descriptors;
        let edit = change.edit(memory, table, plan, sent, &second, self.author)?;
        self.altered = Some(Box::new(Altered::new(index, change, sent, second)));
        Some((ask, malformation, edit))
    }

    /// Notes that the guest has written what [`alter`](Self::alter) returned.
    #[cold]
    pub(crate) fn was_altered(&mut self) {
        if let Some(altered) = &mut self.altered {
            altered.happened();
        }
    }

    /// Whether a request is being changed that is outstanding or not reaped.
    pub(crate) fn is_altering(&self) -> bool {
        self.altered.is_some()
    }

    /// The answer taken last as one to the request after its change; `None` if that request was not
    /// changed into another one.
    #[cold]
    pub(crate) fn second_answer(&mut self) -> Option<Result<Done, Breach>> {
        self.altered.as_mut()?.take_answer()
    }

    /// Publishes the head of an outstanding request again, which a driver must not do. Returns
    /// `false` if the request is not outstanding or the available ring has no free entry.
    pub(crate) fn send_again(&mut self, memory: &mut Memory, id: u32) -> bool {
        if self.ring.pending() >= self.ring.plan().size {
            return false;
        }
        for index in bits(self.out) {
            let slot = &mut self.slots[index];
            if slot.sent.id == id && slot.owed == 1 {
                slot.owed += 1;
                self.ring.offer(memory, slot.sent.head);
                return true;
            }
        }
        false
    }

    /// Moves the available index out of range, which a driver must not do.
    pub fn jump(&mut self, memory: &mut Memory) {
        self.ring.jump(memory, self.shape.ring_size * 2 + 1);
    }

    /// Whether the requests published since the last call need a kick.
    pub fn needs_kick(&mut self, memory: &Memory) -> bool {
        self.ring.needs_kick(memory)
    }

    /// Notes a signal of the device.
    #[inline]
    pub fn signalled(&mut self) {
        self.signal_owed = false;
    }

    /// The used index in guest memory.
    #[must_use]
    pub(crate) fn used_idx(&self, memory: &Memory) -> u16 {
        self.ring.used_idx(memory)
    }

    /// Whether an unseen used element exists.
    #[inline]
    #[must_use]
    pub(crate) fn has_done(&self, memory: &Memory) -> bool {
        self.ring.used_idx(memory) != self.ring.seen()
    }

    /// Takes the next used element. Called after every device step, so that a completion is seen at
    /// the step that stored the index.
    #[inline]
    pub fn next_done(&mut self, memory: &Memory) -> Option<Result<Done, Breach>> {
        self.has_done(memory).then(|| self.take_done(memory))
    }

    /// Checks `used.flags`.
    ///
    /// # Errors
    /// [`Breach::UsedFlags`].
    #[inline]
    pub(crate) fn check_flags(&self, memory: &Memory) -> Result<(), Breach> {
        let plan = self.ring.plan();
        let flags = memory.read_u16(plan.used);
        if flags > u16::from(!plan.event_idx) { Err(Breach::UsedFlags { flags }) } else { Ok(()) }
    }

    /// Checks that the device may change the byte at a guest address now, before the used elements
    /// that it has just published are seen. Returns the end of the area in which it may change
    /// every byte, as a guest address.
    ///
    /// # Errors
    /// The breach that a change is.
    #[cold]
    pub(crate) fn may_change(&self, at: u32) -> Result<u32, Breach> {
        let plan = self.ring.plan();
        let size = u32::from(plan.size);
        match at {
            _ if at < plan.descriptors || at >= self.shape.at + self.shape.len => {}
            _ if at < plan.available => {
                return Err(Breach::Driver { at, area: "the descriptor table" });
            }
            _ if at < plan.used => return Err(Breach::Driver { at, area: "the available ring" }),
            _ if at < plan.used + 4 => return Ok(at + 1),
            _ if at < plan.used + 4 + 8 * size => {
                // Where the outstanding requests are used next.
                let element = (at - plan.used - 4) / 8;
                let ahead = element.wrapping_sub(u32::from(self.ring.seen())) % size;
                let may = ahead < u32::from(self.ring.pending());
                return if may { Ok(at + 1) } else { Err(Breach::UsedElement { at }) };
            }
            // Without EVENT_IDX there is no `avail_event`.
            _ if at < plan.used + 6 + 8 * size && plan.event_idx => return Ok(at + 1),
            _ if at < plan.used + 6 + 8 * size => {
                return Err(Breach::Driver { at, area: "the place of avail_event" });
            }
            _ => {}
        }
        let Some(index) = self.slots.iter().position(|slot| slot.plan.contains(at)) else {
            return Err(Breach::Outside { id: 0, at });
        };
        let Slot { plan, sent, .. } = &self.slots[index];
        if self.out & 1 << index == 0 {
            return Err(Breach::Outside { id: 0, at });
        }
        let id = sent.id;
        let answers = sent.malformation != Malformation::NoStatus;
        let data = plan.data()..plan.data() + sent.len;
        match at {
            _ if answers && sent.wire.writes && data.contains(&at) => Ok(data.end),
            _ if answers && sent.wire.kind == Kind::Disk && at == sent.status => Ok(at + 1),
            _ if at >= plan.table() => Err(Breach::Driver { at, area: "an indirect table" }),
            _ if (plan.header()..plan.header() + 16).contains(&at) || data.contains(&at) => {
                Err(Breach::Readable { id })
            }
            _ => Err(Breach::Outside { id, at }),
        }
    }

    fn take_done(&mut self, memory: &Memory) -> Result<Done, Breach> {
        self.check_flags(memory)?;
        let before = self.ring.seen();
        let index = self.ring.used_idx(memory);
        if index.wrapping_sub(before) > self.ring.pending() {
            return Err(Breach::UsedIndex { index });
        }
        let (head, len) = self.ring.next_used(memory).expect("the index has moved");
        let wants_signal = self.ring.wants_signal(memory, before.wrapping_add(1), before);
        self.signal_owed |= wants_signal;
        let named = usize::try_from(head).ok().and_then(|head| self.by_head.get(head));
        let Some(&named) = named.filter(|&&index| index != NO_SLOT) else {
            return Err(Breach::NotPublished { head });
        };
        let is_out = |&index: &usize| {
            self.out & (1 << index) != 0 && u32::from(self.slots[index].sent.head) == head
        };
        let Some(index) = Some(usize::from(named)).filter(is_out) else {
            return Err(Breach::NotOutstanding { head });
        };
        let slot = &mut self.slots[index];
        slot.owed -= 1;
        if slot.owed == 0 {
            self.out &= !(1 << index);
            self.back |= 1 << index;
        }
        let (plan, sent) = (slot.plan, &slot.sent);
        // A length of zero claims nothing.
        let claimed = if self.shape.checks_length { len } else { 0 };
        if let Some(altered) = self.altered.as_deref_mut().filter(|altered| altered.is_in(index)) {
            check_around(memory, &plan, sent, altered.header(sent))?;
            let answer = |sent: &Sent| {
                check_answer(memory, &plan, sent, claimed)
                    .map(|()| done(memory, &plan, sent, len, wants_signal))
            };
            altered.answer_as(answer);
            return answer(sent);
        }
        check(memory, &plan, sent, claimed)?;
        Ok(done(memory, &plan, sent, len, wants_signal))
    }

    /// Reaps all requests seen used: checks their buffers once more and frees them. Enables (`on`)
    /// or suppresses signals.
    ///
    /// # Errors
    /// The first buffer that changed after its request was seen used.
    pub fn reap(&mut self, memory: &mut Memory, on: bool) -> Result<(), Breach> {
        for index in bits(self.back) {
            let Slot { plan, sent, .. } = &self.slots[index];
            if let Some(at) = plan.breach(memory, sent.len, sent.status) {
                return Err(Breach::Outside { id: sent.id, at });
            }
            let altered = self.altered.take_if(|altered| altered.is_in(index));
            let (now, header) = match &altered {
                None => (sent, sent.header()),
                Some(altered) => (altered.filled(sent), altered.header(sent)),
            };
            let is_filled = is_filled(memory, plan, now, header, self.author);
            if !is_filled {
                return Err(Breach::Readable { id: sent.id });
            }
            self.ring.release(sent.held);
            plan.retire(memory);
        }
        self.free |= self.back;
        self.back = 0;
        self.armed = on;
        self.ring.arm(memory, on);
        Ok(())
    }

    /// Whether signals were enabled by the last [`reap`](Self::reap).
    #[must_use]
    pub fn armed(&self) -> bool {
        self.armed
    }

    /// Checks that the device has not written to free buffers.
    ///
    /// # Errors
    /// The first free buffer that changed.
    pub fn check_free(&self, memory: &Memory) -> Result<(), Breach> {
        for index in bits(self.free) {
            let plan = &self.slots[index].plan;
            if !plan.is_retired(memory) {
                return Err(Breach::Outside { id: 0, at: plan.data() });
            }
        }
        Ok(())
    }

    /// Ends the life: no request is outstanding any more, and all buffers are guarded, so that late
    /// writes show in [`check_free`](Self::check_free).
    pub fn abandon(&mut self, memory: &mut Memory) {
        self.retire_all(memory);
        self.signal_owed = false;
    }
}

/// A completed request, whose buffers were checked.
#[inline]
fn done(memory: &Memory, plan: &SlotPlan, sent: &Sent, len: u32, wants_signal: bool) -> Done {
    let (status, ret) = match sent.wire.kind {
        Kind::Disk => (Status(memory.bytes(sent.status, 1)[0]), None),
        Kind::Memory => {
            let ret = response(memory, plan, sent);
            (if ret == Some(0) { Status::OK } else { Status::IOERR }, ret)
        }
    };
    Done {
        id: sent.id,
        ask: sent.ask,
        malformation: sent.malformation,
        status,
        ret,
        len,
        data: plan.data(),
        wants_signal,
    }
}

/// The bits set in a mask, in rising order.
#[inline]
fn bits(mut mask: Mask) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = mask.trailing_zeros();
        mask &= mask.wrapping_sub(1);
        (bit < Mask::BITS).then_some(bit as usize)
    })
}
