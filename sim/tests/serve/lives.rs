//! A served disk over its many lives: in each a guest that is judged reads what the last one left,
//! and asks for more than is answered.

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

/// What the allocator of a process may take for its threads as time goes by.
const MORE_MAPPINGS: usize = 48;
const MORE_KIB: usize = 2048;

/// A guest that has found what it may find.
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

/// Whether the host does direct I/O on this disk. It is said aloud if it does not.
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

/// A file system that forgets, over the disk. It is said aloud if there is no FUSE.
pub(crate) fn mount_over(place: &Place) -> Option<Mount> {
    let mounted = Mount::over(&place.disk()).inspect_err(|error| {
        assert!(!matches!(error, MountError::Stale(_) | MountError::NoFile(..)), "{error}");
        skipped(error);
    });
    mounted.ok()
}

/// What the oracle says against it is the failure of a test.
pub(crate) fn expect<T>(verdict: Result<T, Violation>) -> T {
    verdict.unwrap_or_else(|violation| panic!("{violation}\n{violation:#?}"))
}

/// A server has no more of the host's late in its lives than it had early: its footprints are
/// compared, the largest of the first quarter with the largest of the rest.
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
