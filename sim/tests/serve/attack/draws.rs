//! Numbers for choices: a tape of bytes first, then a generator.
//!
//! A fuzzer supplies the tape, and the generator behind it has a fixed seed; a test has no tape,
//! and a seed. Both use the same code to make choices.

use powerfail::base::prng::Prng;

/// A source of choices.
pub(crate) struct Draws<'a> {
    tape: &'a [u8],
    after: Prng,
}

impl<'a> Draws<'a> {
    /// The choices on a tape, continued by the generator of this seed.
    pub(crate) fn new(tape: &'a [u8], seed: u64) -> Draws<'a> {
        Draws { tape, after: Prng::new(seed) }
    }

    /// A number below `n`, which is at least one. Uses as few bytes of the tape as possible.
    pub(crate) fn below(&mut self, n: u32) -> u32 {
        let bytes = match n {
            0..=1 => return 0,
            2..=0x100 => 1,
            0x101..=0x1_0000 => 2,
            _ => 4,
        };
        if self.tape.is_empty() { self.after.below(n) } else { self.take(bytes) as u32 % n }
    }

    /// Any word.
    pub(crate) fn word(&mut self) -> u64 {
        if self.tape.is_empty() { self.after.word() } else { self.take(8) }
    }

    /// True in one of `n` draws.
    pub(crate) fn once_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    /// One member of a slice, which must not be empty.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }

    /// A generator for another thread.
    pub(crate) fn fork(&mut self) -> Prng {
        Prng::new(self.word())
    }

    fn take(&mut self, bytes: usize) -> u64 {
        let (taken, rest) = self.tape.split_at(bytes.min(self.tape.len()));
        self.tape = rest;
        taken.iter().fold(0, |word, byte| word << 8 | u64::from(*byte))
    }
}
