//! Power cuts below a real file.

mod lanes;
mod runs;
mod system_calls;

use std::io::Write as _;

use powerfail::cuts::MountError;

/// Says aloud that a test has tested nothing, where there is no FUSE.
fn skipped(error: &MountError) {
    assert!(!matches!(error, MountError::Stale(_) | MountError::NoFile(..)), "{error}");
    // Not by `eprintln!`: what a test that passes prints is not shown.
    writeln!(std::io::stderr(), "\n*** SKIPPED, nothing was tested: {error} ***").expect("stderr");
}
