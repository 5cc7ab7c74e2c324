//! The record of what is in flight of one queue, in memory that outlives a simulated backend; and
//! what it would hold had the backend died inside a step.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use powerfail_device::{InflightMemory, InflightRecord};

use crate::dut::lifecycle::Cut;

/// The memory of one queue's record.
#[derive(Debug)]
pub(crate) struct SimRecord {
    words: Box<[AtomicU64]>,
    /// A step is watched. Few are, so the lock is taken only then.
    is_watched: AtomicBool,
    /// The stores of the step that is watched: word, what it held, what it holds.
    stores: Mutex<Vec<(usize, u64, u64)>>,
}

impl SimRecord {
    /// Memory for a queue of this size that was never used.
    pub(crate) fn new(size: u16) -> SimRecord {
        SimRecord::of((0..InflightRecord::words(size)).map(|_| AtomicU64::new(0)).collect())
    }

    /// The same content in memory of its own.
    pub(crate) fn copy(&self) -> SimRecord {
        let word = |word: &AtomicU64| AtomicU64::new(word.load(Ordering::Relaxed));
        SimRecord::of(self.words.iter().map(word).collect())
    }

    fn of(words: Box<[AtomicU64]>) -> SimRecord {
        SimRecord { words, is_watched: AtomicBool::new(false), stores: Mutex::new(Vec::new()) }
    }

    fn stores(&self) -> MutexGuard<'_, Vec<(usize, u64, u64)>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Watches what is stored from now on.
    pub(crate) fn watch(&self) {
        self.stores().clear();
        self.is_watched.store(true, Ordering::Relaxed);
    }

    /// Takes back what would not have been stored since, had the backend died there. Says whether
    /// there is such a place.
    pub(crate) fn cut(&self, cut: Cut) -> bool {
        self.is_watched.store(false, Ordering::Relaxed);
        let stores = std::mem::take(&mut *self.stores());
        let marks = |&(word, old, new): &(usize, u64, u64), from: bool, to: bool| {
            is_state(word) && is_marked(old) == from && is_marked(new) == to
        };
        let used = stores.iter().rposition(|store| marks(store, true, false));
        let taken = stores.iter().position(|store| marks(store, false, true));
        let place = match cut {
            Cut::Unrecorded if used.is_none() => taken,
            Cut::Unrecorded => None,
            Cut::Element | Cut::Index => used,
        };
        let Some(place) = place else { return false };
        for (word, old, _) in stores[place..].iter().rev() {
            self.words[*word].store(*old, Ordering::Relaxed);
        }
        true
    }

    /// Takes everything for ended, and the used index for where the driver is. Only a wrong device
    /// does this.
    pub(crate) fn unmark(&self) {
        for state in self.words.iter().skip(2).step_by(2) {
            state.store(0, Ordering::Relaxed);
        }
    }

    /// Marks the head that was used last as in flight. Only a wrong device does this.
    pub(crate) fn mark_last(&self) {
        let [_, _, _, _, low, high, ..] = self.words[1].load(Ordering::Relaxed).to_ne_bytes();
        let state = &self.words[2 + 2 * usize::from(u16::from_ne_bytes([low, high]))];
        let mut bytes = state.load(Ordering::Relaxed).to_ne_bytes();
        bytes[0] = 1;
        state.store(u64::from_ne_bytes(bytes), Ordering::Relaxed);
    }
}

impl InflightMemory for SimRecord {
    fn words(&self) -> usize {
        self.words.len()
    }

    fn load(&self, word: usize) -> u64 {
        self.words[word].load(Ordering::Relaxed)
    }

    fn store(&self, word: usize, value: u64) {
        if self.is_watched.load(Ordering::Relaxed) {
            self.stores().push((word, self.load(word), value));
        }
        self.words[word].store(value, Ordering::Relaxed);
    }
}

/// Whether a word says whether a descriptor's chain is in flight.
fn is_state(word: usize) -> bool {
    word >= 2 && word.is_multiple_of(2)
}

fn is_marked(word: u64) -> bool {
    word.to_ne_bytes()[0] != 0
}
