//! A guest that writes anything into the queue of a persistent memory, and beside it stores and
//! flushes correctly.
//!
//! There is one queue, so the two guests are one driver with two hands. Descriptors 0 and 1, two
//! buffers and the used ring belong to the good hand, which flushes through them; the hostile hand
//! writes all else. A *tame* script keeps to this. A *wild* one writes everywhere, and then only
//! safety is checked: the bound (`bound`) on the device's writes, and that the device comes to
//! rest.
//!
//! The oracle judges the good hand's requests (PM-D-04, PM-D-05, AMB-36): data stored before the
//! publication of a flush that returned 0 survives every power cut; a flush returns 0 or -1, and 0
//! unless the host may fail. The memory is read back after each cut.

mod bed;

use std::cell::RefCell;

use arbitrary::{Arbitrary, Unstructured};
use powerfail::base::sectors::SectorSet;
use powerfail::host::disk::{Errno, Outcome};

use bed::Bed;

/// The device and its host.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Setup {
    /// The features EVENT_IDX, INDIRECT and SHMEM_REGION: each bit declines one.
    declines: u8,
    size: u8,
    /// One value of four lets the host fail.
    host: u8,
    /// One value of four makes the script wild.
    wild: u8,
    /// One value of eight places a wild ring at these addresses.
    odd_ring: u8,
    ring_at: [u16; 3],
}

/// A guest address.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Place {
    Type(u8),
    Response(u8),
    Table(u8),
    Anywhere(u16),
    Any(u64),
}

/// A length in bytes.
#[derive(Arbitrary, Clone, Copy, Debug)]
enum Length {
    Four,
    Entries(u8),
    Small(u8),
    Any(u32),
}

/// One action.
#[derive(Arbitrary, Clone, Debug)]
enum Move {
    Store {
        word: u8,
        words: u8,
    },
    Load {
        word: u8,
        words: u8,
    },
    /// The good hand publishes a flush, or rarely a request of an unknown type, if it has none in
    /// flight.
    GuestRequest {
        kind: u8,
    },
    /// The hostile hand publishes a request in this form, of this type.
    Request {
        first: u8,
        kind: u8,
        form: u8,
    },
    Descriptor {
        table: bool,
        index: u8,
        place: Place,
        length: Length,
        flags: u8,
        next: u16,
    },
    Scribble {
        place: Place,
        bytes: [u8; 8],
        len: u8,
    },
    Offer {
        head: u16,
    },
    Jump {
        by: i8,
    },
    Kick,
    Crank {
        steps: u8,
    },
    /// The host ends a sync, with or without an error.
    Done {
        extra: u32,
    },
    Fails {
        errno: u8,
        forgot: u32,
    },
    WriteBack {
        mask: u32,
    },
    Reset,
    Rest,
    Power {
        survivors: u32,
    },
}

/// A whole script.
#[derive(Arbitrary, Clone, Debug)]
struct Script {
    setup: Setup,
    moves: Vec<Move>,
}

thread_local! {
    static BED: RefCell<Option<Bed>> = const { RefCell::new(None) };
}

/// Runs the script that the bytes encode.
///
/// # Panics
/// If the device breaks a bound or a promise.
pub fn target(bytes: &[u8]) {
    let Ok(script) = Script::arbitrary_take_rest(Unstructured::new(bytes)) else { return };
    BED.with_borrow_mut(|kept| {
        let mut bed = kept.take().unwrap_or_else(|| Bed::new(script.setup));
        bed.restart(script.setup);
        for next in &script.moves {
            perform(&mut bed, next);
        }
        bed.rest();
        bed.load_all();
        bed.power(SectorSet::EMPTY);
        bed.load_all();
        bed.rest();
        // The bed is not kept after a panic, because its state is unknown then.
        *kept = Some(bed);
    });
}

fn perform(bed: &mut Bed, next: &Move) {
    match *next {
        Move::Store { word, words } => bed.store(word, words),
        Move::Load { word, words } => bed.load(word, words),
        Move::GuestRequest { kind } => bed.ask(u32::from(kind).saturating_sub(0xe0)),
        Move::Request { first, kind, form } => request(bed, first, kind, form),
        Move::Descriptor { table, index, place, length, flags, next } => {
            let address = address(bed, place);
            let next = if next < 0xff00 { next % 20 } else { next };
            bed.descriptor(
                table,
                index % 32,
                address,
                bytes_of(length),
                u16::from(flags) & 7,
                next,
            );
        }
        Move::Scribble { place, bytes, len } => {
            let at = address(bed, place);
            bed.scribble(at, &bytes[..1 + usize::from(len % 8)]);
        }
        Move::Offer { head } => bed.offer(if head < 0xff00 { head % 18 } else { head }),
        Move::Jump { by } => bed.jump(by),
        Move::Kick => bed.kick(),
        Move::Crank { steps } => bed.crank(1 + u32::from(steps % 32)),
        Move::Done { extra } => {
            let landed = bed.subset(extra);
            bed.complete(Outcome::Ok { landed });
        }
        Move::Fails { errno, forgot } => {
            let all = [Errno::EIO, Errno::ENOSPC, Errno::EINTR, Errno::EAGAIN];
            let errno = all[usize::from(errno % 4)];
            let forgot = bed.subset(forgot);
            bed.complete(Outcome::Failed { errno, landed: SectorSet::EMPTY, forgot });
        }
        Move::WriteBack { mask } => {
            let set = bed.subset(mask);
            bed.write_back(set);
        }
        Move::Reset => bed.reset(),
        Move::Rest => bed.rest(),
        Move::Power { survivors } => {
            let set = bed.subset(survivors);
            bed.power(set);
            bed.load_all();
        }
    }
}

/// Writes a request of the hostile hand: a type and a response, in as many descriptors as the form
/// says, or an unfinished one.
fn request(bed: &mut Bed, first: u8, kind: u8, form: u8) {
    let kind = u32::from(kind).saturating_sub(0xc0);
    let (asked, answer) = bed::request_at(first);
    bed.scribble(asked, &kind.to_le_bytes());
    let pieces: &[(u64, u32, u16)] = match form % 8 {
        0 => &[(asked, 4, 0), (answer, 4, 2)],
        1 => &[(asked, 1, 0), (asked + 1, 3, 0), (answer, 2, 2), (answer + 2, 2, 2)],
        2 => &[(asked, 40, 0), (answer, 40, 2)],
        3 => &[(asked, 3, 0), (answer, 4, 2)],
        4 => &[(asked, 4, 0), (answer, 3, 2)],
        5 => &[(answer, 4, 2), (asked, 4, 0)],
        6 => &[(asked, 0, 0), (asked, 4, 0), (answer, 0, 2), (answer, 4, 2)],
        _ => &[(asked, 4, 0)],
    };
    let through_table = form & 8 != 0;
    let head = 2 + u16::from(first) % 14;
    for (nth, &(at, len, flags)) in (0u16..).zip(pieces) {
        let last = usize::from(nth) + 1 == pieces.len();
        let index = if through_table { nth } else { bed.wrapped(head + nth) };
        let next = if through_table { nth + 1 } else { bed.wrapped(head + nth + 1) };
        bed.descriptor(through_table, index as u8, at, len, flags | u16::from(!last), next);
    }
    let head = bed.wrapped(head);
    if through_table {
        bed.descriptor(false, head as u8, bed::TABLE, 16 * pieces.len() as u32, 4, 0);
    }
    bed.offer(head);
    bed.kick();
}

fn address(bed: &Bed, place: Place) -> u64 {
    match place {
        Place::Type(nth) => bed::request_at(nth).0,
        Place::Response(nth) => bed::request_at(nth).1,
        Place::Table(by) => bed::TABLE + 4 * u64::from(by),
        Place::Anywhere(at) => u64::from(at) % u64::from(bed::MEMORY),
        Place::Any(at) => at,
    }
    .max(bed.first_of_hostile())
}

fn bytes_of(length: Length) -> u32 {
    match length {
        Length::Four => 4,
        Length::Entries(n) => 16 * u32::from(n % 33),
        Length::Small(n) => n.into(),
        Length::Any(n) => n,
    }
}
