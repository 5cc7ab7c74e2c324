//! Reading a trace from a file that may be anything.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use super::file::Trace;

/// No trace file is larger than this; a larger one is something else.
const MOST_BYTES: u64 = 64 << 20;

/// Reads a trace file.
///
/// # Errors
/// One line with the file's name, and the line in it if one makes no sense.
pub fn read(path: &Path) -> Result<Trace, String> {
    let shown = path.display();
    let said = |e: std::io::Error| format!("cannot read {shown}: {e}");
    let file = File::open(path).map_err(said)?;
    let mut bytes = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(said)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(format!("{shown} is no trace: it is larger than {MOST_BYTES} bytes"));
    }
    let text = String::from_utf8(bytes).map_err(|e| {
        format!("{shown} is no trace: byte {} is not text", e.utf8_error().valid_up_to())
    })?;
    text.parse().map_err(|e| format!("{shown}: {e}"))
}
