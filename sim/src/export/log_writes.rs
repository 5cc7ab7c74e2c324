//! What the host disk was asked and did, in the format of the kernel's dm-log-writes target.
//!
//! The first sector holds the superblock: magic, version, how many entries, the sector size. Each
//! entry is a sector with where, how many sectors, flags and the length of a mark, all of them
//! little-endian; behind it come the sectors that were written, if it is a write. A mark's text
//! stands in the entry's own sector.
//!
//! A FLUSH stands where it was asked for, as the kernel has it: what stands before it is what it
//! makes stable. Every request that the guest saw answered is a mark, its name and its status as in
//! `w7=0`. What landed without an answer, and what a failed sync forgot, comes last, behind the
//! mark `unanswered`. The last mark is `power loss`, or `end` where the run ends before one.
//!
//! Not here: what comes after a power loss, for the format cannot say that content was lost; and
//! what the medium held at first, which [`image`](super::image) gives.

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

/// A log, and what it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// The file.
    pub bytes: Vec<u8>,
    /// How many entries are writes.
    pub writes: u64,
    /// How many are flushes.
    pub flushes: u64,
    /// How many are discards.
    pub discards: u64,
    /// How many are marks.
    pub marks: u64,
    /// How many lines of the trace were not possible as they stood, and were moved or left out.
    pub moved: usize,
    /// Whether it ends with a power loss.
    pub power_lost: bool,
}

/// The log of one device up to the first power loss of a trace, or to its end if there is none.
///
/// # Errors
/// The device never gets there.
pub fn log_writes<D: DeviceUnderTest>(
    world: &mut World<D>,
    trace: &Trace,
    device: u8,
) -> Result<Log, String> {
    let loss = first_power_loss(trace);
    let before = loss.unwrap_or(trace.actions.len() + 1);
    let Part { actions, moved, failure } = replay_before(world, trace, before)?;
    let steps = unfold(world, trace.options, trace.run, &actions);
    world.keep_record();
    world.restart(trace.options, trace.run);
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

/// Does the steps one by one. Returns the answers that the guest saw of a device, each with how
/// much the disk had done before it.
fn answers<D: DeviceUnderTest>(
    world: &mut World<D>,
    steps: &[Action],
    device: u8,
) -> Vec<(usize, String)> {
    let mut marks = Vec::new();
    let mut heard = 0;
    for action in steps {
        // A thread goes step by step, so that the disk's doings and the guest's answers are told
        // apart.
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
                    marks.push((place, format!("{}={status}", request_name(*id, ask))));
                }
            }
            heard = events.len();
            match done {
                Ok(Ok(true)) => {}
                Ok(Ok(false)) => break,
                // Nothing that can be logged comes after it.
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

/// A note as one device has it, with sectors counted within its part.
enum Clipped<'a> {
    Write { sector: u32, bytes: &'a [u8] },
    Discard { sector: u32, sectors: u32 },
    Flush,
}

/// What of a note lies in a device's part.
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
    /// How many entries there are.
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

    /// The sector of an entry. The length is that of a mark: a write says its own in sectors.
    fn header(&mut self, sector: u32, sectors: u64, flags: u64, mark: &[u8]) {
        let end = self.bytes.len() + SECTOR;
        for word in [u64::from(sector), sectors, flags, mark.len() as u64] {
            self.bytes.extend_from_slice(&word.to_le_bytes());
        }
        self.bytes.extend_from_slice(mark);
        assert!(self.bytes.len() <= end, "a mark of {} bytes", mark.len());
        self.bytes.resize(end, 0);
    }

    /// Writes the superblock, now that the number of entries is known.
    fn close(&mut self) {
        let entries = self.entries();
        for (nth, word) in [MAGIC, VERSION, entries, SECTOR as u64].into_iter().enumerate() {
            // The sector size has four bytes; the four behind it are nobody's, and zero.
            self.bytes[nth * 8..nth * 8 + 8].copy_from_slice(&word.to_le_bytes());
        }
    }
}
