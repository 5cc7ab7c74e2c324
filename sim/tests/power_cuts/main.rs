//! Power cuts below a real file. `POWERFAIL_CUTS=1000` for more of those that cost time.

mod in_flight;
#[path = "../judged/mod.rs"]
mod judged;
mod lanes;
mod mapped;
mod reports;
mod runs;
mod system_calls;

use powerfail::host::power_cut_fs::MountError;

/// Says aloud that a test has tested nothing, where there is no FUSE.
fn skipped(error: &MountError) {
    assert!(!matches!(error, MountError::Stale(_) | MountError::NoFile(..)), "{error}");
    judged::skipped(error);
}
