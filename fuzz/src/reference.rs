//! One chain on a split ring and the block request in it: a second implementation, slow and simple.
//!
//! Written from virtio 1.4, 2.7 and 5.2.6. Where the text binds only drivers, or is silent, it
//! follows the device's policy: an invalid chain is answered IOERR if its status byte is in memory,
//! and returned with length 0 if not (AMB-29); NEXT beside INDIRECT has no meaning (VS-06); a
//! request that must be rejected is rejected before any effect, with all segments checked, and
//! flags before ranges (AMB-15); a read-only disk is not written (AMB-24); a feature that was not
//! negotiated is UNSUPP (AMB-28).

/// One buffer of a chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// The guest address.
    pub(crate) at: u64,
    /// Bytes; not zero.
    pub(crate) len: u64,
    /// Whether the device may write the buffer, instead of reading it.
    pub(crate) writable: bool,
}

/// A chain, as far as it can be followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// The buffers, without the empty ones.
    pub(crate) pieces: Vec<Piece>,
    /// Whether the chain is complete.
    pub(crate) whole: bool,
    /// The number of descriptors, including empty ones and those of a table.
    pub(crate) visited: u32,
}

/// The disk and the negotiated features.
#[derive(Clone, Debug)]
pub(crate) struct Offer {
    pub(crate) sectors: u64,
    /// The value of `seg_max` in the configuration space.
    pub(crate) seg_max: u32,
    /// Whether FLUSH was accepted; if it was offered and not accepted, every write must be stable.
    pub(crate) flush: bool,
    pub(crate) discard: bool,
    pub(crate) write_zeroes: bool,
    pub(crate) read_only: bool,
    /// Whether the host fails every operation.
    pub(crate) fails: bool,
    pub(crate) serial: [u8; 20],
    /// Most segments of a DISCARD or WRITE_ZEROES, and most sectors of each.
    pub(crate) most_segments: u32,
    pub(crate) most_sectors: u32,
}

/// An operation of the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    Read { offset: u64, len: u32 },
    Write { offset: u64, bytes: Vec<u8> },
    Sync,
    Discard { offset: u64, len: u64 },
    WriteZeroes { offset: u64, len: u64, may_unmap: bool },
}

/// All observable effects of one chain.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) ops: Vec<Asked>,
    /// Head and length in the used ring; `None` if the ring is broken.
    pub(crate) used: Option<(u32, u32)>,
    /// The whole memory, apart from the used ring.
    pub(crate) memory: Vec<u8>,
    /// The writable buffers: address and length.
    pub(crate) writable: Vec<(u64, u64)>,
}

/// The contents of the disk from `offset` on.
pub(crate) fn content(offset: u64) -> impl Iterator<Item = u8> {
    (offset..).map(|at| (at as u8).wrapping_mul(37) ^ (at >> 8) as u8 ^ 0x80)
}

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;

/// Follows the chain that begins at `head` in a table of `size` descriptors.
pub(crate) fn follow(memory: &[u8], table: u64, size: u16, head: u16) -> Chain {
    let mut chain = Chain { pieces: Vec::new(), whole: false, visited: 0 };
    let (mut table, mut size) = (table, u32::from(size));
    let (mut index, mut seen, mut indirect, mut total) = (u32::from(head), 0, false, 0u64);
    loop {
        // "The number of descriptors in the table is defined by the queue size"; a chain that
        // visits more of them has a loop.
        if index >= size || seen == size {
            return chain;
        }
        let at = table.checked_add(u64::from(index) * 16);
        let Some(bytes) = at.and_then(|at| slice(memory, at, 16)) else { return chain };
        let address = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"));
        let len = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
        let flags = u16::from_le_bytes(bytes[12..14].try_into().expect("two bytes"));
        let next = u16::from_le_bytes(bytes[14..16].try_into().expect("two bytes"));
        if flags & INDIRECT != 0 {
            // A table in a table is invalid (VS-06), as is a partial descriptor (VS-09).
            if indirect || !len.is_multiple_of(16) || len / 16 > 0xffff {
                return chain;
            }
            (table, size, index, seen, indirect) = (address, len / 16, 0, 0, true);
            continue;
        }
        chain.visited += 1;
        // "Drivers MUST NOT add a descriptor chain longer than 2^32 bytes in total" (VS-05).
        total += u64::from(len);
        if total > u64::from(u32::MAX) {
            return chain;
        }
        if len > 0 {
            chain.pieces.push(Piece { at: address, len: len.into(), writable: flags & WRITE != 0 });
        }
        // Only the last descriptor decides whether the chain is complete.
        chain.whole = flags & NEXT == 0;
        if chain.whole {
            return chain;
        }
        (index, seen) = (next.into(), seen + 1);
    }
}

fn slice(memory: &[u8], at: u64, len: u64) -> Option<&[u8]> {
    let end = at.checked_add(len)?;
    memory.get(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
}

impl Asked {
    /// The sectors that the operation may change: the first, and their number.
    pub(crate) fn changes(&self) -> Option<(u64, u64)> {
        let (offset, len) = match self {
            Asked::Read { .. } | Asked::Sync => return None,
            Asked::Write { offset, bytes, .. } => (*offset, bytes.len() as u64),
            Asked::Discard { offset, len } | Asked::WriteZeroes { offset, len, .. } => {
                (*offset, *len)
            }
        };
        Some((offset / 512, len / 512))
    }
}

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// The outcome of the chain that was published as `head`.
pub(crate) fn serve(memory: &[u8], table: u64, size: u16, head: u16, offer: &Offer) -> Outcome {
    let mut outcome =
        Outcome { ops: Vec::new(), used: None, memory: memory.to_vec(), writable: Vec::new() };
    if head >= size {
        return outcome;
    }
    let chain = follow(memory, table, size, head);
    let writable: Vec<Piece> =
        chain.pieces.iter().copied().filter(|piece| piece.writable).collect();
    outcome.writable = writable.iter().map(|piece| (piece.at, piece.len)).collect();
    let head = u32::from(head);
    // The status is the last writable byte.
    let status = writable.last().and_then(|last| last.at.checked_add(last.len - 1));
    let Some(status) = status.filter(|&status| slice(memory, status, 1).is_some()) else {
        outcome.used = Some((head, 0));
        return outcome;
    };
    let total: u64 = writable.iter().map(|piece| piece.len).sum();
    let (answer, filled) = match read(memory, &chain) {
        // "A driver MUST NOT create a descriptor chain longer than the Queue Size" (2.7.5.3.1),
        // except one that `seg_max` allows.
        Some(_) if chain.visited > u32::from(size).max(offer.seg_max + 2) => (IOERR, total == 1),
        Some(readable) => carry_out(&mut outcome, &writable, &readable, total - 1, offer),
        None => (IOERR, total == 1),
    };
    outcome.memory[status as usize] = answer;
    // The length is zero unless all bytes before the status were written (VS-13).
    let len = if filled { total as u32 } else { 0 };
    outcome.used = Some((head, len));
    outcome
}

/// The readable bytes of a chain; `None` if it is invalid.
fn read(memory: &[u8], chain: &Chain) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut behind = false;
    for piece in &chain.pieces {
        let part = slice(memory, piece.at, piece.len)?;
        if piece.writable {
            behind = true;
        } else if behind {
            // "The driver MUST place any device-writable descriptor elements after any
            // device-readable" ones (VS-02).
            return None;
        } else {
            bytes.extend_from_slice(part);
        }
    }
    (chain.whole && bytes.len() >= 16).then_some(bytes)
}

/// Executes the request. Returns its status, and whether all writable bytes before the status were
/// written.
fn carry_out(
    outcome: &mut Outcome,
    writable: &[Piece],
    readable: &[u8],
    room: u64,
    offer: &Offer,
) -> (u8, bool) {
    let kind = u32::from_le_bytes(readable[..4].try_into().expect("four bytes"));
    let sector = u64::from_le_bytes(readable[8..16].try_into().expect("eight bytes"));
    let data = &readable[16..];
    let nothing_to_fill = room == 0;
    let done = |ops: &[Asked]| if offer.fails && !ops.is_empty() { IOERR } else { OK };
    let fits = |len: u64| {
        let capacity = offer.sectors * 512;
        let end = sector.checked_mul(512).and_then(|start| start.checked_add(len));
        len.is_multiple_of(512) && end.is_some_and(|end| end <= capacity)
    };
    match kind {
        0 => {
            if !data.is_empty() || !fits(room) {
                return (IOERR, nothing_to_fill);
            }
            if room > 0 {
                outcome.ops.push(Asked::Read { offset: sector * 512, len: room as u32 });
                let bytes: Vec<u8> = if offer.fails {
                    vec![0; room as usize]
                } else {
                    content(sector * 512).take(room as usize).collect()
                };
                fill(&mut outcome.memory, writable, &bytes);
            }
            (done(&outcome.ops), true)
        }
        1 => {
            if offer.read_only || room > 0 || !fits(data.len() as u64) {
                return (IOERR, nothing_to_fill);
            }
            if !data.is_empty() {
                let (offset, bytes) = (sector * 512, data.to_vec());
                outcome.ops.push(Asked::Write { offset, bytes });
                if !offer.flush && !offer.fails {
                    outcome.ops.push(Asked::Sync);
                }
            }
            (done(&outcome.ops), true)
        }
        4 => {
            outcome.ops.push(Asked::Sync);
            (done(&outcome.ops), nothing_to_fill)
        }
        8 if data.is_empty() && room == 20 => {
            fill(&mut outcome.memory, writable, &offer.serial);
            (OK, true)
        }
        8 => (IOERR, nothing_to_fill),
        11 | 13 if offer.read_only || room > 0 => (IOERR, nothing_to_fill),
        11 | 13 => match ranges(kind, data, offer) {
            Ok(ops) => {
                // A failed operation is the last one.
                let tried = if offer.fails { 1 } else { ops.len() };
                outcome.ops.extend(ops.into_iter().take(tried));
                // A write of zeroes is a write (AMB-10): it is synced if writes have to be stable.
                if kind == 13 && !offer.flush && !offer.fails && !outcome.ops.is_empty() {
                    outcome.ops.push(Asked::Sync);
                }
                (done(&outcome.ops), true)
            }
            Err(status) => (status, true),
        },
        _ => (UNSUPP, nothing_to_fill),
    }
}

/// The operations of a DISCARD (11) or WRITE_ZEROES (13).
fn ranges(kind: u32, data: &[u8], offer: &Offer) -> Result<Vec<Asked>, u8> {
    let known = if kind == 11 { offer.discard } else { offer.write_zeroes };
    if !known {
        return Err(UNSUPP);
    }
    if !data.len().is_multiple_of(16) || data.len() / 16 > offer.most_segments as usize {
        return Err(IOERR);
    }
    let mut ops = Vec::new();
    let mut possible = true;
    for segment in data.chunks(16) {
        let sector = u64::from_le_bytes(segment[..8].try_into().expect("eight bytes"));
        let sectors = u32::from_le_bytes(segment[8..12].try_into().expect("four bytes"));
        let flags = u32::from_le_bytes(segment[12..].try_into().expect("four bytes"));
        // "the device MUST set the status byte to VIRTIO_BLK_S_UNSUPP" for an unknown flag, and for
        // unmap in a DISCARD.
        if flags & !1 != 0 || (kind == 11 && flags & 1 != 0) {
            return Err(UNSUPP);
        }
        let end = sector.checked_add(sectors.into());
        possible &= sectors <= offer.most_sectors && end.is_some_and(|end| end <= offer.sectors);
        if possible && sectors > 0 {
            let (offset, len) = (sector * 512, u64::from(sectors) * 512);
            ops.push(match kind {
                11 => Asked::Discard { offset, len },
                _ => Asked::WriteZeroes { offset, len, may_unmap: flags & 1 != 0 },
            });
        }
    }
    if possible { Ok(ops) } else { Err(IOERR) }
}

/// Writes `bytes` to the writable buffers in their order.
fn fill(memory: &mut [u8], writable: &[Piece], mut bytes: &[u8]) {
    for piece in writable {
        let (now, later) = bytes.split_at(bytes.len().min(piece.len as usize));
        memory[piece.at as usize..][..now.len()].copy_from_slice(now);
        bytes = later;
    }
}
