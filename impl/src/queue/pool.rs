//! Returned buffers, kept for reuse: the steady state allocates nothing.

use crate::bounce::Bounce;
use crate::buffer::{Buffer, Ranges};

/// Maximum number of buffers kept of each kind.
const KEPT: usize = 32;

/// Maximum capacity of a range list that is kept; a driver that keeps to `seg_max` needs no more.
const LONGEST: usize = 128;

/// Spare bounce buffers and spare range lists.
#[derive(Debug, Default)]
pub(super) struct Pool {
    bounces: Vec<Bounce>,
    /// Only lists that own heap memory; short ones need no allocation.
    ranges: Vec<Ranges>,
}

impl Pool {
    /// A bounce buffer of `len` bytes with unspecified content.
    pub(super) fn bounce(&mut self, len: usize) -> Bounce {
        match self.bounces.pop() {
            Some(mut bounce) if bounce.capacity() >= len => {
                bounce.set_len(len);
                bounce
            }
            _ => Bounce::zeroed(len),
        }
    }

    /// An empty list of ranges for about `len` of them.
    pub(super) fn ranges(&mut self, len: usize) -> Ranges {
        if len <= Ranges::new().inline_size() {
            return Ranges::new();
        }
        self.ranges.pop().unwrap_or_default()
    }

    /// Keeps a buffer for reuse, or drops it.
    pub(super) fn keep(&mut self, buffer: Buffer) {
        match buffer {
            Buffer::Bounce(bounce) if self.bounces.len() < KEPT => self.bounces.push(bounce),
            Buffer::Guest(mut ranges)
                if ranges.spilled() && ranges.capacity() <= LONGEST && self.ranges.len() < KEPT =>
            {
                ranges.clear();
                self.ranges.push(ranges);
            }
            Buffer::Bounce(_) | Buffer::Guest(_) => {}
        }
    }
}
