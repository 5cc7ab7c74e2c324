//! What a device may write of a guest's memory, and proof that it wrote no more.
//!
//! The bound, exactly. Between two looks a byte may change iff
//!
//! - it lies in the used ring, where the driver placed it: 6 + 8 × size bytes; or
//! - it lies in a buffer that was flagged WRITE when its chain was taken, and that chain has not
//!   been used, or was used since the last look.
//!
//! A look follows every step of a device thread and every effect of the host, so "when its chain
//! was taken" is one step: the chain is read from the memory as it was before that step, by
//! [`reference::follow`]. What the driver does to its descriptors afterwards neither widens nor
//! narrows the bound. After a reset was shown nothing of the old life may change a byte.
//!
//! The used ring is read along: every used element names a head that was taken and not yet used
//! (VS-16), and claims no more than all that chain's writable bytes (VS-13). A guest can make a
//! buffer of its own used ring, and then what stands in it proves nothing: from such a chain on,
//! until the next life, only the first bound is held, with no chain counted as used.

use powerfail::guest::memory::{Memory, Ram};
use powerfail_device::{QueueLayout, Ring};

use crate::reference;

/// What buffers hold that nobody wrote.
pub(crate) const POISON: u8 = 0xa5;

/// A chain in the device's hands.
#[derive(Debug)]
struct Taken {
    head: u16,
    /// Address and length of each writable buffer.
    writable: Vec<(u64, u64)>,
    /// Of the first with this head: how many with it came back.
    back: u32,
}

/// A guest's memory, watched.
pub(crate) struct Watched {
    memory: Memory,
    /// What the guest knows to be in it.
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

    /// Becomes what [`new`](Self::new) returns, but that everything from `data` on is filled with
    /// what no device writes, so that a byte written where none may be shows.
    pub(crate) fn restart(&mut self, data: u32) {
        let (rings, buffers) = self.shadow.split_at_mut(data as usize);
        rings.fill(0);
        buffers.fill(POISON);
        self.memory.write(0, &self.shadow);
        self.ended();
    }

    /// The memory as a device is lent it.
    pub(crate) fn ram(&mut self) -> Ram<'_> {
        self.memory.ram()
    }

    /// The guest writes, as far as there is memory.
    pub(crate) fn write(&mut self, at: u64, bytes: &[u8]) {
        let len = self.shadow.len() as u64;
        if at < len {
            let bytes = &bytes[..bytes.len().min((len - at) as usize)];
            self.shadow[at as usize..][..bytes.len()].copy_from_slice(bytes);
            self.memory.write(at as u32, bytes);
        }
    }

    /// Two bytes, zero where there is no memory.
    pub(crate) fn read_u16(&self, at: u64) -> u16 {
        let byte = |at: u64| {
            usize::try_from(at).ok().and_then(|at| self.shadow.get(at)).map_or(0, |&byte| byte)
        };
        u16::from_le_bytes([byte(at), byte(at.wrapping_add(1))])
    }

    /// The driver placed a ring, which begins at index zero.
    pub(crate) fn placed(&mut self, ring: QueueLayout) {
        self.ended();
        self.ring = Some(ring);
    }

    /// A reset was shown, or the power went: nothing is in the device's hands.
    pub(crate) fn ended(&mut self) {
        (self.ring, self.next_avail, self.next_used, self.blind) = (None, 0, 0, false);
        self.taken.clear();
    }

    /// Where the driver placed its ring.
    pub(crate) fn ring(&self) -> Option<QueueLayout> {
        self.ring
    }

    /// How many chains are in the device's hands; nothing if that cannot be known.
    pub(crate) fn in_hand(&self) -> Option<usize> {
        (!self.blind).then_some(self.taken.len())
    }

    /// Looks at what a step, of whoever is not the guest, did. `ring` is the device's side of the
    /// ring, if it has one. Returns the head of the chain that was taken in it; the memory it was
    /// read from is still there for `also`.
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
                "a step takes one chain"
            );
            let entry = u64::from(self.next_avail % plan.size);
            let head = self.read_u16(plan.available + 4 + 2 * entry);
            self.next_avail = queue.position().0;
            // A head that names no descriptor breaks the ring and is no chain.
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

    /// Whether every byte that changed may have.
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
                        "the device wrote {:#x} to guest address {at:#x}, which held {:#x} and is no writable buffer of {:x?} on {:x?}",
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

    /// Reads one used element.
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
            // Which of several with one head came back nobody can tell, so all stay until all came
            // back.
            if room.is_none() {
                taken.back += 1;
            }
            (out, back) = (out + 1, back + taken.back);
            let bytes: u64 = taken.writable.iter().map(|&(_, len)| len).sum();
            room = Some(bytes.max(room.unwrap_or(0)));
        }
        let Some(room) = room else {
            panic!("head {head} was used and is not in the device's hands: {:?}", self.taken);
        };
        assert!(u64::from(len) <= room, "{len} bytes are claimed of {room} in {:x?}", self.taken);
        if out == back {
            self.taken.retain(|taken| u32::from(taken.head) != head);
        }
    }
}
