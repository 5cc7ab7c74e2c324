//! What each sector of the disk may hold, should the power go now.
//!
//! The cache of the simulated disk may be written back at any moment, so a dirty sector may survive
//! as anything that was cached since it was last made stable. A search that keeps all of it need
//! not try when the host writes back: it decides what has survived when somebody reads it. How that
//! would have come about is kept too, for a counterexample must be a run of the real disk, step by
//! step.
//!
//! What is here is learned by looking at cache and medium after every step, so it holds for a disk
//! that is wrong, too.

use powerfail_model::Observed;

use super::fingerprint::Fingerprint;
use crate::guest::Kind;
use crate::guest::payload::{self, Author};
use crate::host::disk::{OpKey, SimDisk};

/// The most contents of one sector: as many as a guest has requests, twice.
const MOST: usize = 26;

/// A content by its [`code`](payload::code).
pub(super) type Code = u64;

/// What one sector may hold, oldest first: the medium, and what was cached since. The last is what
/// a read returns.
#[derive(Clone, Copy, Debug)]
struct Cell {
    may: [Code; MOST],
    /// The number of the action after which it was cached.
    since: [u32; MOST],
    len: u8,
    dirty: bool,
    taken: bool,
}

/// How a content comes to survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It is on the medium, and what is cached is lost.
    Lost,
    /// It is cached, and survives.
    Kept,
    /// It was written back just before this action, and what came later is lost.
    WrittenBack {
        /// The number of the action.
        before: u32,
    },
    /// An operation in flight lands it just before the power goes.
    Landed {
        /// The operation.
        op: OpKey,
    },
}

/// What all sectors may hold.
#[derive(Clone, Debug)]
pub(super) struct Cells {
    /// Everything that was cached may survive. If not, the host writes back step by step, and only
    /// what is cached may.
    keeps: bool,
    kind: Kind,
    author: Author,
    base: u32,
    cells: Vec<Cell>,
}

impl Cells {
    /// As the disk of device 0 is now.
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

    /// How many sectors there are.
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

    /// Looks at the disk after so many actions.
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

    /// What a sector may hold if the power goes now, and how; each content once, and the plainest
    /// way to it.
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

    /// What a read of the sector returns now.
    pub(super) fn cached(&self, number: u32) -> Code {
        let cell = &self.cells[number as usize];
        cell.may[usize::from(cell.len) - 1]
    }

    /// Whether a sector of the medium may be lost and differs from what is cached.
    pub(super) fn differs(&self, number: u32) -> bool {
        self.cells[number as usize].len > 1
    }

    /// The code of a sector's bytes.
    pub(super) fn code_of(&self, number: u32, bytes: &[u8]) -> Code {
        self.code(number, bytes)
    }

    /// The sector of the medium.
    #[inline]
    pub(super) fn sector(&self, number: u32) -> u32 {
        self.base + number
    }

    /// A content's bytes.
    pub(super) fn bytes(&self, number: u32, code: Code) -> Vec<u8> {
        payload::of_code(self.kind, self.author, number, code)
    }

    /// Adds everything that matters of it to a fingerprint.
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
