//! Fingerprints: 128 bits by which two states are considered equal.
//!
//! This is not a cryptographic hash, because states are not chosen to collide. Among `n` states
//! some two collide with a probability of at most about `n² / 2^129`; the statement of a search
//! names this figure.

/// A fingerprint, built word by word: two halves with different constants, each a multiplication
/// folded onto itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Fingerprint {
    one: u64,
    two: u64,
}

impl Fingerprint {
    /// The fingerprint of no words.
    pub(super) const EMPTY: Fingerprint =
        Fingerprint { one: 0x243f_6a88_85a3_08d3, two: 0x1319_8a2e_0370_7344 };

    /// Adds a word.
    #[inline]
    pub(super) fn word(&mut self, word: u64) {
        self.one = folded(self.one ^ word, 0xa076_1d64_78bd_642f) ^ self.one.rotate_left(23);
        self.two =
            folded(self.two ^ word, 0xe703_7ed1_a0b4_28db).wrapping_add(self.two.rotate_left(41));
    }

    /// Adds another fingerprint.
    #[inline]
    pub(super) fn fingerprint(&mut self, other: Fingerprint) {
        self.word(other.one);
        self.word(other.two);
    }

    /// Adds another fingerprint; the order of such additions does not matter.
    #[inline]
    pub(super) fn blend(&mut self, other: Fingerprint) {
        self.one = self.one.wrapping_add(other.one);
        self.two = self.two.wrapping_add(other.two);
    }

    /// The fingerprint of these words.
    #[inline]
    pub(super) fn of(words: &[u64]) -> Fingerprint {
        let mut fingerprint = Fingerprint::EMPTY;
        words.iter().for_each(|&word| fingerprint.word(word));
        fingerprint
    }

    /// The fingerprint as a number. Never zero, which marks an empty place in the table of visited
    /// states.
    #[inline]
    pub(super) fn value(self) -> u128 {
        let value = u128::from(self.one) << 64 | u128::from(self.two);
        value.max(1)
    }
}

#[inline]
fn folded(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b | 1);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_matters_in_a_chain_and_not_in_a_blend() {
        assert_ne!(Fingerprint::of(&[1, 2]), Fingerprint::of(&[2, 1]));
        let (mut one, mut two) = (Fingerprint::EMPTY, Fingerprint::EMPTY);
        one.blend(Fingerprint::of(&[1]));
        one.blend(Fingerprint::of(&[2]));
        two.blend(Fingerprint::of(&[2]));
        two.blend(Fingerprint::of(&[1]));
        assert_eq!(one, two);
        assert_ne!(one, Fingerprint::EMPTY);
    }

    #[test]
    fn close_inputs_are_far_apart_in_both_lanes() {
        let mut visited = std::collections::BTreeSet::new();
        for a in 0..300 {
            for b in 0..300 {
                let Fingerprint { one, two } = Fingerprint::of(&[a, 0, b]);
                assert!(visited.insert(one) & visited.insert(two), "{a} {b}");
            }
        }
    }
}
