//! Draining: lanes that were taken from their workers are stepped until the requests they have
//! taken have ended, or until a limit.
//!
//! The limit depends on the cause. A ring that its front-end stops is drained as long as the
//! front-end is connected; the rest of a disconnected one is executed for a moment; and operations
//! that the host has are always waited for.

use super::QueueDisk;
use super::lane::{Exclusive, Lane, State};
use crate::queue_set::QueueIndex;
use crate::worker_lock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// Maximum duration of a sleep, so that the limit is checked.
const NAP: Duration = Duration::from_millis(50);

/// The limit of a drain.
pub(super) struct Patience<'a> {
    /// Ends at this moment.
    until: Option<Instant>,
    /// Ends when this returns `true`.
    is_over: &'a dyn Fn() -> bool,
}

impl<'a> Patience<'a> {
    /// No limit.
    pub(super) fn for_ever() -> Patience<'a> {
        Patience { until: None, is_over: &|| false }
    }

    /// A limit of this duration.
    pub(super) fn of(time: Duration) -> Patience<'a> {
        Patience { until: Some(Instant::now() + time), is_over: &|| false }
    }

    /// Ends when `is_over` returns `true`.
    pub(super) fn unless(is_over: &'a dyn Fn() -> bool) -> Patience<'a> {
        Patience { until: None, is_over }
    }

    fn has_ended(&self) -> bool {
        self.left().is_zero() || (self.is_over)()
    }

    /// The maximum duration of the next sleep.
    fn left(&self) -> Duration {
        self.until.map_or(NAP, |until| until.saturating_duration_since(Instant::now()).min(NAP))
    }
}

/// Steps the `taken` of these lanes until all of them are done or the limit is reached. The others
/// keep running, because the taken ones may wait for them.
pub(super) fn drain<D: QueueDisk>(
    lanes: &[Lane<D>],
    taken: &mut [Exclusive<'_, D>],
    is_done: impl Fn(&State<D>) -> bool,
    patience: &Patience<'_>,
) {
    let wake = |queue: QueueIndex| lanes[usize::from(queue.0)].wake();
    let step = |lane: &mut State<D>, woken| !patience.has_ended() && lane.step(woken, wake);
    let is_done = |lane: &State<D>| is_done(lane) || patience.has_ended();
    worker_lock::drain(taken, step, is_done, |taken| sleep(taken, patience.left()));
}

/// Waits until an event may have arrived for one of these lanes, at most for `longest`.
fn sleep<D: QueueDisk>(taken: &[Exclusive<'_, D>], longest: Duration) {
    let wakeups = taken.iter().map(|lane| lane.wakeup().as_fd());
    let completions = taken.iter().filter_map(|lane| lane.disk.completion_fd());
    let fds: Vec<BorrowedFd<'_>> = wakeups.chain(completions).collect();
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let longest = Timespec::try_from(longest).expect("a nap is short");
    // It fails only on a signal, and then the lanes are checked again.
    let _ = poll(&mut polled, Some(&longest));
}
