//! The pseudo-random generator behind a seed. It is not a dependency, so that a seed always gives
//! the same run.
//!
//! The generator is xoshiro256++ seeded through splitmix64. `below` maps 32 bits to a range by a
//! widening multiplication. The bias of that map is at most `n / 2^32`, which is negligible for a
//! schedule; a rejection loop would make the number of draws depend on the numbers drawn.

/// A small, fast generator. Not for cryptography.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prng {
    state: [u64; 4],
}

impl Prng {
    /// The generator for a seed. Neighbouring seeds give unrelated streams.
    #[must_use]
    pub fn new(seed: u64) -> Prng {
        let mut mixed = seed;
        let state = [(); 4].map(|()| {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            mix(mixed)
        });
        Prng { state }
    }

    /// The next 64 bits.
    #[inline]
    pub fn word(&mut self) -> u64 {
        let s = &mut self.state;
        let out = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        out
    }

    /// A number in `0..n`; `n` is at least one.
    #[inline]
    pub fn below(&mut self, n: u32) -> u32 {
        debug_assert!(n > 0, "a choice of nothing");
        (((self.word() >> 32) * u64::from(n)) >> 32) as u32
    }
}

/// The finaliser of splitmix64: a bijection that spreads every bit.
#[inline]
#[must_use]
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden vectors: if these change, every saved seed gives another run.
    #[test]
    fn a_seed_always_gives_the_same_numbers() {
        let mut prng = Prng::new(0);
        assert_eq!(
            [prng.word(), prng.word(), prng.word()],
            [0x53175d61490b23df, 0x61da6f3dc380d507, 0x5c0fdf91ec9a7bfc]
        );
        let mut prng = Prng::new(5);
        let small: Vec<u32> = (0..8).map(|_| prng.below(100)).collect();
        assert_eq!(small, [29, 61, 9, 5, 52, 70, 45, 6]);
    }
}
