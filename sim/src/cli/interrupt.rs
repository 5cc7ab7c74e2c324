//! Signals that end a command: Ctrl-C, SIGTERM and SIGHUP, all treated alike.
//!
//! At the first signal a long command stops at the next point where it can report its results; any
//! other command ends. At the second signal every command ends at once, by that signal, as its
//! caller expects. Leftovers, which are half-written files and mounts, are removed first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::say;
use crate::base::leftovers;

/// Set by the first signal: the command should stop.
pub(super) type Stopped = Arc<AtomicBool>;

/// Installs the signal handlers. A command that `winds_down` polls the returned flag.
///
/// # Errors
/// One line: a handler or its thread cannot be created.
pub(super) fn heed(winds_down: bool) -> Result<Stopped, String> {
    let stopped = Stopped::default();
    let told = Arc::clone(&stopped);
    let said = |e: std::io::Error| format!("cannot handle signals: {e}");
    // A file size limit is then an error, like a full disk.
    flag::register(SIGXFSZ, Arc::default()).map_err(said)?;
    let mut heeded = vec![SIGINT, SIGTERM];
    // `nohup` ignores it on purpose.
    if !is_ignored(SIGHUP) {
        heeded.push(SIGHUP);
    }
    let mut signals = Signals::new(heeded).map_err(said)?;
    let heed = move || {
        for signal in signals.forever() {
            say::hurry();
            if winds_down && !told.swap(true, Ordering::Relaxed) {
                continue;
            }
            leftovers::take_away();
            let _ = emulate_default_handler(signal);
        }
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(heed).map_err(said)?;
    Ok(stopped)
}

/// Whether this process was started with a signal ignored.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}
