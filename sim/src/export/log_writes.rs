//! The operations of the host disk, in the format of the kernel's dm-log-writes target.
//!
//! The first sector holds the superblock: magic, version, number of entries, sector size. Each
//! entry is a sector that begins with the start, the number of sectors, the flags, and the length
//! of a mark, all little-endian; an entry of a write is followed by the sectors written. The text
//! of a mark is in the sector of its entry.
//!
//! A FLUSH stands at its submission, as in the kernel: it makes the entries before it stable. Every
//! request that was returned to the guest is a mark with its name and status, such as `w7=0`.
//! Writes that landed without an answer, and sectors that a failed sync forgot, come last, behind
//! the mark `unanswered`. The last mark is `power loss`, or `end` if the run ends before one.
//!
//! Not here: events after a power loss, because the format cannot express the loss of content; and
//! the initial contents of the medium, which [`image`](super::image) writes.

use super::{Part, first_power_loss, replay_before};
use crate::base::sectors::SectorSet;
use crate::dut::DeviceUnderTest;
use crate::dut::caught::caught;
use crate::guest::payload::SECTOR;
use crate::host::disk::{DiskShape, Note};
use crate::run::unfold;
use crate::trace::{Trace, request_name};
use crate::world::action::{Action, Until};
use crate::world::{Event, World};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;
const FLUSH: u64 = 1 << 0;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// A log and its counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The contents of the file.
    pub bytes: Vec<u8>,
    /// The number of writes.
    pub writes: u64,
    /// The number of flushes.
    pub flushes: u64,
    /// The number of discards.
    pub discards: u64,
    /// The number of marks.
    pub marks: u64,
    /// The number of lines of the trace that were not possible as written, and were moved or left
    /// out.
    pub moved: usize,
    /// Whether the log ends with a power loss.
    pub power_lost: bool,
}

/// The log of one device up to the first power loss of a trace, or to its end if there is none.
///
/// # Errors
/// The replay does not reach that line.
pub fn log_writes<D: DeviceUnderTest>(
    world: &mut World<D>,
    trace: &Trace,
    device: u8,
) -> Result<Log, String> {
    let loss = first_power_loss(trace);
    let before = loss.unwrap_or(trace.actions.len() + 1);
    let Part { actions, moved, failure } = replay_before(world, trace, before)?;
    let steps = unfold(world, trace.shape, trace.run, &actions);
    world.keep_record();
    world.restart(trace.shape, trace.run);
    let marks = answers(world, &steps, device);
    let answered = world.disk().record().len();
    world.close_record();

    let shape = world.disk().shape();
    let power_lost = loss.is_some() && failure.is_none();
    let mut log = Log { moved, power_lost, bytes: vec![0; SECTOR], ..Log::default() };
    let mut marks = marks.into_iter().peekable();
    let mut unanswered = false;
    for (place, note) in world.disk().record().iter().enumerate() {
        while let Some((_, text)) = marks.next_if(|&(at, _)| at <= place) {
            log.mark(&text);
        }
        let clipped = clip(note, &shape, device);
        if place >= answered && clipped.is_some() && !unanswered {
            log.mark("unanswered");
            unanswered = true;
        }
        match clipped {
            None => {}
            Some(Clipped::Write { sector, bytes }) => log.write(sector, bytes),
            Some(Clipped::Discard { sector, sectors }) => log.discard(sector, sectors),
            Some(Clipped::Flush) => log.flush(),
        }
    }
    for (_, text) in marks {
        log.mark(&text);
    }
    log.mark(if power_lost { "power loss" } else { "end" });
    log.close();
    Ok(log)
}

/// Does the actions step by step. Returns the requests that were returned to the guest of a device,
/// each with the number of notes of the disk before it.
fn answers<D: DeviceUnderTest>(
    world: &mut World<D>,
    steps: &[Action],
    device: u8,
) -> Vec<(usize, String)> {
    let mut marks = Vec::new();
    let mut heard = 0;
    for action in steps {
        // A thread runs one step at a time, so that operations of the disk and requests returned to
        // the guest are ordered.
        let (single, most) = match *action {
            Action::Crank { to, until } => {
                (Action::Crank { to, until: Until::Steps(1) }, until.most())
            }
            other => (other, 1),
        };
        for _ in 0..most {
            let submitted = world.disk().submitted();
            let done = caught(|| world.step(&single));
            let place = world.disk().record().len();
            let events = world.journal().map(|journal| journal.events()).unwrap_or_default();
            for event in &events[heard.min(events.len())..] {
                if let Event::Completed { to, id, ask, status } = event
                    && to.device == device
                {
                    marks.push((place, format!("{}={}", request_name(*id, ask), status.0)));
                }
            }
            heard = events.len();
            match done {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => break,
                // No loggable event follows.
                Ok(Err(_)) | Err(_) => return marks,
            }
            if let Action::Crank { to, until } = *action
                && match until {
                    Until::Idle | Until::Steps(_) => false,
                    Until::Submitted(op) => {
                        world.disk().submitted() > submitted && world.disk().newest() == Some(op)
                    }
                    Until::Used(id) => !world.is_out(to.device, id),
                }
            {
                break;
            }
        }
    }
    marks
}

/// A note with sectors counted within a device's part.
enum Clipped<'a> {
    Write { sector: u32, bytes: &'a [u8] },
    Discard { sector: u32, sectors: u32 },
    Flush,
}

/// The part of a note within a device's part.
fn clip<'a>(note: &'a Note, shape: &DiskShape, device: u8) -> Option<Clipped<'a>> {
    let base = shape.base(device);
    let mine = |sector: u32, sectors: u32| {
        let set = SectorSet::range(sector, sectors).and(shape.part(device));
        set.nth(0).map(|first| (first, set.len()))
    };
    match note {
        Note::Write { sector, bytes } => {
            let (first, sectors) = mine(*sector, (bytes.len() / SECTOR) as u32)?;
            let from = (first - sector) as usize * SECTOR;
            let bytes = &bytes[from..from + sectors as usize * SECTOR];
            Some(Clipped::Write { sector: first - base, bytes })
        }
        Note::Discard { sector, sectors } => {
            let (first, sectors) = mine(*sector, *sectors)?;
            Some(Clipped::Discard { sector: first - base, sectors })
        }
        Note::Sync { device: whose, done } => (*whose == device && *done).then_some(Clipped::Flush),
    }
}

impl Log {
    /// The number of entries.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.writes + self.flushes + self.discards + self.marks
    }

    fn write(&mut self, sector: u32, bytes: &[u8]) {
        let sectors = (bytes.len() / SECTOR) as u64;
        self.header(sector, sectors, 0, &[]);
        self.bytes.extend_from_slice(bytes);
        self.writes += 1;
    }

    fn discard(&mut self, sector: u32, sectors: u32) {
        self.header(sector, u64::from(sectors), DISCARD, &[]);
        self.discards += 1;
    }

    fn flush(&mut self) {
        self.header(0, 0, FLUSH, &[]);
        self.flushes += 1;
    }

    fn mark(&mut self, text: &str) {
        self.header(0, 0, MARK, text.as_bytes());
        self.marks += 1;
    }

    /// Writes the sector of an entry. The length field is that of the mark; a write gives its
    /// length in sectors.
    fn header(&mut self, sector: u32, sectors: u64, flags: u64, mark: &[u8]) {
        let end = self.bytes.len() + SECTOR;
        for word in [u64::from(sector), sectors, flags, mark.len() as u64] {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(mark);
        assert!(self.bytes.len() <= end, "a mark of {} bytes", mark.len());
        self.bytes.resize(end, 0);
    }

    /// Writes the superblock; the number of entries is known by now.
    fn close(&mut self) {
        let entries = self.entries();
        for (nth, word) in [MAGIC, VERSION, entries, SECTOR as u64].into_iter().enumerate() {
            // The sector size has four bytes; the four behind it are reserved and zero.
            self.bytes[nth * 8..nth * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
}
