//! The first things that a device under test needs: the device's half of a split ring, a parser for
//! block requests, and a configuration space.
//!
//! Nothing here is used by our own device, which brings its own. It is plain code over
//! [`Ram`]: no other thread looks on, so there are no barriers.

use crate::dut::{Progress, Spec};
use crate::guest::RingPlan;
use crate::guest::memory::Ram;
use crate::guest::wire::config;
use crate::guest::wire::request::HEADER;
use crate::guest::wire::ring::{DESCRIPTOR, INDIRECT, NEXT, NO_INTERRUPT, WRITE};

/// A buffer in guest memory: its address and its length in bytes.
pub type Span = (u32, u32);

/// A chain of descriptors, with indirect tables resolved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// Its head.
    pub head: u16,
    /// What the device reads, in order.
    pub readable: Vec<Span>,
    /// What the device writes, in order.
    pub writable: Vec<Span>,
    /// Whether it makes sense: it ends, names no descriptor that does not exist, and has no
    /// readable buffer behind a writable one.
    pub whole: bool,
}

impl Chain {
    /// Bytes the device reads.
    #[must_use]
    pub fn readable_len(&self) -> u32 {
        self.readable.iter().map(|span| span.1).sum()
    }

    /// Bytes the device writes.
    #[must_use]
    pub fn writable_len(&self) -> u32 {
        self.writable.iter().map(|span| span.1).sum()
    }

    /// Copies `out.len()` bytes of the readable part, from byte `from` on.
    pub fn read(&self, ram: &Ram<'_>, from: u32, out: &mut [u8]) {
        let len = out.len() as u32;
        each_piece(&self.readable, from, len, |at, done, len| {
            let done = done as usize;
            ram.read_into(at, &mut out[done..done + len as usize]);
        });
    }

    /// Writes bytes into the writable part, from byte `from` on.
    pub fn write(&self, ram: &Ram<'_>, from: u32, bytes: &[u8]) {
        each_piece(&self.writable, from, bytes.len() as u32, |at, done, len| {
            let done = done as usize;
            ram.write(at, &bytes[done..done + len as usize]);
        });
    }
}

/// Calls `f` with address, bytes before it and length of every piece of `[from, from + len)`.
fn each_piece(spans: &[Span], from: u32, len: u32, mut f: impl FnMut(u32, u32, u32)) {
    let (mut skip, mut done) = (from, 0);
    for &(at, size) in spans {
        if skip >= size {
            skip -= size;
            continue;
        }
        let piece = (size - skip).min(len - done);
        if piece > 0 {
            f(at + skip, done, piece);
        }
        (skip, done) = (0, done + piece);
    }
}

/// The device's half of a split ring (virtio 1.4, 2.7).
#[derive(Clone, Debug)]
pub struct DeviceRing {
    plan: RingPlan,
    next_avail: u16,
    next_used: u16,
    broken: bool,
}

impl DeviceRing {
    /// A ring as the driver has placed it.
    #[must_use]
    pub fn new(plan: RingPlan) -> DeviceRing {
        DeviceRing { plan, next_avail: plan.base, next_used: plan.base, broken: false }
    }

    /// Whether the driver has broken it: a device must ask for a reset then (ST-02).
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// How many heads are published and not taken.
    #[must_use]
    pub fn waiting(&self, ram: &Ram<'_>) -> u16 {
        u16::from_le_bytes(ram.read(self.plan.available + 2)).wrapping_sub(self.next_avail)
    }

    /// The next chain, if there is one, and asks to be kicked for the one after it.
    pub fn pop(&mut self, ram: &Ram<'_>) -> Option<Chain> {
        let word = |at| u16::from_le_bytes(ram.read(at));
        let waiting = self.waiting(ram);
        self.broken |= waiting > self.plan.size;
        if self.broken || waiting == 0 {
            return None;
        }
        let head = word(self.plan.available + 4 + 2 * u32::from(self.next_avail % self.plan.size));
        self.next_avail = self.next_avail.wrapping_add(1);
        if self.plan.event_idx {
            // Without EVENT_IDX the ring ends before `avail_event`.
            let event = self.plan.used + 4 + 8 * u32::from(self.plan.size);
            ram.write(event, &self.next_avail.to_le_bytes());
        }
        Some(self.walk(ram, head))
    }

    /// The chain that starts at `head`.
    #[must_use]
    pub fn walk(&self, ram: &Ram<'_>, head: u16) -> Chain {
        let mut chain = Chain { head, whole: true, ..Chain::default() };
        let (mut table, mut size, mut index) = (self.plan.descriptors, self.plan.size, head);
        for _ in 0..2 * u32::from(self.plan.size) + 16 {
            if index >= size {
                break;
            }
            let bytes: [u8; 16] = ram.read(table + u32::from(index) * DESCRIPTOR);
            let word = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);
            let at = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
            let len = u32::from_le_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]);
            let flags = word(12);
            if flags & INDIRECT != 0 {
                (table, size, index) = (at, (len / DESCRIPTOR) as u16, 0);
                continue;
            }
            if flags & WRITE != 0 {
                chain.writable.push((at, len));
            } else {
                chain.whole &= chain.writable.is_empty();
                chain.readable.push((at, len));
            }
            if flags & NEXT == 0 {
                return chain;
            }
            index = word(14);
        }
        chain.whole = false;
        chain
    }

    /// Returns a chain with the number of bytes written into it. True if the driver wants to be
    /// signalled; to signal it all the same is no mistake.
    pub fn push(&mut self, ram: &Ram<'_>, head: u16, len: u32) -> bool {
        let at = self.plan.used + 4 + 8 * u32::from(self.next_used % self.plan.size);
        ram.write(at, &u32::from(head).to_le_bytes());
        ram.write(at + 4, &len.to_le_bytes());
        let word = |at| u16::from_le_bytes(ram.read(at));
        let wants = if self.plan.event_idx {
            word(self.plan.available + 4 + 2 * u32::from(self.plan.size)) == self.next_used
        } else {
            word(self.plan.available) & NO_INTERRUPT == 0
        };
        self.next_used = self.next_used.wrapping_add(1);
        ram.write(self.plan.used + 2, &self.next_used.to_le_bytes());
        wants
    }
}

/// A block request: a header of 16 readable bytes, data, and a status byte, which is the last of
/// the writable ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockRequest {
    /// The chain it came in.
    pub chain: Chain,
    /// Its type.
    pub kind: u32,
    /// Its `sector` field.
    pub sector: u64,
    /// Bytes of the data part that the device reads.
    pub data_out: u32,
    /// Bytes of the data part that the device writes.
    pub data_in: u32,
}

impl BlockRequest {
    /// Takes a chain apart; gives it back if it cannot be answered at all, or has no header.
    ///
    /// # Errors
    /// The chain, to be [failed](fail).
    pub fn parse(ram: &Ram<'_>, chain: Chain) -> Result<BlockRequest, Chain> {
        let (readable, writable) = (chain.readable_len(), chain.writable_len());
        if !chain.whole || readable < HEADER || writable == 0 {
            return Err(chain);
        }
        let mut header = [0; HEADER as usize];
        chain.read(ram, 0, &mut header);
        let [a, b, c, d, .., e, f, g, h, i, j, k, l] = header;
        Ok(BlockRequest {
            chain,
            kind: u32::from_le_bytes([a, b, c, d]),
            sector: u64::from_le_bytes([e, f, g, h, i, j, k, l]),
            data_out: readable - HEADER,
            data_in: writable - 1,
        })
    }

    /// The data part that the device reads.
    #[must_use]
    pub fn data(&self, ram: &Ram<'_>) -> Vec<u8> {
        let mut bytes = vec![0; self.data_out as usize];
        self.chain.read(ram, HEADER, &mut bytes);
        bytes
    }

    /// Answers with a status, and `data` before it if there is any. Returns the used length.
    pub fn answer(&self, ram: &Ram<'_>, status: u8, data: &[u8]) -> u32 {
        let data = &data[..data.len().min(self.data_in as usize)];
        self.chain.write(ram, 0, data);
        self.chain.write(ram, self.data_in, &[status]);
        // Only what lies before the first unwritten byte counts: virtio 1.4, 2.7.8.2 (VS-13).
        if data.len() == self.data_in as usize { self.data_in + 1 } else { data.len() as u32 }
    }
}

/// Answers an invalid chain with IOERR, if it has a writable byte. Returns the used
/// length, zero.
pub fn fail(ram: &Ram<'_>, chain: &Chain) -> u32 {
    if let Some(last) = chain.writable_len().checked_sub(1) {
        chain.write(ram, last, &[1]);
    }
    0
}

/// Takes the next chain from a ring, if there is one, and answers it: with the status and the data
/// that `answer` gives for a request, or in the one way there is if the chain is invalid.
pub fn serve(
    ring: &mut DeviceRing,
    ram: &Ram<'_>,
    answer: impl FnOnce(&BlockRequest) -> (u8, Vec<u8>),
) -> Progress {
    let Some(chain) = ring.pop(ram) else { return Progress::Idle };
    let head = chain.head;
    let len = match BlockRequest::parse(ram, chain) {
        Err(chain) => fail(ram, &chain),
        Ok(request) => {
            let (status, data) = answer(&request);
            request.answer(ram, status, &data)
        }
    };
    if ring.push(ram, head, len) { Progress::Signal } else { Progress::Busy }
}
/// The configuration space of a block device: virtio 1.4, 5.2.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigSpace {
    bytes: [u8; config::END],
}

impl ConfigSpace {
    /// The space of a device with these parameters. Segments of data have no limit but the ring.
    #[must_use]
    pub fn of(spec: &Spec) -> ConfigSpace {
        let mut space = ConfigSpace { bytes: [0; config::END] };
        space.put(config::CAPACITY, &u64::from(spec.disk.capacity).to_le_bytes());
        space.put(config::SIZE_MAX, &(1u32 << 22).to_le_bytes());
        let segments = u32::from(spec.ring_size).saturating_sub(2).max(1);
        space.put(config::SEG_MAX, &segments.to_le_bytes());
        space.put(config::BLK_SIZE, &512u32.to_le_bytes());
        space.put(config::WRITEBACK, &[u8::from(spec.writeback)]);
        space.put(config::NUM_QUEUES, &spec.queues.to_le_bytes());
        for at in [config::MAX_DISCARD_SECTORS, config::MAX_WRITE_ZEROES_SECTORS] {
            space.put(at, &spec.max_segment_sectors.to_le_bytes());
        }
        for at in [config::MAX_DISCARD_SEG, config::MAX_WRITE_ZEROES_SEG] {
            space.put(at, &spec.max_segments.to_le_bytes());
        }
        space
    }

    /// Sets the bytes from `offset` on.
    ///
    /// # Panics
    /// If they end beyond the space.
    pub fn put(&mut self, offset: u64, bytes: &[u8]) {
        let start = offset as usize;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }

    /// Reads any range: the answer to
    /// [`config_read`](crate::dut::DeviceUnderTest::config_read). Bytes beyond the space are zero.
    pub fn read(&self, offset: u64, out: &mut [u8]) {
        out.fill(0);
        let start = usize::try_from(offset).unwrap_or(config::END).min(config::END);
        let len = out.len().min(config::END - start);
        out[..len].copy_from_slice(&self.bytes[start..start + len]);
    }
}
