//! The driver as port of the guest under test: requests of any number of sectors, from memory with
//! various alignments.

use std::ops::Range;

use powerfail_model::Kind;

use crate::guest::{Guest, GuestRequest, PIECE, PIECES};
use crate::judged::{self, Port};

/// Offsets of a slot's buffers in its two pieces. Not all suit direct transfers, and in some a page
/// ends within a sector.
const SHIFTS: [usize; 4] = [0, 512, 4, 260];

fn bytes_of(queue: usize, slot: usize, ask: judged::GuestRequest) -> Range<usize> {
    let at = (queue * PIECES + 2 * slot) * PIECE + SHIFTS[slot % SHIFTS.len()];
    at..at + ask.len()
}

impl Port for Guest {
    fn queues(&self) -> usize {
        Guest::queues(self)
    }

    fn submit(&mut self, queue: usize, slot: usize, ask: judged::GuestRequest, bytes: &[u8]) {
        let (at, len) = (ask.offset(), ask.len() as u64);
        let wanted = match ask.kind {
            Kind::In => GuestRequest::Read(at),
            Kind::Out => GuestRequest::Write(at),
            Kind::Flush => GuestRequest::Flush,
            Kind::Discard => GuestRequest::Discard(at, len),
            Kind::WriteZeroes => GuestRequest::Zero(at, len, slot.is_multiple_of(2)),
            other => unreachable!("{other:?} is never asked for"),
        };
        self.memory()[bytes_of(queue, slot, ask)].copy_from_slice(bytes);
        self.submit_with(queue, slot, wanted, bytes_of(queue, slot, ask));
    }

    fn buffer(&mut self, queue: usize, slot: usize, ask: judged::GuestRequest) -> Vec<u8> {
        self.memory()[bytes_of(queue, slot, ask)].to_vec()
    }

    fn doorbell(&mut self, queue: usize) {
        self.kick(queue);
    }

    fn take(&mut self, queue: usize) -> Vec<(usize, u8)> {
        Guest::take(self, queue).into_iter().map(|(slot, result)| (slot, status(result))).collect()
    }

    fn wait(&mut self, queue: usize) -> Vec<(usize, u8)> {
        let done = Guest::wait(self, queue).expect("a signal");
        done.into_iter().map(|(slot, result)| (slot, status(result))).collect()
    }
}

/// The status byte for a result of the driver.
fn status(result: i32) -> u8 {
    match -result {
        0 => 0,
        libc::EIO => 1,
        libc::ENOTSUP => 2,
        _ => 3,
    }
}
