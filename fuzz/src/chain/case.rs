//! A fuzzed chain: a valid request with some of its descriptors overwritten. It is close enough to
//! a driver's chain that mutation reaches every rule, and can take any form.

use arbitrary::{Arbitrary, Result, Unstructured};
use powerfail::guest::memory::Memory;

use super::{AVAILABLE, MEMORY, MOST_SECTORS, MOST_SEGMENTS, SECTORS, TABLE};
use crate::reference::Offer;

/// Addresses of the indirect tables.
const TABLES: [u32; 2] = [0x800, 0xa00];
/// Address of the header; segments follow it.
const HEADER: u32 = 0x1000;
/// Address of the data.
const DATA: u32 = 0x1100;
/// Address of the status.
const STATUS: u32 = 0x1ff0;

/// The initial word of memory at an address: zero in rings and tables, and data that differs from
/// address to address.
pub(super) fn fresh(at: u32) -> u64 {
    if at < HEADER { 0 } else { u64::from(at).wrapping_mul(0x0101_0305_070b_0d11) }
}

/// A guest address: a meaningful one, or any.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Header(u8),
    Data(u16),
    Table(bool),
    Low(u16),
    End(u8),
    Any(u64),
}

impl Place {
    fn address(self) -> u64 {
        u64::from(match self {
            Place::Header(by) => HEADER + u32::from(by % 40),
            Place::Data(by) => HEADER + 16 + u32::from(by) % (MEMORY - HEADER - 16),
            Place::Table(second) => TABLES[usize::from(second)],
            Place::Low(at) => u32::from(at) % MEMORY,
            Place::End(by) => MEMORY - u32::from(by),
            Place::Any(at) => return at,
        })
    }
}

/// A length in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Length {
    Header,
    Status,
    Sectors(u8),
    Entries(u8),
    Small(u8),
    Id,
    Any(u32),
}

impl Length {
    fn bytes(self) -> u32 {
        match self {
            Length::Header => 16,
            Length::Status => 1,
            Length::Sectors(n) => 512 * u32::from(n % 8),
            Length::Entries(n) => 16 * u32::from(n % 20),
            Length::Small(n) => n.into(),
            Length::Id => 20,
            Length::Any(n) => n,
        }
    }
}

/// The next descriptor of a chain.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Next {
    /// The descriptor after this one.
    Behind,
    Nowhere,
    Index(u8),
    Any(u16),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Descriptor {
    place: Place,
    length: Length,
    next: Next,
    writable: bool,
    /// One value of eight points to a table, and one sets unknown flags.
    odd: u8,
}

impl Descriptor {
    fn write(self, memory: &mut Memory, at: u32, index: u16) {
        let mut flags = if self.writable { 2 } else { 0 };
        let mut next = 0;
        match self.next {
            Next::Behind => (flags, next) = (flags | 1, index + 1),
            Next::Nowhere => {}
            Next::Index(to) => (flags, next) = (flags | 1, u16::from(to % 18)),
            Next::Any(to) => (flags, next) = (flags | 1, to),
        }
        match self.odd % 8 {
            0 => flags |= 4,
            1 => flags |= u16::from(self.odd) << 3,
            _ => {}
        }
        let rest = u64::from(self.length.bytes()) | u64::from(flags) << 32 | u64::from(next) << 48;
        memory.write_u64(at, self.place.address());
        memory.write_u64(at + 8, rest);
    }
}

/// The type of a request.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Type {
    Known(u8),
    Near(u8),
    Any(u32),
}

/// The layout of the valid request, before any edit.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Book {
    /// Sectors of an IN or OUT.
    sectors: u8,
    /// Descriptors of its data.
    pieces: u8,
    /// Of four values, one puts the whole chain into a table, and one all but the header.
    indirect: u8,
}

/// An overwritten descriptor: in the ring's table, or in one of two others.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Edit {
    table: u8,
    index: u8,
    descriptor: Descriptor,
}

/// A whole case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The features offered and accepted, and whether the disk fails: one bit each.
    terms: u8,
    size: u8,
    head: u8,
    kind: Type,
    sector: u64,
    segments: Vec<(u64, u32, u32)>,
    book: Book,
    edits: Vec<Edit>,
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Case> {
        let (terms, size, head) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        let kind = u.arbitrary()?;
        let near = u.ratio(7, 8)?;
        let sector = if near { u64::from(u.arbitrary::<u8>()? % 26) } else { u.arbitrary()? };
        let mut segments = Vec::new();
        for _ in 0..u.int_in_range(0..=6)? {
            let near = u.ratio(7, 8)?;
            segments.push(if near {
                let (sector, sectors, flags) = u.arbitrary::<(u8, u8, u8)>()?;
                (u64::from(sector % 26), u32::from(sectors % 12), u32::from(flags % 8 / 6))
            } else {
                u.arbitrary()?
            });
        }
        let (book, edits) = (u.arbitrary()?, u.arbitrary()?);
        Ok(Case { terms, size, head, kind, sector, segments, book, edits })
    }
}

impl Case {
    pub(super) fn queue_size(&self) -> u16 {
        [2, 4, 8, 16][usize::from(self.size % 4)]
    }

    pub(super) fn offer(&self) -> Offer {
        let bit = |nth: u8| self.terms >> nth & 1 != 0;
        Offer {
            sectors: SECTORS,
            seg_max: u32::from(self.queue_size()).saturating_sub(2).max(1),
            flush: !bit(0),
            discard: !bit(1),
            write_zeroes: !bit(2),
            read_only: bit(3) && bit(4),
            fails: bit(5) && bit(6),
            serial: *b"the number of a disk",
            most_segments: MOST_SEGMENTS,
            most_sectors: MOST_SECTORS,
        }
    }

    /// Writes the chain to memory and publishes it. Returns its head.
    pub(super) fn lay_out(&self, memory: &mut Memory) -> u16 {
        let kind = match self.kind {
            Type::Known(nth) => [0, 1, 4, 8, 11, 13][usize::from(nth % 6)],
            Type::Near(kind) => u32::from(kind % 32),
            Type::Any(kind) => kind,
        };
        memory.write_u64(HEADER, u64::from(kind) | 0xa5a5_5a5a << 32);
        memory.write_u64(HEADER + 8, self.sector);
        for (nth, &(sector, sectors, flags)) in self.segments.iter().enumerate() {
            let at = HEADER + 16 + 16 * nth as u32;
            memory.write_u64(at, sector);
            memory.write_u64(at + 8, u64::from(sectors) | u64::from(flags) << 32);
        }
        self.lay_out_book(memory, kind);
        for edit in &self.edits {
            let start = [TABLE, TABLES[0], TABLES[1], TABLE][usize::from(edit.table % 4)];
            let index = u16::from(edit.index % 18);
            edit.descriptor.write(memory, start + 16 * u32::from(index), index);
        }
        let near = self.head < 0xe0;
        let head = if near { 0 } else { u16::from(self.head) % (self.queue_size() + 1) };
        memory.write_u16(AVAILABLE + 4, head);
        memory.write_u16(AVAILABLE + 2, 1);
        head
    }

    /// Writes a chain as a driver would for a request of this type.
    fn lay_out_book(&self, memory: &mut Memory, kind: u32) {
        let (mut at, len, writable) = match kind {
            0 | 1 => (DATA, 512 * u32::from(self.book.sectors % 8), kind == 0),
            8 => (DATA, 20, true),
            11 | 13 => (HEADER + 16, 16 * self.segments.len() as u32, false),
            _ => (DATA, 0, false),
        };
        let mut pieces = vec![(HEADER, 16, false)];
        let end = at + len;
        let step = (len / (1 + u32::from(self.book.pieces % 4))).max(1);
        while at < end {
            let len = step.min(end - at);
            pieces.push((at, len, writable));
            at += len;
        }
        pieces.push((STATUS, 1, true));
        let direct = [pieces.len(), pieces.len(), 0, 1][usize::from(self.book.indirect % 4)];
        let write = |memory: &mut Memory, at: u32, address: u32, rest: u64| {
            memory.write_u64(at, address.into());
            memory.write_u64(at + 8, rest);
        };
        for (nth, &(address, len, writable)) in pieces.iter().enumerate() {
            let (start, index) =
                if nth < direct { (TABLE, nth) } else { (TABLES[0], nth - direct) };
            let goes_on = nth + 1 < pieces.len();
            let flags = u64::from(goes_on) | u64::from(writable) << 1;
            let rest = u64::from(len) | flags << 32 | (index as u64 + 1) << 48;
            write(memory, start + 16 * index as u32, address, rest);
        }
        if direct < pieces.len() {
            let len = 16 * (pieces.len() - direct) as u64;
            write(memory, TABLE + 16 * direct as u32, TABLES[0], len | 4 << 32);
        }
    }
}
