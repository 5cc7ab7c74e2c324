//! A lane of a disk that is wrong on purpose: a wrapper around the seam.
//!
//! It works on any disk. What it needs to remember over a reset or a restart is in
//! [`FaultyState`], one for each device.

use std::collections::VecDeque;

use powerfail_device::{Bounce, Buffer, Completion, Disk, Limits, Op, Submission, Token};
use vm_memory::GuestMemory;

use super::DiskFault;
use crate::disk::SimDisk;

/// How often "now and then" is: one in so many.
const NOW_AND_THEN: u32 = 8;

/// What a wrong disk remembers.
#[derive(Clone, Debug)]
pub struct FaultyState {
    fault: DiskFault,
    count: u32,
    /// Completions that were made up, per lane.
    made_up: [VecDeque<Completion>; 4],
    /// Operations whose completion needs a second look, per lane.
    watched: Vec<(u8, Token, Watch)>,
    /// Operations that were started on nobody's behalf, per lane.
    nobodys: Vec<(u8, Token)>,
    /// Sectors as they were first read.
    copies: Vec<(u64, Box<[u8]>)>,
    prepared: bool,
}

#[derive(Clone, Debug)]
enum Watch {
    Sync,
    Transfer { len: u32 },
    Swapped { original: Buffer },
    Copy { offset: u64 },
    Repeat { op: Op },
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
    }
}

/// A lane of a wrong disk.
#[derive(Debug)]
pub struct FaultyLane<'a, L> {
    inner: L,
    state: &'a mut FaultyState,
    lane: u8,
}

impl<'a, L> FaultyLane<'a, L> {
    /// Wraps a lane.
    pub fn new(inner: L, state: &'a mut FaultyState, lane: u8) -> FaultyLane<'a, L> {
        FaultyLane { inner, state, lane }
    }

    fn now_and_then(&mut self) -> bool {
        self.state.count += 1;
        self.state.count.is_multiple_of(NOW_AND_THEN)
    }

    /// Answers at once, with nothing done.
    fn pretend(&mut self, submission: Submission) {
        let (moved, buffer) = match submission.op {
            Op::Read { into, .. } => (into.len(), Some(into)),
            Op::Write { from, .. } => (from.len(), Some(from)),
            _ => (0, None),
        };
        let completion = Completion { token: submission.token, result: Ok(moved), buffer };
        self.state.made_up[usize::from(self.lane)].push_back(completion);
    }

    fn watch(&mut self, token: Token, watch: Watch) {
        self.state.watched.push((self.lane, token, watch));
    }
}

impl<M: GuestMemory, L: Disk<M>> Disk<M> for FaultyLane<'_, L> {
    fn limits(&self) -> Limits {
        self.inner.limits()
    }

    fn room(&self) -> u32 {
        self.inner.room()
    }

    fn submit(&mut self, memory: &M, mut submission: Submission) {
        let limits = self.inner.limits();
        let granule = u64::from(limits.granule);
        let token = submission.token;
        match (self.state.fault, &mut submission.op) {
            (DiskFault::EarlyFlush, Op::Sync) | (DiskFault::ZeroesNothing, Op::WriteZeroes { .. }) => {
                return self.pretend(submission);
            }
            (DiskFault::UnmapForZeroes, Op::WriteZeroes { may_unmap: true, offset, len }) => {
                submission.op = Op::Discard { offset: *offset, len: *len };
            }
            (DiskFault::DroppedWrite, Op::Write { .. }) if self.now_and_then() => {
                return self.pretend(submission);
            }
            (DiskFault::NeverCompletes, _) if self.now_and_then() => return,
            (DiskFault::MisdirectedUp, Op::Write { offset, from, .. })
                if *offset + u64::from(from.len()) + granule <= limits.capacity
                    && self.now_and_then() =>
            {
                *offset += granule;
            }
            (DiskFault::MisdirectedDown, Op::Write { offset, .. })
                if *offset >= granule && self.now_and_then() =>
            {
                *offset -= granule;
            }
            (DiskFault::DiscardRoundsOut, Op::Discard { offset, len }) => {
                let end = (*offset + *len + granule).min(limits.capacity);
                *offset = offset.saturating_sub(granule);
                *len = end - *offset;
            }
            (DiskFault::StableIgnored, Op::Write { stable, .. }) => *stable = false,
            (DiskFault::SyncRetried | DiskFault::SyncErrorSwallowed, Op::Sync) => {
                self.watch(token, Watch::Sync);
            }
            (DiskFault::ShortBelieved, Op::Read { into: buffer, .. })
            | (DiskFault::ShortBelieved, Op::Write { from: buffer, .. }) => {
                let len = buffer.len();
                self.watch(token, Watch::Transfer { len });
            }
            (DiskFault::StaleRead, Op::Read { offset, .. }) => {
                let offset = *offset;
                self.watch(token, Watch::Copy { offset });
            }
            (DiskFault::TornSector, Op::Write { from, .. }) if self.now_and_then() => {
                let len = from.len();
                let mut bytes = Bounce::zeroed(len as usize);
                if from.read_at(memory, 0, bytes.as_mut_slice()).is_ok() {
                    let half = len as usize - 256;
                    bytes.as_mut_slice()[half..].fill(0x11);
                    let original = std::mem::replace(from, Buffer::Bounce(bytes));
                    self.watch(token, Watch::Swapped { original });
                }
            }
            (DiskFault::WriteRepeated, Op::Write { offset, from, .. }) if self.now_and_then() => {
                let mut bytes = Bounce::zeroed(from.len() as usize);
                if from.read_at(memory, 0, bytes.as_mut_slice()).is_ok() {
                    let from = Buffer::Bounce(bytes);
                    let op = Op::Write { offset: *offset, from, stable: false };
                    self.watch(token, Watch::Repeat { op });
                }
            }
            _ => {}
        }
        self.inner.submit(memory, submission);
    }

    fn doorbell(&mut self) {
        self.inner.doorbell();
    }

    fn complete(&mut self, memory: &M) -> Option<Completion> {
        if let Some(completion) = self.state.made_up[usize::from(self.lane)].pop_front() {
            return Some(completion);
        }
        loop {
            let mut completion = self.inner.complete(memory)?;
            let mine = (self.lane, completion.token);
            if let Some(at) = self.state.nobodys.iter().position(|op| *op == mine) {
                self.state.nobodys.swap_remove(at);
                continue;
            }
            let watched = self.state.watched.iter().position(|w| (w.0, w.1) == mine);
            let Some(watched) = watched else { return Some(completion) };
            let (_, token, watch) = self.state.watched.swap_remove(watched);
            match watch {
                Watch::Sync if completion.result.is_err() => {
                    if self.state.fault == DiskFault::SyncErrorSwallowed {
                        completion.result = Ok(0);
                    } else {
                        self.watch(token, Watch::Sync);
                        self.inner.submit(memory, Submission { token, op: Op::Sync });
                        continue;
                    }
                }
                Watch::Sync => {}
                Watch::Transfer { len } => {
                    if completion.result.is_ok() {
                        completion.result = Ok(len);
                    }
                }
                Watch::Swapped { original } => completion.buffer = Some(original),
                Watch::Copy { offset } => self.serve_copy(memory, offset, &mut completion),
                Watch::Repeat { op } => {
                    if self.inner.room() > 0 {
                        // A token of its own: nobody must take its completion for another's.
                        let token = Token::new(u32::MAX, self.state.count);
                        self.state.nobodys.push((self.lane, token));
                        self.inner.submit(memory, Submission { token, op });
                    }
                }
            }
            return Some(completion);
        }
    }
}

impl<L> FaultyLane<'_, L> {
    /// Replaces what was read by what was read there first.
    fn serve_copy<M: GuestMemory>(
        &mut self,
        memory: &M,
        offset: u64,
        completion: &mut Completion,
    ) {
        let (Ok(moved), Some(buffer)) = (completion.result, completion.buffer.as_mut()) else {
            return;
        };
        for at in (0..moved).step_by(512) {
            let place = offset + u64::from(at);
            let known = self.state.copies.iter().find(|copy| copy.0 == place);
            if let Some((_, bytes)) = known {
                let _ = buffer.write_at(memory, at, bytes);
            } else {
                let mut bytes = vec![0; 512].into_boxed_slice();
                if buffer.read_at(memory, at, &mut bytes).is_ok() {
                    self.state.copies.push((place, bytes));
                }
            }
        }
    }
}
