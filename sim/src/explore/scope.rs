//! The scope of a search: the workloads, the lives and the host faults it covers.

use std::fmt;

use super::kinds::{RequestKind, ask};
use super::reduction::Reduction;
use super::row::Row;
use crate::dut::{DeviceUnderTest, MEMORY_FEATURES, Profile};
use crate::guest::GuestRequest;
use crate::guest::Kind;
use crate::guest::wire::feature;
use crate::trace::features;
use crate::world::WorldShape;

/// What is left of the bounds of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Budget {
    pub(super) requests: u8,
    /// Power losses.
    pub(super) crashes: u8,
    /// Host failures.
    pub(super) faults: u8,
    pub(super) resets: u8,
}

/// The bounds of a search.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The most requests of the guest, over all its lives.
    pub requests: u8,
    /// Sectors of a disk, or words of a memory.
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
    /// The kinds of requests.
    pub kinds: Vec<RequestKind>,
    /// The rows to search, one in each run.
    pub rows: Vec<Row>,
    /// Features that are offered and accepted besides those of the row.
    pub features: u64,
    /// The contract that the device is judged by; by default [its own](DeviceUnderTest::PROFILE).
    pub contract: Option<Profile>,
    /// The reductions of the search.
    pub reduction: Reduction,
}

/// The most sectors of a disk that is searched.
const MOST_SECTORS: u8 = 8;

/// The features that a scope may add to those of its rows.
const EXTRA: u64 = feature::EVENT_IDX
    | feature::BLK_SIZE
    | feature::SEG_MAX
    | feature::SIZE_MAX
    | feature::TOPOLOGY;

impl Default for Scope {
    fn default() -> Scope {
        use RequestKind::{Discard, Flush, Out, WriteZeroes};
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
            contract: None,
            reduction: Reduction::ALL,
        }
    }
}

impl Scope {
    /// Checks that a search of a device of this kind can cover the scope.
    ///
    /// # Errors
    /// One line that names the value out of range.
    pub fn check(&self, kind: Kind) -> Result<(), String> {
        let within = |what: &str, flag: &str, number: u8, low: u8, high: u8| {
            if (low..=high).contains(&number) {
                return Ok(());
            }
            Err(format!("{what}: --{flag} {number} is not within {low} and {high}"))
        };
        within("requests of the guest", "requests", self.requests, 1, 12)?;
        within("sectors of the disk", "sectors", self.sectors, 1, MOST_SECTORS)?;
        within("request queues", "queues", self.queues, 1, 4)?;
        within("requests in flight", "in-flight", self.in_flight, 1, 4)?;
        within("power losses", "crashes", self.crashes, 0, 4)?;
        within("host failures", "faults", self.faults, 0, 4)?;
        within("resets", "resets", self.resets, 0, 4)?;
        if self.rows.is_empty() {
            return Err("a search needs at least one row of the stability table".to_owned());
        }
        if kind == Kind::Memory && self.queues > 1 {
            return Err(format!("a persistent memory has one queue, not --queues {}", self.queues));
        }
        // A search without requests would report that no promise is broken.
        let empty = self.rows_of(kind).into_iter().find(|&row| self.asks(kind, row).is_empty());
        if let Some(row) = empty {
            let kinds: Vec<String> = self.kinds.iter().map(RequestKind::to_string).collect();
            let kinds = kinds.join(",");
            return Err(match kind {
                Kind::Disk => {
                    format!("--kinds {kinds}: in row {row} a guest can send none of these")
                }
                Kind::Memory => format!("--kinds {kinds}: a persistent memory has none of these"),
            });
        }
        let extra = self.features & !EXTRA;
        if extra != 0 {
            let (extra, known) = (features(extra), features(EXTRA));
            return Err(format!("--features {extra}: a search can add only {known}"));
        }
        Ok(())
    }

    /// All that a run within the scope may do.
    pub(super) fn budget(&self) -> Budget {
        let Scope { requests, crashes, faults, resets, .. } = *self;
        Budget { requests, crashes, faults, resets }
    }

    /// The contract that a device is judged by.
    pub(crate) fn contract_of<D: DeviceUnderTest>(&self) -> Profile {
        self.contract.unwrap_or(D::PROFILE)
    }

    /// The rows of a device of this kind. A memory has no cache mode, and its only row counts as C.
    pub(super) fn rows_of(&self, kind: Kind) -> Vec<Row> {
        match kind {
            Kind::Disk => self.rows.clone(),
            Kind::Memory => vec![Row::C],
        }
    }

    /// The shape of the world of a row, and the features its driver accepts.
    pub(super) fn shape(&self, kinds: [Kind; 2], row: Row) -> (WorldShape, u64) {
        let mut shape = WorldShape::default().of_kinds(kinds);
        let sectors = u32::from(self.sectors);
        let spec = &mut shape.spec;
        spec.disk.capacity = sectors;
        spec.queues = if kinds[0] == Kind::Memory { 1 } else { u16::from(self.queues) };
        spec.ring_size = 4;
        (spec.max_segment_sectors, spec.max_segments) = (sectors, 1);
        let plain = feature::VERSION_1 | feature::INDIRECT_DESC | self.features;
        let many = if self.queues > 1 { feature::MQ } else { 0 };
        spec.offer = match kinds[0] {
            Kind::Disk => plain | many | feature::DISCARD | feature::WRITE_ZEROES | row.offer(),
            Kind::Memory => MEMORY_FEATURES,
        };
        let accept = match kinds[0] {
            Kind::Disk => spec.offer & !(feature::FLUSH | feature::CONFIG_WCE) | row.accept(),
            Kind::Memory => spec.offer,
        };
        shape.max_sectors = sectors;
        shape.host_may_fail = self.faults > 0;
        (shape, accept)
    }

    /// The requests that a guest may send in a row, in the order in which they are tried.
    pub(super) fn asks(&self, kind: Kind, row: Row) -> Vec<GuestRequest> {
        let mut asks = Vec::new();
        let sectors = u32::from(self.sectors);
        for &what in &self.kinds {
            match what {
                RequestKind::Flush if kind == Kind::Disk && !row.flushes() => continue,
                RequestKind::Flush | RequestKind::Id => {
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
    pub(super) fn recall(kind: Kind, number: u32) -> GuestRequest {
        ask(kind, RequestKind::In, number, 1).expect("everything can be read")
    }
}

impl Scope {
    /// The scope as flags of the command line: the numbers, then the names.
    pub(crate) fn flags(&self) -> (String, String) {
        let Scope { requests, sectors, queues, in_flight, crashes, faults, resets, .. } = self;
        let numbers = format!(
            "--requests {requests} --sectors {sectors} --queues {queues} --in-flight {in_flight} \
             --crashes {crashes} --faults {faults} --resets {resets}"
        );
        let kinds: Vec<String> = self.kinds.iter().map(RequestKind::to_string).collect();
        let rows: Vec<String> = self.rows.iter().map(Row::to_string).collect();
        let extra = match self.features {
            0 => String::new(),
            more => format!(" --features {}", features(more)),
        };
        let contract = match self.contract {
            None => String::new(),
            Some(contract) => format!(" --contract {}", contract.name().to_lowercase()),
        };
        let (kinds, rows, reduction) = (kinds.join(","), rows.join(","), self.reduction);
        (numbers, format!("--kinds {kinds} --rows {rows}{extra}{contract} --reduce {reduction}"))
    }
}

/// The scope as flags of the command line.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (numbers, names) = self.flags();
        write!(f, "{numbers} {names}")
    }
}
