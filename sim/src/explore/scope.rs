//! How far a search goes: the workloads, the lives and the host it covers.

use std::fmt;
use std::str::FromStr;

use powerfail_model::Segment;

use crate::choose::{Ratio, Tape};
use crate::guest::{Ask, MAX_SECTORS, Segments};
use crate::spec::{Kind, Options, Preset};
use crate::trace::features;
use crate::wire::{feature, request};

/// What a guest may ask for within a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AskKind {
    /// Write, or store to words.
    Out,
    /// Make completed writes stable.
    Flush,
    /// Zero a range.
    WriteZeroes,
    /// Give a range up.
    Discard,
    /// Zero a range and allow the device to give it up.
    Unmap,
    /// Read, or load words, among the others. What is left in the end is read in any case.
    In,
    /// Ask for the serial number.
    Id,
}

impl AskKind {
    /// All of them with their names.
    pub const ALL: [(AskKind, &'static str); 7] = [
        (AskKind::Out, "out"),
        (AskKind::Flush, "flush"),
        (AskKind::WriteZeroes, "write-zeroes"),
        (AskKind::Discard, "discard"),
        (AskKind::Unmap, "unmap"),
        (AskKind::In, "in"),
        (AskKind::Id, "id"),
    ];
}

impl AskKind {
    /// Whether a persistent memory knows it.
    pub(crate) fn is_of_memory(&self) -> bool {
        matches!(self, AskKind::Out | AskKind::Flush | AskKind::In)
    }
}

impl fmt::Display for AskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(AskKind::ALL.iter().find(|kind| kind.0 == *self).map_or("", |kind| kind.1))
    }
}

impl FromStr for AskKind {
    type Err = String;

    fn from_str(text: &str) -> Result<AskKind, String> {
        let found = AskKind::ALL.iter().find(|kind| kind.1 == text.replace('_', "-"));
        found.map(|kind| kind.0).ok_or_else(|| {
            let names: Vec<&str> = AskKind::ALL.iter().map(|kind| kind.1).collect();
            format!("there is no kind of request `{text}`; there are {}", names.join(", "))
        })
    }
}

/// A row of the stability table of writes: which of them are stable when they complete.
///
/// # Spec
/// Virtio 1.4, 5.2.6.2; requirements 1.9 A-H.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// FLUSH is not offered: nothing is owed (BLK-D-34).
    A,
    /// FLUSH is offered and refused: every write is stable (BLK-D-29).
    B,
    /// FLUSH alone.
    C,
    /// CONFIG_WCE without FLUSH, write-through.
    D,
    /// CONFIG_WCE without FLUSH, write-back.
    E,
    /// Both, write-through.
    F,
    /// Both, write-back.
    G,
    /// Both, and the guest switches the mode while writes are in flight: each switch is one of its requests.
    H,
}

impl Row {
    /// All rows.
    pub const ALL: [Row; 8] = [Row::A, Row::B, Row::C, Row::D, Row::E, Row::F, Row::G, Row::H];

    /// What the device offers of the two features.
    fn offer(self) -> u64 {
        match self {
            Row::A => 0,
            Row::B | Row::C => feature::FLUSH,
            _ => feature::FLUSH | feature::CONFIG_WCE,
        }
    }

    /// What the driver takes of them.
    fn accept(self) -> u64 {
        match self {
            Row::A | Row::B => 0,
            Row::C => feature::FLUSH,
            Row::D | Row::E => feature::CONFIG_WCE,
            Row::F | Row::G | Row::H => feature::FLUSH | feature::CONFIG_WCE,
        }
    }

    /// What the driver writes to `writeback` before anything else.
    pub(super) fn mode(self) -> Option<u8> {
        matches!(self, Row::D | Row::F).then_some(0)
    }

    /// Whether the guest switches the mode in the midst of it.
    pub(super) fn switches(self) -> bool {
        self == Row::H
    }

    /// Whether a flush may be asked for.
    fn flushes(self) -> bool {
        self.accept() & feature::FLUSH != 0
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

impl FromStr for Row {
    type Err = String;

    fn from_str(text: &str) -> Result<Row, String> {
        let found = Row::ALL.into_iter().find(|row| row.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            format!("there is no row `{text}` of the stability table; there are A to H")
        })
    }
}

/// What makes a search smaller than the number of its schedules. Each can be left out, to show that nothing is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    /// What a power loss leaves in a sector is decided when it is read, and an operation lands when it completes unless
    /// another one is in flight on the same sector.
    pub lazy: bool,
    /// Sleep sets: of two independent steps only one order is taken.
    pub sleep: bool,
    /// Of two workloads that are mirror images, or differ in which queue is which, only one is taken.
    pub mirror: bool,
    /// States that the rest of a run cannot tell apart are one: whatever the order of neighbours that the oracle does not
    /// ask about, and whatever led to a power loss after which the same is allowed and the same is there.
    pub alike: bool,
}

impl Reduction {
    /// All of them.
    pub const ALL: Reduction = Reduction { lazy: true, sleep: true, mirror: true, alike: true };
    /// None of them.
    pub const NONE: Reduction =
        Reduction { lazy: false, sleep: false, mirror: false, alike: false };
}

impl FromStr for Reduction {
    type Err = String;

    fn from_str(text: &str) -> Result<Reduction, String> {
        let mut reduction = Reduction::NONE;
        for name in text.split(',') {
            match name {
                "all" => reduction = Reduction::ALL,
                "none" => {}
                "lazy" => reduction.lazy = true,
                "sleep" => reduction.sleep = true,
                "mirror" => reduction.mirror = true,
                "alike" => reduction.alike = true,
                _ => {
                    return Err(format!(
                        "there is no reduction `{name}`; there are lazy, sleep, mirror, alike, all and none"
                    ));
                }
            }
        }
        Ok(reduction)
    }
}

impl fmt::Display for Reduction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Reduction { lazy, sleep, mirror, alike } = *self;
        let names = [(lazy, "lazy"), (sleep, "sleep"), (mirror, "mirror"), (alike, "alike")];
        let names: Vec<&str> = names.iter().filter(|name| name.0).map(|name| name.1).collect();
        f.write_str(if names.is_empty() { "none" } else { "" })?;
        f.write_str(&names.join(","))
    }
}

/// How far a search goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The most requests of the guest, over all its lives.
    pub requests: u8,
    /// Sectors of the disk, or words of the memory.
    pub sectors: u8,
    /// Request queues.
    pub queues: u8,
    /// The most requests in flight at a time, over all queues.
    pub in_flight: u8,
    /// The most power losses.
    pub crashes: u8,
    /// The most operations that the host fails.
    pub faults: u8,
    /// The most resets of the device.
    pub resets: u8,
    /// What the guest asks for.
    pub kinds: Vec<AskKind>,
    /// The lives it leads, one row in each run.
    pub rows: Vec<Row>,
    /// Features that are offered and accepted besides those of the row.
    pub features: u64,
    /// What makes the search smaller.
    pub reduction: Reduction,
}

/// What a scope may add to the features of its rows.
const EXTRA: u64 = feature::EVENT_IDX
    | feature::BLK_SIZE
    | feature::SEG_MAX
    | feature::SIZE_MAX
    | feature::TOPOLOGY;

impl Default for Scope {
    fn default() -> Scope {
        use AskKind::{Discard, Flush, Out, WriteZeroes};
        Scope {
            requests: 3,
            sectors: 2,
            queues: 1,
            in_flight: 2,
            crashes: 1,
            faults: 0,
            resets: 0,
            kinds: vec![Out, Flush, WriteZeroes, Discard],
            rows: Row::ALL.to_vec(),
            features: 0,
            reduction: Reduction::ALL,
        }
    }
}

impl Scope {
    /// Whether a search can go so far.
    ///
    /// # Errors
    /// One line that says what is too much or too little.
    pub fn check(&self) -> Result<(), String> {
        let within = |what: &str, flag: &str, number: u8, low: u8, high: u8| {
            if (low..=high).contains(&number) {
                return Ok(());
            }
            Err(format!("{what}: --{flag} {number} is not within {low} and {high}"))
        };
        within("requests of the guest", "requests", self.requests, 1, 12)?;
        within("sectors of the disk", "sectors", self.sectors, 1, MAX_SECTORS as u8)?;
        within("request queues", "queues", self.queues, 1, 4)?;
        within("requests in flight", "in-flight", self.in_flight, 1, 4)?;
        within("power losses", "crashes", self.crashes, 0, 4)?;
        within("host failures", "faults", self.faults, 0, 4)?;
        within("resets", "resets", self.resets, 0, 4)?;
        if self.kinds.is_empty() || self.rows.is_empty() {
            return Err("a search needs at least one kind of request and one row".to_owned());
        }
        let extra = self.features & !EXTRA;
        if extra != 0 {
            let (extra, known) = (features(extra), features(EXTRA));
            return Err(format!("--features {extra}: a search can add only {known}"));
        }
        Ok(())
    }

    /// The rows of a device of this kind: a memory has no cache mode, and its only row counts as C.
    pub(super) fn rows_of(&self, kind: Kind) -> Vec<Row> {
        match kind {
            Kind::Disk => self.rows.clone(),
            Kind::Memory => vec![Row::C],
        }
    }

    /// The options of the world of a row, and the features its driver accepts.
    pub(super) fn options(&self, kinds: [Kind; 2], row: Row) -> (Options, u64) {
        let mut options = Preset::Bench.draw(kinds, &mut Tape::new(&[]));
        let sectors = u32::from(self.sectors);
        let spec = &mut options.spec;
        spec.disk.capacity = sectors;
        spec.queues = if kinds[0] == Kind::Memory { 1 } else { u16::from(self.queues) };
        spec.ring_size = 4;
        (spec.max_segment_sectors, spec.max_segments) = (sectors, 1);
        let plain = feature::VERSION_1 | feature::INDIRECT_DESC | self.features;
        if kinds[0] == Kind::Disk {
            let many = if self.queues > 1 { feature::MQ } else { 0 };
            spec.offer = plain | many | feature::DISCARD | feature::WRITE_ZEROES | row.offer();
        }
        let accept = match kinds[0] {
            Kind::Disk => spec.offer & !(feature::FLUSH | feature::CONFIG_WCE) | row.accept(),
            Kind::Memory => spec.offer,
        };
        options.max_sectors = sectors;
        options.spread = sectors;
        options.requests = u32::from(self.requests);
        options.crashes = u32::from(self.crashes);
        options.parts = Ratio::NEVER;
        options.write_back = Ratio::NEVER;
        if self.faults > 0 {
            options.fail_sync = Ratio::new(1, 2);
            options.fail = Ratio::new(1, 2);
        }
        (options, accept)
    }

    /// Everything a guest may ask for in a row, in the order in which it is tried.
    pub(super) fn asks(&self, kind: Kind, row: Row) -> Vec<Ask> {
        let mut asks = Vec::new();
        let sectors = u32::from(self.sectors);
        for &what in &self.kinds {
            match what {
                AskKind::Flush if kind == Kind::Disk && !row.flushes() => continue,
                AskKind::Flush | AskKind::Id => {
                    asks.extend(ask(kind, what, 0, 0));
                    continue;
                }
                _ => {}
            }
            for first in 0..sectors {
                for count in 1..=sectors - first {
                    asks.extend(ask(kind, what, first, count));
                }
            }
        }
        asks
    }

    /// The request that reads one sector or word back.
    pub(super) fn recall(kind: Kind, number: u32) -> Ask {
        ask(kind, AskKind::In, number, 1).expect("everything can be read")
    }
}

fn ask(kind: Kind, what: AskKind, first: u32, count: u32) -> Option<Ask> {
    let sector = u64::from(first);
    let segments = |flags: u32| {
        let mut segments = Segments::NONE;
        segments.push(Segment { sector, sectors: count, flags });
        segments
    };
    Some(match (kind, what) {
        (Kind::Disk, AskKind::Out) => Ask::Out { sector, sectors: count },
        (Kind::Disk, AskKind::In) => Ask::In { sector, sectors: count },
        (Kind::Disk, AskKind::WriteZeroes) => Ask::WriteZeroes(segments(0)),
        (Kind::Disk, AskKind::Unmap) => Ask::WriteZeroes(segments(request::UNMAP)),
        (Kind::Disk, AskKind::Discard) => Ask::Discard(segments(0)),
        (Kind::Disk, AskKind::Id) => Ask::GetId,
        (Kind::Memory, AskKind::Out) => Ask::Store { word: first, words: count },
        (Kind::Memory, AskKind::In) => Ask::Load { word: first, words: count },
        (Kind::Memory, AskKind::WriteZeroes | AskKind::Unmap | AskKind::Discard | AskKind::Id) => {
            return None;
        }
        (_, AskKind::Flush) => Ask::Flush,
    })
}

impl Scope {
    /// As the command line takes it: what is counted, and what is named.
    pub(crate) fn flags(&self) -> (String, String) {
        let Scope { requests, sectors, queues, in_flight, crashes, faults, resets, .. } = self;
        let numbers = format!(
            "--requests {requests} --sectors {sectors} --queues {queues} --in-flight {in_flight} \
             --crashes {crashes} --faults {faults} --resets {resets}"
        );
        let kinds: Vec<String> = self.kinds.iter().map(AskKind::to_string).collect();
        let rows: Vec<String> = self.rows.iter().map(Row::to_string).collect();
        let extra = match self.features {
            0 => String::new(),
            more => format!(" --features {}", features(more)),
        };
        let (kinds, rows, reduction) = (kinds.join(","), rows.join(","), self.reduction);
        (numbers, format!("--kinds {kinds} --rows {rows}{extra} --reduce {reduction}"))
    }
}

/// As the command line takes it.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (numbers, names) = self.flags();
        write!(f, "{numbers} {names}")
    }
}
