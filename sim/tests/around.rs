//! The limits that a guest keeps, the registers that it reads, and liveness under load, each with a
//! device that tells the difference.
//!
//! Each device is the shipped one behind the interface for devices of one's own.

use powerfail::devices::blk::Blk;
use powerfail::dut::toolkit::{BlockRequest, DeviceRing};
use powerfail::dut::{DeviceUnderTest, End, Host, Medium, Profile, Progress, Spec, Waived};
use powerfail::guest::memory::Ram;
use powerfail::guest::wire::{config, feature, request};
use powerfail::guest::{GuestRequest, Layout, Malformation, RingPlan};
use powerfail::host::disk::SimDisk;
use powerfail::run::{Plan, replay, run_seed, world};
use powerfail::world::action::{Action, QueueId};
use powerfail::world::{World, WorldShape};
use powerfail_model::{RequestId, Rule};

/// The difference from the shipped device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Change {
    /// None.
    #[default]
    Nothing,
    /// At most this many data segments in a request; it panics at one more. The guest does not
    /// break limits on purpose.
    SegMax(u32),
    /// At most this many bytes in a data segment; it panics at one more. The guest does not break
    /// limits on purpose.
    SizeMax(u32),
    /// As `SegMax`, with a guest that does.
    Provoked(u32),
    /// From the second life on the disk is one sector smaller.
    Shrinks,
    /// It reads noise before FEATURES_OK.
    EarlyNoise,
    /// Queue 1 waits while queue 0 has a request.
    StrictPriority,
}

#[derive(Clone)]
struct Changed {
    inner: Blk,
    change: Change,
    rings: Vec<RingPlan>,
    /// The available index up to which the requests of each queue were looked at.
    looked: Vec<u16>,
    lives: u32,
    /// Queue 1 waits for queue 0.
    held_back: bool,
    /// The features since FEATURES_OK.
    accepted: u64,
}

fn index(ram: &Ram<'_>, at: u32) -> u16 {
    u16::from_le_bytes(ram.read(at + 2))
}

impl Changed {
    /// Whether queue 0 has a request.
    fn first_waits(&self, ram: &Ram<'_>) -> bool {
        let Some(first) = self.rings.first() else { return false };
        let waiting = index(ram, first.available).wrapping_sub(index(ram, first.used));
        // More than there are in the ring: the guest has broken it.
        (1..=first.size).contains(&waiting)
    }

    /// Looks at the new requests of a queue.
    fn look(&mut self, queue: usize, ram: &Ram<'_>) {
        let (Some(&ring), Some(looked)) = (self.rings.get(queue), self.looked.get_mut(queue))
        else {
            return;
        };
        let published = index(ram, ring.available);
        if published.wrapping_sub(*looked) > ring.size {
            return;
        }
        while *looked != published {
            let entry = ring.available + 4 + 2 * u32::from(*looked % ring.size);
            *looked = looked.wrapping_add(1);
            let head = u16::from_le_bytes(ram.read(entry));
            let chain = DeviceRing::new(ring).walk(ram, head);
            let limited = match self.change {
                Change::SegMax(_) | Change::Provoked(_) => self.accepted & feature::SEG_MAX != 0,
                Change::SizeMax(_) => self.accepted & feature::SIZE_MAX != 0,
                _ => false,
            };
            if let (true, Ok(request)) = (limited, BlockRequest::parse(ram, chain)) {
                check(self.change, &request);
            }
        }
    }
}

/// Panics if the data of a read or write is beyond the limits.
fn check(change: Change, request: &BlockRequest) {
    let (spans, before, after) = match request.kind {
        request::OUT => (&request.chain.readable, request::HEADER, 0),
        request::IN => (&request.chain.writable, 0, 1),
        _ => return,
    };
    let end = spans.iter().map(|span| span.1).sum::<u32>() - after;
    let (mut at, mut lens) = (0, Vec::new());
    for (_, len) in spans {
        if at + len > before && at < end && *len > 0 {
            lens.push(*len);
        }
        at += len;
    }
    match change {
        Change::SegMax(most) | Change::Provoked(most) => {
            assert!(lens.len() as u32 <= most, "{} segments", lens.len())
        }
        Change::SizeMax(most) => {
            assert!(lens.iter().all(|len| *len <= most), "segments of {lens:?} bytes");
        }
        _ => {}
    }
}

impl DeviceUnderTest for Changed {
    type Setup = Change;

    const MEDIUM: Medium = Medium::Simulated;
    const PROFILE: Profile = Profile::Strict;

    fn fit(change: &Change, spec: &mut Spec) {
        if matches!(change, Change::SegMax(_) | Change::SizeMax(_)) {
            spec.waive = Waived::BROKEN_RINGS;
        }
    }

    fn open(change: &Change, spec: &Spec, disk: &SimDisk, device: u8) -> Changed {
        let inner = Blk::open(&(), spec, disk, device);
        let (rings, looked) = (Vec::new(), Vec::new());
        Changed { inner, change: *change, rings, looked, lives: 0, held_back: false, accepted: 0 }
    }

    fn restart(&mut self, _: &Change, spec: &Spec, host: &mut Host<'_>, end: End) {
        self.inner.restart(&(), spec, host, end);
        (self.rings, self.accepted) = (Vec::new(), 0);
    }

    fn offered(&self) -> u64 {
        self.inner.offered()
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        let confirmed = self.inner.negotiate(accept);
        self.accepted = if confirmed { accept } else { 0 };
        confirmed
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        let mut space = [0; config::END];
        self.inner.config_read(0, &mut space);
        let word = |space: &mut [u8], at: u64, value: u32| {
            space[at as usize..at as usize + 4].copy_from_slice(&value.to_le_bytes());
        };
        match self.change {
            Change::SegMax(most) | Change::Provoked(most) => {
                word(&mut space, config::SEG_MAX, most)
            }
            Change::SizeMax(most) => word(&mut space, config::SIZE_MAX, most),
            Change::Shrinks if self.lives > 0 => space[0] -= 1,
            Change::EarlyNoise if self.accepted == 0 => word(&mut space, config::BLK_SIZE, 77),
            _ => {}
        }
        let start = offset as usize;
        out.copy_from_slice(&space[start..start + out.len()]);
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.inner.config_write(offset, bytes);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.to_vec();
        self.looked = rings.iter().map(|ring| ring.base).collect();
        self.lives += 1;
        self.inner.start(rings);
    }

    fn kick(&mut self, queue: u16) {
        self.inner.kick(queue);
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        self.look(usize::from(queue), &host.ram);
        if self.change != Change::StrictPriority {
            return self.inner.step(queue, host);
        }
        if queue == 1 && self.first_waits(&host.ram) {
            self.held_back = true;
            return Progress::Idle;
        }
        let progress = self.inner.step(queue, host);
        let free = queue == 0 && !self.first_waits(&host.ram);
        if progress == Progress::Idle && free && std::mem::take(&mut self.held_back) {
            return Progress::Woke(1);
        }
        progress
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        (self.rings, self.accepted) = (Vec::new(), 0);
        self.inner.begin_reset(host);
    }

    fn reset_done(&mut self) -> bool {
        self.inner.reset_done()
    }

    fn needs_reset(&mut self) -> bool {
        self.inner.needs_reset()
    }

    fn take_config_signal(&mut self) -> bool {
        DeviceUnderTest::take_config_signal(&mut self.inner)
    }
}

/// The first failure in so many seeds from a start.
fn failure(change: Change, from: u64, seeds: u64) -> Option<(u64, Rule)> {
    let plan = Plan::default();
    let mut world = world::<Changed>(&change, plan, from);
    (0..seeds).find_map(|nth| {
        let failure = run_seed(&mut world, plan, from + nth, |_| {}).failure;
        failure.map(|failure| (nth + 1, failure.violation.rule))
    })
}

#[test]
fn a_guest_keeps_to_the_limits_of_a_device() {
    for change in [
        Change::Nothing,
        Change::SegMax(1),
        Change::SegMax(2),
        Change::SizeMax(4096),
        Change::SizeMax(600),
    ] {
        assert_eq!(failure(change, 0, 5000), None, "{change:?}");
    }
}

#[test]
fn a_guest_breaks_the_limits_of_a_device_on_purpose() {
    // Our device serves such requests, and is silent; the device that panics is not.
    let found = [0, 100_000, 200_000].map(|from| failure(Change::Provoked(2), from, 20_000));
    for found in found {
        assert_eq!(found.map(|found| found.1), Some(Rule::DevicePanicked), "{found:?}");
    }
}

#[test]
fn untrue_registers_and_a_starved_queue_are_caught() {
    for (change, rule) in [
        (Change::Shrinks, Rule::ConfigUntrue),
        (Change::EarlyNoise, Rule::ConfigUntrue),
        (Change::StrictPriority, Rule::NeverUsed),
    ] {
        let mut found = [0, 100_000, 200_000].map(|from| failure(change, from, 20_000));
        found.sort_unstable();
        println!("{change:?}: {found:?}");
        for found in found {
            assert_eq!(found.map(|found| found.1), Some(rule), "{change:?}: {found:?}");
        }
        let median = found[1].map_or(u64::MAX, |found| found.0);
        assert!(median <= 1000, "{change:?} is caught at {found:?}");
    }
}

#[test]
fn a_stream_finds_a_request_that_is_overtaken_for_ever() {
    let [q0, q1] = [0, 1].map(|queue| QueueId { device: 0, queue });
    let mut shape = WorldShape::default();
    shape.spec.queues = 2;
    let out = |sector| GuestRequest::Out { sector, sectors: 1 };
    let actions = [
        Action::Start { device: 0, accept: feature::VERSION_1 | feature::MQ, base: 0 },
        Action::Send {
            to: q0,
            id: 1,
            ask: out(0),
            layout: Layout::PLAIN,
            malformation: Malformation::None,
        },
        Action::Send {
            to: q1,
            id: 2,
            ask: out(9),
            layout: Layout::PLAIN,
            malformation: Malformation::None,
        },
        Action::Stream { to: q0, id: 3, ask: out(1), count: 100 },
        Action::Rest,
    ];
    for (change, late) in [(Change::Nothing, None), (Change::StrictPriority, Some(2))] {
        let mut world = World::<Changed>::new(change, shape, 1);
        let failure = replay(&mut world, shape, 1, &actions, |_| {}).failure;
        let found = failure.map(|failure| (failure.violation.rule, failure.violation.request));
        let wanted = late.map(|id| (Rule::NeverUsed, Some(RequestId(id))));
        assert_eq!(found, wanted, "{change:?}");
        // Without the stream every request is answered, by either.
        let calm: Vec<Action> =
            actions.into_iter().filter(|a| !matches!(a, Action::Stream { .. })).collect();
        assert_eq!(replay(&mut world, shape, 1, &calm, |_| {}).failure, None, "{change:?}");
    }
}
