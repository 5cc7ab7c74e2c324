//! The form of the medium: two superblocks, and two areas for a log.
//!
//! The log is in the area of the newest valid superblock. A record is a header sector and the
//! sectors that it writes, padded to whole granules. A record is valid iff its checksum is right
//! and its epoch is that of the superblock.

use std::ops::Range;

use powerfail::dut::Spec;

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// The most sectors of one record when the log is written anew.
pub const CHUNK: u32 = 15;

/// Sectors of an area for records that follow.
const ROOM: u32 = 32;

const RECORD: u64 = 0x6c6f_675f_7265_636f;
const SUPERBLOCK: u64 = 0x6c6f_675f_7375_7065;

/// The places on the medium, in sectors.
#[derive(Clone, Copy, Debug)]
pub struct Geometry {
    granule: u32,
    area: u32,
}

impl Geometry {
    pub fn of(spec: &Spec) -> Geometry {
        let granule = spec.disk.granule / SECTOR as u32;
        let capacity = spec.disk.capacity;
        let whole = capacity / CHUNK * sectors_of(CHUNK, granule);
        let rest = match capacity % CHUNK {
            0 => 0,
            rest => sectors_of(rest, granule),
        };
        Geometry { granule, area: whole + rest + ROOM }
    }

    /// All sectors.
    pub fn sectors(&self) -> u32 {
        2 * self.granule + 2 * self.area
    }

    pub fn superblock(&self, epoch: u64) -> u32 {
        (epoch % 2) as u32 * self.granule
    }

    pub fn area(&self, epoch: u64) -> Range<u32> {
        let start = 2 * self.granule + (epoch % 2) as u32 * self.area;
        start..start + self.area
    }

    /// The length of a record with so many sectors of data.
    pub fn record(&self, data: u32) -> u32 {
        sectors_of(data, self.granule)
    }

    pub fn encode_superblock(&self, epoch: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.granule as usize * SECTOR];
        put(&mut bytes, &[SUPERBLOCK, epoch, checksum(&[SUPERBLOCK, epoch], &[])]);
        bytes
    }

    /// The epoch of the newest valid superblock.
    pub fn newest(&self, part: &[u8]) -> Option<u64> {
        let epoch = |slot: u64| {
            let at = self.superblock(slot) as usize * SECTOR;
            let [magic, epoch, sum] = get(&part[at..]);
            let valid = magic == SUPERBLOCK && sum == checksum(&[magic, epoch], &[]);
            valid.then_some(epoch)
        };
        epoch(0).max(epoch(1))
    }

    pub fn encode(&self, record: &Record) -> Vec<u8> {
        let Record { epoch, seq, first, ref data } = *record;
        let sectors = (data.len() / SECTOR) as u64;
        let head = [RECORD, epoch, seq, u64::from(first), sectors];
        let mut bytes = vec![0; self.record(sectors as u32) as usize * SECTOR];
        put(&mut bytes, &head);
        put(&mut bytes[8 * head.len()..], &[checksum(&head, data)]);
        bytes[SECTOR..SECTOR + data.len()].copy_from_slice(data);
        bytes
    }

    /// The records of an epoch, each with the sector behind it. `checks` is false in one twin.
    pub fn records(&self, part: &[u8], epoch: u64, checks: bool) -> Vec<(Record, u32)> {
        let Range { start, end } = self.area(epoch);
        let (mut at, mut found) = (start, Vec::new());
        while at < end {
            let bytes = &part[at as usize * SECTOR..end as usize * SECTOR];
            match decode(bytes, epoch, checks) {
                Some(record) => {
                    at += self.record((record.data.len() / SECTOR) as u32);
                    found.push((record, at));
                }
                // A record that was lost or torn: valid ones may follow it.
                None => at += self.granule,
            }
        }
        found
    }
}

/// Sectors written to the log.
#[derive(Clone, Debug)]
pub struct Record {
    pub epoch: u64,
    /// The order of records.
    pub seq: u64,
    /// The first sector of the guest.
    pub first: u32,
    pub data: Vec<u8>,
}

fn decode(bytes: &[u8], epoch: u64, checks: bool) -> Option<Record> {
    let [magic, found, seq, first, sectors, sum] = get(bytes);
    if magic != RECORD || found != epoch {
        return None;
    }
    let data = bytes.get(SECTOR..SECTOR + usize::try_from(sectors).ok()? * SECTOR)?;
    let valid = !checks || sum == checksum(&[magic, found, seq, first, sectors], data);
    valid.then(|| Record { epoch, seq, first: first as u32, data: data.to_vec() })
}

fn sectors_of(data: u32, granule: u32) -> u32 {
    (1 + data).next_multiple_of(granule)
}

fn put(bytes: &mut [u8], words: &[u64]) {
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

fn get<const N: usize>(bytes: &[u8]) -> [u64; N] {
    std::array::from_fn(|nth| word(&bytes[8 * nth..]))
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes"))
}

fn checksum(head: &[u64], data: &[u8]) -> u64 {
    let data = data.chunks_exact(8).map(word);
    head.iter().copied().chain(data).fold(0xcbf2_9ce4_8422_2325, |sum: u64, word| {
        let mixed = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    })
}
