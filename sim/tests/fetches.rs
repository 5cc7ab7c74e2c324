//! A guest that changes a request after its publication: a device that fetches every field once is
//! not accused, and one that checks what it fetched first and uses what it fetched second is.

use powerfail::dut::toolkit::{BlockRequest, ConfigSpace, DeviceRing, serve};
use powerfail::dut::{DeviceUnderTest, End, Host, Medium, Profile, Progress, Spec};
use powerfail::guest::RingPlan;
use powerfail::guest::memory::Ram;
use powerfail::guest::wire::{feature, request};
use powerfail::host::disk::SimDisk;
use powerfail::run::{Plan, run_seed, world};
use powerfail_model::Rule;

const OK: u8 = 0;
const IOERR: u8 = 1;
const UNSUPP: u8 = 2;

/// What a device fetches twice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Twice {
    #[default]
    Nothing,
    /// The sector of a read or write: it checks the first and uses the second.
    Sector,
    /// The type: it acts on the first, and answers a second that it does not know with UNSUPP.
    Type,
    /// The segments: it checks the first and uses the second.
    Segments,
    /// The data of a write: the second goes to the medium, and reads are answered with the first
    /// until the next power loss.
    Data,
    /// The descriptors: it takes the length of the transfer from the first and the buffers from the
    /// second.
    Length,
}

/// A disk in memory that answers every request in one step and never loses anything.
#[derive(Clone)]
struct Fetcher {
    bytes: Vec<u8>,
    /// Sectors that reads return instead of those in `bytes`, each with its offset.
    cached: Vec<(usize, Vec<u8>)>,
    spec: Spec,
    accepted: u64,
    rings: Vec<DeviceRing>,
    plans: Vec<RingPlan>,
    twice: Twice,
}

/// A segment: sector, sectors, flags.
fn segments(bytes: &[u8]) -> Vec<(u64, u32, u32)> {
    let (segments, _) = bytes.as_chunks::<16>();
    let parts = |segment: &[u8; 16]| {
        let sector = u64::from_le_bytes(*segment.first_chunk().expect("16 bytes"));
        let rest = u64::from_le_bytes(*segment.last_chunk().expect("16 bytes"));
        (sector, rest as u32, (rest >> 32) as u32)
    };
    segments.iter().map(parts).collect()
}

impl Fetcher {
    fn place(&self, sector: u64, len: usize) -> Option<usize> {
        let start = usize::try_from(sector).ok()?.checked_mul(512)?;
        (len > 0 && len.is_multiple_of(512) && start.checked_add(len)? <= self.bytes.len())
            .then_some(start)
    }

    fn read(&self, start: usize, len: usize) -> Vec<u8> {
        let mut bytes = self.bytes[start..start + len].to_vec();
        for (at, sector) in &self.cached {
            if (start..start + len).contains(at) {
                bytes[at - start..at - start + 512].copy_from_slice(sector);
            }
        }
        bytes
    }

    fn answer(&mut self, asked: &BlockRequest, ram: &Ram<'_>) -> (u8, Vec<u8>) {
        let refetched = || {
            let mut header = [0; 16];
            asked.chain.read(ram, 0, &mut header);
            header
        };
        let needs = match asked.kind {
            request::FLUSH => feature::FLUSH,
            request::DISCARD => feature::DISCARD,
            request::WRITE_ZEROES => feature::WRITE_ZEROES,
            _ => 0,
        };
        match asked.kind {
            _ if self.accepted & needs != needs => (UNSUPP, Vec::new()),
            request::FLUSH => (OK, Vec::new()),
            request::GET_ID if asked.data_in == 20 => (OK, self.spec.serial.to_vec()),
            request::GET_ID => (IOERR, Vec::new()),
            request::IN | request::OUT => {
                let reads = asked.kind == request::IN;
                let len = if reads { asked.data_in } else { asked.data_out } as usize;
                let Some(mut start) = self.place(asked.sector, len) else {
                    return (IOERR, Vec::new());
                };
                if self.twice == Twice::Sector {
                    let [.., a, b, c, d, e, f, g, h] = refetched();
                    start =
                        (u64::from_le_bytes([a, b, c, d, e, f, g, h]) as usize).saturating_mul(512);
                    if start.saturating_add(len) > self.bytes.len() {
                        // What lies behind the disk in memory.
                        self.bytes[0] ^= 0x55;
                        return (OK, vec![0; if reads { len } else { 0 }]);
                    }
                }
                if reads {
                    return (OK, self.read(start, len));
                }
                let first = asked.data(ram);
                let second =
                    if self.twice == Twice::Data { asked.data(ram) } else { first.clone() };
                self.cached.retain(|(at, _)| !(start..start + len).contains(at));
                if first != second {
                    let sectors = first.chunks(512).map(<[u8]>::to_vec);
                    self.cached.extend((start..).step_by(512).zip(sectors));
                }
                self.bytes[start..start + len].copy_from_slice(&second);
                (OK, Vec::new())
            }
            request::DISCARD | request::WRITE_ZEROES => self.ranges(asked, ram),
            _ => (UNSUPP, Vec::new()),
        }
    }

    fn ranges(&mut self, asked: &BlockRequest, ram: &Ram<'_>) -> (u8, Vec<u8>) {
        let zeroes = asked.kind == request::WRITE_ZEROES;
        let data = asked.data(ram);
        let mut list = segments(&data);
        let most = self.spec.max_segments as usize;
        if list.is_empty() || list.len() > most || !data.len().is_multiple_of(16) {
            return (IOERR, Vec::new());
        }
        let legal = if zeroes { request::UNMAP } else { 0 };
        if list.iter().any(|(.., flags)| flags & !legal != 0) {
            return (UNSUPP, Vec::new());
        }
        let fits = |&(sector, sectors, _): &(u64, u32, u32)| {
            let end = sector.checked_add(sectors.into());
            sectors <= self.spec.max_segment_sectors
                && end.is_some_and(|end| end <= self.bytes.len() as u64 / 512)
        };
        if !list.iter().all(fits) {
            return (IOERR, Vec::new());
        }
        if self.twice == Twice::Segments {
            list = segments(&asked.data(ram));
        }
        for (sector, sectors, _) in list {
            let end = (sector as usize).saturating_add(sectors as usize).saturating_mul(512);
            let start = (sector as usize).saturating_mul(512).min(self.bytes.len());
            let end = end.min(self.bytes.len());
            self.cached.retain(|(at, _)| !(start..end).contains(at));
            // What was discarded may read as zeroes.
            self.bytes[start..end].fill(0);
        }
        (OK, Vec::new())
    }
}

impl DeviceUnderTest for Fetcher {
    type Setup = Twice;
    const MEDIUM: Medium = Medium::Own;
    const PROFILE: Profile = Profile::Strict;

    fn open(twice: &Twice, spec: &Spec, disk: &SimDisk, device: u8) -> Fetcher {
        let (bytes, cached) = (disk.image(device).to_vec(), Vec::new());
        let (rings, plans) = (Vec::new(), Vec::new());
        Fetcher { bytes, cached, spec: *spec, accepted: 0, rings, plans, twice: *twice }
    }

    fn restart(&mut self, _: &Twice, _: &Spec, _: &mut Host<'_>, _: End) {
        self.cached.clear();
    }

    fn offered(&self) -> u64 {
        let known = feature::FLUSH | feature::DISCARD | feature::WRITE_ZEROES | feature::MQ;
        feature::VERSION_1 | (self.spec.offer & known)
    }

    fn negotiate(&mut self, accept: u64) -> bool {
        self.accepted = accept;
        accept & !self.offered() == 0 && accept & feature::VERSION_1 != 0
    }

    fn config_read(&mut self, offset: u64, out: &mut [u8]) {
        ConfigSpace::of(&self.spec).read(offset, out);
    }

    fn start(&mut self, rings: &[RingPlan]) {
        self.rings = rings.iter().map(|plan| DeviceRing::new(*plan)).collect();
        self.plans = rings.to_vec();
    }

    fn step(&mut self, queue: u16, host: &mut Host<'_>) -> Progress {
        let nth = usize::from(queue);
        let Some(mut ring) = self.rings.get(nth).cloned() else { return Progress::Idle };
        let ram = host.ram;
        let progress = serve(&mut ring, &ram, |asked| {
            let (status, mut data) = self.answer(asked, &ram);
            match self.twice {
                Twice::Type => {
                    let mut bytes = [0; 4];
                    asked.chain.read(&ram, 0, &mut bytes);
                    let kind = u32::from_le_bytes(bytes);
                    (if request::KNOWN_TYPES.contains(&kind) { status } else { UNSUPP }, data)
                }
                Twice::Length => {
                    let again = DeviceRing::new(self.plans[nth]).walk(&ram, asked.chain.head);
                    data.truncate(again.writable_len().saturating_sub(1) as usize);
                    (status, data)
                }
                _ => (status, data),
            }
        });
        self.rings[nth] = ring;
        progress
    }

    fn begin_reset(&mut self, _: &mut Host<'_>) {
        self.rings.clear();
    }

    fn needs_reset(&mut self) -> bool {
        self.rings.iter().any(DeviceRing::is_broken)
    }
}

/// The first failure in so many seeds from a start.
fn failure(twice: Twice, from: u64, seeds: u64) -> Option<(u64, Rule)> {
    let plan = Plan::default();
    let mut world = world::<Fetcher>(&twice, plan, from);
    (0..seeds).find_map(|nth| {
        let failure = run_seed(&mut world, plan, from + nth, |_| {}).failure;
        failure.map(|failure| (nth + 1, failure.violation.rule))
    })
}

#[test]
fn a_device_that_fetches_once_is_not_accused() {
    assert_eq!(failure(Twice::Nothing, 0, 20_000), None);
}

#[test]
fn a_device_that_fetches_twice_is_caught() {
    for twice in [Twice::Sector, Twice::Type, Twice::Segments, Twice::Data, Twice::Length] {
        let mut found = [0, 100_000, 200_000].map(|from| failure(twice, from, 40_000));
        found.sort_unstable();
        println!("{twice:?}: {found:?}");
        assert!(found.iter().all(Option::is_some), "{twice:?}: {found:?}");
        let median = found[1].map_or(u64::MAX, |found| found.0);
        assert!(median <= 5000, "{twice:?} is caught at {found:?}");
    }
}
