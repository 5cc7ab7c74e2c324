//! Speed of runs, and a baseline for it: the bare ring over the simulator's flat guest memory and
//! over `GuestMemoryMmap`, without a device, a simulator or an oracle. `cargo bench -p powerfail`.
//!
//! One item is one run, or one request. Machines differ, and so does their load: compare two
//! figures by their ratios to the ring measured in the same run.

use divan::Bencher;
use divan::counter::ItemsCount;
use powerfail::devices::blk::Blk;
use powerfail::devices::faulty::{DeviceFault, WrongDevice};
use powerfail::guest::memory::Memory;
use powerfail::run::{self, Plan};
use powerfail::run::{Replayed, judge};
use powerfail::schedule::Schedule;
use powerfail::schedule::options::Preset;
use powerfail::shrink::{Effort, shrink};
use powerfail::trace::{Signature, Trace};
use powerfail::world::World;
use powerfail_device::{QueueLayout, Ring};
use vm_memory::{Bytes, GuestAddress, GuestMemory, GuestMemoryMmap};

fn main() {
    divan::main();
}

/// Whole runs from consecutive seeds: set-up, workload, power loss, recovery read, judgement.
#[divan::bench(args = [Preset::Bench, Preset::Swarm, Preset::Calm])]
fn runs(bencher: Bencher<'_, '_>, preset: Preset) {
    lead(bencher, Plan { preset, schedule: Schedule::Uniform, contract: None });
}

/// The same under the schedule that starves a thread.
#[divan::bench]
fn swarm_by_priorities(bencher: Bencher<'_, '_>) {
    lead(bencher, Plan { preset: Preset::Swarm, schedule: Schedule::Pct, contract: None });
}

fn lead(bencher: Bencher<'_, '_>, plan: Plan) {
    let mut world = run::world::<Blk>(&(), plan, 0);
    let mut seed = 0;
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        seed += 1;
        let verdict = run::run_seed(&mut world, plan, seed, |_| {});
        assert!(verdict.failure.is_none(), "seed {seed}: {:?}", verdict.failure);
        verdict.hash
    });
}

/// Shrinking of a failing run from more than 500 actions to ten, on one thread.
#[divan::bench(sample_count = 10)]
fn shrink_500_actions(bencher: Bencher<'_, '_>) {
    let (setup, plan, seed) = (DeviceFault::WritebackNotReset, Plan::default(), 148);
    let mut world = run::world::<WrongDevice>(&setup, plan, seed);
    let mut actions = Vec::new();
    let verdict = run::run_seed(&mut world, plan, seed, |action| actions.push(*action));
    let signature = Signature::of(&verdict.failure.expect("this seed fails").violation);
    let (shape, run) = (*world.shape(), run::run_number(seed));
    assert!(actions.len() > 500, "only {} actions", actions.len());
    bencher.bench_local(|| {
        let effort = Effort::plenty(1);
        shrink::<WrongDevice>(&setup, shape, run, &actions, &signature, &effort)
    });
}

/// A saved trace on the device on which it passes: a replay, and a second one by meaning.
#[divan::bench]
fn replay_a_trace(bencher: Bencher<'_, '_>) {
    let trace: Trace =
        include_str!("../../traces/0011-write-repeated.trace").parse().expect("a good trace");
    let mut world = World::<Blk>::new((), trace.shape, trace.run);
    bencher.bench_local(|| {
        let judged = judge(&mut world, &trace);
        assert_eq!(judged.replayed, Replayed::Passes);
    });
}

#[divan::bench(args = [512, 4096])]
fn ring_over_flat_memory(bencher: Bencher<'_, '_>, len: u32) {
    round_trips(bencher, &Memory::new(LEN).ram(), len);
}

#[divan::bench(args = [512, 4096])]
fn ring_over_mmap(bencher: Bencher<'_, '_>, len: u32) {
    let memory: GuestMemoryMmap<()> =
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), LEN)]).expect("a small region");
    round_trips(bencher, &memory, len);
}

const LEN: usize = 64 << 10;
const SIZE: u16 = 16;
const DESCRIPTORS: u64 = 0x1000;
const AVAILABLE: u64 = 0x2000;
const USED: u64 = 0x3000;
const HEADER: u64 = 0x4000;
const DATA: u64 = 0x5000;
const STATUS: u64 = 0x7000;
const NEXT: u16 = 1;
const WRITE: u16 = 2;

/// One write at a time: publish three descriptors, pop them, copy the data, return them.
fn round_trips<M: GuestMemory>(bencher: Bencher<'_, '_>, memory: &M, len: u32) {
    let layout =
        QueueLayout { size: SIZE, descriptors: DESCRIPTORS, available: AVAILABLE, used: USED };
    let mut ring = Ring::at(layout).expect("a right layout");
    let mut disk = vec![0; LEN];
    let mut published = 0u16;
    bencher.counter(ItemsCount::new(1u32)).bench_local(|| {
        publish(memory, published, len);
        published = published.wrapping_add(1);
        serve(&mut ring, memory, &mut disk);
    });
}

fn publish<M: GuestMemory>(memory: &M, published: u16, len: u32) {
    let put = |at, bytes: &[u8]| memory.write_slice(bytes, GuestAddress(at)).expect("in memory");
    put(HEADER, &1u32.to_le_bytes());
    put(HEADER + 8, &u64::from(published % 64).to_le_bytes());
    let descriptor = |index: u64, at: u64, len: u32, flags: u16, next: u16| {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&at.to_le_bytes());
        bytes[8..12].copy_from_slice(&len.to_le_bytes());
        bytes[12..14].copy_from_slice(&flags.to_le_bytes());
        bytes[14..].copy_from_slice(&next.to_le_bytes());
        put(DESCRIPTORS + 16 * index, &bytes);
    };
    descriptor(0, HEADER, 16, NEXT, 1);
    descriptor(1, DATA, len, NEXT, 2);
    descriptor(2, STATUS, 1, WRITE, 0);
    put(AVAILABLE + 4 + 2 * u64::from(published % SIZE), &0u16.to_le_bytes());
    put(AVAILABLE + 2, &published.wrapping_add(1).to_le_bytes());
}

fn serve<M: GuestMemory>(ring: &mut Ring, memory: &M, disk: &mut [u8]) {
    let chain = ring.take(memory).expect("a ring in memory");
    let (head, mut chain) = chain.expect("a chain was published");
    let mut descriptor = || chain.next().expect("three descriptors");
    let (header, data, status) = (descriptor(), descriptor(), descriptor());
    let sector: u64 = memory.read_obj(GuestAddress(header.addr().0 + 8)).expect("in memory");
    let start = sector as usize * 512;
    let bytes = &mut disk[start..start + data.len() as usize];
    memory.read_slice(bytes, data.addr()).expect("in memory");
    memory.write_obj(0u8, status.addr()).expect("in memory");
    ring.put(memory, head, 1).expect("in memory");
}
