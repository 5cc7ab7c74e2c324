//! Reading a trace from a file that may be anything.

use std::path::Path;

use powerfail_device::host::Shown;

use super::file::Trace;
use crate::base::files::read_text;

/// No trace file is larger than this; a larger one is something else.
pub(crate) const MOST_BYTES: u64 = 64 << 20;

/// Reads a trace file.
///
/// # Errors
/// One line with the file's name, and the line in it if one makes no sense.
pub fn read(path: &Path) -> Result<Trace, String> {
    let text = read_text(path, MOST_BYTES, "trace")?;
    text.parse().map_err(|e| format!("{}: {e}", Shown(path)))
}
