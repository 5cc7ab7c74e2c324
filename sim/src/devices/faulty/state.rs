//! The state of a mutant disk, which survives resets and restarts.

use std::collections::VecDeque;

use powerfail_device::{Bounce, Buffer, Completion, Op, Token};

use super::DiskFault;

/// "Some" operations are one in this many.
pub(super) const NOW_AND_THEN: u32 = 2;

/// A mutant disk below our block device.
#[derive(Clone, Debug)]
pub struct FaultyDisk {
    pub(super) fault: DiskFault,
    pub(super) count: u32,
    /// Made-up completions, per lane.
    pub(super) made_up: [VecDeque<Completion>; crate::dut::MAX_QUEUES],
    /// Operations whose completion the mutant changes: lane, token and change.
    pub(super) watched: Vec<(u8, Token, Watch)>,
    /// Additional operations of the mutant: lane and token.
    pub(super) additional: Vec<(u8, Token)>,
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
    /// Whether mistakes that precede the first use of the disk were applied.
    pub(super) prepared: bool,
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

impl FaultyDisk {
    pub(super) fn with(fault: DiskFault) -> FaultyDisk {
        FaultyDisk {
            fault,
            count: 0,
            made_up: Default::default(),
            watched: Vec::new(),
            additional: Vec::new(),
            copies: Vec::new(),
            writes: Vec::new(),
            held: Vec::new(),
            unshown: Vec::new(),
            clean: false,
            prepared: false,
        }
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
