//! A lane of a mutant disk: a wrapper around a correct lane.
//!
//! It works on any disk. Faults inside the simulated disk are in
//! [`below_seam`](super::below_seam).

use powerfail_device::{Bounce, Buffer, Completion, Disk, Limits, Op, Submission, Token};
use vm_memory::GuestMemory;

use super::DiskFault;
use super::state::{FaultyDisk, Watch};

/// A lane of a mutant disk.
#[derive(Debug)]
pub(super) struct FaultyLane<'a, L> {
    inner: L,
    state: &'a mut FaultyDisk,
    lane: u8,
}

impl<'a, L> FaultyLane<'a, L> {
    /// Wraps a lane.
    pub(super) fn new(inner: L, state: &'a mut FaultyDisk, lane: u8) -> FaultyLane<'a, L> {
        FaultyLane { inner, state, lane }
    }

    fn now_and_then(&mut self) -> bool {
        self.state.now_and_then()
    }

    /// Completes an operation successfully without doing anything.
    fn pretend(&mut self, submission: Submission) {
        let (moved, buffer) = match submission.op {
            Op::Read { into, .. } => (into.len(), Some(into)),
            Op::Write { from, .. } => (from.len(), Some(from)),
            _ => (0, None),
        };
        let completion = Completion { token: submission.token, result: Ok(moved), buffer };
        self.state.made_up[usize::from(self.lane)].push_back(completion);
    }

    /// An operation to be carried out late, if one is due when another completes.
    fn due(&mut self) -> Option<Op> {
        let held = !self.state.held.is_empty();
        let is_due = held && (self.state.fault == DiskFault::LateDiscard || self.now_and_then());
        if is_due { self.state.held.pop() } else { None }
    }

    fn watch(&mut self, token: Token, watch: Watch) {
        self.state.watched.push((self.lane, token, watch));
    }

    /// Submits an additional operation, if the disk has room for it.
    fn submit_additional<M: GuestMemory>(&mut self, memory: &M, op: Op)
    where
        L: Disk<M>,
    {
        if self.inner.room() > 0 {
            // A unique token, so that its completion is not mistaken for another one.
            self.state.count += 1;
            let token = Token::new(u32::MAX, self.state.count);
            self.state.additional.push((self.lane, token));
            self.inner.submit(memory, Submission { token, op });
        }
    }

    /// Notes what the mutant must change when an unchanged submission completes.
    fn remember<M: GuestMemory>(&mut self, memory: &M, submission: &Submission) {
        let token = submission.token;
        match (self.state.fault, &submission.op) {
            (DiskFault::SyncRetried | DiskFault::SyncErrorSwallowed, Op::Sync) => {
                self.watch(token, Watch::Sync);
            }
            (DiskFault::ShortBelieved, Op::Read { into: buffer, .. })
            | (DiskFault::ShortBelieved, Op::Write { from: buffer, .. }) => {
                let len = buffer.len();
                self.watch(token, Watch::Transfer { len });
            }
            (DiskFault::StaleRead, Op::Read { offset, .. }) => {
                self.watch(token, Watch::Copy { offset: *offset });
            }
            (DiskFault::GarbageRead, Op::Read { .. }) if self.now_and_then() => {
                self.watch(token, Watch::Noise);
            }
            (DiskFault::ImageFlickers | DiskFault::SeesAhead, Op::Read { offset, .. }) => {
                self.watch(token, Watch::Forward { offset: *offset });
            }
            (DiskFault::ImageFlickers, Op::Write { offset, from, .. }) => {
                if let Some(bytes) = bytes_of(from, memory) {
                    self.watch(token, Watch::Remember { offset: *offset, bytes });
                }
            }
            (
                DiskFault::ImageFlickers,
                Op::Discard { offset, len } | Op::WriteZeroes { offset, len, .. },
            ) => {
                let gone = *offset..*offset + *len;
                self.state.copies.retain(|copy| !gone.contains(&copy.0));
            }
            (DiskFault::SeesAhead, Op::Write { offset, from, .. }) => {
                if let Some(bytes) = bytes_of(from, memory) {
                    self.state.writes.push((self.lane, token, *offset, bytes));
                    self.watch(token, Watch::Landed);
                }
            }
            (
                DiskFault::WriteRepeated | DiskFault::LateAfterFailure | DiskFault::LateAfterKill,
                Op::Write { offset, from, .. },
            ) => {
                if let Some(bytes) = bytes_of(from, memory) {
                    let from = Buffer::Bounce(bytes);
                    let op = Op::Write { offset: *offset, from };
                    self.watch(token, Watch::Repeat { op });
                }
            }
            _ => {}
        }
    }
}

/// Whether two writes have a byte of the disk in common.
fn overlap(one: &Op, other: &Op) -> bool {
    let range = |op: &Op| match op {
        Op::Write { offset, from } => *offset..*offset + u64::from(from.len()),
        _ => 0..0,
    };
    let (one, other) = (range(one), range(other));
    one.start < other.end && other.start < one.end
}

fn bytes_of<M: GuestMemory>(buffer: &Buffer, memory: &M) -> Option<Bounce> {
    let mut bytes = Bounce::zeroed(buffer.len() as usize);
    buffer.read_at(memory, 0, bytes.as_mut_slice()).is_ok().then_some(bytes)
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
            (DiskFault::EarlyFlush, Op::Sync)
            | (DiskFault::ZeroesNothing, Op::WriteZeroes { .. }) => {
                return self.pretend(submission);
            }
            (DiskFault::CleanAfterReset, Op::Sync) if self.state.clean => {
                return self.pretend(submission);
            }
            (
                DiskFault::CleanAfterReset,
                Op::Write { .. } | Op::WriteZeroes { .. } | Op::Discard { .. },
            ) => self.state.clean = false,
            (DiskFault::LateDiscard, Op::Discard { .. }) => {
                self.state.held.push(submission.op.clone());
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
            (DiskFault::CutShort, Op::Write { from, .. })
                if u64::from(from.len()) > granule && self.now_and_then() =>
            {
                let half = (u64::from(from.len()) / 2).next_multiple_of(granule);
                let mut bytes = Bounce::zeroed(half as usize);
                if from.read_at(memory, 0, bytes.as_mut_slice()).is_ok() {
                    let original = std::mem::replace(from, Buffer::Bounce(bytes));
                    self.watch(token, Watch::Cut { original });
                }
            }
            (DiskFault::TornSector, Op::Write { from, .. }) if self.now_and_then() => {
                if let Some(mut bytes) = bytes_of(from, memory) {
                    let half = bytes.len() - 256;
                    bytes.as_mut_slice()[half..].fill(0x11);
                    let original = std::mem::replace(from, Buffer::Bounce(bytes));
                    self.watch(token, Watch::Swapped { original });
                }
            }
            _ => self.remember(memory, &submission),
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
            if let Some(at) = self.state.additional.iter().position(|op| *op == mine) {
                self.state.additional.swap_remove(at);
                continue;
            }
            if let Some(op) = self.due() {
                self.submit_additional(memory, op);
            }
            let watched = self.state.watched.iter().position(|w| (w.0, w.1) == mine);
            let Some(watched) = watched else { return Some(completion) };
            let (_, token, watch) = self.state.watched.swap_remove(watched);
            match watch {
                Watch::Sync if completion.result.is_err() => {
                    if self.state.fault == DiskFault::SyncErrorSwallowed {
                        completion.result = Ok(0);
                    } else if self.inner.room() > 0 {
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
                Watch::Cut { original } => {
                    completion.result = completion.result.map(|_| original.len());
                    completion.buffer = Some(original);
                }
                Watch::Copy { offset } => self.serve_copy(memory, offset, &mut completion),
                Watch::Noise => overlay(memory, &mut completion, 0, &[0x5a; 512]),
                Watch::Remember { offset, bytes } => {
                    if completion.result == Ok(bytes.len() as u32) {
                        for (nth, sector) in bytes.as_slice().chunks_exact(512).enumerate() {
                            self.state.keep_copy(offset + 512 * nth as u64, sector);
                        }
                    }
                }
                Watch::Forward { offset } => self.forward(memory, offset, &mut completion),
                Watch::Landed => {
                    self.state.writes.retain(|write| (write.0, write.1) != mine);
                }
                Watch::Repeat { op } if self.state.fault == DiskFault::WriteRepeated => {
                    self.submit_additional(memory, op);
                }
                Watch::Repeat { op } if completion.result.is_err() => {
                    if self.state.fault == DiskFault::LateAfterFailure {
                        self.state.held.push(op);
                    }
                }
                Watch::Repeat { op } => {
                    let overlaps = |held: &Op| overlap(held, &op);
                    if let Some(at) = self.state.held.iter().position(overlaps) {
                        let late = self.state.held.swap_remove(at);
                        self.submit_additional(memory, late);
                    }
                }
            }
            return Some(completion);
        }
    }
}

/// Overwrites the data of a read from byte `at` on.
fn overlay<M: GuestMemory>(memory: &M, completion: &mut Completion, at: u32, bytes: &[u8]) {
    if let (Ok(moved), Some(buffer)) = (completion.result, completion.buffer.as_mut())
        && at + bytes.len() as u32 <= moved
    {
        let _ = buffer.write_at(memory, at, bytes);
    }
}

impl<L> FaultyLane<'_, L> {
    /// Replaces the data of a read with that of the first read of each sector.
    fn serve_copy<M: GuestMemory>(&mut self, memory: &M, offset: u64, completion: &mut Completion) {
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

    /// Replaces the data of a read with copies that are still to be shown, or with writes in
    /// flight.
    fn forward<M: GuestMemory>(&mut self, memory: &M, offset: u64, completion: &mut Completion) {
        let moved = u64::from(completion.result.unwrap_or(0));
        for place in (offset..offset + moved).step_by(512) {
            let at = (place - offset) as u32;
            if let Some(rank) = self.state.unshown.iter().position(|other| *other == place) {
                self.state.unshown.swap_remove(rank);
                if let Some((_, bytes)) = self.state.copies.iter().find(|copy| copy.0 == place) {
                    overlay(memory, completion, at, bytes);
                }
            }
            let ahead = self.state.writes.iter().position(|(_, _, start, bytes)| {
                (*start..*start + bytes.len() as u64).contains(&place)
            });
            if let Some(ahead) = ahead {
                let (_, _, start, bytes) = &self.state.writes[ahead];
                let from = (place - start) as usize;
                overlay(memory, completion, at, &bytes.as_slice()[from..from + 512]);
                if at as u64 + 512 == moved {
                    self.state.writes.remove(ahead);
                }
            }
        }
    }
}
