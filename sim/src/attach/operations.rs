//! The requests of a foreign device to its host, as operations of the simulated disk.
//!
//! A write that must be stable is a write and then a sync. A transfer that the disk cuts short is
//! continued, and one that it puts off is repeated, as a kernel does. All other failures are the
//! device's to handle.

use std::collections::{BTreeMap, VecDeque};

use powerfail_device::{Bounce, Buffer, Completion, Disk as _, Op, Submission, Token};

use super::below::{Asked, Kind, Request};
use crate::guest::memory::Ram;
use crate::host::disk::{Errno, Lane};

/// The answer to a request: the bytes of a read, nothing for the others, or an error number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) cookie: u64,
    pub(super) result: Result<Vec<u8>, i32>,
}

/// A request in progress.
#[derive(Clone, Debug)]
struct Operation {
    cookie: u64,
    request: Request,
    /// The bytes read so far.
    read: Vec<u8>,
    /// The bytes done so far.
    done: u64,
}

impl Operation {
    /// Whether only the sync of a stable request is left.
    fn is_syncing(&self) -> bool {
        self.request.kind == Kind::Sync || self.done == self.request.len
    }

    fn op(&self) -> Op {
        let Request { kind, offset, len, .. } = &self.request;
        let (at, left) = (offset + self.done, len - self.done);
        if self.is_syncing() {
            return Op::Sync;
        }
        let bounce = |bytes: Option<&[u8]>| {
            let mut bounce = Bounce::zeroed(left as usize);
            if let Some(bytes) = bytes {
                bounce.as_mut_slice().copy_from_slice(bytes);
            }
            Buffer::Bounce(bounce)
        };
        match kind {
            Kind::Read => Op::Read { offset: at, into: bounce(None) },
            Kind::Write(bytes) => {
                Op::Write { offset: at, from: bounce(Some(&bytes[self.done as usize..])) }
            }
            Kind::Discard => Op::Discard { offset: at, len: left },
            Kind::WriteZeroes { may_unmap } => {
                Op::WriteZeroes { offset: at, len: left, may_unmap: *may_unmap }
            }
            Kind::Sync => Op::Sync,
        }
    }
}

/// The requests in progress.
#[derive(Clone, Debug, Default)]
pub(super) struct Operations {
    last: u32,
    all: BTreeMap<u32, Operation>,
    /// Those that are not at the disk.
    waiting: VecDeque<u32>,
}

impl Operations {
    /// Adds a request. One that reaches beyond the disk, or is not in whole sectors, fails at once.
    pub(super) fn add(&mut self, asked: Asked, capacity: u64) -> Option<Answer> {
        let Asked { cookie, request } = asked;
        let end = request.offset.checked_add(request.len);
        let empty = request.len == 0 && request.kind != Kind::Sync;
        let whole = request.offset % 512 == 0 && request.len % 512 == 0;
        if empty {
            return Some(Answer { cookie, result: Ok(Vec::new()) });
        }
        if !whole || end.is_none_or(|end| end > capacity) {
            let errno =
                if matches!(request.kind, Kind::Write(_)) { libc::ENOSPC } else { libc::EINVAL };
            return Some(Answer { cookie, result: Err(errno) });
        }
        self.last += 1;
        self.all.insert(self.last, Operation { cookie, request, read: Vec::new(), done: 0 });
        self.waiting.push_back(self.last);
        None
    }

    /// Submits what there is room for.
    pub(super) fn submit(&mut self, lane: &mut Lane<'_>, ram: &Ram<'_>) {
        while lane.room() > 0
            && let Some(number) = self.waiting.pop_front()
        {
            let op = self.all[&number].op();
            lane.submit(ram, Submission { token: Token::new(number, 0), op });
        }
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one waits for room at the disk.
    pub(super) fn wait_for_room(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Forgets all: the device has ended.
    pub(super) fn clear(&mut self) {
        self.all.clear();
        self.waiting.clear();
    }

    /// The effect of a completion: the answer of its request, if that is over.
    pub(super) fn completed(&mut self, completion: Completion) -> Option<Answer> {
        let number = completion.token.slot();
        // The device that asked has ended.
        let operation = self.all.get_mut(&number)?;
        let was_sync = operation.is_syncing();
        match completion.result {
            Err(errno) if Errno(errno.0).is_put_off() => {
                self.waiting.push_back(number);
                return None;
            }
            Err(errno) => return self.end(number, Err(errno.0)),
            Ok(_) if was_sync => return self.end(number, Ok(())),
            // Nothing moved, without an error: the end of the medium.
            Ok(0) if matches!(operation.request.kind, Kind::Read | Kind::Write(_)) => {
                return self.end(number, Err(libc::EIO));
            }
            Ok(moved) => {
                let transfers = matches!(operation.request.kind, Kind::Read | Kind::Write(_));
                // A part of a sector is transferred again.
                let moved =
                    if transfers { u64::from(moved) / 512 * 512 } else { operation.request.len };
                if let (Kind::Read, Some(Buffer::Bounce(bounce))) =
                    (&operation.request.kind, &completion.buffer)
                {
                    operation.read.extend_from_slice(&bounce.as_slice()[..moved as usize]);
                }
                operation.done += moved;
            }
        }
        let is_over = operation.done == operation.request.len;
        if is_over && !operation.request.stable {
            return self.end(number, Ok(()));
        }
        self.waiting.push_back(number);
        None
    }

    fn end(&mut self, number: u32, result: Result<(), i32>) -> Option<Answer> {
        let Operation { cookie, read, .. } = self.all.remove(&number)?;
        Some(Answer { cookie, result: result.map(|()| read) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::sectors::SectorSet;
    use crate::guest::memory::Memory;
    use crate::host::disk::{DiskShape, Outcome, SimDisk};

    const DONE: Outcome = Outcome::Ok { landed: SectorSet::EMPTY };

    fn asked(kind: Kind, len: u64, stable: bool) -> Asked {
        Asked { cookie: 7, request: Request { kind, offset: 512, len, stable } }
    }

    /// Completes the operations of one request, each with one of these outcomes. Returns their
    /// names and the answer.
    fn run(asked: Asked, outcomes: &[Outcome]) -> (Vec<String>, Option<Answer>) {
        let mut memory = Memory::new(4096);
        let mut disk = SimDisk::new(DiskShape::default(), 1);
        let mut operations = Operations::default();
        assert_eq!(operations.add(asked, 64 * 512), None);
        let (mut names, mut answer) = (Vec::new(), None);
        for outcome in outcomes {
            operations.submit(&mut Lane::background(&mut disk, 0), &memory.ram());
            let (key, _) = disk.nth(0);
            names.push(key.to_string());
            assert!(disk.complete(key, *outcome, memory.ram()), "{key}");
            let completion = Lane::background(&mut disk, 0).complete(&memory.ram());
            answer = operations.completed(completion.expect("it is complete"));
        }
        assert_eq!(operations.is_empty(), answer.is_some());
        (names, answer)
    }

    #[test]
    fn a_stable_write_is_a_write_and_then_a_sync() {
        let write = || asked(Kind::Write(vec![1; 1024]), 1024, true);
        let (names, answer) = run(write(), &[DONE, DONE]);
        assert_eq!(names, ["bg:write@1+2", "bg:sync"]);
        assert_eq!(answer, Some(Answer { cookie: 7, result: Ok(Vec::new()) }));
        let failed = Outcome::Failed {
            errno: Errno::EIO,
            landed: SectorSet::EMPTY,
            forgot: SectorSet::EMPTY,
        };
        let (names, answer) = run(write(), &[DONE, failed]);
        assert_eq!(names.len(), 2);
        assert_eq!(answer.map(|answer| answer.result), Some(Err(libc::EIO)));
    }

    #[test]
    fn a_transfer_goes_on_where_it_stopped() {
        let read = asked(Kind::Read, 2048, false);
        let short = Outcome::Short { bytes: 700 };
        let (names, answer) = run(read, &[short, DONE]);
        assert_eq!(names, ["bg:read@1+4", "bg:read@2+3"], "a part of a sector is read again");
        let bytes = answer.map(|answer| answer.result.map(|bytes| bytes.len()));
        assert_eq!(bytes, Some(Ok(2048)));
    }

    #[test]
    fn what_lies_behind_the_disk_or_between_sectors_fails_at_once() {
        let mut operations = Operations::default();
        for (offset, len, errno) in
            [(64 * 512, 512, libc::EINVAL), (100, 512, libc::EINVAL), (u64::MAX, 512, libc::EINVAL)]
        {
            let request = Request { kind: Kind::Read, offset, len, stable: false };
            let answer = operations.add(Asked { cookie: 7, request }, 64 * 512);
            assert_eq!(answer.map(|answer| answer.result), Some(Err(errno)));
        }
        assert!(operations.is_empty());
    }
}
