//! Draining: lanes that were taken from their threads are stepped until what they have taken has
//! ended, or for as long as that is worth it.
//!
//! How long that is depends on who waits for it. A ring that its front-end stops is drained for as
//! long as the front-end is there; what is left of one that is gone is carried out for a moment;
//! and what the host has in its hands is always waited for.

use super::QueueDisk;
use super::lane::{Exclusive, Lane, State};
use crate::queue_set::QueueIndex;
use crate::worker_lock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

/// How long a sleep lasts at most, so that it is noticed when patience has ended.
const NAP: Duration = Duration::from_millis(50);

/// How long a drain goes on.
pub(super) struct Patience<'a> {
    /// Until this moment.
    until: Option<Instant>,
    /// Until this says so.
    is_over: &'a dyn Fn() -> bool,
}

impl<'a> Patience<'a> {
    /// Until all is done.
    pub(super) fn for_ever() -> Patience<'a> {
        Patience { until: None, is_over: &|| false }
    }

    /// Until all is done, or for so long.
    pub(super) fn of(time: Duration) -> Patience<'a> {
        Patience { until: Some(Instant::now() + time), is_over: &|| false }
    }

    /// Until all is done, or this says that nobody waits any more.
    pub(super) fn unless(is_over: &'a dyn Fn() -> bool) -> Patience<'a> {
        Patience { until: None, is_over }
    }

    fn has_ended(&self) -> bool {
        self.left().is_zero() || (self.is_over)()
    }

    /// How long a sleep may last.
    fn left(&self) -> Duration {
        self.until.map_or(NAP, |until| until.saturating_duration_since(Instant::now()).min(NAP))
    }
}

/// Steps the `taken` of these lanes until all of them are done or the patience has ended. The
/// others go on by themselves, for these may wait for them.
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

/// Waits until something may have come for one of these lanes, but no longer than that.
fn sleep<D: QueueDisk>(taken: &[Exclusive<'_, D>], longest: Duration) {
    let wakeups = taken.iter().map(|lane| lane.wakeup().as_fd());
    let completions = taken.iter().filter_map(|lane| lane.disk.completion_fd());
    let fds: Vec<BorrowedFd<'_>> = wakeups.chain(completions).collect();
    let mut polled: Vec<_> = fds.iter().map(|fd| PollFd::new(fd, PollFlags::IN)).collect();
    let longest = Timespec::try_from(longest).expect("a nap is short");
    // It fails only when a signal came, and then the lanes are looked at once more.
    let _ = poll(&mut polled, Some(&longest));
}
