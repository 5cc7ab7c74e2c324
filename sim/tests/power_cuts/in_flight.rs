//! Power cuts while a ring has dozens of operations in flight: the lanes that serve a guest's
//! queues, judged by the oracle.
//!
//! At the seam an operation is a request, and a sync is a flush. In lives in write-through mode
//! every write has to be stable; there a write or a write-zeroes is a request followed by a sync.

use std::path::Path;
use std::sync::Arc;

use powerfail::guest::wire::feature;
use powerfail::host::power_cut_fs::{IgnoredSync, Mount};
use powerfail_device::host::{Access, ArcMemory, UringDisk};
use powerfail_device::{Buffer, Disk, GuestRange, Op, Ranges, Submission, Token};
use powerfail_model::{Kind, Oracle, Rule, Violation};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

use crate::judged::{GuestRequest, Judge, MOST, Port, SLOTS, Verdict, times};
use crate::skipped;

type Mmap = GuestMemoryMmap<()>;

const LANES: usize = 3;
/// Room for the buffer of a slot, whose start is shifted in every other slot.
const BUFFER: u64 = 2 * MOST as u64 * 512;

/// Most power cuts until a mutant of the file system is caught.
const PATIENCE: u32 = 500;

/// The lanes of one file.
struct Lanes {
    lanes: Vec<UringDisk<Mmap>>,
    memory: ArcMemory<Mmap>,
    /// Whether every write has to be stable.
    stable: bool,
    /// Slots, as `queue * SLOTS + slot`, whose write has completed and whose sync has not.
    unsynced: Vec<usize>,
}

impl Lanes {
    fn open(path: &Path, stable: bool) -> Lanes {
        let disk = UringDisk::open(path, Access::default()).expect("a ring");
        let lanes = (0..LANES).map(|_| disk.lane().expect("another ring")).collect();
        let bytes = (LANES * SLOTS) * BUFFER as usize;
        let memory = Mmap::from_ranges(&[(GuestAddress(0), bytes)]).expect("memory");
        Lanes { lanes, memory: Arc::new(memory).into(), stable, unsynced: Vec::new() }
    }
}

fn address(queue: usize, slot: usize) -> GuestAddress {
    let shift = [0, 512, 0, 4][slot % 4];
    GuestAddress((queue * SLOTS + slot) as u64 * BUFFER + shift)
}

impl Port for Lanes {
    fn queues(&self) -> usize {
        self.lanes.len()
    }

    fn submit(&mut self, queue: usize, slot: usize, ask: GuestRequest, bytes: &[u8]) {
        let (offset, len) = (ask.offset(), ask.len() as u64);
        let range = GuestRange { addr: address(queue, slot), len: len as u32 };
        let buffer = || Buffer::Guest(Ranges::from_slice(&[range]));
        let op = match ask.kind {
            Kind::In => Op::Read { offset, into: buffer() },
            Kind::Out => Op::Write { offset, from: buffer() },
            Kind::Flush => Op::Sync,
            Kind::Discard => Op::Discard { offset, len },
            Kind::WriteZeroes => Op::WriteZeroes { offset, len, may_unmap: slot.is_multiple_of(2) },
            other => unreachable!("{other:?} is never asked for"),
        };
        self.memory.write_slice(bytes, range.addr).expect("it is there");
        if self.stable && matches!(ask.kind, Kind::Out | Kind::WriteZeroes) {
            self.unsynced.push(queue * SLOTS + slot);
        }
        let token = Token::new(slot as u32, 0);
        self.lanes[queue].submit(&self.memory, Submission { token, op });
    }

    fn buffer(&mut self, queue: usize, slot: usize, ask: GuestRequest) -> Vec<u8> {
        let mut bytes = vec![0; ask.len()];
        self.memory.read_slice(&mut bytes, address(queue, slot)).expect("it is there");
        bytes
    }

    fn doorbell(&mut self, queue: usize) {
        self.lanes[queue].doorbell();
    }

    fn take(&mut self, queue: usize) -> Vec<(usize, u8)> {
        let lane = &mut self.lanes[queue];
        let mut answers = Vec::new();
        while let Some(done) = lane.complete(&self.memory) {
            let moved = done.result.expect("the host does not fail");
            let all = done.buffer.map_or(0, |buffer| buffer.len());
            assert_eq!(moved, all, "a transfer of a page is not short");
            let slot = done.token.slot() as usize;
            match self.unsynced.iter().position(|&other| other == queue * SLOTS + slot) {
                None => answers.push((slot, 0)),
                Some(at) => {
                    self.unsynced.swap_remove(at);
                    let token = Token::new(done.token.slot(), 1);
                    lane.submit(&self.memory, Submission { token, op: Op::Sync });
                    lane.doorbell();
                }
            }
        }
        answers
    }

    fn wait(&mut self, queue: usize) -> Vec<(usize, u8)> {
        // The completed operations may be writes that are only synced now.
        loop {
            self.lanes[queue].wait();
            let answers = self.take(queue);
            if !answers.is_empty() {
                return answers;
            }
        }
    }
}

/// Lives on one file, most of which end with a power cut. Returns the number of cuts until the
/// oracle reported a violation; `None` without FUSE.
fn cut(judge: &mut Judge, cuts: u32, ignored: IgnoredSync) -> Option<Result<(), (u32, Violation)>> {
    let place = tempfile::tempdir().expect("a place for the file");
    let path = place.path().join("disk");
    std::fs::File::create(&path).expect("a file");
    let mount = Mount::over(&path).inspect_err(skipped).ok()?;
    mount.power().fill(&judge.image());
    mount.power().ignore_syncs(ignored);
    let mut done = 0;
    while done < cuts {
        let stable = judge.draw(2) == 0;
        let mut lanes = Lanes::open(&path, stable);
        if let Err(violation) = live(judge, &mut lanes) {
            return Some(Err((done, violation)));
        }
        if judge.draw(8) == 0 {
            // Dropping the lanes completes the operations that they have accepted.
            drop(lanes);
            judge.end(Oracle::reset_shown);
        } else {
            judge.end(|oracle| oracle.power_loss().expect("it is judged when it is read"));
            mount.power().cut(judge.draw_set());
            done += 1;
        }
    }
    let mut lanes = Lanes::open(&path, false);
    Some(live(judge, &mut lanes).map_err(|violation| (done, violation)))
}

/// Reads the contents that the last life left, and sends more requests than are answered.
fn live(judge: &mut Judge, lanes: &mut Lanes) -> Verdict {
    let features = feature::FLUSH
        | feature::DISCARD
        | feature::WRITE_ZEROES
        | if lanes.stable { feature::CONFIG_WCE } else { 0 };
    judge.begin(LANES, features, !lanes.stable);
    judge.read_back(lanes)?;
    let requests = 40 + judge.draw(120);
    judge.load(lanes, requests)
}

#[test]
fn the_power_may_go_while_dozens_of_operations_are_in_flight() {
    let cuts = times("POWERFAIL_CUTS", 250);
    let mut judge = Judge::new(11);
    let Some(verdict) = cut(&mut judge, cuts, IgnoredSync::None) else { return };
    println!("{cuts} power cuts, {judge}");
    if let Err((done, violation)) = verdict {
        panic!("after {done} power cuts: {violation}\n{violation:#?}");
    }
    assert!(
        judge.cut_short >= cuts / 2 && judge.unanswered >= 4 * cuts,
        "there was much in flight"
    );
}

#[test]
fn a_deaf_file_system_is_caught() {
    let Some(verdict) = cut(&mut Judge::new(12), PATIENCE, IgnoredSync::All) else { return };
    let (done, violation) = verdict.expect_err("nothing was stable");
    println!("after {done} power cuts, {violation}");
    let lost = [Rule::StableWriteLost, Rule::WriteThroughLost];
    assert!(lost.contains(&violation.rule), "{violation}");
}
