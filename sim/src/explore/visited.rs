//! The visited states: an open-addressed table from fingerprints to a word.
//!
//! The table grows up to a fixed number of entries. A full table accepts no more states: the search
//! continues and may visit a state again, which costs time but loses no failure, and is counted in
//! `turned_away`.

/// The smallest number of places.
const LEAST: usize = 1 << 10;

/// The paths from a state to the end; the counts saturate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ways {
    /// The number of paths.
    pub(super) count: u64,
    /// Steps of all paths together.
    pub(super) steps: u64,
}

impl Ways {
    /// The empty path from the end to itself.
    pub(super) const END: Ways = Ways { count: 1, steps: 0 };

    /// Adds the paths that begin with one step, followed by `then`.
    pub(super) fn add(&mut self, then: Ways) {
        self.count = self.count.saturating_add(then.count);
        self.steps = self.steps.saturating_add(then.steps).saturating_add(then.count);
    }
}

/// The table of visited states.
#[derive(Debug)]
pub(super) struct Visited {
    /// A place is empty iff its key is zero. The number of places is a power of two; at most three
    /// quarters are taken.
    keys: Vec<u128>,
    words: Vec<u64>,
    ways: Vec<Ways>,
    len: usize,
    most: usize,
    /// Entries that did not fit.
    pub(super) turned_away: u64,
}

/// The place of a key.
enum Place {
    Taken(usize),
    Empty(usize),
}

impl Visited {
    /// An empty table for at most `most` entries.
    pub(super) fn new(most: usize) -> Visited {
        let most = most.max(LEAST);
        let (keys, words, ways) = (vec![0; LEAST], vec![0; LEAST], vec![Ways::default(); LEAST]);
        Visited { keys, words, ways, len: 0, most, turned_away: 0 }
    }

    /// Enters a key with a word. If the key is present, returns its word, to be changed.
    #[inline]
    pub(super) fn enter(&mut self, key: u128, word: u64) -> Option<&mut u64> {
        debug_assert!(key != 0, "zero is an empty place");
        match self.find(key) {
            Place::Taken(place) => Some(&mut self.words[place]),
            Place::Empty(mut place) => {
                if self.len >= self.most {
                    self.turned_away += 1;
                    return None;
                }
                if (self.len + 1) * 4 > self.keys.len() * 3 {
                    self.grow();
                    let (Place::Empty(moved) | Place::Taken(moved)) = self.find(key);
                    place = moved;
                }
                (self.keys[place], self.words[place]) = (key, word);
                self.len += 1;
                None
            }
        }
    }

    /// The paths from a visited state. `None` if it was not visited.
    #[inline]
    pub(super) fn ways(&self, key: u128) -> Option<Ways> {
        match self.find(key) {
            Place::Taken(place) => Some(self.ways[place]),
            Place::Empty(_) => None,
        }
    }

    /// Adds paths from a state. Returns all that are known.
    pub(super) fn found_ways(&mut self, key: u128, more: Ways) -> Ways {
        let Place::Taken(place) = self.find(key) else { return more };
        let ways = &mut self.ways[place];
        ways.count = ways.count.saturating_add(more.count);
        ways.steps = ways.steps.saturating_add(more.steps);
        *ways
    }

    fn find(&self, key: u128) -> Place {
        let mask = self.keys.len() - 1;
        let mut place = key as usize & mask;
        loop {
            match self.keys[place] {
                0 => return Place::Empty(place),
                there if there == key => return Place::Taken(place),
                _ => place = (place + 1) & mask,
            }
        }
    }

    #[cold]
    fn grow(&mut self) {
        let twice = self.keys.len() * 2;
        let keys = std::mem::replace(&mut self.keys, vec![0; twice]);
        let words = std::mem::replace(&mut self.words, vec![0; twice]);
        let ways = std::mem::replace(&mut self.ways, vec![Ways::default(); twice]);
        for ((key, word), ways) in keys.into_iter().zip(words).zip(ways) {
            if key != 0
                && let Place::Empty(place) = self.find(key)
            {
                (self.keys[place], self.words[place], self.ways[place]) = (key, word, ways);
            }
        }
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_entered_is_found_with_its_word() {
        let mut visited = Visited::new(1 << 20);
        let key = |n: u64| u128::from(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) << 3 | 1;
        for n in 0..10_000 {
            assert!(visited.enter(key(n), n).is_none());
        }
        for n in 0..10_000 {
            let word = visited.enter(key(n), 77).expect("it was entered");
            assert_eq!(*word, n);
            *word += 1;
        }
        assert_eq!(*visited.enter(key(3), 0).expect("still there"), 4);
        assert_eq!((visited.len(), visited.turned_away), (10_000, 0));
    }

    #[test]
    fn a_full_table_forgets_nothing_and_remembers_nothing_new() {
        let mut visited = Visited::new(0);
        for key in 1..=LEAST as u128 {
            assert!(visited.enter(key, 0).is_none());
        }
        assert!(visited.enter(5_000, 0).is_none());
        assert!(visited.enter(5_000, 0).is_none(), "there was no place for it");
        assert!(visited.enter(7, 0).is_some());
        assert_eq!((visited.len(), visited.turned_away), (LEAST, 2));
    }
}
