//! The bound on a device's writes to guest memory, checked after every step.
//!
//! Between two checks a byte may change iff
//!
//! - it is in the used ring, where the driver placed it: 6 + 8 × size bytes; or
//! - it is in a buffer that was flagged WRITE when its chain was taken, and that chain has not been
//!   used, or was used since the last check.
//!
//! A check follows every step of a device thread and every effect of the host, so "when its chain
//! was taken" is one step: [`reference::follow`] reads the chain from the memory as it was before
//! that step. Later writes of the driver to its descriptors neither widen nor narrow the bound.
//! After a reset has completed, the old life may not change a byte.
//!
//! The used ring is checked too: every used element names a head that was taken and not yet used
//! (VS-16), and its length is at most the number of writable bytes of that chain (VS-13). A guest
//! can use its own used ring as a buffer, and then the contents of the ring prove nothing: from
//! such a chain on, until the next life, only the first bound is checked, and no chain counts as
//! used.

use powerfail::guest::memory::{Memory, Ram};
use powerfail_device::{QueueLayout, Ring};

use crate::reference;

/// The initial contents of buffers.
pub(crate) const POISON: u8 = 0xa5;

/// A chain that the device has taken and not returned.
#[derive(Debug)]
struct Taken {
    head: u16,
    /// Address and length of each writable buffer.
    writable: Vec<(u64, u64)>,
    /// On the first chain with this head: the number of chains with this head that were returned.
    back: u32,
}

/// A guest's memory and its shadow.
pub(crate) struct Watched {
    memory: Memory,
    /// The expected contents.
    shadow: Vec<u8>,
    ring: Option<QueueLayout>,
    next_avail: u16,
    next_used: u16,
    taken: Vec<Taken>,
    blind: bool,
}

impl Watched {
    /// A memory of zeroes without a ring.
    pub(crate) fn new(len: u32) -> Watched {
        Watched {
            memory: Memory::new(len as usize),
            shadow: vec![0; len as usize],
            ring: None,
            next_avail: 0,
            next_used: 0,
            taken: Vec::new(),
            blind: false,
        }
    }

    /// Resets this memory to the state that [`new`](Self::new) returns, but fills everything from
    /// `data` on with [`POISON`], so that a stray write shows.
    pub(crate) fn restart(&mut self, data: u32) {
        let (rings, buffers) = self.shadow.split_at_mut(data as usize);
        rings.fill(0);
        buffers.fill(POISON);
        self.memory.write(0, &self.shadow);
        self.ended();
    }

    /// The memory as the device accesses it.
    pub(crate) fn ram(&mut self) -> Ram<'_> {
        self.memory.ram()
    }

    /// Writes as the guest does; bytes outside the memory are dropped.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let len = self.shadow.len() as u64;
        if at < len {
            let bytes = &bytes[..bytes.len().min((len - at) as usize)];
            self.shadow[at as usize..][..bytes.len()].copy_from_slice(bytes);
            self.memory.write(at as u32, bytes);
        }
    }

    /// Reads two bytes, or zero outside the memory.
    pub(crate) fn read_u16(&self, at: u64) -> u16 {
        let byte = |at: u64| {
            usize::try_from(at).ok().and_then(|at| self.shadow.get(at)).map_or(0, |&byte| byte)
        };
        u16::from_le_bytes([byte(at), byte(at.wrapping_add(1))])
    }

    /// Records that the driver placed a ring, which begins at index zero.
    pub(crate) fn placed(&mut self, ring: QueueLayout) {
        self.ended();
        self.ring = Some(ring);
    }

    /// Records the end of a life: a reset completed or the power went, so the device holds no
    /// chain.
    pub(crate) fn ended(&mut self) {
        (self.ring, self.next_avail, self.next_used, self.blind) = (None, 0, 0, false);
        self.taken.clear();
    }

    /// The layout of the ring, if it is placed.
    pub(crate) fn ring(&self) -> Option<QueueLayout> {
        self.ring
    }

    /// The number of chains that the device holds; `None` if the ring proves nothing.
    pub(crate) fn in_hand(&self) -> Option<usize> {
        (!self.blind).then_some(self.taken.len())
    }

    /// Checks the effects of a step of the device or the host. `ring` is the device's side of the
    /// ring, if it has one. Returns whether a chain was taken, after a call of `also` with the
    /// memory it was read from, the layout of the ring and the head.
    ///
    /// # Panics
    /// If the step broke a bound.
    pub(crate) fn look(
        &mut self,
        ring: Option<&Ring>,
        mut also: impl FnMut(&[u8], QueueLayout, u16),
    ) -> bool {
        let mut took = false;
        if let (Some(queue), Some(plan)) = (ring, self.ring)
            && queue.position().0 != self.next_avail
        {
            assert_eq!(
                queue.position().0,
                self.next_avail.wrapping_add(1),
                "a step takes at most one chain"
            );
            let entry = u64::from(self.next_avail % plan.size);
            let head = self.read_u16(plan.available + 4 + 2 * entry);
            self.next_avail = queue.position().0;
            // A head outside the table breaks the ring and names no chain.
            if head < plan.size {
                let chain = reference::follow(&self.shadow, plan.descriptors, plan.size, head);
                let writable = chain.pieces.iter().filter(|piece| piece.writable);
                let writable: Vec<(u64, u64)> =
                    writable.map(|piece| (piece.at, piece.len)).collect();
                let used = plan.used..plan.used + 6 + 8 * u64::from(plan.size);
                self.blind |= writable
                    .iter()
                    .any(|&(at, len)| at < used.end && at.saturating_add(len) > used.start);
                self.taken.push(Taken { head, writable, back: 0 });
                also(&self.shadow, plan, head);
                took = true;
            }
        }
        self.compare();
        if let (Some(queue), Some(plan)) = (ring, self.ring) {
            while self.next_used != queue.position().1 {
                self.used(plan);
                self.next_used = self.next_used.wrapping_add(1);
            }
        }
        took
    }

    /// Checks that every changed byte was allowed to change.
    fn compare(&mut self) {
        const STRIDE: usize = 128;
        let now = self.memory.bytes(0, self.shadow.len() as u32);
        if now == self.shadow {
            return;
        }
        for start in (0..now.len()).step_by(STRIDE) {
            let block = start..(start + STRIDE).min(now.len());
            if now[block.clone()] == self.shadow[block.clone()] {
                continue;
            }
            for at in block.clone() {
                if now[at] != self.shadow[at] && !self.may_change(at as u64) {
                    panic!(
                        "the device wrote {:#x} to guest address {at:#x}, which held {:#x} and is in no writable buffer of {:x?} on {:x?}",
                        now[at], self.shadow[at], self.taken, self.ring
                    );
                }
            }
            self.shadow[block.clone()].copy_from_slice(&now[block]);
        }
    }

    fn may_change(&self, at: u64) -> bool {
        let inside = |start: u64, len: u64| at >= start && at - start < len;
        self.ring.is_some_and(|ring| inside(ring.used, 6 + 8 * u64::from(ring.size)))
            || self
                .taken
                .iter()
                .any(|taken| taken.writable.iter().any(|&(start, len)| inside(start, len)))
    }

    /// Checks one used element.
    fn used(&mut self, plan: QueueLayout) {
        if self.blind {
            return;
        }
        let at = plan.used + 4 + 8 * u64::from(self.next_used % plan.size);
        let word = |at| u32::from(self.read_u16(at)) | u32::from(self.read_u16(at + 2)) << 16;
        let (head, len) = (word(at), word(at + 4));
        let mut room = None;
        let (mut out, mut back) = (0, 0);
        for taken in self.taken.iter_mut().filter(|taken| u32::from(taken.head) == head) {
            // Chains with one head cannot be told apart, so all of them stay until all are
            // returned.
            if room.is_none() {
                taken.back += 1;
            }
            (out, back) = (out + 1, back + taken.back);
            let bytes: u64 = taken.writable.iter().map(|&(_, len)| len).sum();
            room = Some(bytes.max(room.unwrap_or(0)));
        }
        let Some(room) = room else {
            panic!("head {head} was used without being taken: {:?}", self.taken);
        };
        assert!(
            u64::from(len) <= room,
            "used length {len}, but {room} writable bytes in {:x?}",
            self.taken
        );
        if out == back {
            self.taken.retain(|taken| u32::from(taken.head) != head);
        }
    }
}
