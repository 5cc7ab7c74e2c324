//! The state of a mutant disk, which survives resets and restarts.

use std::collections::VecDeque;

use powerfail_device::{Bounce, Buffer, Completion, Op, Token};

use super::DiskFault;
use crate::host::disk::SimDisk;

/// "Some" operations are one in this many.
const NOW_AND_THEN: u32 = 2;

/// The state of a mutant disk.
#[derive(Clone, Debug)]
pub struct FaultyState {
    pub(super) fault: DiskFault,
    pub(super) count: u32,
    /// Made-up completions, per lane.
    pub(super) made_up: [VecDeque<Completion>; 4],
    /// Operations whose completion the mutant changes: lane, token and change.
    pub(super) watched: Vec<(u8, Token, Watch)>,
    /// Additional operations of the mutant: lane and token.
    pub(super) nobodys: Vec<(u8, Token)>,
    /// Sectors by byte offset, with the content of the first read or the last write.
    pub(super) copies: Vec<(u64, Box<[u8]>)>,
    /// Writes in flight at the host: lane, token, byte offset and data.
    pub(super) writes: Vec<(u8, Token, u64, Bounce)>,
    /// Operations that were completed and take effect later.
    pub(super) held: Vec<Op>,
    /// The byte offsets where a copy is still to be shown.
    pub(super) unshown: Vec<u64>,
    /// True iff nothing was written since the last reset.
    pub(super) clean: bool,
    prepared: bool,
}

/// The change to make when an operation completes.
#[derive(Clone, Debug)]
pub(super) enum Watch {
    Sync,
    Transfer { len: u32 },
    Swapped { original: Buffer },
    Cut { original: Buffer },
    Copy { offset: u64 },
    Repeat { op: Op },
    Noise,
    Remember { offset: u64, bytes: Bounce },
    Forward { offset: u64 },
    Landed,
}

impl FaultyState {
    /// The state of a disk with this mistake.
    #[must_use]
    pub fn new(fault: DiskFault) -> FaultyState {
        FaultyState {
            fault,
            count: 0,
            made_up: Default::default(),
            watched: Vec::new(),
            nobodys: Vec::new(),
            copies: Vec::new(),
            writes: Vec::new(),
            held: Vec::new(),
            unshown: Vec::new(),
            clean: false,
            prepared: false,
        }
    }

    /// The mistake.
    #[must_use]
    pub fn fault(&self) -> DiskFault {
        self.fault
    }

    /// Applies mistakes that precede the first use of the disk.
    pub(crate) fn prepare(&mut self, disk: &mut SimDisk, device: u8) {
        if !self.prepared {
            self.prepared = true;
            if self.fault == DiskFault::Shifted {
                disk.shift_part(device);
            }
        }
    }

    /// Drops everything in flight with the backend.
    pub(crate) fn backend_lost(&mut self) {
        self.made_up.iter_mut().for_each(VecDeque::clear);
        self.watched.clear();
        self.nobodys.clear();
        self.writes.clear();
        self.held.clear();
        self.unshown = self.copies.iter().map(|copy| copy.0).collect();
    }

    /// The state that a backend kill leaves, as a number; `None` if it does not fit one.
    pub(crate) fn carries(&self) -> Option<u64> {
        let flags = u64::from(self.clean) << 1 | u64::from(self.prepared);
        self.copies.is_empty().then_some(u64::from(self.count % NOW_AND_THEN) << 2 | flags)
    }

    /// Notes the begin of a reset.
    pub(crate) fn reset_begun(&mut self) {
        self.clean = true;
    }

    pub(super) fn now_and_then(&mut self) -> bool {
        self.count += 1;
        self.count.is_multiple_of(NOW_AND_THEN)
    }

    pub(super) fn keep_copy(&mut self, place: u64, bytes: &[u8]) {
        match self.copies.iter_mut().find(|copy| copy.0 == place) {
            Some((_, copy)) => copy.copy_from_slice(bytes),
            None => self.copies.push((place, bytes.into())),
        }
    }
}
