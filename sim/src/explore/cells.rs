//! Possible contents of each sector of the disk after a power loss at this moment.
//!
//! The cache of the simulated disk may be written back at any moment, so a dirty sector may survive
//! as any content that was cached since it was last made stable. A search that records all of these
//! contents need not try when the host writes back: it decides which content survived when the
//! sector is read. The steps that lead to each content are recorded too, because a counterexample
//! must be a run of the real disk, step by step.
//!
//! The contents are read from the cache and the medium after every step, so they are also right for
//! a disk mutant.

use powerfail_model::Observed;

use super::fingerprint::Fingerprint;
use crate::guest::Kind;
use crate::guest::payload::{self, Author};
use crate::host::disk::{OpKey, SimDisk};

/// The most contents of one sector: twice the most requests of a guest, and two more.
const MOST: usize = 26;

/// A content by its [`code`](payload::code).
pub(super) type Code = u64;

/// Possible contents of one sector, oldest first: the medium, then each content that was cached
/// since. A read returns the last one.
#[derive(Clone, Copy, Debug)]
struct Cell {
    may: [Code; MOST],
    /// The number of the action after which it was cached.
    since: [u32; MOST],
    len: u8,
    dirty: bool,
    taken: bool,
}

/// The way in which a content survives a power loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// The content is on the medium; the cached one is lost.
    Lost,
    /// The content is cached and survives.
    Kept,
    /// The content was written back just before this action; later ones are lost.
    WrittenBack {
        /// The number of the action.
        before: u32,
    },
    /// An operation in flight lands the content just before the power loss.
    Landed {
        /// The operation.
        op: OpKey,
    },
}

/// Possible contents of all sectors.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    /// Whether every content that was cached may survive. If not, the host writes back step by
    /// step, and only the medium and the cached content may survive.
    keeps: bool,
    kind: Kind,
    author: Author,
    base: u32,
    cells: Vec<Cell>,
}

impl Cells {
    /// The cells of the disk of device 0, as it is now.
    pub(super) fn new(disk: &SimDisk, run: u32, keeps: bool) -> Cells {
        let shape = disk.shape();
        let empty = Cell { may: [0; MOST], since: [0; MOST], len: 0, dirty: false, taken: false };
        let mut cells = Cells {
            keeps,
            kind: shape.kinds[0],
            author: Author { run, disk: 0 },
            base: shape.base(0),
            cells: vec![empty; shape.capacity as usize],
        };
        cells.look(disk, 0);
        cells
    }

    /// The number of sectors.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.cells.len() as u32
    }

    fn code(&self, number: u32, bytes: &[u8]) -> Code {
        payload::code(match self.kind {
            Kind::Disk => payload::read(bytes, self.author, number),
            Kind::Memory => {
                let word = u64::from_le_bytes(*bytes.first_chunk().expect("a sector"));
                payload::read_word(word, self.author, number)
            }
        })
    }

    /// Updates the cells from the disk after this many actions.
    pub(super) fn look(&mut self, disk: &SimDisk, actions: u32) {
        let (dirty, taken) = (disk.dirty(), disk.taken());
        for number in 0..self.len() {
            let at = self.base + number;
            let (cached, medium) = disk.sector(at);
            let cell = &self.cells[number as usize];
            let (is_dirty, is_taken) = (dirty.contains(at), taken.contains(at));
            let medium = self.code(number, medium);
            let cached = if is_dirty { self.code(number, cached) } else { medium };
            let same = cell.len > 0 && cell.may[0] == medium;
            let cell = &mut self.cells[number as usize];
            (cell.dirty, cell.taken) = (is_dirty, is_taken);
            if !same || !is_dirty {
                (cell.may[0], cell.since[0], cell.len) = (medium, actions, 1);
            }
            if is_dirty && cell.may[usize::from(cell.len) - 1] != cached {
                cell.len = if self.keeps { cell.len } else { 1 };
                let len = usize::from(cell.len);
                assert!(len < MOST, "more contents than the requests of a scope can write");
                (cell.may[len], cell.since[len]) = (cached, actions);
                cell.len += 1;
            }
        }
    }

    /// Lists the contents that a sector may hold after a power loss now, each once, with the
    /// simplest way to it.
    pub(super) fn survivors(&self, number: u32, out: &mut Vec<(Code, How)>) {
        out.clear();
        let cell = &self.cells[number as usize];
        let len = usize::from(cell.len);
        let mut add = |code: Code, how: How| {
            if out.iter().all(|known| known.0 != code) {
                out.push((code, how));
            }
        };
        add(cell.may[0], How::Lost);
        if len > 1 {
            add(cell.may[len - 1], How::Kept);
        }
        for nth in 1..len.saturating_sub(1) {
            add(cell.may[nth], How::WrittenBack { before: cell.since[nth + 1] });
        }
    }

    /// The content that a read of the sector returns now.
    pub(super) fn cached(&self, number: u32) -> Code {
        let cell = &self.cells[number as usize];
        cell.may[usize::from(cell.len) - 1]
    }

    /// Whether the medium and the cache of a sector differ.
    pub(super) fn differs(&self, number: u32) -> bool {
        self.cells[number as usize].len > 1
    }

    /// The code of the bytes of a sector.
    pub(super) fn code_of(&self, number: u32, bytes: &[u8]) -> Code {
        self.code(number, bytes)
    }

    /// The sector's number on the medium.
    #[inline]
    pub(super) fn sector(&self, number: u32) -> u32 {
        self.base + number
    }

    /// The bytes of a content.
    pub(super) fn bytes(&self, number: u32, code: Code) -> Vec<u8> {
        payload::of_code(self.kind, self.author, number, code)
    }

    /// Adds the state of all sectors to a fingerprint.
    #[inline]
    pub(super) fn add_to(&self, fingerprint: &mut Fingerprint) {
        for cell in &self.cells {
            let len = usize::from(cell.len);
            fingerprint.word(len as u64 | u64::from(cell.dirty) << 8 | u64::from(cell.taken) << 9);
            for &code in &cell.may[..len] {
                fingerprint.word(code);
            }
        }
    }
}

/// The code of zeroes.
pub(super) fn zero() -> Code {
    payload::code(Observed::Content(powerfail_model::Content::ZERO))
}
