//! A disk that does or fails every operation at once, and records it.

use std::collections::VecDeque;

use powerfail::guest::memory::Ram;
use powerfail_device::{Completion, Disk, Errno, Limits, Op, Submission};

use crate::reference::{self, Asked};

/// The disk.
pub(super) struct Notes {
    limits: Limits,
    fails: bool,
    ops: Vec<Asked>,
    done: VecDeque<Completion>,
}

impl Notes {
    pub(super) fn new(limits: Limits, fails: bool) -> Notes {
        Notes { limits, fails, ops: Vec::new(), done: VecDeque::new() }
    }

    pub(super) fn into_ops(self) -> Vec<Asked> {
        self.ops
    }
}

impl Disk<Ram<'_>> for Notes {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn room(&self) -> u32 {
        1
    }

    fn submit(&mut self, memory: &Ram<'_>, Submission { token, op }: Submission) {
        let (asked, buffer, moved) = match op {
            Op::Read { offset, mut into } => {
                let len = into.len();
                if !self.fails {
                    let bytes: Vec<u8> = reference::content(offset).take(len as usize).collect();
                    into.write_at(memory, 0, &bytes).expect("the device has checked the buffer");
                }
                (Asked::Read { offset, len }, Some(into), len)
            }
            Op::Write { offset, from } => {
                let mut bytes = vec![0; from.len() as usize];
                from.read_at(memory, 0, &mut bytes).expect("the device has checked the buffer");
                let len = from.len();
                (Asked::Write { offset, bytes }, Some(from), len)
            }
            Op::Sync => (Asked::Sync, None, 0),
            Op::Discard { offset, len } => (Asked::Discard { offset, len }, None, 0),
            Op::WriteZeroes { offset, len, may_unmap } => {
                (Asked::WriteZeroes { offset, len, may_unmap }, None, 0)
            }
        };
        self.ops.push(asked);
        let result = if self.fails { Err(Errno::EIO) } else { Ok(moved) };
        self.done.push_back(Completion { token, result, buffer });
    }

    fn complete(&mut self, _memory: &Ram<'_>) -> Option<Completion> {
        self.done.pop_front()
    }
}
