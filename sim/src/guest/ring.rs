//! The driver's half of a split virtqueue (virtio 1.4, 2.7).
//!
//! It publishes chains, decides whether a kick is due, walks the used ring, and enables or
//! suppresses signals. Descriptors are taken from a bit mask, lowest first.

use crate::guest::layout::{Layout, Piece};
use crate::guest::memory::Memory;
use crate::guest::wire::ring::{DESCRIPTOR, INDIRECT, NEXT, NO_INTERRUPT, NO_NOTIFY, WRITE};

/// The place of a ring in guest memory, and its start values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RingPlan {
    /// Number of descriptors: a power of two, at most [`MAX_RING`].
    pub size: u16,
    /// Guest address of the descriptor table; a multiple of 16.
    pub descriptors: u32,
    /// Guest address of the available ring; a multiple of 2.
    pub available: u32,
    /// Guest address of the used ring; a multiple of 4.
    pub used: u32,
    /// The start value of both indices: zero after a device reset, any value after a vhost-user
    /// set-up.
    pub base: u16,
    /// Whether EVENT_IDX was negotiated.
    pub event_idx: bool,
}

impl RingPlan {
    /// A ring of `size` descriptors from guest address `at` on, a multiple of 16.
    #[must_use]
    pub fn at(at: u32, size: u16, base: u16, event_idx: bool) -> RingPlan {
        let available = at + u32::from(size) * DESCRIPTOR;
        let used = (available + 6 + 2 * u32::from(size)).next_multiple_of(4);
        RingPlan { size, descriptors: at, available, used, base, event_idx }
    }

    /// The first guest address after the ring, rounded up to 16.
    #[must_use]
    pub fn end(&self) -> u32 {
        (self.used + 6 + 8 * u32::from(self.size)).next_multiple_of(16)
    }
}

/// The most descriptors of a ring.
pub const MAX_RING: u16 = 1024;

/// The most pieces of a chain.
pub(super) const MOST_PIECES: usize = 64;

/// Descriptors of one block of 64: the block and the mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub(super) block: u8,
    pub(super) mask: u64,
}

/// The driver's state of one ring.
#[derive(Clone, Debug)]
pub struct Ring {
    plan: RingPlan,
    /// The free descriptors of the first 64, and of every further 64. A chain takes all of its
    /// descriptors from one block.
    free: u64,
    more: Vec<u64>,
    avail: u16,
    checked: u16,
    seen: u16,
}

/// Whether an index that moved from `old` to `new` passed `event`: virtio 1.4, 2.7.7.2 (VS-12).
#[inline]
#[must_use]
pub(super) fn passes(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

impl Ring {
    /// Writes an empty ring into guest memory.
    pub fn new(plan: RingPlan, memory: &mut Memory) -> Ring {
        let size = u32::from(plan.size);
        assert!(plan.size.is_power_of_two() && plan.size <= MAX_RING, "a ring of {size}");
        memory.bytes_mut(plan.descriptors, plan.end() - plan.descriptors).fill(0);
        memory.write_u16(plan.available + 2, plan.base);
        memory.write_u16(plan.used + 2, plan.base);
        let free = if size >= 64 { u64::MAX } else { (1 << size) - 1 };
        let more = vec![u64::MAX; (size / 64).saturating_sub(1) as usize];
        let (avail, checked, seen) = (plan.base, plan.base, plan.base);
        let mut ring = Ring { plan, free, more, avail, checked, seen };
        ring.arm(memory, true);
        // The device takes heads from `base` on, so `avail_event` starts there.
        memory.write_u16(plan.used + 4 + 8 * size, plan.base);
        ring
    }

    /// The place of the ring.
    #[must_use]
    pub fn plan(&self) -> RingPlan {
        self.plan
    }

    /// Whether one chain can have so many descriptors now.
    // Called before each request; a few steps cost less than counting bits.
    #[inline]
    #[must_use]
    pub fn has_room(&self, descriptors: u16) -> bool {
        let without_lowest = |free: u64, _| free & free.wrapping_sub(1);
        let fits = |free: u64| (1..descriptors).fold(free, without_lowest) != 0;
        fits(self.free) || self.more.iter().copied().any(fits)
    }

    /// Takes the lowest free descriptors of a block. In a large ring the first block to be asked
    /// changes, so that all of the ring is used.
    fn take(&mut self, indices: &mut [u16]) -> Option<Held> {
        let blocks = self.more.len() + 1;
        let first = if blocks == 1 { 0 } else { usize::from(self.avail / 8) % blocks };
        for nth in 0..blocks {
            let block = (first + nth) % blocks;
            let free = if block == 0 { &mut self.free } else { &mut self.more[block - 1] };
            if (free.count_ones() as usize) < indices.len() {
                continue;
            }
            let mut mask = 0;
            for index in indices {
                let bit = free.trailing_zeros();
                *free &= *free - 1;
                mask |= 1 << bit;
                *index = (64 * block as u32 + bit) as u16;
            }
            return Some(Held { block: block as u8, mask });
        }
        None
    }

    #[inline]
    fn write_descriptor(memory: &mut Memory, at: u32, piece: Piece, flags: u16, next: u16) {
        let flags = flags | if piece.writable { WRITE } else { 0 };
        let rest = u64::from(piece.len) | u64::from(flags) << 32 | u64::from(next) << 48;
        memory.write_u64(at, u64::from(piece.at));
        memory.write_u64(at + 8, rest);
    }

    /// Writes a chain and publishes it. Returns its head and the descriptors it holds, or `None` if
    /// too few are free. `table` is the guest address for an indirect table. With
    /// `broken_end` the last descriptor has NEXT set and this index, or that of the chain's first
    /// descriptor for `u16::MAX`.
    pub fn publish(
        &mut self,
        memory: &mut Memory,
        pieces: &[Piece],
        layout: Layout,
        table: u32,
        broken_end: Option<u16>,
    ) -> Option<(u16, Held)> {
        let direct = match layout.indirect {
            0 => pieces.len(),
            2 => 1,
            _ => 0,
        };
        let direct = direct.min(pieces.len());
        let indirect = pieces.len() > direct;
        let needed = direct as u32 + u32::from(indirect);
        let mut indices = [0u16; MOST_PIECES];
        let held = self.take(&mut indices[..needed as usize])?;
        let descriptor = |index: u16| self.plan.descriptors + u32::from(index) * DESCRIPTOR;
        for (rank, piece) in pieces[..direct].iter().enumerate() {
            let last = rank + 1 == needed as usize;
            let (flags, next) = match (last, broken_end) {
                (true, Some(to)) => (NEXT, if to == u16::MAX { indices[0] } else { to }),
                (true, None) => (0, 0),
                (false, _) => (NEXT, indices[rank + 1]),
            };
            Ring::write_descriptor(memory, descriptor(indices[rank]), *piece, flags, next);
        }
        if indirect {
            let rest = &pieces[direct..];
            for (rank, piece) in rest.iter().enumerate() {
                let (flags, next) = match (rank + 1 == rest.len(), broken_end) {
                    (true, Some(to)) => (NEXT, if to == u16::MAX { 0 } else { to }),
                    (true, None) => (0, 0),
                    (false, _) => (NEXT, rank as u16 + 1),
                };
                let at = table + rank as u32 * DESCRIPTOR;
                Ring::write_descriptor(memory, at, *piece, flags, next);
            }
            let whole = Piece {
                at: table,
                len: rest.len() as u32 * DESCRIPTOR,
                writable: layout.indirect == 3,
            };
            Ring::write_descriptor(memory, descriptor(indices[direct]), whole, INDIRECT, 0);
        }
        self.offer(memory, indices[0]);
        Some((indices[0], held))
    }

    /// Publishes a head. It may be outstanding already, which a driver must not do.
    pub fn offer(&mut self, memory: &mut Memory, head: u16) {
        let entry = u32::from(self.avail % self.plan.size);
        memory.write_u16(self.plan.available + 4 + 2 * entry, head);
        self.avail = self.avail.wrapping_add(1);
        memory.write_u16(self.plan.available + 2, self.avail);
    }

    /// Moves `avail.idx` without publishing anything, which breaks the queue.
    pub fn jump(&mut self, memory: &mut Memory, by: u16) {
        memory.write_u16(self.plan.available + 2, self.avail.wrapping_add(by));
    }

    /// The number of heads published and not yet seen used.
    #[inline]
    #[must_use]
    pub fn pending(&self) -> u16 {
        self.avail.wrapping_sub(self.seen)
    }

    /// Whether heads were published since the last call of [`needs_kick`](Self::needs_kick).
    #[inline]
    #[must_use]
    pub fn kick_due(&self) -> bool {
        self.avail != self.checked
    }

    /// Decides whether the heads published since the last call need a kick: virtio 1.4, 2.7.10.1.
    pub fn needs_kick(&mut self, memory: &Memory) -> bool {
        let (old, new) = (self.checked, self.avail);
        self.checked = new;
        if self.plan.event_idx {
            let event = memory.read_u16(self.plan.used + 4 + 8 * u32::from(self.plan.size));
            passes(event, new, old)
        } else {
            memory.read_u16(self.plan.used) & NO_NOTIFY == 0
        }
    }

    /// The used index in guest memory.
    #[inline]
    #[must_use]
    pub fn used_idx(&self, memory: &Memory) -> u16 {
        memory.read_u16(self.plan.used + 2)
    }

    /// The available index, as last published.
    #[inline]
    #[must_use]
    pub fn avail(&self) -> u16 {
        self.avail
    }

    /// The used index up to which elements were seen.
    #[inline]
    #[must_use]
    pub fn seen(&self) -> u16 {
        self.seen
    }

    /// The next used element, if the device has published one: id and length.
    #[inline]
    pub fn next_used(&mut self, memory: &Memory) -> Option<(u32, u32)> {
        if self.used_idx(memory) == self.seen {
            return None;
        }
        let at = self.plan.used + 4 + 8 * u32::from(self.seen % self.plan.size);
        self.seen = self.seen.wrapping_add(1);
        Some((memory.read_u32(at), memory.read_u32(at + 4)))
    }

    /// Whether the move of the used index from `old` to `new` requires a signal.
    #[inline]
    #[must_use]
    pub fn wants_signal(&self, memory: &Memory, new: u16, old: u16) -> bool {
        if self.plan.event_idx {
            let event = memory.read_u16(self.plan.available + 4 + 2 * u32::from(self.plan.size));
            passes(event, new, old)
        } else {
            memory.read_u16(self.plan.available) & NO_INTERRUPT == 0
        }
    }

    /// Enables the signal for the next used element, or (`on` false) suppresses signals.
    pub fn arm(&mut self, memory: &mut Memory, on: bool) {
        if self.plan.event_idx {
            // To suppress signals, the event is half the index range ahead.
            let event = if on { self.seen } else { self.seen.wrapping_add(0x8000) };
            memory.write_u16(self.plan.available + 4 + 2 * u32::from(self.plan.size), event);
        } else {
            memory.write_u16(self.plan.available, if on { 0 } else { NO_INTERRUPT });
        }
    }

    /// Frees descriptors.
    #[inline]
    pub fn release(&mut self, held: Held) {
        let free = match usize::from(held.block) {
            0 => &mut self.free,
            block => &mut self.more[block - 1],
        };
        debug_assert_eq!(*free & held.mask, 0, "a descriptor freed twice");
        *free |= held.mask;
    }
}
