//! One descriptor chain through the device and through a second implementation, which must agree on
//! every observable effect.
//!
//! The bytes become a descriptor table, an indirect table, and a header followed by segments, most
//! of them close to those of a driver. The device takes the chain from a ring over a disk that only
//! records its operations. The operations, the writes to memory and the used element must be those
//! of `reference`, which is written from the standard's text and shares no code with the device.
//!
//! Not here: more than one chain, and memory that changes during processing. That is `hostile`.

mod case;
mod notes;

use arbitrary::{Arbitrary, Unstructured};
use powerfail::guest::memory::Memory;
use powerfail_device::wire::{F_DISCARD, F_FLUSH, F_RO, F_VERSION_1, F_WRITE_ZEROES};
use powerfail_device::{BlockQueue, Config, Limits, QueueIndex, QueueLayout, Ring, Shared, step};
use std::cell::RefCell;
use std::sync::Arc;

use crate::reference::{self, Offer, Outcome};
use case::Case;
use notes::Notes;

/// Bytes of guest memory.
const MEMORY: u32 = 8 << 10;
/// Address of the descriptor table.
const TABLE: u32 = 0;
/// Address of the available ring.
const AVAILABLE: u32 = 0x400;
/// Address of the used ring.
const USED: u32 = 0x600;
/// Sectors of the disk.
const SECTORS: u64 = 24;

/// Most segments of a DISCARD or WRITE_ZEROES.
const MOST_SEGMENTS: u32 = 4;
/// Most sectors of a segment.
const MOST_SECTORS: u32 = 8;

/// The most steps for a chain: a request has at most [`MOST_SEGMENTS`] operations.
const MOST_STEPS: u32 = 100;

thread_local! {
    /// The memory of all executions, and its initial contents.
    static FRESH: RefCell<(Memory, Vec<u8>)> = RefCell::new({
        let words = (0..MEMORY / 8).map(|nth| case::fresh(8 * nth).to_le_bytes());
        (Memory::new(MEMORY as usize), words.flatten().collect())
    });
}

/// Processes the chain that the bytes encode.
///
/// # Panics
/// If the two implementations differ, or the device does not come to rest.
pub fn target(bytes: &[u8]) {
    let Ok(case) = Case::arbitrary(&mut Unstructured::new(bytes)) else { return };
    FRESH.with_borrow_mut(|(memory, fresh)| {
        memory.write(0, fresh);
        parse(memory, &case);
    });
}

fn parse(memory: &mut Memory, case: &Case) {
    let head = case.lay_out(memory);
    let offer = case.offer();
    let mut before = memory.bytes(0, MEMORY).to_vec();
    // The device suppresses kicks while it polls, and writes `used.flags`, where a request may lie
    // (VS-17).
    before[USED as usize] = 1;

    let expected = reference::serve(&before, TABLE.into(), case.queue_size(), head, &offer);
    let found = device(memory, case, &offer);
    assert_eq!(found.ops, expected.ops, "operations of the disk: {case:#x?}");
    let ring = USED..USED + 6 + 8 * u32::from(case.queue_size());
    let hits_ring = expected
        .writable
        .iter()
        .any(|&(at, len)| at < u64::from(ring.end) && at + len > u64::from(ring.start));
    if !hits_ring {
        assert_eq!(found.used, expected.used, "used: {case:#x?}");
    }
    // The parts are compared as slices first, and byte by byte only on a difference, because the
    // fuzzer's counters make a loop over bytes slow.
    for part in [0..ring.start, ring.end..MEMORY] {
        let part = part.start as usize..part.end as usize;
        let (mine, theirs) = (&found.memory[part.clone()], &expected.memory[part.clone()]);
        if mine != theirs {
            let at = mine.iter().zip(theirs).take_while(|(mine, theirs)| mine == theirs).count();
            let (mine, theirs) = (mine[at], theirs[at]);
            panic!("byte {:#x} is {mine:#x}, not {theirs:#x}: {case:#x?}", part.start + at);
        }
    }
}

/// Processes the chain with the device.
fn device(memory: &mut Memory, case: &Case, offer: &Offer) -> Outcome {
    let negotiated = F_VERSION_1
        | if offer.flush { F_FLUSH } else { 0 }
        | if offer.discard { F_DISCARD } else { 0 }
        | if offer.write_zeroes { F_WRITE_ZEROES } else { 0 };
    let config = Config {
        queue_size: case.queue_size(),
        serial: offer.serial,
        max_discard_sectors: offer.most_sectors,
        max_discard_seg: offer.most_segments,
        max_write_zeroes_sectors: offer.most_sectors,
        max_write_zeroes_seg: offer.most_segments,
        ..Config::default()
    };
    let limits = Limits { read_only: offer.read_only, ..Limits::plain(offer.sectors * 512) };
    let shared = Shared::new(config, limits).expect("a configuration like any");
    assert_eq!(shared.offered() & F_RO != 0, offer.read_only);
    shared.negotiate(negotiated).expect("a subset of what is offered");
    let mut queue = BlockQueue::new(QueueIndex(0), Arc::new(shared), case.queue_size());
    let [descriptors, available, used] = [TABLE, AVAILABLE, USED].map(u64::from);
    let layout = QueueLayout { size: case.queue_size(), descriptors, available, used };
    let mut ring = Ring::at(layout).expect("a right layout");
    let mut disk = Notes::new(limits, offer.fails);
    let mut steps = 0;
    while ring.position().1 == 0 && !queue.is_broken() {
        step(&mut queue, &mut ring, &mut disk, &memory.ram());
        steps += 1;
        assert!(steps < MOST_STEPS, "the chain does not end: {case:#x?}");
    }
    let used = (!queue.is_broken()).then(|| (memory.read_u32(USED + 4), memory.read_u32(USED + 8)));
    assert!(queue.is_broken() || queue.in_flight() == 0, "something is still in flight");
    Outcome {
        ops: disk.into_ops(),
        used,
        memory: memory.bytes(0, MEMORY).to_vec(),
        writable: Vec::new(),
    }
}
