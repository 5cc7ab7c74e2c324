//! Signals that end a command: Ctrl-C, SIGTERM and SIGHUP, which mean the same.
//!
//! A long command stops at the first one where it can be told what it has come to; any other ends.
//! At the second one every command ends at once, by that signal, as its caller would expect. What
//! it has made and was to take away, files that are half written and mounts, is taken away first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::flag;
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

use super::say;
use crate::base::leftovers;

/// Whether a command was told to stop.
pub(super) type Stopped = Arc<AtomicBool>;

/// Heeds signals from now on. A command that `winds_down` looks at what is returned now and then.
///
/// # Errors
/// One line: the host gives no thread for it.
pub(super) fn heed(winds_down: bool) -> Result<Stopped, String> {
    let stopped = Stopped::default();
    let told = Arc::clone(&stopped);
    let said = |e: std::io::Error| format!("cannot heed signals: {e}");
    // A limit on the size of files is then an error like a full disk.
    flag::register(SIGXFSZ, Arc::default()).map_err(said)?;
    let mut heeded = vec![SIGINT, SIGTERM];
    // `nohup` has it ignored, and means it.
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
