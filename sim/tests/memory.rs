//! Devices that keep all data and write to guest memory where they must not are caught, and the
//! shipped device is silent when all of guest memory is watched.
//!
//! Each wrong device is the shipped one with one thing done after a step, through the interface for
//! devices of one's own.

use powerfail::devices::blk::Blk;
use powerfail::dut::toolkit::{BlockRequest, DeviceRing};
use powerfail::dut::{DeviceUnderTest, End, Host, Medium, Profile, Progress, Spec};
use powerfail::guest::RingPlan;
use powerfail::guest::memory::{MEMORY, Ram};
use powerfail::guest::wire::{feature, request};
use powerfail::host::disk::SimDisk;
use powerfail::run::{Plan, run_seed, world};
use powerfail_model::Rule;

/// The write that a device must not do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Write {
    /// None.
    #[default]
    Nothing,
    /// To the segments of a DISCARD or WRITE_ZEROES.
    Segments,
    /// To the reserved field of the header.
    Reserved,
    /// To the sector of the header.
    Sector,
    /// To `next` of the last descriptor of a chain.
    Next,
    /// To the data of a write, undone when the next request is used.
    Enciphered,
    /// To an entry of the available ring that was taken.
    Available,
    /// To the event of the driver.
    UsedEvent,
    /// To the last word of guest memory.
    LastWord,
    /// A flag that is not defined.
    Flag,
    /// The flag that asks for no kicks, with EVENT_IDX.
    NoNotify,
    /// To a used element that was published before.
    Element,
    /// To the table of an indirect chain.
    Table,
    /// Bytes of its own to the data of a read that fails.
    Leak,
    /// The data of a read that fails one sector further on.
    LeakShifted,
    /// To the data of a read that fails, only zeroes behind the first half of a sector. It may do
    /// that.
    Half,
}

/// All of them, with the rules that should catch each.
const WRITES: [(Write, &[Rule]); 14] = [
    (Write::Segments, &[Rule::WroteReadable]),
    (Write::Reserved, &[Rule::WroteReadable]),
    (Write::Sector, &[Rule::WroteReadable]),
    (Write::Next, &[Rule::WroteOutside]),
    (Write::Enciphered, &[Rule::WroteReadable, Rule::TornAtom]),
    (Write::Available, &[Rule::WroteOutside]),
    (Write::UsedEvent, &[Rule::WroteOutside]),
    (Write::LastWord, &[Rule::WroteAfterEnd]),
    (Write::Flag, &[Rule::UsedRingBroken]),
    (Write::NoNotify, &[Rule::UsedRingBroken]),
    (Write::Element, &[Rule::UsedRingBroken]),
    (Write::Table, &[Rule::WroteOutside, Rule::UnknownStatus]),
    (Write::Leak, &[Rule::NeverWritten]),
    (Write::LeakShifted, &[Rule::Misplaced]),
];

/// The shipped device, and a write.
#[derive(Clone)]
struct Scribbler {
    inner: Blk,
    write: Write,
    rings: Vec<RingPlan>,
    event_idx: bool,
    /// Data to be restored: the address and the first byte.
    enciphered: Option<(u32, u8)>,
}

impl Scribbler {
    fn used(&self, queue: usize, ram: &Ram<'_>) -> u16 {
        self.rings.get(queue).map_or(0, |ring| u16::from_le_bytes(ram.read(ring.used + 2)))
    }

    fn published(&self, queue: usize, ram: &Ram<'_>) -> u16 {
        self.rings.get(queue).map_or(0, |ring| u16::from_le_bytes(ram.read(ring.available + 2)))
    }

    /// Writes while the request that is published last waits for its answer.
    fn scribble(&mut self, queue: usize, ram: &Ram<'_>) {
        let Some(&ring) = self.rings.get(queue) else { return };
        let (used, published) = (self.used(queue, ram), self.published(queue, ram));
        let size = ring.size;
        if used == published || published.wrapping_sub(used) > size {
            return;
        }
        let entry = ring.available + 4 + 2 * u32::from(published.wrapping_sub(1) % size);
        let head = u16::from_le_bytes(ram.read(entry));
        let descriptor = ring.descriptors + 16 * u32::from(head);
        let chain = DeviceRing::new(ring).walk(ram, head);
        let parsed = BlockRequest::parse(ram, chain);
        let flip = |at: u32| ram.write(at, &[!ram.read::<1>(at)[0]]);
        let header = |parsed: &BlockRequest| parsed.chain.readable[0];
        match (self.write, parsed) {
            (Write::Segments, Ok(parsed))
                if [request::DISCARD, request::WRITE_ZEROES].contains(&parsed.kind) =>
            {
                if let [.., (at, 1..)] = parsed.chain.readable[..] {
                    flip(at);
                }
            }
            (Write::Reserved, Ok(parsed)) if header(&parsed).1 >= 8 => flip(header(&parsed).0 + 4),
            (Write::Sector, Ok(parsed)) if header(&parsed).1 >= 16 => flip(header(&parsed).0 + 8),
            (Write::Enciphered, Ok(parsed)) if parsed.kind == request::OUT => {
                if let (None, [.., (at, 1..)]) = (self.enciphered, &parsed.chain.readable[..]) {
                    self.enciphered = Some((*at, ram.read::<1>(*at)[0]));
                    flip(*at);
                }
            }
            (Write::Next, Ok(_)) if ram.read::<2>(descriptor + 12)[0] & 1 == 0 => {
                flip(descriptor + 14);
            }
            (Write::Table, Ok(_)) if ram.read::<2>(descriptor + 12)[0] & 4 != 0 => {
                flip(u32::from_le_bytes(ram.read(descriptor)) + 14);
            }
            (Write::Available, _) => {
                flip(ring.available + 5 + 2 * u32::from(used.wrapping_sub(1) % size));
            }
            (Write::UsedEvent, _) if self.event_idx => {
                flip(ring.available + 4 + 2 * u32::from(size));
            }
            (Write::LastWord, _) => flip(MEMORY as u32 - 4),
            (Write::Flag, _) => ram.write(ring.used + 1, &[0x80]),
            (Write::NoNotify, _) if self.event_idx => ram.write(ring.used, &[1]),
            (Write::Element, _) if published.wrapping_sub(used) < size => {
                flip(ring.used + 8 + 8 * u32::from(used.wrapping_sub(1) % size));
            }
            _ => {}
        }
    }
}

/// Writes to the data of a read that was just used and has failed.
fn leak(write: Write, ring: RingPlan, before: u16, host: &Host<'_>) {
    let ram = &host.ram;
    let used = u16::from_le_bytes(ram.read(ring.used + 2));
    if used != before.wrapping_add(1) {
        return;
    }
    let element = ring.used + 4 + 8 * u32::from(before % ring.size);
    let head = u32::from_le_bytes(ram.read(element)) as u16;
    let Ok(read) = BlockRequest::parse(ram, DeviceRing::new(ring).walk(ram, head)) else { return };
    let (&(at, len), &(end, of_end)) =
        (&read.chain.writable[0], read.chain.writable.last().expect("it has a status"));
    let failed = ram.read::<1>(end + of_end - 1)[0] != 0;
    if read.kind != request::IN || !failed || len < 512 || read.data_in < 512 {
        return;
    }
    let mut bytes = vec![0x11; 512];
    if write != Write::Leak {
        // The medium, from the sector on that was read or from the one behind it.
        let image = host.disk.image(host.device).as_chunks::<512>().0;
        let behind = u64::from(write == Write::LeakShifted);
        let Some(sector) = image.get(read.sector.saturating_add(behind) as usize) else { return };
        bytes.copy_from_slice(sector);
    }
    if write == Write::Half {
        bytes[256..].fill(0);
    }
    ram.write(at, &bytes);
}

impl DeviceUnderTest for Scribbler {
    type Setup = Write;

    const MEDIUM: Medium = Medium::Simulated;
    const PROFILE: Profile = Profile::Strict;
    const RING_BASE: bool = true;

    fn open(write: &Write, spec: &Spec, disk: &SimDisk, device: u8) -> Scribbler {
        let inner = Blk::open(&(), spec, disk, device);
        let (rings, event_idx) = (Vec::new(), false);
        Scribbler { inner, write: *write, rings, event_idx, enciphered: None }
    }

    fn restart(&mut self, _: &Write, spec: &Spec, host: &mut Host<'_>, end: End) {
        self.inner.restart(&(), spec, host, end);
        (self.rings, self.enciphered) = (Vec::new(), None);
    }

    fn offered(&self) -> u64 {
        self.inner.offered()
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        self.event_idx = accept & feature::EVENT_IDX != 0;
        self.inner.negotiate(accept)
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        self.inner.config_read(offset, out);
    }

    fn config_write(&mut self, offset: u64, bytes: &[u8]) {
        self.inner.config_write(offset, bytes);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.to_vec();
        self.inner.start(rings);
    }

    fn kick(&mut self, queue: u16) {
        self.inner.kick(queue);
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        if let Some((at, byte)) = self.enciphered.take() {
            host.ram.write(at, &[byte]);
        }
        let before = self.used(usize::from(queue), &host.ram);
        let progress = self.inner.step(queue, host);
        if let Write::Leak | Write::LeakShifted | Write::Half = self.write
            && let Some(&ring) = self.rings.get(usize::from(queue))
        {
            leak(self.write, ring, before, host);
        }
        // The first step after which there is nothing to do: requests wait for the host.
        if progress == Progress::Idle {
            self.scribble(usize::from(queue), &host.ram);
        }
        progress
    }

    fn begin_reset(&mut self, host: &mut Host<'_>) {
        (self.rings, self.enciphered) = (Vec::new(), None);
        self.inner.begin_reset(host);
    }

    fn reset_done(&mut self) -> bool {
        self.inner.reset_done()
    }

    fn needs_reset(&mut self) -> bool {
        self.inner.needs_reset()
    }
}

/// The seeds of each of three searches until a write is caught by its rule or another one.
fn seeds_until(write: Write) -> Vec<(u64, Rule)> {
    let plan = Plan::default();
    let mut world = world::<Scribbler>(&write, plan, 0);
    let search = |from: u64| {
        (0..20_000).find_map(|nth| {
            let failure = run_seed(&mut world, plan, from + nth, |_| {}).failure;
            failure.map(|failure| (nth + 1, failure.violation.rule))
        })
    };
    [0, 100_000, 200_000].into_iter().filter_map(search).collect()
}

#[test]
fn a_write_where_a_device_must_not_write_is_caught() {
    let mut bad = Vec::new();
    for (write, rules) in WRITES {
        let mut found = seeds_until(write);
        found.sort_unstable_by_key(|found| found.0);
        println!("{write:?}: {found:?}");
        let median = found.get(1).map_or(u64::MAX, |found| found.0);
        if found.len() < 3 || median > 1000 {
            bad.push(format!("{write:?} is caught at {found:?}"));
        }
        if !found.iter().any(|found| rules.contains(&found.1)) {
            bad.push(format!("{write:?} is caught by {found:?}, not by {rules:?}"));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn a_failed_read_may_leave_a_part_of_its_sector() {
    assert_eq!(seeds_until(Write::Half), []);
}

#[test]
fn the_shipped_device_writes_only_where_it_may() {
    let plan = Plan::default();
    let mut watched = 0;
    let mut world = world::<Scribbler>(&Write::Nothing, plan, 0);
    for seed in 0..60_000 {
        let failure = run_seed(&mut world, plan, seed, |_| {}).failure;
        assert_eq!(failure, None, "seed {seed}");
        watched += u32::from(world.shape().watch);
    }
    assert!(watched > 80, "{watched} runs were watched");
}
