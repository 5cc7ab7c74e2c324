//! Busy-polling: how long a worker looks for more work before it sleeps.
//!
//! Waking a sleeping thread takes both sides longer than a small request. For a driver that answers
//! at once, as with a single request in flight, some microseconds of polling are worthwhile; for a
//! slower one they are not. So a worker polls iff its last wait was short, whether it slept or
//! polled: a wrong guess costs one short wait.

use std::time::{Duration, Instant};

/// Maximum wait that is worth polling: about the time to sleep and be woken on both sides, on
/// processors that sleep too.
const SHORT: Duration = Duration::from_micros(50);

/// The history of one queue's waits.
#[derive(Debug, Default)]
pub(super) struct BusyPoll {
    /// The last wait was short.
    expects_more: bool,
    /// Start of the present wait; `Some` iff there is nothing to do.
    since: Option<Instant>,
}

impl BusyPoll {
    /// Records that there is nothing to do. Returns whether to poll instead of sleeping.
    pub(super) fn is_worth_it(&mut self) -> bool {
        let since = *self.since.get_or_insert_with(Instant::now);
        self.expects_more && since.elapsed() < SHORT
    }

    /// Records that there is something to do.
    pub(super) fn found(&mut self) {
        if let Some(since) = self.since.take() {
            self.expects_more = since.elapsed() < SHORT;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_busy_poll_after_a_long_wait() {
        let mut busy_poll = BusyPoll { expects_more: true, since: None };
        let long_ago = Instant::now().checked_sub(2 * SHORT).expect("the clock has run so long");
        busy_poll.since = Some(long_ago);
        assert!(!busy_poll.is_worth_it(), "its time is over");
        busy_poll.found();
        assert!(!busy_poll.is_worth_it(), "and the next wait is not expected to be short");
    }

    #[test]
    fn who_was_busy_all_the_time_keeps_what_it_expects() {
        for expects_more in [false, true] {
            let mut busy_poll = BusyPoll { expects_more, since: None };
            busy_poll.found();
            assert_eq!(busy_poll.expects_more, expects_more);
        }
    }
}
