//! A guest that writes anything anywhere at any time, beside a well-behaved one, on a device whose
//! host may fail and whose power may go.
//!
//! The bytes are a `Script`. After every step of a device thread and every effect of the host,
//! changes of the hostile guest's memory are checked against a bound (`bound`), and changes of the
//! good guest's against the guards of its driver and the oracle. Whenever the device comes to rest:
//!
//! - no operation is in flight, every taken chain was used, and every published one was taken; or
//!   the ring is broken, and the device status has NEEDS_RESET set (VS-16, VS-17, ST-02);
//! - every request of the good guest was used, with the signals it enabled, and its reads returned
//!   allowed contents (AMB-09, AMB-42);
//! - a reset has completed (ST-04).
//!
//! Every script with a good guest ends in a power cut that loses as much as it may, and then
//! everything is read back (BLK-D-29 to BLK-D-33).
//!
//! Not checked: the hostile guest's own data. `chain` and `run` check the results of requests.

mod bed;
mod good;
mod script;

use std::cell::RefCell;

use arbitrary::{Arbitrary, Unstructured};
use powerfail::base::sectors::SectorSet;
use powerfail::host::disk::{Errno, OpKey, OpKind, Outcome};
use powerfail_device::WRITEBACK_OFFSET;

use bed::{Bed, HOSTILE, MEMORY};
use script::{Good, Host, Length, Move, Place, Request, Script};

/// Address of the indirect tables, of 32 descriptors each.
const TABLES: u32 = 0x300;
/// Address of the requests' headers, each with room for three segments.
const HEADERS: u32 = 0x800;
/// Address of the status bytes.
const STATUSES: u32 = 0xc00;
/// Address of the data.
const DATA: u32 = 0x1000;

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
        let mut bed = match kept.take() {
            Some(mut bed) => {
                bed.restart(script.setup);
                bed
            }
            None => Bed::new(script.setup),
        };
        for next in &script.moves {
            perform(&mut bed, next);
        }
        bed.rest();
        if !bed.is_alone() {
            bed.read_back();
            bed.power(SectorSet::EMPTY);
            bed.read_back();
            bed.rest();
        }
        // The bed is not kept after a panic, because its state is unknown then.
        *kept = Some(bed);
    });
}

fn perform(bed: &mut Bed, next: &Move) {
    match *next {
        Move::Request(request) => publish(bed, request),
        Move::Descriptor { table, index, place, length, flags, next } => {
            let table = match table % 3 {
                0 => bed.plan().descriptors,
                nth => u64::from(TABLES) + 512 * u64::from(nth - 1),
            };
            let next = if next < 0xff00 { next % 40 } else { next };
            let flags = u16::from(flags) & 7;
            let at = table.wrapping_add(16 * u64::from(index % 32));
            bed.hostile.write(at, &descriptor(address(bed, place), bytes_of(length), flags, next));
        }
        Move::Scribble { place, bytes, len } => {
            let at = address(bed, place);
            bed.hostile.write(at, &bytes[..1 + usize::from(len % 8)]);
        }
        Move::Offer { head } => offer(bed, if head < 0xff00 { head % 18 } else { head }),
        Move::Jump { by } => {
            let at = bed.plan().available + 2;
            let index = bed.hostile.read_u16(at).wrapping_add_signed(by.into());
            bed.hostile.write(at, &index.to_le_bytes());
        }
        Move::Kick => bed.kick(HOSTILE),
        Move::Crank { steps } => bed.crank(HOSTILE, 1 + u32::from(steps % 32)),
        Move::CrankGood { steps } => bed.crank(1, 1 + u32::from(steps % 32)),
        Move::Good(what) if !bed.is_alone() => behave(bed, what),
        Move::Good(_) => {}
        Move::Host { nth, what } => host(bed, nth, what),
        Move::WriteBack { mask } => {
            let set = bed.subset(mask);
            bed.write_back(set);
        }
        Move::Mode { value, odd: false, .. } => bed.config_write(WRITEBACK_OFFSET, &[value]),
        Move::Mode { value, odd: true, offset } => {
            bed.config_write(offset.into(), &[value; 9][..usize::from(value % 10)]);
        }
        Move::Reset => bed.reset(),
        Move::ResetQueue => bed.reset_queue(),
        Move::PauseOrResume => bed.pause_or_resume(),
        Move::SaveAndRestore => bed.move_on(),
        Move::Rest => bed.rest(),
        Move::Power { survivors, wipes } => {
            let set = bed.subset(survivors);
            bed.power(set);
            if wipes {
                bed.hostile.write(0, &[0; TABLES as usize]);
            }
        }
    }
}

/// The hostile guest publishes a head.
fn offer(bed: &mut Bed, head: u16) {
    let plan = bed.plan();
    let index = bed.hostile.read_u16(plan.available + 2);
    let entry = plan.available + 4 + 2 * u64::from(index % plan.size);
    bed.hostile.write(entry, &head.to_le_bytes());
    bed.hostile.write(plan.available + 2, &index.wrapping_add(1).to_le_bytes());
}

/// The hostile guest writes a valid request.
fn publish(bed: &mut Bed, request: Request) {
    let Request { kind, sector, sectors, slot, how } = request;
    let (header, status) = (HEADERS + 64 * u32::from(slot % 16), STATUSES + u32::from(slot % 16));
    let data = DATA + 512 * u32::from(slot % 16);
    let sectors = 1 + u32::from(sectors % 8);
    // Most requests use the upper half of the disk, so that the good guest keeps clean sectors.
    let sector = if sector < 0xc0 { 8 + u64::from(sector % 8) } else { u64::from(sector % 18) };
    let number: u32 = match kind % 8 {
        nth @ 0..6 => [0, 1, 4, 8, 11, 13][usize::from(nth)],
        _ => kind.into(),
    };
    let mut front = [0; 32];
    front[..4].copy_from_slice(&number.to_le_bytes());
    let (data, len, writable) = match number {
        0 => (data, 512 * sectors, true),
        1 => (data, 512 * sectors, false),
        8 => (data, 20, true),
        11 | 13 => {
            front[16..24].copy_from_slice(&sector.to_le_bytes());
            front[24..28].copy_from_slice(&sectors.to_le_bytes());
            (header + 16, 16, false)
        }
        _ => (data, 0, false),
    };
    if number < 2 {
        front[8..16].copy_from_slice(&sector.to_le_bytes());
    }
    bed.hostile.write(header.into(), &front);
    let plan = bed.plan();
    let first = u16::from(slot) * 3 % plan.size;
    let second = (first + 1) % plan.size;
    let third = (first + 2) % plan.size;
    let flags = if writable { 3 } else { 1 };
    let (h, d, s) = (header.into(), data.into(), status.into());
    let at = |index: u16| plan.descriptors + 16 * u64::from(index);
    if how & 1 != 0 {
        let table = u64::from(TABLES) + 512 * u64::from(slot % 2);
        bed.hostile.write(table, &descriptor(h, 16, 1, 1));
        bed.hostile.write(table + 16, &descriptor(d, len, flags, 2));
        bed.hostile.write(table + 32, &descriptor(s, 1, 2, 0));
        bed.hostile.write(at(first), &descriptor(table, 48, 4, 0));
    } else {
        bed.hostile.write(at(first), &descriptor(h, 16, 1, second));
        bed.hostile.write(at(second), &descriptor(d, len, flags, third));
        bed.hostile.write(at(third), &descriptor(s, 1, 2, 0));
    }
    if how & 2 == 0 {
        offer(bed, first);
    }
    if how & 4 == 0 {
        bed.kick(HOSTILE);
    }
}

fn descriptor(address: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&address.to_le_bytes());
    bytes[8..12].copy_from_slice(&len.to_le_bytes());
    bytes[12..14].copy_from_slice(&flags.to_le_bytes());
    bytes[14..].copy_from_slice(&next.to_le_bytes());
    bytes
}

fn address(bed: &Bed, place: Place) -> u64 {
    u64::from(match place {
        Place::Ring(by) => return bed.plan().available + u64::from(by),
        Place::Header(by) => HEADERS + 4 * u32::from(by),
        Place::Status(by) => STATUSES + u32::from(by),
        Place::Data(by) => DATA + 512 * u32::from(by % 16),
        Place::Table(by) => TABLES + 4 * u32::from(by),
        Place::Anywhere(at) => u32::from(at) % MEMORY,
        Place::Any(at) => return at,
    })
}

fn bytes_of(length: Length) -> u32 {
    match length {
        Length::One => 1,
        Length::Header => 16,
        Length::Sectors(n) => 512 * u32::from(n % 9),
        Length::Entries(n) => 16 * u32::from(n % 33),
        Length::Any(n) => n,
    }
}

fn behave(bed: &mut Bed, what: Good) {
    match what {
        Good::Write { sector, sectors, layout } => bed.good.write(sector, sectors, layout),
        Good::Read { sector, sectors, layout } => bed.good.read(sector, sectors, layout),
        Good::Flush => bed.good.flush(),
        Good::Zero { sector, sectors } => bed.good.clear(sector, sectors, false),
        Good::Discard { sector, sectors } => bed.good.clear(sector, sectors, true),
        Good::Kick => _ = bed.kick_good(),
        Good::Reap { arm } => bed.good.reap(arm),
    }
}

fn host(bed: &mut Bed, nth: u8, what: Host) {
    let Some((op, landed)) = bed.nth_op(nth) else { return };
    match what {
        Host::Effect(mask) => {
            let set = within(bed, op, mask).minus(landed);
            bed.effect(op, set);
        }
        Host::Done(mask) => {
            let landed =
                if op.kind == OpKind::Sync { bed.subset(mask) } else { within(bed, op, mask) };
            bed.complete(op, Outcome::Ok { landed });
        }
        Host::Short(sectors) => {
            bed.complete(op, Outcome::Short { bytes: 512 * (1 + u32::from(sectors % 8)) });
        }
        Host::Fails { errno, landed, forgot } => {
            let all = [Errno::EIO, Errno::ENOSPC, Errno::EINTR, Errno::EAGAIN];
            let errno = all[usize::from(errno % 4)];
            let (landed, forgot) = (within(bed, op, landed), bed.subset(forgot));
            bed.complete(op, Outcome::Failed { errno, landed, forgot });
        }
    }
}

/// A subset of an operation's sectors: one bit each, from its first.
fn within(bed: &Bed, op: OpKey, mask: u32) -> SectorSet {
    let set = SectorSet::from_words([u64::from(mask) << op.sector, 0, 0, 0]);
    set.rounded(bed.tear()).and(op.range())
}
