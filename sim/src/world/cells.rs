//! What was in flight at each crash: counts by the kind of a request, the row of the stability
//! table in force, the kind of crash, and what the request overlapped.
//!
//! A campaign that has many runs may still have few of one cell of this table. What is rare in it
//! is drawn more often by the [tails](crate::schedule) of the generator.

use std::fmt;

use crate::dut::DeviceUnderTest;
use crate::guest::{GuestRequest, Kind, QueueDriver, RangeKind};
use crate::world::{DeviceSlot, World};
use powerfail_model::Row;

/// An end of requests in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Power loss.
    Power,
    /// The backend was killed.
    Kill,
    /// The device was reset.
    Reset,
    /// Their queue was reset.
    QueueReset,
    /// A backend died, or was left, under a live driver.
    Reconnect,
    /// The device was saved and restored in another process. Nothing is in flight at its host then.
    Restore,
}

const ENDED: [(Ended, &str); 6] = [
    (Ended::Power, "power"),
    (Ended::Kill, "kill"),
    (Ended::Reset, "reset"),
    (Ended::QueueReset, "queue reset"),
    (Ended::Reconnect, "reconnect"),
    (Ended::Restore, "restore"),
];
const ROWS: [Row; 7] = [Row::A, Row::B, Row::C, Row::D, Row::E, Row::F, Row::G];
/// The columns: four kinds with a range, each alone, overlapping a change on its own queue, or on
/// another one; and two without a range.
const COLUMNS: [&str; 14] = [
    "in", "+same", "+other", "out", "+same", "+other", "disc", "+same", "+other", "zero", "+same",
    "+other", "flush", "id",
];
const CELLS: usize = ENDED.len() * ROWS.len() * COLUMNS.len();

/// The table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cells {
    counts: Box<[u64]>,
}

impl Default for Cells {
    fn default() -> Cells {
        Cells { counts: vec![0; CELLS].into() }
    }
}

impl Cells {
    /// Adds another's counts.
    pub fn add(&mut self, other: &Cells) {
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// Resets all counts to zero.
    pub(super) fn clear(&mut self) {
        self.counts.fill(0);
    }

    /// The number of cells, and how many of them have at least `least`.
    #[must_use]
    pub fn with_at_least(&self, least: u64) -> (usize, usize) {
        (CELLS, self.counts.iter().filter(|count| **count >= least).count())
    }

    /// The lowest count, and the name of its cell.
    #[must_use]
    pub fn rarest(&self) -> (u64, String) {
        let lowest = self.counts.iter().enumerate().min_by_key(|(_, count)| **count);
        lowest.map_or((0, String::new()), |(index, count)| (*count, name(index)))
    }

    fn count(&mut self, ended: Ended, row: Row, column: usize) {
        let row = ROWS.iter().position(|other| *other == row);
        let ended = ENDED.iter().position(|(other, _)| *other == ended);
        if let (Some(row), Some(ended)) = (row, ended) {
            self.counts[(ended * ROWS.len() + row) * COLUMNS.len() + column] += 1;
        }
    }
}

/// The name of a cell.
fn name(index: usize) -> String {
    let (line, column) = (index / COLUMNS.len(), index % COLUMNS.len());
    let (ended, row) = (ENDED[line / ROWS.len()].1, ROWS[line % ROWS.len()]);
    match column {
        0..12 if column % 3 > 0 => {
            let kind = COLUMNS[column / 3 * 3];
            format!("{ended} under row {row:?}, {kind} {}", COLUMNS[column])
        }
        _ => format!("{ended} under row {row:?}, {}", COLUMNS[column]),
    }
}

/// The table, without a line break at its end.
impl fmt::Display for Cells {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<13}", "in flight at")?;
        for column in COLUMNS {
            write!(f, "{column:>7}")?;
        }
        for (nth, line) in self.counts.chunks(COLUMNS.len()).enumerate() {
            let (ended, row) = (ENDED[nth / ROWS.len()].1, ROWS[nth % ROWS.len()]);
            write!(f, "\n  {:<13}", format!("{ended} {row:?}"))?;
            for count in line {
                write!(f, "{count:>7}")?;
            }
        }
        Ok(())
    }
}

impl<D: DeviceUnderTest> World<D> {
    /// Counts what is in flight at each crash from now on.
    pub(crate) fn count_cells(&mut self) {
        self.cells = Some(Box::default());
    }

    /// The counts, if they are kept.
    pub(crate) fn cells(&self) -> Option<&Cells> {
        self.cells.as_deref()
    }

    /// Counts the requests of a device, or of one of its queues, that end now.
    #[inline]
    pub(super) fn note_ended(&mut self, device: u8, queue: Option<u8>, ended: Ended) {
        if let Some(cells) = &mut self.cells {
            let slot = &self.slots[usize::from(device)];
            count(cells, slot, queue, ended, self.shape.spec.disk.room());
        }
    }
}

fn count<D>(cells: &mut Cells, slot: &DeviceSlot<D>, only: Option<u8>, ended: Ended, room: u32) {
    let outstanding = |queue: &QueueDriver| queue.outstanding().next().is_some();
    if slot.kind != Kind::Disk || !slot.is_live() || !slot.queues.iter().any(outstanding) {
        return;
    }
    // A request is outstanding, so there is a life with a row.
    let Some(row) = slot.oracle.first().stability_row() else { return };
    for (queue, driver) in slot.queues.iter().enumerate() {
        if only.is_some_and(|only| usize::from(only) != queue) {
            continue;
        }
        for (id, ask) in driver.outstanding() {
            let kind = match ask {
                GuestRequest::In { .. } => 0,
                GuestRequest::Out { .. } => 3,
                GuestRequest::Ranges(RangeKind::Discard, _) => 6,
                GuestRequest::Ranges(RangeKind::WriteZeroes, _) => 9,
                GuestRequest::Flush => 12,
                _ => 13,
            };
            if kind >= 12 {
                cells.count(ended, row, kind);
                continue;
            }
            let mine = ask.covered(room);
            let overlaps = |other: &QueueDriver| {
                other.outstanding().any(|(their_id, theirs)| {
                    their_id != id && theirs.mutates() && !theirs.covered(room).and(mine).is_empty()
                })
            };
            let others = slot.queues.iter().enumerate();
            let other = others.filter(|(other, _)| *other != queue).any(|(_, d)| overlaps(d));
            let column = match (overlaps(driver), other) {
                (_, true) => 2,
                (true, false) => 1,
                (false, false) => 0,
            };
            cells.count(ended, row, kind + column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rarest_cell_is_found_by_its_name() {
        let mut cells = Cells::default();
        for (ended, _) in ENDED {
            for row in ROWS {
                for column in 0..COLUMNS.len() {
                    cells.count(ended, row, column);
                }
            }
        }
        let mut twice = cells.clone();
        twice.add(&cells);
        assert_eq!(twice.with_at_least(2), (CELLS, CELLS));
        cells.add(&Cells::default());
        for column in 0..COLUMNS.len() {
            if column != 11 {
                cells.count(Ended::Kill, Row::E, column);
            }
        }
        twice.counts.iter_mut().zip(&cells.counts).for_each(|(count, more)| *count += 3 * more);
        twice.counts[0] -= 4;
        assert_eq!(twice.rarest(), (1, "power under row A, in".to_owned()));
        assert_eq!(name(11 + 14 * 11), "kill under row E, zero +other");
        assert_eq!(cells.to_string().lines().count(), 1 + 6 * 7);
    }
}
