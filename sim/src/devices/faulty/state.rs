//! What a wrong disk remembers over a reset or a restart.

use std::collections::VecDeque;

use powerfail_device::{Bounce, Buffer, Completion, Op, Token};

use super::DiskFault;
use crate::host::disk::SimDisk;

/// How often "now and then" is: one in so many.
const NOW_AND_THEN: u32 = 2;

/// What a wrong disk remembers.
#[derive(Clone, Debug)]
pub struct FaultyState {
    pub(super) fault: DiskFault,
    pub(super) count: u32,
    /// Completions that were made up, per lane.
    pub(super) made_up: [VecDeque<Completion>; 4],
    /// Operations whose completion needs a second look, per lane.
    pub(super) watched: Vec<(u8, Token, Watch)>,
    /// Operations that were started on nobody's behalf, per lane.
    pub(super) nobodys: Vec<(u8, Token)>,
    /// Sectors by their place: as they were first read, or last written.
    pub(super) copies: Vec<(u64, Box<[u8]>)>,
    /// Writes in the host's hands and what they carry, per lane.
    pub(super) writes: Vec<(u8, Token, u64, Bounce)>,
    /// Operations that were answered and are still to be done.
    pub(super) held: Vec<Op>,
    /// The places where a copy is still to be shown.
    pub(super) unshown: Vec<u64>,
    /// Nothing was written since the last reset.
    pub(super) clean: bool,
    prepared: bool,
}

/// What is to be done when an operation completes.
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
    /// A disk that breaks this promise.
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

    /// What is wrong.
    #[must_use]
    pub fn fault(&self) -> DiskFault {
        self.fault
    }

    /// What a wrong disk does before it is used at all.
    pub(crate) fn prepare(&mut self, disk: &mut SimDisk, device: u8) {
        if !self.prepared {
            self.prepared = true;
            if self.fault == DiskFault::Shifted {
                disk.shift_part(device);
            }
        }
    }

    /// The backend was lost, and everything in flight with it.
    pub(crate) fn backend_lost(&mut self) {
        self.made_up.iter_mut().for_each(VecDeque::clear);
        self.watched.clear();
        self.nobodys.clear();
        self.writes.clear();
        self.held.clear();
        self.unshown = self.copies.iter().map(|copy| copy.0).collect();
    }

    /// What is left of it then, as a number; nothing if that is more than a number says.
    pub(crate) fn carries(&self) -> Option<u64> {
        let flags = u64::from(self.clean) << 1 | u64::from(self.prepared);
        self.copies.is_empty().then_some(u64::from(self.count % NOW_AND_THEN) << 2 | flags)
    }

    /// The guest asked for a reset.
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
