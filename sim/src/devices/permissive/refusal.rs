//! The requests that must be refused, and the legal answers: an independent reading of 5.2.6.

use crate::dut::Spec;
use crate::dut::toolkit::BlockRequest;
use crate::guest::memory::Ram;
use crate::guest::wire::{feature, request};

const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// A range of sectors.
pub(super) type Range = (u32, u32);

/// The work of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Task {
    /// Read these sectors.
    Read(Range),
    /// Write these sectors.
    Write(Range),
    /// Zero these sectors.
    Zero(Vec<Range>),
    /// Discard these sectors.
    Discard(Vec<Range>),
    /// Make completed writes stable.
    Flush,
    /// Return the serial number.
    Identify,
    /// Refuse the request, with any of these statuses.
    Refuse(Vec<u8>),
    /// Serve the flush or refuse it.
    FreeFlush,
    /// Answer OK and do nothing.
    Pretend,
}

/// Judges a request. With `forgives`, errors of the driver that the text does not make the device
/// refuse are served: a kind that was not negotiated, and a list over the limits.
pub(super) fn task(
    request: &BlockRequest,
    ram: &Ram<'_>,
    spec: &Spec,
    negotiated: u64,
    forgives: bool,
) -> Task {
    let capacity = u64::from(spec.disk.capacity);
    let mut answers = Vec::new();
    let mut refuse = |wrong: bool, with: &[u8]| {
        if wrong {
            answers.extend_from_slice(with);
        }
    };
    let outside = |sector: u64, sectors: u64| {
        sector > capacity || sectors > capacity || sector + sectors > capacity
    };
    let either = [IOERR, UNSUPP];
    let task = match request.kind {
        request::IN | request::OUT => {
            let write = request.kind == request::OUT;
            let len = if write { request.data_out } else { request.data_in };
            refuse(write && spec.disk.read_only, &[IOERR]);
            refuse(outside(request.sector, u64::from(len.div_ceil(512))), &either);
            refuse(!len.is_multiple_of(512), &either);
            let range = (request.sector as u32, len / 512);
            if write { Task::Write(range) } else { Task::Read(range) }
        }
        request::FLUSH => {
            let plain = request.data_out == 0 && request.data_in == 0 && request.sector == 0;
            let served = plain && negotiated & feature::FLUSH != 0;
            if served { Task::Flush } else { Task::FreeFlush }
        }
        request::GET_ID if request.data_in == request::ID => Task::Identify,
        request::GET_ID => Task::Refuse(either.to_vec()),
        request::DISCARD | request::WRITE_ZEROES => {
            let discard = request.kind == request::DISCARD;
            let bit = if discard { feature::DISCARD } else { feature::WRITE_ZEROES };
            let data = request.data(ram);
            let mut ranges = Vec::new();
            refuse(spec.disk.read_only, &[IOERR]);
            refuse(negotiated & bit == 0 && !forgives, &either);
            refuse(!request.data_out.is_multiple_of(request::SEGMENT), &either);
            let segments = request.data_out / request::SEGMENT;
            refuse(segments > spec.max_segments && !forgives, &either);
            for segment in data.as_chunks::<16>().0 {
                let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *segment;
                let sector = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
                let sectors = u32::from_le_bytes([i, j, k, l]);
                let flags = u32::from_le_bytes([m, n, o, p]);
                refuse(flags & !request::UNMAP != 0, &[UNSUPP]);
                refuse(discard && flags & request::UNMAP != 0, &[UNSUPP]);
                refuse(outside(sector, u64::from(sectors)), &either);
                refuse(sectors > spec.max_segment_sectors && !forgives, &either);
                ranges.push((sector as u32, sectors));
            }
            if discard { Task::Discard(ranges) } else { Task::Zero(ranges) }
        }
        zone if request::ZONE_TYPES.contains(&zone) => Task::Refuse(vec![UNSUPP]),
        _ => Task::Refuse(either.to_vec()),
    };
    if answers.is_empty() { task } else { Task::Refuse(answers) }
}
