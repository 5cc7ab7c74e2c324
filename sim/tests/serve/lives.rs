//! A served disk over its many lives: in each life the guest under test reads the data of the last
//! one and sends more requests than are answered.

use powerfail::guest::wire::feature;
use powerfail::host::power_cut_fs::{Mount, MountError};
use powerfail_device::host::{Access, OpenError, Regions, UringDisk};

use powerfail_model::Violation;

use crate::daemon::{Footprint, Place};
use crate::guest::{EVENT_IDX, Guest, PLAIN};
use crate::judged::{Judge, skipped};

/// Number of queues.
pub(crate) const QUEUES: usize = 4;
pub(crate) const FOUR_QUEUES: [&str; 2] = ["--queues", "4"];

/// Mappings that the allocator may add for threads over time.
const MORE_MAPPINGS: usize = 48;
const MORE_KIB: usize = 2048;

/// Connects a guest and checks the data on the disk.
pub(crate) fn connect(place: &Place, judge: &mut Judge) -> Result<Guest, Violation> {
    let mut features = if judge.draw(2) == 0 { PLAIN } else { EVENT_IDX };
    features &= match judge.draw(4) {
        0 => !feature::CONFIG_WCE,
        1 => !(feature::CONFIG_WCE | feature::FLUSH),
        _ => !0,
    };
    let mut guest = Guest::connect(&place.socket(), features, QUEUES).unwrap();
    judge.begin(QUEUES, guest.features(), guest.config().writeback == 1);
    judge.read_back(&mut guest)?;
    Ok(guest)
}

/// Whether the host supports direct I/O on this disk; prints a line if not.
pub(crate) fn is_direct(place: &Place) -> bool {
    let access = Access { read_only: false, direct: true };
    match UringDisk::<Regions>::open(&place.disk(), access) {
        Ok(_) => true,
        Err(error @ OpenError::NoDirect(_)) => {
            skipped(&error);
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// A power-cut file system over the disk; prints a line without FUSE.
pub(crate) fn mount_over(place: &Place) -> Option<Mount> {
    let mounted = Mount::over(&place.disk()).inspect_err(|error| {
        assert!(!matches!(error, MountError::Stale(_) | MountError::NoFile(..)), "{error}");
        skipped(error);
    });
    mounted.ok()
}

/// Fails the test if the oracle reports a violation.
pub(crate) fn expect<T>(verdict: Result<T, Violation>) -> T {
    verdict.unwrap_or_else(|violation| panic!("{violation}\n{violation:#?}"))
}

/// Checks that a server has no more host resources late in its lives than early: compares the
/// largest footprint of the first quarter with the largest of the rest.
pub(crate) fn keeps_nothing(all: &[Footprint]) {
    let largest =
        |part: &[Footprint]| part.iter().copied().reduce(Footprint::max).expect("there were some");
    let (early, late) = all.split_at(all.len().div_ceil(4));
    let (early, late) = (largest(early), largest(late));
    println!("{early:?} at first, {late:?} later");
    assert!(late.descriptors <= early.descriptors, "{late:?} after {early:?}");
    assert!(late.threads <= early.threads, "{late:?} after {early:?}");
    assert!(late.mappings <= early.mappings + MORE_MAPPINGS, "{late:?} after {early:?}");
    assert!(late.resident <= early.resident + MORE_KIB, "{late:?} after {early:?}");
}
