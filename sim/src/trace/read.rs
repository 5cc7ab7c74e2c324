//! Reading a trace from any file.

use std::path::Path;

use powerfail_device::host::Shown;

use super::file::Trace;
use crate::base::files::read_text;

/// The maximum size of a trace file in bytes.
pub(crate) const MOST_BYTES: u64 = 64 << 20;

/// Reads a trace file.
///
/// # Errors
/// One line with the file's name, and the number of the invalid line if there is one.
pub fn read(path: &Path) -> Result<Trace, String> {
    let text = read_text(path, MOST_BYTES, "trace")?;
    text.parse().map_err(|e| format!("{}: {e}", Shown(path)))
}
