//! The register surface of a disk in any order: status, features, configuration space, queue
//! set-up, reset, resize, pause, save and restore.
//!
//! After every access the device is compared with `Registers`, a second implementation of the
//! registers visible to a driver. No request is ever published, so the disk may receive no
//! operation but the sync of a save, and guest memory may change only where queues are placed and
//! live (ST-01).
//!
//! A queue that is placed outside the memory, or over another one, may break when it is stepped.
//! `Registers` does not predict this and then accepts either value of NEEDS_RESET.

mod registers;

use arbitrary::{Arbitrary, Unstructured};
use powerfail::guest::memory::{Memory, Ram};
use powerfail_device::RegisterSurface;
use powerfail_device::{
    Completion, Config, Device, DeviceState, Disk, Limits, Op, QueueLayout, Step, Submission, step,
};

use registers::{NEEDS_RESET, Registers, SPACE};

/// Bytes of guest memory.
const MEMORY: u64 = 8 << 10;

/// The configuration of the device.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    withholds: u16,
    queues: u8,
    size: u8,
    sectors: u8,
    granule: u8,
    flags: u8,
}

/// The features a driver accepts.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Accept {
    Offered,
    Without(u8),
    With(u8),
    Any(u64),
}

/// The placement of a queue.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Layout {
    ByTheBook,
    Near { size: u8, by: [i8; 3] },
    Any { size: u16, at: [u64; 3] },
}

/// One access.
#[derive(Arbitrary, Clone, Debug)]
enum Access {
    Status(u8),
    /// ACKNOWLEDGE, DRIVER, features, FEATURES_OK, queues and DRIVER_OK: the first so many of these
    /// steps.
    Boot(u8),
    Features(Accept),
    Read {
        offset: u8,
        len: u8,
    },
    ReadFar {
        offset: u64,
        len: u8,
    },
    Writeback(u8),
    Write {
        offset: u64,
        bytes: [u8; 9],
        len: u8,
    },
    SetQueue {
        index: u8,
        layout: Layout,
    },
    ResetQueue(u8),
    Kick(u8),
    Step(u8),
    Resize {
        granules: i8,
        odd: bool,
    },
    TakeSignal,
    Pause,
    Resume,
    /// Saves the device and continues with one restored from that state.
    Move,
    /// Restores from a state with one damaged byte; continues with the old device.
    Damage {
        at: u16,
        value: u8,
    },
}

/// A whole script.
#[derive(Arbitrary, Clone, Debug)]
struct Script {
    setup: Setup,
    accesses: Vec<Access>,
}

/// Runs the script that the bytes encode.
///
/// # Panics
/// If the device differs from its model.
pub fn target(bytes: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    let (config, limits) = config(script.setup);
    let model = Registers::new(&config, &limits);
    // A contradictory configuration is rejected (BLK-D-02, FB-01, FB-04).
    assert_eq!(Device::new(config.clone(), limits).is_ok(), model.is_possible(), "{config:x?}");
    let Ok(device) = Device::new(config.clone(), limits) else { return };
    let mut bench = Bench { device, model, config, limits, memory: Memory::new(MEMORY as usize) };
    for access in &script.accesses {
        bench.perform(access);
        bench.compare(access);
    }
}

fn config(setup: Setup) -> (Config, Limits) {
    let mut features = Config::default().features | powerfail_device::wire::F_RING_RESET;
    for (nth, bit) in registers::OPTIONAL.into_iter().enumerate() {
        if setup.withholds >> nth & 1 != 0 {
            features &= !bit;
        }
    }
    let granule = [512, 1024, 4096, 512][usize::from(setup.granule % 4)];
    let config = Config {
        queues: u16::from(setup.queues % 5),
        queue_size: [16, 2, 4, 256, 3, 0, 8, 1][usize::from(setup.size % 8)],
        features,
        writeback: setup.flags & 1 == 0,
        ..Config::default()
    };
    let limits = Limits {
        granule,
        discard_granularity: granule * (1 + u32::from(setup.flags >> 1 & 1)),
        write_zeroes_granularity: granule,
        can_discard: setup.flags & 4 == 0,
        read_only: setup.flags & 8 != 0,
        ..Limits::plain(u64::from(setup.sectors) * u64::from(granule))
    };
    (config, limits)
}

struct Bench {
    device: Device,
    model: Registers,
    config: Config,
    limits: Limits,
    memory: Memory,
}

impl Bench {
    fn perform(&mut self, access: &Access) {
        match *access {
            Access::Status(value) => self.status(value),
            Access::Boot(far) => self.boot(far),
            Access::Features(accept) => {
                let offered = self.device.offered();
                self.accept(match accept {
                    Accept::Offered => offered,
                    Accept::Without(bit) => offered & !(1 << (bit % 64)),
                    Accept::With(bit) => offered | 1 << (bit % 64),
                    Accept::Any(bits) => bits,
                });
            }
            Access::Read { offset, len } => self.read(offset.into(), len),
            Access::ReadFar { offset, len } => self.read(offset, len),
            Access::Writeback(value) => self.write(32, &[value]),
            Access::Write { offset, bytes, len } => {
                let offset = if offset >> 60 == 0 { offset % 100 } else { offset };
                self.write(offset, &bytes[..usize::from(len % 10)]);
            }
            Access::SetQueue { index, layout } => self.set_queue(index, layout),
            Access::ResetQueue(index) => {
                let index = u16::from(index % 6);
                let done = self.device.reset_queue(index);
                assert_eq!(done, self.model.reset_queue(index), "the reset of queue {index}");
                assert!(!self.device.is_queue_resetting(index), "the reset completes at once");
            }
            Access::Kick(index) => {
                if let Some((queue, _)) = self.device.queue_mut(u16::from(index % 6)) {
                    queue.handle_kick();
                }
            }
            Access::Step(index) => self.step(u16::from(index % 6)),
            Access::Resize { granules, odd } => {
                let granule = u64::from(self.limits.granule);
                let by = i64::from(granules) * granule as i64 + i64::from(odd);
                let capacity = self.model.capacity().saturating_add_signed(by);
                let done = self.device.resize(capacity);
                assert_eq!(done, self.model.resize(capacity), "the new size {capacity}");
            }
            Access::TakeSignal => {
                let taken = self.device.take_config_signal();
                let due = self.model.take_signal();
                assert!(taken == due || self.model.may_break(), "a signal is due: {due}");
            }
            Access::Pause => {
                self.device.pause();
                self.model.pause(true);
            }
            Access::Resume => {
                self.device.resume();
                self.model.pause(false);
            }
            Access::Move => {
                if let Some(state) = self.save() {
                    let state = DeviceState::from_bytes(&state.to_bytes()).expect("our own bytes");
                    let limits = Limits { capacity: state.capacity, ..self.limits };
                    let device = Device::restore(self.config.clone(), limits, &state);
                    self.device = device.expect("a state of the same device");
                    self.model.moved();
                }
            }
            Access::Damage { at, value } => {
                if let Some(state) = self.save() {
                    self.damage(&state, at, value);
                }
            }
        }
    }

    fn status(&mut self, value: u8) {
        self.device.set_status(value);
        self.model.status(value);
    }

    fn accept(&mut self, features: u64) {
        self.device.set_driver_features(features);
        self.model.accept(features);
    }

    /// The first `far` steps of a driver's initialization.
    fn boot(&mut self, far: u8) {
        for stage in 0..far % 8 {
            match stage {
                0 => self.status(0),
                1 => self.status(1),
                2 => self.status(3),
                3 => self.accept(self.device.offered()),
                4 => self.status(11),
                5 => (0..4).for_each(|index| self.set_queue(index, Layout::ByTheBook)),
                _ => self.status(15),
            }
        }
    }

    fn read(&self, offset: u64, len: u8) {
        let mut found = vec![0xa5; usize::from(len)];
        self.device.config_read(offset, &mut found);
        let mut expected = vec![0; usize::from(len)];
        let space = self.model.space();
        let from = usize::try_from(offset).unwrap_or(SPACE).min(SPACE);
        let there = expected.len().min(SPACE - from);
        expected[..there].copy_from_slice(&space[from..from + there]);
        assert_eq!(found, expected, "{len} bytes from {offset:#x} on");
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        self.device.config_write(offset, bytes);
        self.model.config_write(offset, bytes);
    }

    fn set_queue(&mut self, index: u8, layout: Layout) {
        let index = u16::from(index % 6);
        let start = 0x400 * u64::from(index) + 0x400;
        let book = QueueLayout {
            size: self.config.queue_size.min(16),
            descriptors: start,
            available: start + 0x100,
            used: start + 0x200,
        };
        let near = |at: u64, by: i8| at.saturating_add_signed(by.into());
        let layout = match layout {
            Layout::ByTheBook => book,
            Layout::Near { size, by: [d, a, u] } => QueueLayout {
                size: size.into(),
                descriptors: near(start, d),
                available: near(book.available, a),
                used: near(book.used, u),
            },
            Layout::Any { size, at: [descriptors, available, used] } => {
                QueueLayout { size, descriptors, available, used }
            }
        };
        let done = self.device.set_queue(index, layout);
        assert_eq!(
            done,
            self.model.set_queue(index, layout, layout == book),
            "queue {index}: {layout:x?}"
        );
    }

    fn step(&mut self, index: u16) {
        let before = self.memory.bytes(0, MEMORY as u32).to_vec();
        let stepped = step_once(&mut self.device, index, &mut self.memory, &self.limits);
        // Only a live queue is stepped, or any queue of a paused device (ST-01).
        assert_eq!(stepped.is_some(), self.model.is_stepped(index), "queue {index} is stepped");
        if stepped.is_some() {
            self.model.stepped(index);
        }
        let signals = stepped == Some(Step::Signal);
        assert!(!signals || self.model.may_signal(index), "nothing was used on queue {index}");
        if !self.model.is_live(index) {
            let now = self.memory.bytes(0, MEMORY as u32);
            assert!(before == now, "queue {index} is not live, and memory has changed");
        }
    }

    /// The device's state, if it can be saved now.
    fn save(&mut self) -> Option<DeviceState> {
        let begun = self.device.begin_save();
        assert_eq!(begun.is_ok(), self.model.is_paused(), "a paused device is saved");
        begun.ok()?;
        for _ in 0..8 {
            step_once(&mut self.device, 0, &mut self.memory, &self.limits);
        }
        Some(self.device.save().expect("the disk does not fail"))
    }

    /// A damaged state is rejected, or restores a working device.
    fn damage(&mut self, state: &DeviceState, at: u16, value: u8) {
        let mut bytes = state.to_bytes();
        let at = usize::from(at) % bytes.len();
        bytes[at] = value;
        let Ok(damaged) = DeviceState::from_bytes(&bytes) else { return };
        assert_eq!(damaged.to_bytes(), bytes, "a state reads back as it is written");
        let limits = Limits { capacity: self.model.capacity(), ..self.limits };
        let Ok(mut device) = Device::restore(self.config.clone(), limits, &damaged) else { return };
        let mut memory = Memory::new(MEMORY as usize);
        for index in 0..device.queues() {
            // A ring at an arbitrary index is invalid or empty; the queue comes to rest soon in
            // either case.
            let mut steps = 0;
            while step_once(&mut device, index, &mut memory, &limits)
                .is_some_and(|step| step != Step::Idle)
            {
                steps += 1;
                assert!(steps < 3_000, "queue {index} does not come to rest: {damaged:x?}");
            }
        }
        device.set_status(0);
        assert_eq!(device.status(), 0, "a reset of {damaged:x?}");
    }

    /// Compares everything that can be read without side effects.
    fn compare(&mut self, access: &Access) {
        let (device, model) = (&mut self.device, &mut self.model);
        let (found, expected) = (device.status(), model.status_now());
        let broken = found & NEEDS_RESET != 0;
        assert!(!broken || model.may_break(), "NEEDS_RESET after {access:x?}");
        assert_eq!(found & !NEEDS_RESET, expected, "the status after {access:x?}");
        assert_eq!(device.offered(), model.offered(), "the offer never changes");
        assert_eq!(device.negotiated(), model.negotiated(), "negotiated after {access:x?}");
        assert_eq!(device.is_drained(), model.is_paused(), "nothing is in flight");
        let generation = device.config_generation();
        let mut space = [0xa5; SPACE];
        device.config_read(0, &mut space);
        model.saw(generation, space);
    }
}

/// One step of a queue over a disk that completes operations at once.
fn step_once(
    device: &mut Device,
    index: u16,
    memory: &mut Memory,
    limits: &Limits,
) -> Option<Step> {
    let (queue, ring) = device.queue_mut(index)?;
    let mut disk = Still { limits: *limits, done: None };
    let ram = memory.ram();
    let did = step(queue, ring, &mut disk, &ram);
    if let Some(completion) = disk.done {
        queue.handle_completion(ring, &ram, completion);
    }
    Some(did)
}

/// A disk that accepts no operation but a sync.
struct Still {
    limits: Limits,
    done: Option<Completion>,
}

impl Disk<Ram<'_>> for Still {
    fn limits(&self) -> Limits {
        self.limits
    }

    fn room(&self) -> u32 {
        1
    }

    fn submit(&mut self, _memory: &Ram<'_>, Submission { token, op }: Submission) {
        assert_eq!(op, Op::Sync, "no request was published");
        self.done = Some(Completion { token, result: Ok(0), buffer: None });
    }

    fn complete(&mut self, _memory: &Ram<'_>) -> Option<Completion> {
        None
    }
}
