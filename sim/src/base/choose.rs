//! The source of a run's uncertainty.
//!
//! Every choice in a run is drawn through [`Choose`] *before* it takes effect and becomes an
//! explicit [`Action`](crate::world::action::Action). A run is therefore a pure function of the
//! numbers drawn: with a seeded generator behind this trait it is a simulation, with an odometer a
//! model checker, with a byte slice a fuzzer. No other code in this crate generates numbers.

use crate::base::prng::Prng;

/// The purpose of a draw. It names the draw in traces of a nondeterministic run, and lets an
/// exhaustive source treat sites differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Site {
    /// An option of the whole run: sizes, features, fault ratios.
    Option,
    /// The kind of the next action.
    Next,
    /// The queue, device or thread of an action.
    Queue,
    /// The guest's request.
    Request,
    /// The split of a chain into descriptors.
    Layout,
    /// The sectors of a request.
    Sector,
    /// The host operation that makes progress.
    Operation,
    /// A host fault and its kind.
    Fault,
    /// The sectors that survive a crash, are forgotten, or are written back.
    Survivor,
    /// A power loss or a kill.
    Crash,
    /// A lifecycle action of a device.
    Lifecycle,
    /// A choice of a device's own, or its background work.
    Device,
}

/// A source of choices.
///
/// The trait is small so that a seed, a tape of bytes, a recorded list and an odometer can all
/// implement it.
pub trait Choose {
    /// A number in `0..n`.
    ///
    /// # Panics
    /// May panic if `n` is zero: an empty choice is the caller's mistake.
    fn below(&mut self, n: u32, site: Site) -> u32;

    /// True in `ratio.times` of `ratio.out_of` cases. A ratio of zero draws nothing.
    #[inline]
    fn chance(&mut self, ratio: Ratio, site: Site) -> bool {
        ratio.times != 0 && self.below(ratio.out_of, site) < ratio.times
    }

    /// A number in `low..=high`; draws nothing if there is only one.
    #[inline]
    fn between(&mut self, low: u32, high: u32, site: Site) -> u32 {
        if low == high { low } else { low + self.below(high - low + 1, site) }
    }

    /// One member of a non-empty slice.
    #[inline]
    fn pick<T: Copy>(&mut self, from: &[T], site: Site) -> T {
        from[self.below(from.len() as u32, site) as usize]
    }
}

/// A probability as two integers, so that no float affects a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    /// The number of true cases.
    pub times: u32,
    /// The number of all cases; never zero.
    pub out_of: u32,
}

impl Ratio {
    /// Probability zero. Such a choice draws nothing.
    pub const NEVER: Ratio = Ratio { times: 0, out_of: 1 };

    /// `times` out of `out_of`.
    #[must_use]
    pub const fn new(times: u32, out_of: u32) -> Ratio {
        assert!(out_of > 0 && times <= out_of);
        Ratio { times, out_of }
    }

    /// Whether a draw with this ratio can ever be true.
    #[must_use]
    pub const fn possible(self) -> bool {
        self.times > 0
    }
}

/// The simulator's source: a seeded generator.
#[derive(Clone, Debug)]
pub struct Seeded {
    prng: Prng,
    draws: u64,
}

impl Seeded {
    /// The source that run number `seed` draws from.
    #[must_use]
    pub fn new(seed: u64) -> Seeded {
        Seeded { prng: Prng::new(seed), draws: 0 }
    }

    /// The number of draws so far.
    #[must_use]
    pub fn draws(&self) -> u64 {
        self.draws
    }
}

impl Choose for Seeded {
    #[inline]
    fn below(&mut self, n: u32, _site: Site) -> u32 {
        self.draws += 1;
        self.prng.below(n)
    }
}

/// A source that reads its numbers from bytes, such as a fuzzer's input or a recorded tape. Past
/// the end every number is zero, so every byte string defines a complete run.
#[derive(Clone, Debug)]
pub struct Tape<'a> {
    bytes: &'a [u8],
}

impl<'a> Tape<'a> {
    /// A source over these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Tape<'a> {
        Tape { bytes }
    }

    /// Whether every byte was used.
    #[must_use]
    pub fn is_spent(&self) -> bool {
        self.bytes.is_empty()
    }
}

impl Choose for Tape<'_> {
    fn below(&mut self, n: u32, _site: Site) -> u32 {
        assert!(n > 0, "a choice of nothing");
        if n == 1 {
            return 0;
        }
        let width = if n <= 1 << 8 {
            1
        } else if n <= 1 << 16 {
            2
        } else {
            4
        };
        let mut number = [0u8; 4];
        for byte in number.iter_mut().take(width) {
            if let Some((&first, rest)) = self.bytes.split_first() {
                *byte = first;
                self.bytes = rest;
            }
        }
        u32::from_le_bytes(number) % n
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tape_of_any_length_defines_a_complete_run() {
        let mut tape = Tape::new(&[7, 1, 2]);
        assert_eq!(tape.below(1, Site::Next), 0, "one possibility costs no byte");
        assert_eq!(tape.below(10, Site::Next), 7);
        assert_eq!(tape.below(1000, Site::Next), 513);
        assert!(tape.is_spent());
        assert_eq!(tape.below(1000, Site::Next), 0);
    }

    #[test]
    fn a_ratio_of_zero_draws_nothing() {
        let mut source = Seeded::new(1);
        assert!(!source.chance(Ratio::NEVER, Site::Fault));
        assert_eq!(source.draws(), 0);
    }
}
