//! A chain as a fuzzer writes it: near enough to what a driver writes that mutation reaches every rule, and able to be anything.

use arbitrary::{Arbitrary, Result, Unstructured};
use powerfail::memory::Memory;

use super::{AVAILABLE, MEMORY, MOST_SECTORS, MOST_SEGMENTS, SECTORS, TABLE};
use crate::reference::Offer;

/// Where the indirect tables are.
const TABLES: [u32; 2] = [0x800, 0xa00];
/// Where the header is; data follows it.
const HEADER: u32 = 0x1000;

/// What a word of memory holds before the guest writes anything: rings and tables of zeroes, and data that differs from place to place.
pub(super) fn fresh(at: u32) -> u64 {
    if at < HEADER { 0 } else { u64::from(at).wrapping_mul(0x0101_0305_070b_0d11) }
}

/// A guest address: one that means something, or any.
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

/// Where a chain goes on.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Next {
    /// At the descriptor behind this one.
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
    /// Of eight, one points at a table and one has flags that nobody knows.
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

/// A whole case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// What is offered and accepted, and whether the disk fails: a bit each.
    terms: u8,
    size: u8,
    head: u8,
    kind: Type,
    sector: u64,
    segments: Vec<(u64, u32, u32)>,
    direct: Vec<Descriptor>,
    tables: [Vec<Descriptor>; 2],
}

impl<'a> Arbitrary<'a> for Case {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Case> {
        let (terms, size, head) = (u.arbitrary()?, u.arbitrary()?, u.arbitrary()?);
        let kind = u.arbitrary()?;
        let sector =
            if u.ratio(7, 8)? { u64::from(u.arbitrary::<u8>()? % 26) } else { u.arbitrary()? };
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
        let mut list = |most: usize| -> Result<Vec<Descriptor>> {
            (0..u.int_in_range(0..=most)?).map(|_| u.arbitrary()).collect()
        };
        Ok(Case {
            terms,
            size,
            head,
            kind,
            sector,
            segments,
            direct: list(16)?,
            tables: [list(16)?, list(16)?],
        })
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

    /// Writes everything to memory and publishes the chain; returns its head.
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
        for (start, list) in
            [(TABLE, &self.direct), (TABLES[0], &self.tables[0]), (TABLES[1], &self.tables[1])]
        {
            for (index, descriptor) in list.iter().enumerate() {
                descriptor.write(memory, start + 16 * index as u32, index as u16);
            }
        }
        let head = u16::from(self.head) % (self.queue_size() + 1);
        memory.write_u16(AVAILABLE + 4, head);
        memory.write_u16(AVAILABLE + 2, 1);
        head
    }
}
