//! The language of the tests: a driver of `req_vq`, and a backing that can hold back and fail
//! syncs.

#[allow(dead_code, reason = "used by the driver of the other device")]
#[path = "../device/support/guest.rs"]
pub mod guest;

use guest::{Guest, Piece};
use powerfail_device::RegisterSurface;
use powerfail_device::pmem::wire::*;
use powerfail_device::pmem::{Backing, PmemConfig, PmemDevice, Region, Synced, step};
use powerfail_device::wire::{
    F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1, STATUS_ACKNOWLEDGE, STATUS_DRIVER, STATUS_DRIVER_OK,
    STATUS_FEATURES_OK,
};
use powerfail_device::{Errno, QueueLayout, Step, Token};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

pub type Memory = GuestMemoryMmap<()>;

/// Bytes of guest memory; no address at or above this exists.
pub const MEMORY: u64 = 1 << 20;
pub const REGION: Region = Region { start: 1 << 32, size: 1 << 21 };
pub const ALL: u64 = F_VERSION_1 | F_INDIRECT_DESC | F_EVENT_IDX | F_SHMEM_REGION;
/// The value of a response before the device writes it, and of the bytes around it.
pub const UNANSWERED: u32 = 0xeeee_eeee;

#[derive(Debug, Default)]
struct State {
    held: bool,
    pending: VecDeque<Token>,
    faults: VecDeque<Errno>,
    syncs: u32,
}

/// A backing; its clones share one state.
#[derive(Clone, Debug, Default)]
pub struct Host(Rc<RefCell<State>>);

impl Host {
    /// Holds every sync back until released.
    pub fn hold(&self) {
        self.0.borrow_mut().held = true;
    }

    pub fn release(&self) {
        self.0.borrow_mut().held = false;
    }

    /// Sets the errors of the next syncs.
    pub fn fail(&self, faults: impl IntoIterator<Item = Errno>) {
        self.0.borrow_mut().faults.extend(faults);
    }

    /// The number of syncs submitted since the last call.
    pub fn syncs(&self) -> u32 {
        std::mem::take(&mut self.0.borrow_mut().syncs)
    }

    /// Completes one sync although it is held.
    pub fn end_one(&self) -> Synced {
        self.0.borrow_mut().end().expect("one is held")
    }
}

impl State {
    fn end(&mut self) -> Option<Synced> {
        let token = self.pending.pop_front()?;
        let result = self.faults.pop_front().map_or(Ok(()), Err);
        Some(Synced { token, result })
    }
}

impl Backing for Host {
    fn room(&self) -> u32 {
        1 - self.0.borrow().pending.len() as u32
    }

    fn submit(&mut self, token: Token) {
        assert!(self.room() > 0, "submissions need room");
        let mut state = self.0.borrow_mut();
        state.syncs += 1;
        state.pending.push_back(token);
    }

    fn complete(&mut self) -> Option<Synced> {
        let mut state = self.0.borrow_mut();
        if state.held { None } else { state.end() }
    }
}

/// A published request.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    pub head: u16,
    pub response: u64,
}

/// A device, its guest and its host.
pub struct Rig {
    pub memory: Memory,
    pub device: PmemDevice,
    pub host: Host,
    pub guest: Guest,
    pub signals: u32,
}

pub fn layout() -> QueueLayout {
    QueueLayout { size: 16, descriptors: 0x1000, available: 0x1600, used: 0x1900 }
}

/// A rig whose queue has 16 descriptors, everything negotiated and live.
pub fn rig() -> Rig {
    let mut rig = Rig::new(ALL);
    rig.boot(ALL);
    rig
}

impl Rig {
    pub fn new(offer: u64) -> Rig {
        let memory = Memory::from_ranges(&[(GuestAddress(0), MEMORY as usize)]);
        let memory = memory.expect("a megabyte can be mapped");
        let config = PmemConfig { queue_size: 16, features: offer, ..PmemConfig::at(REGION) };
        Rig {
            guest: Guest::new(&memory, layout(), false),
            memory,
            device: PmemDevice::new(config).expect("the configuration is right"),
            host: Host::default(),
            signals: 0,
        }
    }

    /// Negotiates `accept`, places the queue and goes live.
    pub fn boot(&mut self, accept: u64) {
        let device = &mut self.device;
        device.set_status(STATUS_ACKNOWLEDGE);
        device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        device.set_driver_features(accept);
        let ready = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
        device.set_status(ready);
        assert_eq!(device.status(), ready, "the features were accepted");
        self.guest = Guest::new(&self.memory, layout(), accept & F_EVENT_IDX != 0);
        device.set_queue(0, layout()).expect("a valid layout before DRIVER_OK");
        device.set_status(ready | STATUS_DRIVER_OK);
    }

    /// Resets the device; no sync may be in flight.
    pub fn reset(&mut self) {
        self.device.set_status(0);
        assert_eq!(self.device.status(), 0);
    }

    pub fn step(&mut self) -> Step {
        let Some((queue, ring)) = self.device.queue_mut() else { return Step::Idle };
        let step = step(queue, ring, &mut self.host, &self.memory);
        self.device.check();
        self.signals += u32::from(step == Step::Signal);
        step
    }

    /// Steps until the queue is idle.
    pub fn run(&mut self) {
        while self.step() != Step::Idle {}
    }

    pub fn kick(&mut self) {
        if let Some((queue, _)) = self.device.queue_mut() {
            queue.handle_kick();
        }
    }

    /// Publishes a request of `kind` in the usual two descriptors, and kicks.
    pub fn send(&mut self, kind: u32) -> Sent {
        let (request, response) = self.place(kind);
        let pieces = [
            Piece { addr: request, len: 4, write: false },
            Piece { addr: response, len: 4, write: true },
        ];
        self.publish(&pieces, response)
    }

    /// Writes a request of `kind` and 16 bytes of room for its response. Returns their addresses.
    pub fn place(&mut self, kind: u32) -> (u64, u64) {
        let (request, response) = (self.guest.take(8), self.guest.take(16));
        self.put(request, &kind.to_le_bytes());
        self.put(request + 4, &[0xcc; 4]);
        self.put(response, &[0xee; 16]);
        (request, response)
    }

    pub fn publish(&mut self, pieces: &[Piece], response: u64) -> Sent {
        let head = self.guest.chain(&self.memory, pieces);
        self.guest.publish(&self.memory, head);
        self.kick();
        Sent { head, response }
    }

    pub fn put(&self, at: u64, bytes: &[u8]) {
        self.memory.write_slice(bytes, GuestAddress(at)).expect("in memory");
    }

    /// The four bytes at `at`, little-endian.
    pub fn word(&self, at: u64) -> u32 {
        u32::from_le(self.memory.read_obj(GuestAddress(at)).expect("in memory"))
    }

    /// Sends a request, runs, and returns its response; checks that it was used once, with length
    /// 4.
    pub fn do_one(&mut self, kind: u32) -> u32 {
        self.guest.reap(&self.memory);
        let sent = self.send(kind);
        self.run();
        assert_eq!(self.guest.reap(&self.memory), [(sent.head, 4)]);
        self.word(sent.response)
    }

    pub fn flushes(&mut self, count: usize) -> Vec<Sent> {
        (0..count).map(|_| self.send(T_FLUSH)).collect()
    }

    /// Completes one held sync, and runs.
    pub fn end_one(&mut self) {
        let ended = self.host.end_one();
        let (queue, ring) = self.device.queue_mut().expect("a queue with work is stepped");
        queue.handle_completion(ring, &self.memory, ended);
        self.run();
    }

    /// The responses of `sent`: `0`, `-` for -1, `?` for none yet.
    pub fn returns(&self, sent: &[Sent]) -> String {
        let name = |sent: &Sent| match self.word(sent.response) {
            R_OK => '0',
            R_FAILED => '-',
            UNANSWERED => '?',
            other => panic!("{other:#x} is no response"),
        };
        sent.iter().map(name).collect()
    }
}
