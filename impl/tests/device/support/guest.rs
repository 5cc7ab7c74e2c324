//! A driver of one split ring, with control over the division of requests into descriptors.

use powerfail_device::{QueueLayout, wire::*};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

type Memory = GuestMemoryMmap<()>;

pub const NEXT: u16 = 1;
pub const WRITE: u16 = 2;
pub const INDIRECT: u16 = 4;
/// The value of a status byte before the device writes it.
pub const UNANSWERED: u8 = 0xee;

/// One descriptor, without its links.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece {
    pub addr: u64,
    pub len: u32,
    pub write: bool,
}

/// A request, without its layout.
#[derive(Clone, Debug)]
pub struct Request {
    pub kind: u32,
    pub sector: u64,
    /// Bytes that the device reads after the header.
    pub out: Vec<u8>,
    /// The number of bytes that the device may write before the status.
    pub room: u32,
}

pub fn write(sector: u64, byte: u8, sectors: usize) -> Request {
    Request { kind: T_OUT, sector, out: vec![byte; sectors * 512], room: 0 }
}

pub fn read(sector: u64, sectors: u32) -> Request {
    Request { kind: T_IN, sector, out: vec![], room: sectors * 512 }
}

pub fn flush() -> Request {
    Request { kind: T_FLUSH, sector: 0, out: vec![], room: 0 }
}

pub fn get_id(room: u32) -> Request {
    Request { kind: T_GET_ID, sector: 0, out: vec![], room }
}

/// A DISCARD or WRITE_ZEROES of `(sector, sectors, flags)` segments.
pub fn segments(kind: u32, segments: &[(u64, u32, u32)]) -> Request {
    let mut out = Vec::new();
    for (sector, sectors, flags) in segments {
        out.extend(sector.to_le_bytes());
        out.extend(sectors.to_le_bytes());
        out.extend(flags.to_le_bytes());
    }
    Request { kind, sector: 0, out, room: 0 }
}

pub fn discard(sector: u64, sectors: u32) -> Request {
    segments(T_DISCARD, &[(sector, sectors, 0)])
}

pub fn zeroes(sector: u64, sectors: u32) -> Request {
    segments(T_WRITE_ZEROES, &[(sector, sectors, 0)])
}

/// A published request and the addresses of its parts.
#[derive(Clone, Debug)]
pub struct Sent {
    pub head: u16,
    pub status: u64,
    pub data: u64,
    pub room: u32,
}

impl Sent {
    pub fn status(&self, memory: &Memory) -> u8 {
        memory.read_obj(GuestAddress(self.status)).expect("the status is in memory")
    }

    /// The bytes that the device wrote before the status.
    pub fn data(&self, memory: &Memory) -> Vec<u8> {
        let mut bytes = vec![0; self.room as usize];
        memory.read_slice(&mut bytes, GuestAddress(self.data)).expect("the data is in memory");
        bytes
    }
}

/// The driver's side of one ring.
#[derive(Clone)]
pub struct Guest {
    pub layout: QueueLayout,
    pub avail: u16,
    pub seen: u16,
    next_descriptor: u16,
    /// Address of the next buffer; buffers are never used again.
    next_byte: u64,
}

impl Guest {
    pub fn new(memory: &Memory, layout: QueueLayout, _event_idx: bool) -> Guest {
        let index = layout.descriptors / 0x1000;
        memory
            .write_slice(&[0; 0x1000], GuestAddress(layout.descriptors))
            .expect("rings are in memory");
        let next_byte = 0x1_0000 * index + 0x1_0000;
        Guest { layout, avail: 0, seen: 0, next_descriptor: 0, next_byte }
    }

    /// Allocates `len` bytes of memory that were never used; wraps around within the queue's 60
    /// KiB.
    pub fn take(&mut self, len: u64) -> u64 {
        let index = self.layout.descriptors / 0x1000;
        let base = 0x1_0000 * index + 0x1_0000;
        if self.next_byte + len > base + 0x1_0000 {
            self.next_byte = base;
        }
        let at = self.next_byte;
        self.next_byte += len;
        at
    }

    /// Publishes a request in the usual three descriptors.
    pub fn send(&mut self, memory: &Memory, request: &Request) -> Sent {
        let (sent, bytes) = self.place(memory, request);
        let cuts = Cuts { header: vec![16], data: vec![u32::MAX], glued: false };
        self.publish_cut(memory, sent, bytes, &cuts, false)
    }

    /// Publishes a request with the layout `cuts`, through an indirect table if `indirect` is set.
    pub fn send_cut(
        &mut self,
        memory: &Memory,
        request: &Request,
        cuts: &Cuts,
        indirect: bool,
    ) -> Sent {
        let (sent, bytes) = self.place(memory, request);
        self.publish_cut(memory, sent, bytes, cuts, indirect)
    }

    fn place(&mut self, memory: &Memory, request: &Request) -> (Sent, Bytes3) {
        let mut header = [0; 16];
        header[..4].copy_from_slice(&request.kind.to_le_bytes());
        header[4..8].copy_from_slice(&0xdead_beef_u32.to_le_bytes());
        header[8..].copy_from_slice(&request.sector.to_le_bytes());
        let at = self.take(16);
        memory.write_slice(&header, GuestAddress(at)).expect("header");
        let out = self.take(request.out.len() as u64);
        memory.write_slice(&request.out, GuestAddress(out)).expect("data");
        // Data room and status are adjacent, so that they can share a descriptor; a canary follows.
        let data = self.take(u64::from(request.room) + 2);
        let mut fill = vec![0x5a; request.room as usize];
        fill.extend([UNANSWERED, 0xcc]);
        memory.write_slice(&fill, GuestAddress(data)).expect("room");
        let status = data + u64::from(request.room);
        let bytes = Bytes3 { header: at, out, out_len: request.out.len() as u32 };
        (Sent { head: 0, status, data, room: request.room }, bytes)
    }

    fn publish_cut(
        &mut self,
        memory: &Memory,
        mut sent: Sent,
        bytes: Bytes3,
        cuts: &Cuts,
        indirect: bool,
    ) -> Sent {
        let mut pieces = Vec::new();
        cut(bytes.header, 16, &cuts.header, false, &mut pieces);
        if bytes.out_len > 0 {
            cut(bytes.out, bytes.out_len, &cuts.data, false, &mut pieces);
        }
        if cuts.glued {
            cut(sent.data, sent.room + 1, &cuts.data, true, &mut pieces);
        } else {
            if sent.room > 0 {
                cut(sent.data, sent.room, &cuts.data, true, &mut pieces);
            }
            pieces.push(Piece { addr: sent.status, len: 1, write: true });
        }
        sent.head = if indirect {
            let table = self.take(16 * pieces.len() as u64 + 16).next_multiple_of(16);
            self.write_chain(memory, table, 0, &pieces, u16::MAX);
            let head = self.descriptor();
            let len = 16 * pieces.len() as u32;
            // The WRITE flag of a descriptor that points at a table is to be ignored (VS-07).
            self.write_descriptor(
                memory,
                self.layout.descriptors,
                head,
                table,
                len,
                INDIRECT | WRITE,
                0,
            );
            head
        } else {
            self.chain(memory, &pieces)
        };
        self.publish(memory, sent.head);
        sent
    }

    /// Writes a chain into the descriptor table. Returns its head.
    pub fn chain(&mut self, memory: &Memory, pieces: &[Piece]) -> u16 {
        let first = self.next_descriptor;
        let size = self.layout.size;
        self.next_descriptor = (first + pieces.len() as u16) % size;
        self.write_chain(memory, self.layout.descriptors, first, pieces, size);
        first
    }

    fn write_chain(&self, memory: &Memory, table: u64, first: u16, pieces: &[Piece], size: u16) {
        for (at, piece) in pieces.iter().enumerate() {
            let index = (first + at as u16) % size;
            let last = at + 1 == pieces.len();
            let flags = if last { 0 } else { NEXT } | if piece.write { WRITE } else { 0 };
            let next = if last { 0 } else { (index + 1) % size };
            self.write_descriptor(memory, table, index, piece.addr, piece.len, flags, next);
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a descriptor and where it goes")]
    pub fn write_descriptor(
        &self,
        memory: &Memory,
        table: u64,
        index: u16,
        addr: u64,
        len: u32,
        flags: u16,
        next: u16,
    ) {
        let mut raw = [0; 16];
        raw[..8].copy_from_slice(&addr.to_le_bytes());
        raw[8..12].copy_from_slice(&len.to_le_bytes());
        raw[12..14].copy_from_slice(&flags.to_le_bytes());
        raw[14..].copy_from_slice(&next.to_le_bytes());
        let at = GuestAddress(table + 16 * u64::from(index));
        memory.write_slice(&raw, at).expect("descriptors are in memory");
    }

    fn descriptor(&mut self) -> u16 {
        let index = self.next_descriptor;
        self.next_descriptor = (index + 1) % self.layout.size;
        index
    }

    /// Publishes a head.
    pub fn publish(&mut self, memory: &Memory, head: u16) {
        let entry = self.layout.available + 4 + 2 * u64::from(self.avail % self.layout.size);
        memory.write_obj(head.to_le(), GuestAddress(entry)).expect("ring");
        self.avail = self.avail.wrapping_add(1);
        self.set_avail_idx(memory, self.avail);
    }

    pub fn set_avail_idx(&self, memory: &Memory, idx: u16) {
        memory.write_obj(idx.to_le(), GuestAddress(self.layout.available + 2)).expect("ring");
    }

    pub fn set_avail_flags(&self, memory: &Memory, flags: u16) {
        memory.write_obj(flags.to_le(), GuestAddress(self.layout.available)).expect("ring");
    }

    /// Requests a signal once `used.idx` passes `idx`.
    pub fn set_used_event(&self, memory: &Memory, idx: u16) {
        let at = self.layout.available + 4 + 2 * u64::from(self.layout.size);
        memory.write_obj(idx.to_le(), GuestAddress(at)).expect("ring");
    }

    pub fn avail_event(&self, memory: &Memory) -> u16 {
        let at = self.layout.used + 4 + 8 * u64::from(self.layout.size);
        u16::from_le(memory.read_obj(GuestAddress(at)).expect("ring"))
    }

    pub fn used_flags(&self, memory: &Memory) -> u16 {
        u16::from_le(memory.read_obj(GuestAddress(self.layout.used)).expect("ring"))
    }

    pub fn used_idx(&self, memory: &Memory) -> u16 {
        u16::from_le(memory.read_obj(GuestAddress(self.layout.used + 2)).expect("ring"))
    }

    /// The entries used since the last reaping, as `(head, len)`.
    pub fn reap(&mut self, memory: &Memory) -> Vec<(u16, u32)> {
        let mut entries = Vec::new();
        while self.seen != self.used_idx(memory) {
            let at = self.layout.used + 4 + 8 * u64::from(self.seen % self.layout.size);
            let id: u32 = memory.read_obj(GuestAddress(at)).expect("ring");
            let len: u32 = memory.read_obj(GuestAddress(at + 4)).expect("ring");
            entries.push((u16::try_from(u32::from_le(id)).expect("a head"), u32::from_le(len)));
            self.seen = self.seen.wrapping_add(1);
        }
        entries
    }
}

/// The division of a request's bytes into descriptors: the lengths of the pieces; the last one
/// takes the rest.
#[derive(Clone, Debug)]
pub struct Cuts {
    pub header: Vec<u32>,
    pub data: Vec<u32>,
    /// Whether the status shares a descriptor with the writable data.
    pub glued: bool,
}

/// Addresses of the readable parts.
struct Bytes3 {
    header: u64,
    out: u64,
    out_len: u32,
}

fn cut(addr: u64, len: u32, lengths: &[u32], write: bool, pieces: &mut Vec<Piece>) {
    let mut at = 0;
    for length in lengths {
        let piece = (*length).min(len - at);
        pieces.push(Piece { addr: addr + u64::from(at), len: piece, write });
        at += piece;
    }
    if at < len {
        pieces.push(Piece { addr: addr + u64::from(at), len: len - at, write });
    }
}
