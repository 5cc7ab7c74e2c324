//! Splits one extent of a request into disk operations: the next one, from the progress so far.
//!
//! A request is a cursor over its extents, with one operation in flight at a time. Where the disk's
//! granule exceeds 512 bytes, an extent may begin or end inside a granule: such a *patch* is read,
//! changed and written back, and reads of it go through a bounce buffer. This is arithmetic only;
//! locks and the results of operations are handled in `progress`.

use crate::disk::Limits;

/// Maximum bytes that pass through one bounce buffer.
const BOUNCE_MOST: u64 = 64 << 10;

/// The disk bytes of a request: `[start, start + len)`, in whole sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) len: u64,
    pub(crate) may_unmap: bool,
}

impl Extent {
    pub(crate) fn end(&self) -> u64 {
        self.start + self.len
    }

    /// The largest extent inside this one that starts and ends on multiples of `unit`; `None` if it
    /// would be empty.
    pub(crate) fn inward(&self, unit: u32) -> Option<Extent> {
        assert!(unit > 0, "a granularity of zero");
        let start = up(self.start, unit.into());
        let end = down(self.end(), unit.into());
        (start < end).then(|| Extent { start, len: end - start, ..*self })
    }
}

/// One operation, as arithmetic. Offsets and lengths are in bytes of the disk and multiples of the
/// granule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    /// Moves data directly between the disk and guest memory.
    Direct { offset: u64, len: u32 },
    /// Reads whole granules around the requested part, through a bounce buffer.
    Around { offset: u64, len: u32 },
    /// Reads a granule whose bytes `[skip, skip + len)` will be changed.
    PatchRead { offset: u64, skip: u32, len: u32 },
    /// Writes that granule back.
    PatchWrite { offset: u64, skip: u32, len: u32 },
    /// Writes zeroes from a bounce buffer.
    ZeroWrite { offset: u64, len: u32 },
    /// Makes the disk zero a range.
    Zeroes { offset: u64, len: u64 },
    /// Makes the disk discard a range.
    Discard { offset: u64, len: u64 },
    /// Makes all completed data stable; planned by the flush group, not here.
    Sync,
}

/// The next operation of a read with `done` bytes of `extent` complete, fewer than all.
pub(crate) fn read(limits: &Limits, extent: &Extent, done: u64) -> Move {
    assert!(done < extent.len, "a complete extent has no next operation");
    let granule = u64::from(limits.granule);
    let (at, end) = (extent.start + done, extent.end());
    if (at | end) & (granule - 1) == 0 {
        let len = (end - at).min(limits.max_transfer.into()) as u32;
        return Move::Direct { offset: at, len };
    }
    let offset = floor(at, granule);
    let most = BOUNCE_MOST.min(limits.max_transfer.into());
    let len = (up(end, granule) - offset).min(most) as u32;
    assert!(at < offset + u64::from(len), "a read around a range reaches it");
    Move::Around { offset, len }
}

/// The next operation of a write with `done` bytes of `extent` complete, fewer than all.
pub(crate) fn write(limits: &Limits, extent: &Extent, done: u64) -> Move {
    patch(limits, extent, done).unwrap_or_else(|| {
        let at = extent.start + done;
        let whole = floor(extent.end(), limits.granule.into()) - at;
        let len = whole.min(limits.max_transfer.into()) as u32;
        assert!(len > 0, "the rest covers a granule");
        Move::Direct { offset: at, len }
    })
}

/// The next operation of a write-zeroes with `done` bytes of `extent` complete, fewer than all;
/// `by_write` if the disk has reported that it does not support write-zeroes.
pub(crate) fn write_zeroes(limits: &Limits, extent: &Extent, done: u64, by_write: bool) -> Move {
    if let Some(patch) = patch(limits, extent, done) {
        return patch;
    }
    let unit = u64::from(limits.write_zeroes_granularity);
    let (at, end) = (extent.start + done, extent.end());
    let (first, last) = (up(at, unit), down(end, unit));
    let usable = !by_write && first < last;
    if usable && at == first {
        let len = (last - at).min(down(limits.max_write_zeroes, unit));
        assert!(len > 0 && at + len <= end, "zeroes stay inside their extent");
        return Move::Zeroes { offset: at, len };
    }
    let stop = if usable { first } else { floor(end, limits.granule.into()) };
    let most = BOUNCE_MOST.min(limits.max_transfer.into());
    let len = (stop - at).min(most) as u32;
    assert!(len > 0, "the rest covers a granule");
    Move::ZeroWrite { offset: at, len }
}

/// The next operation of a discard with `done` bytes of `extent` complete, fewer than all; `extent`
/// was rounded inward.
pub(crate) fn discard(limits: &Limits, extent: &Extent, done: u64) -> Move {
    assert!(done < extent.len, "a complete extent has no next operation");
    let offset = extent.start + done;
    let most = down(limits.max_discard, limits.discard_granularity.into());
    let len = (extent.len - done).min(most);
    assert!(len > 0, "a discard of nothing");
    Move::Discard { offset, len }
}

/// The granule in which the rest of `extent` begins, if the rest does not cover it whole.
fn patch(limits: &Limits, extent: &Extent, done: u64) -> Option<Move> {
    assert!(done < extent.len, "a complete extent has no next operation");
    let granule = u64::from(limits.granule);
    let (at, end) = (extent.start + done, extent.end());
    let offset = floor(at, granule);
    if at == offset && end - at >= granule {
        return None;
    }
    Some(Move::PatchRead {
        offset,
        skip: (at - offset) as u32,
        len: (end.min(offset + granule) - at) as u32,
    })
}

/// `value` rounded down to a multiple of the granule, which is a power of two; a division would
/// cost as much as the rest of the function.
fn floor(value: u64, granule: u64) -> u64 {
    value & !(granule - 1)
}

fn down(value: u64, unit: u64) -> u64 {
    value - value % unit
}

fn up(value: u64, unit: u64) -> u64 {
    down(value + (unit - 1), unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every operation of an extent as `(letter, offset, length)` in sectors, each assumed to
    /// complete whole.
    fn all(
        limits: &Limits,
        extent: Extent,
        next: impl Fn(&Limits, &Extent, u64) -> Move,
    ) -> Vec<(char, u64, u64)> {
        let (mut done, mut moves) = (0, Vec::new());
        while done < extent.len {
            let (letter, offset, len, covered) = match next(limits, &extent, done) {
                Move::Direct { offset, len } => ('d', offset, len.into(), len.into()),
                Move::Around { offset, len } => {
                    let from = extent.start + done;
                    let to = (offset + u64::from(len)).min(extent.end());
                    ('a', offset, len.into(), to - from)
                }
                Move::PatchRead { offset, len, .. } => {
                    ('p', offset, u64::from(limits.granule), len.into())
                }
                Move::ZeroWrite { offset, len } => ('w', offset, len.into(), len.into()),
                Move::Zeroes { offset, len } => ('z', offset, len, len),
                Move::Discard { offset, len } => ('x', offset, len, len),
                Move::PatchWrite { .. } | Move::Sync => unreachable!("never planned"),
            };
            moves.push((letter, offset / 512, len / 512));
            done += covered;
        }
        moves
    }

    fn sectors(start: u64, len: u64) -> Extent {
        Extent { start: start * 512, len: len * 512, may_unmap: true }
    }

    fn limits() -> Limits {
        Limits {
            granule: 2048,
            max_transfer: 4096,
            max_discard: 8192,
            discard_granularity: 4096,
            max_write_zeroes: 8192,
            write_zeroes_granularity: 4096,
            ..Limits::plain(1 << 20)
        }
    }

    #[test]
    fn a_write_patches_its_edges_and_splits_its_middle() {
        let moves = all(&limits(), sectors(3, 18), write);
        assert_eq!(moves, [('p', 0, 4), ('d', 4, 8), ('d', 12, 8), ('p', 20, 4)]);
        assert_eq!(all(&limits(), sectors(5, 1), write), [('p', 4, 4)]);
        assert_eq!(all(&limits(), sectors(5, 4), write), [('p', 4, 4), ('p', 8, 4)]);
    }

    #[test]
    fn a_read_of_part_of_a_granule_goes_around_it() {
        assert_eq!(
            all(&limits(), sectors(3, 10), read),
            [('a', 0, 8), ('d', 8, 0)][..1]
                .iter()
                .copied()
                .chain([('a', 8, 8)])
                .collect::<Vec<_>>()
        );
        assert_eq!(all(&limits(), sectors(4, 12), read), [('d', 4, 8), ('d', 12, 4)]);
    }

    #[test]
    fn zeroes_are_asked_for_where_the_disk_can_and_written_elsewhere() {
        let zeroes = |by_write| {
            move |limits: &Limits, extent: &Extent, done| {
                write_zeroes(limits, extent, done, by_write)
            }
        };
        assert_eq!(
            all(&limits(), sectors(3, 38), zeroes(false)),
            [('p', 0, 4), ('w', 4, 4), ('z', 8, 16), ('z', 24, 16), ('p', 40, 4)]
        );
        assert_eq!(
            all(&limits(), sectors(4, 13), zeroes(true)),
            [('w', 4, 8), ('w', 12, 4), ('p', 16, 4)]
        );
    }

    #[test]
    fn a_discard_never_reaches_outside_its_range() {
        assert_eq!(sectors(1, 14).inward(4096), None);
        let inward = sectors(1, 40).inward(4096).expect("not empty");
        assert_eq!(inward, sectors(8, 32));
        assert_eq!(all(&limits(), inward, discard), [('x', 8, 16), ('x', 24, 16)]);
    }
}
