//! Buffers that came home, to be used again: in the steady state nothing is allocated.

use crate::bounce::Bounce;
use crate::buffer::{Buffer, Ranges};

/// How many of each kind are kept.
const KEPT: usize = 32;

/// A longer list of ranges is not kept; a driver that keeps to `seg_max` has none.
const LONGEST: usize = 128;

/// Spare bounces and spare range lists.
#[derive(Debug, Default)]
pub(super) struct Pool {
    bounces: Vec<Bounce>,
    /// Only lists that own heap memory; short ones cost nothing to make.
    ranges: Vec<Ranges>,
}

impl Pool {
    /// A bounce of `len` bytes with any content.
    pub(super) fn bounce(&mut self, len: usize) -> Bounce {
        match self.bounces.pop() {
            Some(mut bounce) if bounce.capacity() >= len => {
                bounce.set_len(len);
                bounce
            }
            _ => Bounce::zeroed(len),
        }
    }

    /// An empty list of ranges that will hold about `len`.
    pub(super) fn ranges(&mut self, len: usize) -> Ranges {
        if len <= Ranges::new().inline_size() {
            return Ranges::new();
        }
        self.ranges.pop().unwrap_or_default()
    }

    /// Takes back whatever it was.
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
