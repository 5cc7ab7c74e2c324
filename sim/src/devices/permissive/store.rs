//! The storage of the permissive device: for each sector, the contents that a power loss may leave.
//!
//! Versions are in the order in which they landed. The first is stable; the others may be lost, so
//! a power loss may leave any of them. Reads return the last one. A failed sync removes the
//! versions that it forgets, and the sector is *lost* until it is written again: no flush may
//! succeed before that.

use crate::base::prng::Prng;
use crate::guest::payload::SECTOR;

/// A time in the infinite future, counted in completions.
const NEVER: u64 = u64::MAX;

/// The bytes of a sector.
pub(super) type Bytes = [u8; SECTOR];

#[derive(Clone, Debug)]
struct Version {
    bytes: Box<Bytes>,
    /// The number of the operation that landed it.
    by: u64,
    /// The number of the completion that promised it to the guest; [`NEVER`] if none did.
    promised: u64,
}

#[derive(Clone, Debug)]
struct Cell {
    versions: Vec<Version>,
    /// `Some` iff a promised version was forgotten: the completion that promised a newer one, or
    /// [`NEVER`].
    lost: Option<u64>,
    /// Pairs of operations that were in flight at the same time; kept for the Literal device only.
    concurrent: Vec<(u64, u64)>,
    /// A stable version that was written at the same time as the first one.
    beside: Option<Box<Bytes>>,
}

impl Cell {
    /// The version at `at` is stable from now on, and the older ones are gone. `is_stable` says
    /// which of them were stable too, besides the first.
    fn stabilise(&mut self, at: usize, is_stable: impl Fn(&Version) -> bool) {
        if at == 0 {
            return;
        }
        let now = self.versions[at].by;
        let older = self.versions[..at].iter().enumerate().rev();
        let stable = older.filter(|(nth, version)| *nth == 0 || is_stable(version));
        let mut stable = stable.map(|(_, version)| version);
        let beside = stable.find(|older| {
            self.concurrent.contains(&(older.by, now)) || self.concurrent.contains(&(now, older.by))
        });
        self.beside = beside.map(|version| version.bytes.clone());
        self.versions.drain(..at);
    }
}

/// Damage by a power loss that only the Literal profile allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Worse {
    /// It leaves arbitrary bytes in sectors with a version that is not stable.
    pub(super) anything: bool,
    /// It mixes stable versions that were written at the same time.
    pub(super) mixes: bool,
}

/// Arbitrary bytes.
pub(super) fn anything(prng: &mut Prng) -> Bytes {
    let mut bytes = [0; SECTOR];
    for word in bytes.as_chunks_mut::<8>().0 {
        *word = prng.word().to_le_bytes();
    }
    bytes
}

/// The first half of one content and the second half of another.
pub(super) fn mixed(one: &Bytes, other: &Bytes) -> Bytes {
    let mut bytes = *one;
    bytes[SECTOR / 2..].copy_from_slice(&other[SECTOR / 2..]);
    bytes
}

/// The data that a power loss leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    /// Everything survives.
    Nothing,
    /// Everything that may be lost is lost.
    Everything,
    /// Each sector loses any number of versions.
    Mixed,
}

/// The storage of one device.
#[derive(Clone, Debug)]
pub(super) struct Store {
    cells: Vec<Cell>,
}

impl Store {
    pub(super) fn new(image: &[u8]) -> Store {
        let (sectors, _) = image.as_chunks::<SECTOR>();
        let cell = |bytes: &Bytes| {
            let version = Version { bytes: Box::new(*bytes), by: 0, promised: 0 };
            Cell { versions: vec![version], lost: None, concurrent: Vec::new(), beside: None }
        };
        Store { cells: sectors.iter().map(cell).collect() }
    }

    /// The content that a read returns now.
    pub(super) fn live(&self, sector: u32) -> &Bytes {
        &self.cells[sector as usize].versions.last().expect("a sector holds something").bytes
    }

    /// The content before the live one, if the live one is that of an operation in flight.
    pub(super) fn before(&self, sector: u32, in_flight: impl Fn(u64) -> bool) -> Option<&Bytes> {
        match &self.cells[sector as usize].versions[..] {
            [.., before, live] if in_flight(live.by) => Some(&before.bytes),
            _ => None,
        }
    }

    /// An operation completes on a sector while these others are in flight there.
    pub(super) fn ran_beside(&mut self, sector: u32, by: u64, others: &[u64]) {
        let pairs = others.iter().map(|other| (by, *other));
        self.cells[sector as usize].concurrent.extend(pairs);
    }

    /// An operation takes effect on a sector.
    pub(super) fn land(&mut self, sector: u32, bytes: Bytes, by: u64) {
        let version = Version { bytes: Box::new(bytes), by, promised: NEVER };
        self.cells[sector as usize].versions.push(version);
    }

    /// Completion `number` promises the content that operation `by` wrote to a sector, unless that
    /// was `forgotten` meanwhile: then the sector is lost.
    pub(super) fn promise(&mut self, sector: u32, by: u64, number: u64, forgotten: bool) {
        let cell = &mut self.cells[sector as usize];
        if forgotten {
            cell.lost = Some(NEVER);
            return;
        }
        for version in cell.versions.iter_mut().filter(|version| version.by == by) {
            version.promised = number;
        }
        if let Some(lost) = &mut cell.lost {
            *lost = (*lost).min(number);
        }
    }

    /// Makes the content that an operation wrote to a sector stable.
    pub(super) fn stabilise(&mut self, sector: u32, by: u64) {
        let cell = &mut self.cells[sector as usize];
        if let Some(at) = cell.versions.iter().rposition(|version| version.by == by) {
            cell.stabilise(at, |_| false);
            cell.lost = None;
        }
    }

    /// Whether a sync can keep everything promised before completion `before`.
    pub(super) fn can_sync(&self, before: u64) -> bool {
        self.cells.iter().all(|cell| cell.lost.is_none_or(|promised| promised < before))
    }

    /// Makes everything promised before completion `before` stable.
    pub(super) fn sync(&mut self, before: u64) {
        for cell in &mut self.cells {
            let kept = cell.versions.iter().rposition(|version| version.promised < before);
            cell.stabilise(kept.unwrap_or(0), |version| version.promised < before);
            cell.lost = None;
        }
    }

    /// Forgets some unstable versions, as a failed sync does. Returns them as operation and sector.
    pub(super) fn forget(&mut self, prng: &mut Prng) -> Vec<(u64, u32)> {
        let mut forgotten = Vec::new();
        for (sector, cell) in self.cells.iter_mut().enumerate() {
            if cell.versions.len() > 1 && prng.below(2) == 0 {
                let keep = 1 + prng.below(cell.versions.len() as u32 - 1) as usize;
                for version in cell.versions.drain(keep..) {
                    forgotten.push((version.by, sector as u32));
                    if version.promised != NEVER {
                        cell.lost = Some(NEVER);
                    }
                }
            }
        }
        forgotten
    }

    /// Sets each sector to one of the contents that a power loss could leave, as a restarted
    /// backend finds it. Completion `number` promises it.
    pub(super) fn find(&mut self, prng: &mut Prng, number: u64) {
        for cell in &mut self.cells {
            let at = prng.below(cell.versions.len() as u32) as usize;
            if cell.versions.len() > 1 {
                let mut found = cell.versions[at].clone();
                found.promised = number;
                cell.versions.push(found);
            }
            cell.lost = None;
        }
    }

    /// Cuts the power.
    pub(super) fn power_loss(&mut self, prng: &mut Prng, loss: Loss, worse: Worse) {
        for cell in &mut self.cells {
            let last = cell.versions.len() - 1;
            let at = match loss {
                Loss::Nothing => last,
                Loss::Everything => 0,
                Loss::Mixed => prng.below(last as u32 + 1) as usize,
            };
            cell.versions.swap(0, at);
            cell.versions.truncate(1);
            if last > 0 && worse.anything && prng.below(2) == 0 {
                *cell.versions[0].bytes = anything(prng);
            }
            if let Some(beside) = cell.beside.take().filter(|_| at == 0 && worse.mixes) {
                let bytes = &mut cell.versions[0].bytes;
                **bytes = mixed(bytes, &beside);
            }
            cell.concurrent.clear();
            cell.versions[0].promised = 0;
            cell.lost = None;
        }
    }
}
