//! A set of queues, as bits.

/// The index of a request queue of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueIndex(pub u16);

/// Maximum number of request queues of a device.
pub const MAX_QUEUES: u16 = 256;

const WORDS: usize = MAX_QUEUES as usize / 64;

/// A set of [`QueueIndex`]es below [`MAX_QUEUES`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueueSet([u64; WORDS]);

impl QueueSet {
    pub(crate) fn insert(&mut self, queue: QueueIndex) {
        self.0[word(queue)] |= bit(queue);
    }

    pub(crate) fn remove(&mut self, queue: QueueIndex) {
        self.0[word(queue)] &= !bit(queue);
    }

    pub(crate) fn contains(&self, queue: QueueIndex) -> bool {
        self.0[word(queue)] & bit(queue) != 0
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    pub(crate) fn extend(&mut self, other: QueueSet) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine |= theirs;
        }
    }

    /// Removes and returns the lowest member.
    pub(crate) fn pop(&mut self) -> Option<QueueIndex> {
        let at = self.0.iter().position(|word| *word != 0)?;
        let index = at as u32 * 64 + self.0[at].trailing_zeros();
        self.0[at] &= self.0[at] - 1;
        Some(QueueIndex(index as u16))
    }
}

fn word(queue: QueueIndex) -> usize {
    usize::from(queue.0 / 64)
}

fn bit(queue: QueueIndex) -> u64 {
    1 << (queue.0 % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_come_out_once_and_in_order() {
        let mut set = QueueSet::default();
        for index in [255, 0, 63, 64, 0, 7] {
            set.insert(QueueIndex(index));
        }
        set.remove(QueueIndex(7));
        assert!(set.contains(QueueIndex(64)) && !set.contains(QueueIndex(7)));
        let drained: Vec<u16> = std::iter::from_fn(|| set.pop()).map(|q| q.0).collect();
        assert_eq!(drained, [0, 63, 64, 255]);
        assert!(set.is_empty());
    }
}
