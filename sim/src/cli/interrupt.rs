//! Ctrl-C: once, a long command stops where it can be told; twice, the program ends.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::SIGINT;
use signal_hook::flag;

use super::USAGE;

/// Set once Ctrl-C was pressed.
pub(super) fn stop_at_interrupt() -> Arc<AtomicBool> {
    let stopped = Arc::new(AtomicBool::new(false));
    // Where the host gives no signals the command goes on to its end.
    let _ = flag::register_conditional_shutdown(SIGINT, USAGE.into(), Arc::clone(&stopped));
    let _ = flag::register(SIGINT, Arc::clone(&stopped));
    stopped
}
