//! A disk in memory that can hold operations back, complete them in any order, and fail them.

use powerfail_device::{Buffer, Completion, Disk, Errno, Limits, Op, Submission};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use vm_memory::GuestMemory;

/// The outcome of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The operation succeeds.
    None,
    /// The operation fails without any effect.
    Errno(Errno),
    /// The operation transfers only this many bytes.
    Short(u32),
}

/// The disk behind all lanes.
#[derive(Clone)]
pub struct Host(Rc<RefCell<State>>);

struct State {
    limits: Limits,
    bytes: Vec<u8>,
    /// While held, no operation is executed.
    held: bool,
    /// Whether operations are held back from submission until the doorbell rings.
    lazy: bool,
    pending: Vec<(u16, Submission)>,
    /// The outcomes of the next operations that are executed.
    faults: VecDeque<Fault>,
    /// Every operation at its submission, in words.
    log: Vec<String>,
    room: u32,
    doorbells: u32,
}

/// One queue's lane of the disk.
pub struct Lane {
    host: Host,
    index: u16,
}

impl Host {
    pub fn new(limits: Limits) -> Host {
        Host(Rc::new(RefCell::new(State {
            limits,
            bytes: vec![0; limits.capacity as usize],
            held: false,
            lazy: false,
            pending: Vec::new(),
            faults: VecDeque::new(),
            log: Vec::new(),
            room: 64,
            doorbells: 0,
        })))
    }

    pub fn lane(&self, index: u16) -> Lane {
        Lane { host: self.clone(), index }
    }

    /// Holds every operation back until [`release`](Host::release).
    pub fn hold(&self) {
        self.0.borrow_mut().held = true;
    }

    /// Executes no operation before the doorbell rings.
    pub fn be_lazy(&self) {
        self.0.borrow_mut().lazy = true;
    }

    /// Lets operations complete again, oldest first.
    pub fn release(&self) {
        self.0.borrow_mut().held = false;
    }

    pub fn pending(&self) -> usize {
        self.0.borrow().pending.len()
    }

    /// Drops the pending operations, as after the death of the backend.
    pub fn forget(&self) {
        self.0.borrow_mut().pending.clear();
    }

    /// The number of pending operations of one lane.
    pub fn pending_of(&self, lane: u16) -> usize {
        self.0.borrow().pending.iter().filter(|(each, _)| *each == lane).count()
    }

    /// Sets the outcomes of the next operations, one each.
    pub fn fail(&self, faults: impl IntoIterator<Item = Fault>) {
        self.0.borrow_mut().faults.extend(faults);
    }

    pub fn set_room(&self, room: u32) {
        self.0.borrow_mut().room = room;
    }

    pub fn doorbells(&self) -> u32 {
        self.0.borrow().doorbells
    }

    /// The operations submitted since the last call, as `op@sector+sectors`.
    pub fn log(&self) -> String {
        std::mem::take(&mut self.0.borrow_mut().log).join(" ")
    }

    /// Sets the capacity to `capacity` bytes.
    pub fn grow(&self, capacity: u64) {
        let mut state = self.0.borrow_mut();
        state.limits.capacity = capacity;
        state.bytes.resize(capacity as usize, 0);
    }

    pub fn bytes(&self) -> Vec<u8> {
        self.0.borrow().bytes.clone()
    }

    /// The first byte of each sector.
    pub fn sectors(&self) -> Vec<u8> {
        self.0.borrow().bytes.chunks(512).map(|sector| sector[0]).collect()
    }

    pub fn fill(&self, byte: u8) {
        self.0.borrow_mut().bytes.fill(byte);
    }
}

impl<M: GuestMemory> Disk<M> for Lane {
    fn limits(&self) -> Limits {
        self.host.0.borrow().limits
    }

    fn room(&self) -> u32 {
        let state = self.host.0.borrow();
        let mine = state.pending.iter().filter(|(lane, _)| *lane == self.index).count();
        state.room - mine as u32
    }

    fn submit(&mut self, _: &M, submission: Submission) {
        assert!(Disk::<M>::room(self) > 0, "submissions need room");
        let mut state = self.host.0.borrow_mut();
        state.check(&submission.op);
        state.held |= state.lazy;
        let words = in_words(&submission.op);
        state.log.push(words);
        state.pending.push((self.index, submission));
    }

    fn doorbell(&mut self) {
        let mut state = self.host.0.borrow_mut();
        state.doorbells += 1;
        state.held &= !state.lazy;
    }

    fn complete(&mut self, memory: &M) -> Option<Completion> {
        let mut state = self.host.0.borrow_mut();
        if state.held {
            return None;
        }
        let at = state.pending.iter().position(|(lane, _)| *lane == self.index)?;
        let (_, submission) = state.pending.remove(at);
        Some(state.carry_out(memory, submission))
    }
}

impl Lane {
    /// Executes one operation although the host is held; `at` counts the lane's pending operations.
    pub fn complete_held<M: GuestMemory>(&mut self, memory: &M, at: usize) -> Completion {
        let mut state = self.host.0.borrow_mut();
        let mine =
            |(at, (lane, _)): (usize, &(u16, Submission))| (*lane == self.index).then_some(at);
        let at = state.pending.iter().enumerate().filter_map(mine).nth(at).expect("pending");
        let (_, submission) = state.pending.remove(at);
        state.carry_out(memory, submission)
    }
}

impl State {
    /// Checks that an operation is within the disk's limits.
    fn check(&self, op: &Op) {
        let limits = &self.limits;
        let granule = u64::from(limits.granule);
        let (offset, len, most, unit) = match op {
            Op::Read { offset, into } => {
                (*offset, u64::from(into.len()), limits.max_transfer.into(), granule)
            }
            Op::Write { offset, from } => {
                (*offset, u64::from(from.len()), limits.max_transfer.into(), granule)
            }
            Op::Sync => return,
            Op::Discard { offset, len } => {
                (*offset, *len, limits.max_discard, limits.discard_granularity.into())
            }
            Op::WriteZeroes { offset, len, .. } => {
                (*offset, *len, limits.max_write_zeroes, limits.write_zeroes_granularity.into())
            }
        };
        assert!(len > 0 && len <= most, "{op:?} is empty or too long");
        assert!(offset % unit == 0 && len % unit == 0, "{op:?} is misaligned");
        assert!(offset + len <= limits.capacity, "{op:?} is beyond the end");
    }

    fn carry_out<M: GuestMemory>(&mut self, memory: &M, submission: Submission) -> Completion {
        let token = submission.token;
        let fault = self.faults.pop_front().unwrap_or(Fault::None);
        let asked = match &submission.op {
            Op::Read { into: buffer, .. } | Op::Write { from: buffer, .. } => buffer.len(),
            _ => 0,
        };
        let moved = match fault {
            Fault::None => Ok(asked),
            Fault::Short(len) => Ok(len.min(asked)),
            Fault::Errno(errno) => Err(errno),
        };
        let Ok(len) = moved else {
            return Completion { token, result: moved, buffer: buffer_of(submission.op) };
        };
        let (len, bytes) = (len as usize, &mut self.bytes);
        let buffer = match submission.op {
            Op::Read { offset, mut into } => {
                let from = offset as usize;
                into.write_at(memory, 0, &bytes[from..from + len]).expect("guest memory");
                Some(into)
            }
            Op::Write { offset, from } => {
                let to = offset as usize;
                from.read_at(memory, 0, &mut bytes[to..to + len]).expect("guest memory");
                Some(from)
            }
            Op::Sync => None,
            Op::Discard { offset, len } => {
                bytes[offset as usize..(offset + len) as usize].fill(0xdd);
                None
            }
            Op::WriteZeroes { offset, len, .. } => {
                bytes[offset as usize..(offset + len) as usize].fill(0);
                None
            }
        };
        Completion { token, result: moved, buffer }
    }
}

fn buffer_of(op: Op) -> Option<Buffer> {
    match op {
        Op::Read { into: buffer, .. } | Op::Write { from: buffer, .. } => Some(buffer),
        Op::Sync | Op::Discard { .. } | Op::WriteZeroes { .. } => None,
    }
}

fn in_words(op: &Op) -> String {
    let place = |offset: u64, len: u64| format!("@{}+{}", offset / 512, len / 512);
    match op {
        Op::Read { offset, into } => format!("read{}", place(*offset, into.len().into())),
        Op::Write { offset, from } => format!("write{}", place(*offset, from.len().into())),
        Op::Sync => "sync".to_owned(),
        Op::Discard { offset, len } => format!("discard{}", place(*offset, *len)),
        Op::WriteZeroes { offset, len, .. } => format!("zeroes{}", place(*offset, *len)),
    }
}
