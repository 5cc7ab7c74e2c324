//! A script of the hostile guest, the host and the power, as a fuzzer writes it.
//!
//! Nearly every field accepts any value, but small values encode the actions of a driver. So most
//! scripts are valid rings with a few stray writes, from which mutation starts.

use arbitrary::Arbitrary;

/// The head of a script: the device, the disk, and the placement of the rings.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Setup {
    /// The features EVENT_IDX, FLUSH, CONFIG_WCE, DISCARD, WRITE_ZEROES, INDIRECT and RING_RESET:
    /// each bit declines one.
    pub(super) declines: u8,
    /// Granule, tearing, transfers and depth of the disk.
    pub(super) disk: u8,
    /// Sizes of the two rings.
    pub(super) sizes: u8,
    /// One value of four lets the host fail; one of sixteen makes the disk read-only.
    pub(super) host: u8,
    /// One value of four leaves out the good guest.
    pub(super) alone: u8,
    /// One value of eight places the hostile ring at these addresses.
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

/// A well-formed request of the hostile guest, before stray writes.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Request {
    /// IN, OUT, FLUSH, GET_ID, DISCARD, WRITE_ZEROES, or any.
    pub(super) kind: u8,
    pub(super) sector: u8,
    pub(super) sectors: u8,
    /// The header, status and data that it uses.
    pub(super) slot: u8,
    /// Each bit declines one: an indirect table, publication, a kick.
    pub(super) how: u8,
}

/// An action of the host on one operation.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Host {
    Effect(u32),
    Done(u32),
    Short(u8),
    Fails { errno: u8, landed: u32, forgot: u32 },
}

/// An action of the well-behaved guest.
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

/// One action.
#[derive(Arbitrary, Clone, Debug)]
pub(super) enum Move {
    /// The hostile guest writes a valid request.
    Request(Request),
    /// The hostile guest writes one descriptor.
    Descriptor {
        table: u8,
        index: u8,
        place: Place,
        length: Length,
        flags: u8,
        next: u16,
    },
    /// The hostile guest writes anything anywhere.
    Scribble {
        place: Place,
        bytes: [u8; 8],
        len: u8,
    },
    /// The hostile guest publishes a head.
    Offer {
        head: u16,
    },
    /// The hostile guest moves the available index.
    Jump {
        by: i8,
    },
    Kick,
    /// The thread of the hostile queue runs.
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
    /// The host writes back on its own.
    WriteBack {
        mask: u32,
    },
    /// The guest writes the cache mode; if `odd`, any bytes anywhere in the configuration space.
    Mode {
        value: u8,
        odd: bool,
        offset: u8,
    },
    Reset,
    /// The hostile queue is reset, or placed again.
    ResetQueue,
    PauseOrResume,
    /// The device is saved and restored, if it is paused and has nothing in flight.
    SaveAndRestore,
    /// The device comes to rest and is checked.
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
