//! The language of the tests: a guest with rings and requests, and a host whose disk can hold back
//! and fail operations.

pub mod guest;
pub mod host;

use self::guest::{Guest, Sent};
use self::host::{Host, Lane};
use powerfail_device::RegisterSurface;
use powerfail_device::wire::*;
use powerfail_device::{Config, Device, Limits, QueueLayout, Step, step};
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Bytes of guest memory; no address at or above this exists.
pub const MEMORY: u64 = 1 << 20;
/// Every feature the device offers by default.
pub const ALL: u64 = F_VERSION_1
    | F_INDIRECT_DESC
    | F_EVENT_IDX
    | F_FLUSH
    | F_CONFIG_WCE
    | F_DISCARD
    | F_WRITE_ZEROES
    | F_MQ;

/// A device, its guest and its host.
pub struct Rig {
    pub memory: GuestMemoryMmap<()>,
    pub device: Device,
    pub host: Host,
    pub lanes: Vec<Lane>,
    pub guests: Vec<Guest>,
    /// Signals per queue since the start.
    pub signals: Vec<u32>,
}

/// A rig of `queues` queues with 16 descriptors over a disk of 64 sectors, everything negotiated
/// and live.
pub fn rig(queues: u16) -> Rig {
    rig_with(queues, Limits::plain(64 * 512), ALL)
}

pub fn rig_with(queues: u16, limits: Limits, accept: u64) -> Rig {
    let config = Config { queues, queue_size: 16, ..Config::default() };
    let mut rig = Rig::new(config, limits);
    rig.boot(accept);
    rig
}

/// The layout of queue `index`: 4 KiB each, from 4 KiB on.
pub fn layout(index: u16, size: u16) -> QueueLayout {
    let base = 0x1000 * (u64::from(index) + 1);
    QueueLayout { size, descriptors: base, available: base + 0x600, used: base + 0x900 }
}

impl Rig {
    pub fn new(config: Config, limits: Limits) -> Rig {
        let queues = config.queues;
        let host = Host::new(limits);
        Rig {
            memory: GuestMemoryMmap::from_ranges(&[(GuestAddress(0), MEMORY as usize)])
                .expect("a megabyte can be mapped"),
            device: Device::new(config, limits).expect("the configuration is right"),
            lanes: (0..queues).map(|lane| host.lane(lane)).collect(),
            host,
            guests: Vec::new(),
            signals: vec![0; usize::from(queues)],
        }
    }

    /// Negotiates `accept`, places all queues and goes live.
    pub fn boot(&mut self, accept: u64) {
        self.boot_placed(accept, |layout| layout);
    }

    /// As [`boot`](Rig::boot), with the layout of each queue changed by `place`.
    pub fn boot_placed(&mut self, accept: u64, place: impl Fn(QueueLayout) -> QueueLayout) {
        let device = &mut self.device;
        device.set_status(STATUS_ACKNOWLEDGE);
        device.set_status(STATUS_ACKNOWLEDGE | STATUS_DRIVER);
        device.set_driver_features(accept);
        let ready = STATUS_ACKNOWLEDGE | STATUS_DRIVER | STATUS_FEATURES_OK;
        device.set_status(ready);
        assert_eq!(device.status(), ready, "the features were accepted");
        self.guests.clear();
        for index in 0..device.queues() {
            let layout = place(layout(index, 16));
            let guest = Guest::new(&self.memory, layout, accept & F_EVENT_IDX != 0);
            self.guests.push(guest);
            if index == 0 || accept & F_MQ != 0 {
                device.set_queue(index, layout).expect("a valid layout before DRIVER_OK");
            }
        }
        device.set_status(ready | STATUS_DRIVER_OK);
    }

    /// One step of queue `index`; delivers wakes and counts signals.
    pub fn step(&mut self, index: u16) -> Step {
        let at = usize::from(index);
        let Some((queue, ring)) = self.device.queue_mut(index) else { return Step::Idle };
        let step = step(queue, ring, &mut self.lanes[at], &self.memory);
        match step {
            Step::Signal => self.signals[at] += 1,
            Step::Wake(other) => {
                if let Some((queue, ring)) = self.device.queue_mut(other.0) {
                    queue.handle_wake(ring, &self.memory);
                }
            }
            _ => {}
        }
        self.device.check();
        step
    }

    /// Steps all queues until all are idle.
    pub fn run(&mut self) {
        loop {
            let moved = (0..self.device.queues()).filter(|q| self.step(*q) != Step::Idle).count();
            if moved == 0 {
                return;
            }
        }
    }

    pub fn kick(&mut self, index: u16) {
        if let Some((queue, _)) = self.device.queue_mut(index) {
            queue.handle_kick();
        }
    }

    /// Publishes a request on queue `index` and kicks.
    pub fn send(&mut self, index: u16, request: &guest::Request) -> Sent {
        let sent = self.guests[usize::from(index)].send(&self.memory, request);
        self.kick(index);
        sent
    }

    /// Sends on queue 0, runs, and returns the status; checks that the request was used once.
    pub fn do_one(&mut self, request: &guest::Request) -> u8 {
        self.guests[0].reap(&self.memory);
        let sent = self.send(0, request);
        self.run();
        let used = self.guests[0].reap(&self.memory);
        assert_eq!(used.len(), 1, "one request, one used entry");
        assert_eq!(used[0].0, sent.head);
        sent.status(&self.memory)
    }

    /// Completes the `at`th operation that queue `index` has submitted to a held host.
    pub fn complete(&mut self, index: u16, at: usize) {
        let done = self.lanes[usize::from(index)].complete_held(&self.memory, at);
        let (queue, ring) = self.device.queue_mut(index).expect("a queue with work is stepped");
        queue.handle_completion(ring, &self.memory, done);
        self.run();
    }

    /// The statuses of `sent`, with `?` for requests without an answer.
    pub fn statuses(&self, sent: &[&Sent]) -> String {
        let name = |sent: &&Sent| match sent.status(&self.memory) {
            S_OK => 'o',
            S_IOERR => 'e',
            S_UNSUPP => 'u',
            _ => '?',
        };
        sent.iter().map(name).collect()
    }

    /// Writes the cache mode.
    pub fn writeback(&mut self, value: u8) {
        self.device.config_write(32, &[value]);
    }
}
