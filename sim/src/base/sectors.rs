//! A set of sectors of the simulated medium, used for survivors, landed parts and forgotten pages.
//!
//! It is a fixed bitmap. The medium of a world has at most [`SectorSet::CAPACITY`] sectors, so a
//! set is 32 bytes, `Copy`, and compares by value.

use std::fmt;
use std::str::FromStr;

/// A set of sector numbers below [`SectorSet::CAPACITY`].
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct SectorSet {
    words: [u64; 4],
}

impl SectorSet {
    /// One more than the largest sector number a set can hold.
    pub const CAPACITY: u32 = 256;
    /// No sector.
    pub const EMPTY: SectorSet = SectorSet { words: [0; 4] };

    /// The sectors `start..start + count`.
    ///
    /// # Panics
    /// If the range ends beyond [`SectorSet::CAPACITY`].
    #[inline]
    #[must_use]
    pub fn range(start: u32, count: u32) -> SectorSet {
        assert!(start + count <= Self::CAPACITY, "sectors {start}+{count} do not fit a set");
        let mut set = SectorSet::EMPTY;
        let (mut at, end) = (start, start + count);
        while at < end {
            let word = (at / 64) as usize;
            let stop = end.min((at / 64 + 1) * 64);
            let width = stop - at;
            let ones = if width == 64 { u64::MAX } else { (1u64 << width) - 1 };
            set.words[word] |= ones << (at % 64);
            at = stop;
        }
        set
    }

    /// Adds one sector.
    #[inline]
    pub fn insert(&mut self, sector: u32) {
        self.words[(sector / 64) as usize] |= 1 << (sector % 64);
    }

    /// Removes one sector.
    #[inline]
    pub fn remove(&mut self, sector: u32) {
        self.words[(sector / 64) as usize] &= !(1 << (sector % 64));
    }

    /// Whether the sector is in the set.
    #[inline]
    #[must_use]
    pub fn contains(&self, sector: u32) -> bool {
        sector < Self::CAPACITY && self.words[(sector / 64) as usize] & (1 << (sector % 64)) != 0
    }

    /// Whether the set is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words == [0; 4]
    }

    /// The number of sectors in the set.
    #[inline]
    #[must_use]
    pub fn len(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// The sectors in either set.
    #[inline]
    #[must_use]
    pub fn or(mut self, other: SectorSet) -> SectorSet {
        for (mine, theirs) in self.words.iter_mut().zip(other.words) {
            *mine |= theirs;
        }
        self
    }

    /// The sectors in both sets.
    #[inline]
    #[must_use]
    pub fn and(mut self, other: SectorSet) -> SectorSet {
        for (mine, theirs) in self.words.iter_mut().zip(other.words) {
            *mine &= theirs;
        }
        self
    }

    /// The sectors in this set and not in the other.
    #[inline]
    #[must_use]
    pub fn minus(mut self, other: SectorSet) -> SectorSet {
        for (mine, theirs) in self.words.iter_mut().zip(other.words) {
            *mine &= !theirs;
        }
        self
    }

    /// The sectors, in rising order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = u32> {
        let mut words = self.words;
        let mut word = 0;
        std::iter::from_fn(move || {
            while word < words.len() {
                if words[word] != 0 {
                    let bit = words[word].trailing_zeros();
                    words[word] &= words[word] - 1;
                    return Some(word as u32 * 64 + bit);
                }
                word += 1;
            }
            None
        })
    }

    /// The member of rank `n`, counted from zero.
    #[inline]
    #[must_use]
    pub fn nth(self, n: u32) -> Option<u32> {
        self.iter().nth(n as usize)
    }

    /// The set with these words.
    #[inline]
    #[must_use]
    pub fn from_words(words: [u64; 4]) -> SectorSet {
        SectorSet { words }
    }

    /// The set with every unit of `unit` sectors that it touches filled. `unit` divides 64.
    #[must_use]
    pub fn rounded(self, unit: u32) -> SectorSet {
        debug_assert!(64 % unit == 0, "a unit of {unit} sectors");
        let mut rounded = SectorSet::EMPTY;
        for sector in self.iter() {
            rounded = rounded.or(SectorSet::range(sector / unit * unit, unit));
        }
        rounded
    }

    /// The set moved up by `by` sectors. Sectors that would not fit are dropped.
    #[must_use]
    pub(crate) fn raised(self, by: u32) -> SectorSet {
        let fits = self.iter().filter(|sector| sector + by < Self::CAPACITY);
        fits.fold(SectorSet::EMPTY, |raised, sector| raised.or(SectorSet::range(sector + by, 1)))
    }

    /// The set moved down by `by` sectors. Sectors below `by` are dropped.
    #[must_use]
    pub fn lowered(self, by: u32) -> SectorSet {
        let fits = self.iter().filter(|sector| *sector >= by);
        fits.fold(SectorSet::EMPTY, |lowered, sector| lowered.or(SectorSet::range(sector - by, 1)))
    }

    /// The set as words, for hashing.
    #[inline]
    #[must_use]
    pub fn words(&self) -> [u64; 4] {
        self.words
    }
}

/// `2,5-7`, or `none`.
impl fmt::Display for SectorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("none");
        }
        let mut at = 0;
        let mut separator = "";
        while at < Self::CAPACITY {
            if !self.contains(at) {
                at += 1;
                continue;
            }
            let start = at;
            while self.contains(at) {
                at += 1;
            }
            match at - start {
                1 => write!(f, "{separator}{start}")?,
                _ => write!(f, "{separator}{start}-{}", at - 1)?,
            }
            separator = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for SectorSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl FromStr for SectorSet {
    type Err = String;

    fn from_str(text: &str) -> Result<SectorSet, String> {
        let mut set = SectorSet::EMPTY;
        if text == "none" {
            return Ok(set);
        }
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |digits: &str| {
                digits
                    .parse::<u32>()
                    .ok()
                    .filter(|&sector| sector < Self::CAPACITY)
                    .ok_or_else(|| format!("`{part}` is not a sector or a range of sectors"))
            };
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return Err(format!("`{part}` runs backwards"));
            }
            set = set.or(SectorSet::range(first, last - first + 1));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_reads_back_as_it_is_written() {
        for text in ["none", "0", "2,5-7", "0-255", "63-64,128"] {
            assert_eq!(text.parse::<SectorSet>().unwrap().to_string(), text);
        }
        for nonsense in ["", "x", "7-5", "256", "1,,2"] {
            assert!(nonsense.parse::<SectorSet>().is_err(), "{nonsense}");
        }
    }

    #[test]
    fn sectors_moved_out_of_the_set_are_dropped() {
        let set = SectorSet::range(60, 10);
        assert_eq!(set.raised(72), SectorSet::range(132, 10));
        assert_eq!(set.raised(190), SectorSet::range(250, 6));
        assert_eq!(set.lowered(64), SectorSet::range(0, 6));
        assert_eq!(set.lowered(0), set);
    }

    #[test]
    fn ranges_cross_words() {
        let set = SectorSet::range(60, 140);
        assert_eq!(set.len(), 140);
        assert_eq!(set.iter().collect::<Vec<_>>(), (60..200).collect::<Vec<_>>());
        assert_eq!(set.nth(139), Some(199));
    }
}
