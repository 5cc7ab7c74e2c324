//! The requests a queue has taken and not yet answered, each in a slot.
//!
//! Requests are not keyed by head, because a driver may publish a head twice, and those are two
//! requests. A slot is freed by one of two calls, *answered* or *abandoned*. Each operation of a
//! request is named by the slot and a generation that changes with every completion, so a request
//! in flight can be neither forgotten nor completed twice.

use crate::bounce::Bounce;
use crate::buffer::Ranges;
use crate::disk::Token;
use crate::flush_group::SyncNumber;
use crate::plan::{Extent, Move};
use smallvec::SmallVec;
use vm_memory::GuestAddress;

/// The index of a slot.
pub(crate) type Slot = u32;

/// The type of a request that needs a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    In,
    Out,
    Flush,
    Discard,
    WriteZeroes,
    /// A sync for the device itself, without a chain.
    InternalFlush,
}

/// The event that a request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// Its operation is handed over.
    Ready,
    /// Its operation completes.
    Host,
    /// Its range lock is granted.
    Lock,
    /// This sync, or a later one, ends.
    Sync(SyncNumber),
}

/// A request's part in the next or current sync of the flush group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SyncPart {
    None,
    /// It starts the next one.
    Leads,
    /// It runs the current one.
    Runs,
}

/// A request from intake to answer.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// The chain's first descriptor, which identifies the request to the driver.
    pub(crate) head: u16,
    /// The address of the status byte.
    pub(crate) status: GuestAddress,
    pub(crate) kind: Kind,
    pub(crate) place: Place,
    /// The operation that is ready or in the host's hands.
    pub(crate) doing: Move,
    /// Guest memory of the data of an `In` or `Out`; counted in [`Slots::pieces`].
    pub(crate) data: Ranges,
    /// Whether the writable part has bytes before the status.
    pub(crate) has_writable: bool,
    /// The disk ranges; empty for `Flush` and `InternalFlush`.
    pub(crate) extents: SmallVec<[Extent; 1]>,
    /// Index of the current extent, and the number of its bytes that are done.
    pub(crate) at: usize,
    pub(crate) done: u64,
    /// Whether a completed write has to be stable; sampled once, when the request was taken.
    pub(crate) write_through: bool,
    /// Whether the disk reported that it does not support write-zeroes.
    pub(crate) zero_by_write: bool,
    /// Whether it has an entry in the range locks.
    pub(crate) locked: bool,
    /// Its part in the flush group.
    pub(crate) sync: SyncPart,
    /// Number of completions in a row without progress.
    pub(crate) retries: u8,
    /// The granule between its read and its write-back.
    pub(crate) patch: Option<Bounce>,
}

impl Request {
    fn vacant() -> Request {
        Request {
            head: 0,
            status: GuestAddress(0),
            kind: Kind::Flush,
            place: Place::Ready,
            doing: Move::Sync,
            data: Ranges::new(),
            has_writable: false,
            extents: SmallVec::new(),
            at: 0,
            done: 0,
            write_through: false,
            zero_by_write: false,
            locked: false,
            sync: SyncPart::None,
            retries: 0,
            patch: None,
        }
    }
}

#[derive(Clone, Debug)]
struct Entry {
    generation: u32,
    live: bool,
    /// Not cleared when the slot is freed, so that its vectors keep their capacity.
    request: Request,
}

/// Maximum capacity of a range list that is kept when its slot is freed; a driver that keeps to
/// `seg_max` needs no more.
const MOST_KEPT: usize = 128;

/// Maximum number of slots kept over a reset.
const MOST_SLOTS: usize = 256;

/// The slots of one queue; as many as were ever needed at once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slots {
    entries: Vec<Entry>,
    /// The slots that are not live.
    free: Vec<Slot>,
    /// Number of guest memory ranges that the live requests hold together.
    pieces: usize,
}

impl Slots {
    /// Number of live requests.
    pub(crate) fn live(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Number of guest memory ranges that the live requests hold together.
    pub(crate) fn pieces(&self) -> usize {
        self.pieces
    }

    /// Counts the guest memory ranges that a request was given.
    pub(crate) fn count_data(&mut self, slot: Slot) {
        self.pieces += self.get(slot).data.len();
    }

    /// Releases the slots that only an unusual number of requests needed. To be called when no
    /// request is live.
    pub(crate) fn shrink(&mut self) {
        assert_eq!(self.live(), 0, "a live request keeps its slot");
        if self.entries.len() > MOST_SLOTS {
            self.entries.truncate(MOST_SLOTS);
            self.entries.shrink_to_fit();
            self.free = (0..MOST_SLOTS as Slot).rev().collect();
        }
    }

    /// Takes a slot for a request of `kind`; the caller fills in the rest.
    pub(crate) fn open(&mut self, head: u16, status: GuestAddress, kind: Kind) -> Slot {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry { generation: 0, live: false, request: Request::vacant() });
            self.entries.len() as Slot - 1
        });
        let entry = &mut self.entries[slot as usize];
        assert!(!entry.live, "a free slot is not live");
        entry.live = true;
        let request = &mut entry.request;
        assert!(request.patch.is_none() && request.data.is_empty(), "a free slot holds no memory");
        request.head = head;
        request.status = status;
        request.kind = kind;
        request.extents.clear();
        request.at = 0;
        request.done = 0;
        request.zero_by_write = false;
        request.retries = 0;
        slot
    }

    /// The request in a live slot.
    pub(crate) fn get(&self, slot: Slot) -> &Request {
        let entry = &self.entries[slot as usize];
        assert!(entry.live, "slot {slot} holds no request");
        &entry.request
    }

    /// The request in a live slot, mutable.
    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut Request {
        let entry = &mut self.entries[slot as usize];
        assert!(entry.live, "slot {slot} holds no request");
        &mut entry.request
    }

    /// The name of the operation of the request in `slot`.
    pub(crate) fn token(&self, slot: Slot) -> Token {
        Token::new(slot, self.entries[slot as usize].generation)
    }

    /// The slot of a completed operation, whose name becomes invalid.
    ///
    /// # Panics
    /// If no operation of that name is in the host's hands: the disk completed one twice, or one
    /// that was never submitted.
    pub(crate) fn completed(&mut self, token: Token) -> Slot {
        let named = |entry: &&mut Entry| {
            entry.live
                && entry.generation == token.generation()
                && entry.request.place == Place::Host
        };
        match self.entries.get_mut(token.slot() as usize).filter(named) {
            Some(entry) => entry.generation = entry.generation.wrapping_add(1),
            None => panic!("the disk completed {token:?}, which is not in its hands"),
        }
        token.slot()
    }

    /// Frees the slot of a request whose chain has been used.
    pub(crate) fn answered(&mut self, slot: Slot) {
        self.close(slot);
    }

    /// Frees the slot of a request that a reset ended.
    pub(crate) fn abandoned(&mut self, slot: Slot) {
        self.close(slot);
    }

    /// The live slots, from the lowest.
    pub(crate) fn iter_live(&self) -> impl Iterator<Item = Slot> {
        let live = |(slot, entry): (usize, &Entry)| entry.live.then_some(slot as Slot);
        self.entries.iter().enumerate().filter_map(live)
    }

    fn close(&mut self, slot: Slot) {
        let entry = &mut self.entries[slot as usize];
        let request = &entry.request;
        assert!(entry.live, "slot {slot} holds no request");
        assert!(request.place != Place::Host, "it is still in the host's hands");
        assert!(!request.locked, "it still holds its range lock");
        assert!(request.sync == SyncPart::None, "the flush group still needs its sync");
        entry.live = false;
        let data = &mut entry.request.data;
        assert!(self.pieces >= data.len(), "the ranges of this request were counted");
        self.pieces -= data.len();
        data.clear();
        if data.capacity() > MOST_KEPT {
            *data = Ranges::new();
        }
        self.free.push(slot);
    }
}
