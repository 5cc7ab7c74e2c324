//! Power cuts below a real file. `POWERFAIL_CUTS=1000` makes more of the expensive ones.

mod in_flight;
#[path = "../judged/mod.rs"]
mod judged;
mod lanes;
mod mapped;
mod reports;
mod runs;
mod system_calls;

use powerfail::host::power_cut_fs::MountError;

/// Prints that a test has tested nothing, without FUSE.
fn skipped(error: &MountError) {
    assert!(!matches!(error, MountError::Stale(_) | MountError::NoFile(..)), "{error}");
    judged::skipped(error);
}
