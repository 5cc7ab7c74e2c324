//! What a hostile guest, a host and the power do, as a fuzzer writes it.
//!
//! Nearly everything can be anything, but the short words mean what a driver would do: so most
//! scripts are good rings with a scribble on them, and mutation goes from there.

use arbitrary::Arbitrary;

/// What stands before a script: the device, the disk, and how the rings are placed.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Setup {
    /// What the driver accepts of EVENT_IDX, FLUSH, CONFIG_WCE, DISCARD, WRITE_ZEROES, INDIRECT,
    /// RING_RESET: a bit each declines one.
    pub(super) declines: u8,
    /// Granule, tearing, transfers and depth of the disk.
    pub(super) disk: u8,
    /// Sizes of the two rings.
    pub(super) sizes: u8,
    /// Of four, in one the host may fail; of sixteen, one has a disk that is read-only.
    pub(super) host: u8,
    /// Of four, in one nobody is there but the hostile queue.
    pub(super) alone: u8,
    /// Of eight, in one the hostile ring is placed at these addresses.
    pub(super) odd_ring: u8,
    pub(super) ring_at: [u16; 3],
}

/// A guest address.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Place {
    /// In the ring, from its start.
    Ring(u8),
    /// The header of a request.
    Header(u8),
    /// The status byte of a request.
    Status(u8),
    /// A sector of data.
    Data(u8),
    /// An indirect table.
    Table(u8),
    Anywhere(u16),
    Any(u64),
}

/// A length in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Length {
    One,
    Header,
    Sectors(u8),
    Entries(u8),
    Any(u32),
}

/// A well-formed request of the hostile guest, before anybody scribbles on it.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Request {
    /// IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, or any.
    pub(super) kind: u8,
    pub(super) sector: u8,
    pub(super) sectors: u8,
    /// Which header, status and data it uses.
    pub(super) slot: u8,
    /// Through an indirect table, published, kicked: a bit each says no.
    pub(super) how: u8,
}

/// What the host does to one operation.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Host {
    Effect(u32),
    Done(u32),
    Short(u8),
    Fails { errno: u8, landed: u32, forgot: u32 },
}

/// What the well-behaved guest does on its queue.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Good {
    Write { sector: u8, sectors: u8, layout: u16 },
    Read { sector: u8, sectors: u8, layout: u16 },
    Flush,
    Zero { sector: u8, sectors: u8 },
    Discard { sector: u8, sectors: u8 },
    Kick,
    Reap { arm: bool },
}

/// One thing that happens.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Move {
    /// The hostile guest writes a request by the book.
    Request(Request),
    /// It writes one descriptor.
    Descriptor {
        table: u8,
        index: u8,
        place: Place,
        length: Length,
        flags: u8,
        next: u16,
    },
    /// It writes anything anywhere.
    Scribble {
        place: Place,
        bytes: [u8; 8],
        len: u8,
    },
    /// It publishes a head.
    Offer {
        head: u16,
    },
    /// It moves the available index.
    Jump {
        by: i8,
    },
    Kick,
    /// The thread of its queue runs.
    Crank {
        steps: u8,
    },
    Good(Good),
    /// The thread of the good queue runs.
    CrankGood {
        steps: u8,
    },
    Host {
        nth: u8,
        what: Host,
    },
    /// The host writes back, unasked.
    WriteBack {
        mask: u32,
    },
    /// The guest writes the cache mode, as bytes anywhere in the configuration space if `odd`.
    Mode {
        value: u8,
        odd: bool,
        offset: u8,
    },
    Reset,
    /// The hostile queue alone is reset, or placed again.
    ResetQueue,
    PauseOrResume,
    /// The device is saved and restored, if it is paused and has nothing in flight.
    SaveAndRestore,
    /// Everything comes to rest, and is looked at.
    Rest,
    Power {
        survivors: u32,
        wipes: bool,
    },
}

/// A whole script.
#[derive(Arbitrary, Clone, Debug)]
pub(super) struct Script {
    pub(super) setup: Setup,
    pub(super) moves: Vec<Move>,
}
